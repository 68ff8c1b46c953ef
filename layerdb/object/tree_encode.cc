// SPDX-License-Identifier: Apache-2.0
#include "layerdb/base/coding.h"
#include "layerdb/object/tree.h"
#include "layerdb/object/tree_layout.h"

namespace layerfs {
using namespace tree_layout;
namespace {

void put_header(std::string& out, size_t level, size_t count, const TreeRef& counts) {
  put_u8(out, kPageMagic);
  put_u8(out, kPageVersion);
  put_u16(out, static_cast<uint16_t>(count));
  put_u32(out, static_cast<uint32_t>(level));
  put_u64(out, counts.inode_count);
  put_u64(out, counts.entry_count);
}

void put_tree_ref(std::string& out, const TreeRef& tree) {
  put_u64(out, raw(tree.page));
  put_u64(out, tree.inode_count);
  put_u32(out, tree.entry_count);
  put_u32(out, tree.subdirectory_count);
  put_u64(out, tree.whiteout_count);
  put_u64(out, tree.linked_count);
  put_u64(out, tree.content_bytes);
}

void put_content(std::string& out, const Content& content) {
  if (content.map != ObjectId::none) {
    put_varint(out, kMapInsteadOfExtents);
    put_varint(out, raw(content.map));
    return;
  }
  put_varint(out, content.extents.size());
  for (const Extent& extent : content.extents) {
    put_varint(out, extent.file_offset);
    put_varint(out, extent.group);
    put_varint(out, extent.group_offset);
    put_varint(out, extent.length);
  }
}

void put_xattrs(std::string& out, const Xattrs& xattrs) {
  put_varint(out, xattrs.size());
  for (const auto& [name, value] : xattrs) {
    put_bytes(out, name);
    put_bytes(out, value);
  }
}

void put_extra(std::string& out, const Entry& entry) {
  if (entry.link_id != 0) {
    put_u64(out, entry.link_id);
    return;
  }
  switch (entry.attributes.type) {
    case FileType::directory:
      put_tree_ref(out, entry.tree);
      break;
    case FileType::symlink:
      out += entry.symlink_target;
      break;
    case FileType::regular:
      put_content(out, entry.content);
      break;
    default:
      break;
  }
  if (!entry.xattrs.empty()) put_xattrs(out, entry.xattrs);
}

uint8_t entry_flags(const Entry& entry) {
  if (entry.link_id != 0) return kLinked;
  return (entry.xattrs.empty() ? 0 : kHasXattrs) | (entry.opaque ? kOpaque : 0) |
         (entry.implicit ? kImplicit : 0);
}

// The record's size field: bytes, or a device's numbers.
uint64_t size_field(const Entry& entry) {
  const Attributes& a = entry.attributes;
  if (is_device(a.type)) return uint64_t{a.rdev_major} << 32 | a.rdev_minor;
  if (a.type == FileType::symlink) return entry.symlink_target.size();
  return a.type == FileType::regular ? a.size_bytes : 0;
}

}  // namespace

void LeafPageBuilder::add(const Entry& entry) {
  const Attributes& a = entry.attributes;
  bool linked = entry.link_id != 0;
  if (empty()) first_name_ = entry.name;
  last_name_ = entry.name;
  // Heap offsets are relative until the number of records is known.
  put_u32(records_, static_cast<uint32_t>(heap_.size()));
  put_u8(records_, static_cast<uint8_t>(entry.name.size()));
  put_u8(records_, static_cast<uint8_t>(a.type));
  put_u16(records_,
          static_cast<uint16_t>((linked ? 0 : a.mode & 07777) | entry_flags(entry) << 12));
  put_u64(records_, counts_.inode_count + 1);
  put_u32(records_, linked ? 0 : a.uid);
  put_u32(records_, linked ? 0 : a.gid);
  put_u64(records_, linked ? 0 : size_field(entry));
  put_u64(records_, linked ? 0 : static_cast<uint64_t>(a.mtime.seconds));
  put_u32(records_, linked ? 0 : a.mtime.nanoseconds);
  put_u32(records_, linked || a.type == FileType::directory ? 0 : a.nlink);
  heap_ += entry.name;
  put_extra(heap_, entry);
  count_entry(counts_, entry);
}

bool LeafPageBuilder::full() const {
  return ends_page(last_name_, counts_.entry_count, records_.size() + heap_.size());
}

std::string LeafPageBuilder::finish() {
  size_t count = counts_.entry_count;
  std::string out;
  out.reserve(kHeaderBytes + records_.size() + heap_.size());
  put_header(out, 0, count, counts_);
  auto heap_start = static_cast<uint32_t>(kHeaderBytes + records_.size());
  for (size_t i = 0; i < count; ++i) {
    char* field = records_.data() + i * kLeafRecordBytes + kHeapOffset;
    uint32_t offset = load_fixed<uint32_t>(field) + heap_start;
    std::memcpy(field, &offset, sizeof offset);
  }
  out += records_;
  out += heap_;
  *this = LeafPageBuilder();
  return out;
}

std::string encode_index_page(const std::vector<IndexChild>& children, size_t level) {
  std::string records;
  std::string heap;
  TreeRef counts;
  size_t heap_start = kHeaderBytes + children.size() * kIndexRecordBytes;
  for (const IndexChild& child : children) {
    put_u32(records, static_cast<uint32_t>(heap_start + heap.size()));
    put_u32(records, static_cast<uint32_t>(child.first_name.size()));
    put_u64(records, counts.inode_count);
    put_u64(records, counts.entry_count);
    put_tree_ref(records, child.tree);
    heap += child.first_name;
    count_page(counts, child.tree);
  }
  std::string out;
  put_header(out, level, children.size(), counts);
  return out + records + heap;
}

}  // namespace layerfs
