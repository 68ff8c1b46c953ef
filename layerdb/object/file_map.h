// SPDX-License-Identifier: Apache-2.0
//
// File map objects: the extents of a regular file that has more than kMaxInlineExtents of them
// (a 1 GiB file has about 8,000). Leaf pages hold up to kMaxMapExtents extents as delta-coded
// varints; a file with more has an index page naming its leaf pages and their first offsets.
// Pure: bytes <-> values. Bytes from disk are validated (EUCLEAN): sorted, not overlapping, no
// zero length, no overflow of 64 bits.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "layerdb/base/result.h"
#include "layerdb/object/types.h"

namespace layerfs {

inline constexpr size_t kMaxMapExtents = 4096;

struct MapChild {
  uint64_t first_offset = 0;
  ObjectId page = ObjectId::none;
};

// One page of a file map: exactly one of the two is not empty.
struct MapPage {
  std::vector<Extent> extents;
  std::vector<MapChild> children;
};

std::string encode_map_leaf(const std::vector<Extent>& extents);
std::string encode_map_index(const std::vector<MapChild>& children);
Result<MapPage> decode_map_page(std::string_view bytes);

}  // namespace layerfs
