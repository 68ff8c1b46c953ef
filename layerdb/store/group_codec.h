// SPDX-License-Identifier: Apache-2.0
//
// A group's record: how a compressed run of chunks is written under its number (format.md). A group
// may be stored as its difference from bases: earlier groups whose decoded bytes, one after the
// other, are the prefix that zstd continues (ZSTD_CCtx_refPrefix). Bases may have bases.
// Damage to a record's bytes is found by RocksDB's block checksum before they get here; decoding
// checks that the record says what it means and that the payload has the length it promises.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "layerdb/base/result.h"
#include "layerdb/object/types.h"

namespace layerfs {

inline constexpr uint8_t kGroupRecordVersion = 1;
// Groups that a writer lets one group build on: bases, bases of bases… More bases are refused.
inline constexpr size_t kMaxBaseDepth = 32;
// A reader follows twice as far: while `optimize` is on its way, groups that it has not reached
// build on groups that it has given new bases.
inline constexpr size_t kMaxReadDepth = 2 * kMaxBaseDepth;
inline constexpr int kImportLevel = 3;  // zstd's

enum class GroupCodec : uint8_t { plain = 0, zstd = 1 };

struct GroupRecord {
  GroupCodec codec = GroupCodec::plain;
  std::vector<GroupId> bases;
  uint32_t raw_bytes = 0;
  std::string_view payload;  // inside the record's bytes
};

// EUCLEAN when it is damaged or of a kind this program does not know.
Result<GroupRecord> parse_group(GroupId number, std::string_view record);
// The decoded bytes of a base. Called for smaller numbers than the group's only.
using GroupBytes = std::shared_ptr<const std::string>;
using ReadBase = std::function<Result<GroupBytes>(GroupId)>;
Result<std::string> decode_group(GroupId number, std::string_view record, const ReadBase& read);
// Gives back the memory that decoding keeps for the next time.
void release_decode_contexts();

struct GroupBases {
  std::vector<GroupId> numbers;
  std::string bytes;  // decoded, one after the other

  void add(GroupId number, std::string_view raw) {
    numbers.push_back(number);
    bytes += raw;
  }
};

// Compresses with reused contexts; one thread at a time.
class GroupEncoder {
 public:
  explicit GroupEncoder(int zstd_level = kImportLevel);
  ~GroupEncoder();
  // Without bases, and plain, when compression does not make it smaller.
  Result<std::string> encode(GroupId number, std::string_view raw, const GroupBases& bases);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace layerfs
