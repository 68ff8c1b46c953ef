// SPDX-License-Identifier: Apache-2.0
//
// What LayerWriter spills: one record for each thing a layer says about a path, under a key that
// sorts in preorder with children bytewise ascending, and records of one path in the order they
// came. Temporary, never part of a store: no versions, no checksums.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "layerdb/base/result.h"
#include "layerdb/object/types.h"

namespace layerfs {

enum class RecordKind : uint8_t {
  entry = 1,
  hard_link = 2,   // another name of an inode that came earlier, or of the parent chain
  lower_name = 3,  // a name of the parent chain that got linked: it joins the group
  whiteout = 4,
  opaque = 5,
};

// `sequence` counts from 1 in the order of the input.
std::string record_key(std::string_view path, uint64_t sequence);
std::string record_path(std::string_view key);
uint64_t record_sequence(std::string_view key);
// Whether two keys are about the same path.
bool same_path(std::string_view a, std::string_view b);
// Whether `path` lies strictly below `directory` ("" is the root).
bool is_below(std::string_view path, std::string_view directory);

std::string encode_entry_record(const Entry& entry);  // name and counts of trees excepted
std::string encode_mark_record(RecordKind kind);      // everything else
RecordKind record_kind(std::string_view value);
FileType record_type(std::string_view value);  // entries only
Result<Entry> decode_entry_record(std::string_view value);

}  // namespace layerfs
