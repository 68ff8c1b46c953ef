// SPDX-License-Identifier: Apache-2.0
//
// A group's record: how a compressed run of chunks is written under its number (format.md). The
// record can name bases (earlier groups that this one is a difference from); version 1 writes none.
// Damage to a record's bytes is found by RocksDB's block checksum before they get here; decoding
// checks that the record says what it means and that the payload has the length it promises.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "layerdb/base/result.h"
#include "layerdb/object/types.h"

namespace layerfs {

inline constexpr uint8_t kGroupRecordVersion = 1;

enum class GroupCodec : uint8_t { plain = 0, zstd = 1 };

struct GroupRecord {
  GroupCodec codec = GroupCodec::plain;
  std::vector<GroupId> bases;
  uint32_t raw_bytes = 0;
  std::string_view payload;  // inside the record's bytes
};

// EUCLEAN when it is damaged or of a kind this program does not know.
Result<GroupRecord> parse_group(GroupId number, std::string_view record);
Result<std::string> decode_group(GroupId number, std::string_view record);

// Compresses with one reused context; one thread at a time.
class GroupEncoder {
 public:
  GroupEncoder();
  ~GroupEncoder();
  // Stored plain when compression does not make it smaller.
  Result<std::string> encode(std::string_view raw);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace layerfs
