// SPDX-License-Identifier: Apache-2.0
#include "layerdb/object/file_map.h"

#include <limits>

#include "layerdb/base/coding.h"

namespace layerfs {
namespace {

constexpr uint8_t kMagic = 'M';
constexpr uint8_t kLeaf = 1;
constexpr uint8_t kIndex = 2;

Error damaged(const char* what) {
  return {EUCLEAN, std::string("a file map page is damaged: ") + what};
}

// Signed differences as unsigned varints: 0, -1, 1, -2, … -> 0, 1, 2, 3, …
uint64_t zigzag(uint64_t difference) {
  int64_t v = static_cast<int64_t>(difference);
  return static_cast<uint64_t>(v) << 1 ^ static_cast<uint64_t>(v >> 63);
}
uint64_t unzigzag(uint64_t v) { return v >> 1 ^ (0 - (v & 1)); }

std::string page_header(uint8_t kind, size_t count) {
  std::string out;
  put_u8(out, kMagic);
  put_u8(out, kind);
  put_varint(out, count);
  return out;
}

Status decode_extents(Reader& in, uint64_t count, std::vector<Extent>& out) {
  uint64_t end = 0;
  GroupId group = 0;
  out.reserve(count);
  for (uint64_t i = 0; i < count; ++i) {
    uint64_t gap = in.varint();
    uint64_t length = in.varint();
    group += unzigzag(in.varint());
    uint64_t group_offset = in.varint();
    if (in.failed()) return damaged("it is cut short");
    constexpr uint64_t kMax32 = std::numeric_limits<uint32_t>::max();
    if (length == 0 || length > kMax32 || group_offset > kMax32 - length || group == 0)
      return damaged("an extent has an impossible address");
    if (gap > std::numeric_limits<uint64_t>::max() - end ||
        length > std::numeric_limits<uint64_t>::max() - end - gap)
      return damaged("its offsets overflow");
    out.push_back(
        {end + gap, group, static_cast<uint32_t>(group_offset), static_cast<uint32_t>(length)});
    end += gap + length;
  }
  return {};
}

Status decode_children(Reader& in, uint64_t count, std::vector<MapChild>& out) {
  uint64_t offset = 0, page = 0;
  out.reserve(count);
  for (uint64_t i = 0; i < count; ++i) {
    uint64_t step = in.varint();
    page += unzigzag(in.varint());
    if (in.failed()) return damaged("it is cut short");
    if ((i > 0 && step == 0) || step > std::numeric_limits<uint64_t>::max() - offset)
      return damaged("its children are not in order");
    if (page == 0) return damaged("a child has no page");
    offset += step;
    out.push_back({offset, ObjectId{page}});
  }
  return {};
}

}  // namespace

std::string encode_map_leaf(const std::vector<Extent>& extents) {
  std::string out = page_header(kLeaf, extents.size());
  uint64_t end = 0;
  GroupId group = 0;
  for (const Extent& e : extents) {
    put_varint(out, e.file_offset - end);
    put_varint(out, e.length);
    put_varint(out, zigzag(e.group - group));
    put_varint(out, e.group_offset);
    end = e.file_offset + e.length;
    group = e.group;
  }
  return out;
}

std::string encode_map_index(const std::vector<MapChild>& children) {
  std::string out = page_header(kIndex, children.size());
  uint64_t offset = 0, page = 0;
  for (const MapChild& child : children) {
    put_varint(out, child.first_offset - offset);
    put_varint(out, zigzag(raw(child.page) - page));
    offset = child.first_offset;
    page = raw(child.page);
  }
  return out;
}

Result<MapPage> decode_map_page(std::string_view bytes) {
  Reader in(bytes);
  if (in.u8() != kMagic) return damaged("it does not begin with 'M'");
  uint8_t kind = in.u8();
  uint64_t count = in.varint();
  if (in.failed() || count == 0 || count > kMaxMapExtents)
    return damaged("its count is impossible");
  MapPage page;
  if (kind == kLeaf)
    TRY(decode_extents(in, count, page.extents));
  else if (kind == kIndex)
    TRY(decode_children(in, count, page.children));
  else
    return damaged("it is of an unknown kind");
  if (!in.done()) return damaged("bytes follow its end");
  return page;
}

}  // namespace layerfs
