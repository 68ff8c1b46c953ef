// SPDX-License-Identifier: Apache-2.0
#include "layerdb/object/tree.h"

#include <fmt/format.h>

#include <charconv>

#include "layerdb/base/coding.h"
#include "layerdb/base/hash.h"
#include "layerdb/object/tree_layout.h"

namespace layerfs {
using namespace tree_layout;
namespace {

Error damaged(const std::string& what) { return {EUCLEAN, "damaged tree page: " + what}; }

TreeRef load_tree_ref(const char* p) {
  TreeRef tree;
  tree.page = ObjectId{load_fixed<uint64_t>(p)};
  tree.inode_count = load_fixed<uint64_t>(p + 8);
  tree.entry_count = load_fixed<uint32_t>(p + 16);
  tree.subdirectory_count = load_fixed<uint32_t>(p + 20);
  tree.whiteout_count = load_fixed<uint64_t>(p + 24);
  tree.linked_count = load_fixed<uint64_t>(p + 32);
  tree.content_bytes = load_fixed<uint64_t>(p + 40);
  return tree;
}

bool plausible(const TreeRef& tree) {
  return tree.page == ObjectId::none
             ? tree == TreeRef{}
             : tree.entry_count > 0 && tree.inode_count >= tree.entry_count &&
                   tree.subdirectory_count <= tree.entry_count;
}

Status take_content(Reader& in, Content& content) {
  uint64_t count = in.varint();
  if (count == kMapInsteadOfExtents) {
    content.map = ObjectId{in.varint()};
    if (content.map == ObjectId::none) return damaged("file map 0");
    return {};
  }
  if (count > kMaxInlineExtents) return damaged("too many inline extents");
  uint64_t end = 0;
  for (uint64_t i = 0; i < count; ++i) {
    Extent extent;
    extent.file_offset = in.varint();
    extent.group = in.varint();
    uint64_t group_offset = in.varint();
    uint64_t length = in.varint();
    if (in.failed() || extent.file_offset < end || extent.group == 0 || length == 0 ||
        group_offset > UINT32_MAX || length > UINT32_MAX ||
        __builtin_add_overflow(extent.file_offset, length, &end)) {
      return damaged("bad extent");
    }
    extent.group_offset = static_cast<uint32_t>(group_offset);
    extent.length = static_cast<uint32_t>(length);
    content.extents.push_back(extent);
  }
  return {};
}

Status take_xattrs(Reader& in, Xattrs& xattrs) {
  uint64_t count = in.varint();
  if (count > in.remaining()) return damaged("xattr count");
  for (uint64_t i = 0; i < count && !in.failed(); ++i) {
    std::string_view name = in.bytes();
    std::string_view value = in.bytes();
    if (name.empty() || (i > 0 && name <= xattrs.back().first)) return damaged("xattr names");
    xattrs.emplace_back(name, value);
  }
  return {};
}

}  // namespace

bool valid_name(std::string_view name) {
  return !name.empty() && name.size() <= kMaxNameBytes && name != "." && name != ".." &&
         name.find('/') == name.npos && name.find('\0') == name.npos;
}

std::string link_name(uint64_t link_id) { return fmt::format("{:016x}", link_id); }

Result<uint64_t> parse_link_name(std::string_view name) {
  uint64_t link_id = 0;
  auto [end, error] = std::from_chars(name.data(), name.data() + name.size(), link_id, 16);
  if (error != std::errc() || link_name(link_id) != name) {
    return damaged(fmt::format("link table name '{}'", name));
  }
  return link_id;
}

bool ends_page(std::string_view last_name, size_t entries, size_t size_bytes) {
  if (entries >= kMaxPageEntries || size_bytes >= kMaxPageBytes) return true;
  return entries >= kMinPageEntries && checksum64(last_name) % kMinPageEntries == 0;
}

void count_entry(TreeRef& directory, const Entry& entry) {
  const TreeRef& tree = entry.tree;
  bool is_directory = entry.attributes.type == FileType::directory;
  bool counts_bytes = entry.link_id == 0 && entry.attributes.type == FileType::regular;
  directory.inode_count += 1 + tree.inode_count;
  directory.entry_count += 1;
  directory.subdirectory_count += is_directory;
  directory.whiteout_count += tree.whiteout_count + (entry.attributes.type == FileType::whiteout) +
                              entry.opaque + entry.implicit;
  directory.linked_count += tree.linked_count + (entry.link_id != 0);
  directory.content_bytes += tree.content_bytes + (counts_bytes ? entry.attributes.size_bytes : 0);
}

void count_page(TreeRef& directory, const TreeRef& page) {
  directory.inode_count += page.inode_count;
  directory.entry_count += page.entry_count;
  directory.subdirectory_count += page.subdirectory_count;
  directory.whiteout_count += page.whiteout_count;
  directory.linked_count += page.linked_count;
  directory.content_bytes += page.content_bytes;
}

Result<std::shared_ptr<const TreePage>> TreePage::parse(std::string bytes) {
  std::shared_ptr<TreePage> page(new TreePage(std::move(bytes)));
  TRY(page->validate());
  return std::shared_ptr<const TreePage>(std::move(page));
}

Status TreePage::validate() {
  if (bytes_.size() < kHeaderBytes || bytes_.size() > UINT32_MAX) return damaged("size");
  if (bytes_[0] != kPageMagic) return damaged("magic");
  if (static_cast<uint8_t>(bytes_[1]) != kPageVersion) return damaged("version");
  size_t heap = kHeaderBytes + size() * (is_index() ? kIndexRecordBytes : kLeafRecordBytes);
  if (size() == 0 || heap > bytes_.size()) return damaged("count");

  uint64_t inodes = 0;
  uint64_t entries = 0;
  for (size_t i = 0; i < size(); ++i) {
    uint32_t start = load_fixed<uint32_t>(record(i) + kHeapOffset);
    uint32_t end = i + 1 < size() ? load_fixed<uint32_t>(record(i + 1) + kHeapOffset)
                                  : static_cast<uint32_t>(bytes_.size());
    if (start < heap || end > bytes_.size() || start > end ||
        static_cast<uint8_t>(record(i)[kNameBytes]) > end - start) {
      return damaged("heap offset");
    }
    if (!valid_name(name(i))) return damaged("invalid name");
    if (i > 0 && name(i) <= name(i - 1)) return damaged("names out of order");

    TreeRef below;
    if (is_index()) {
      below = tree(i);
      if (below.page == ObjectId::none || !plausible(below)) return damaged("child page");
      if (entries_before(i) != entries) return damaged("entry counts");
    } else {
      TRY(validate_leaf_record(i));
      below = tree(i);
    }
    // Numbers below the page's first one are the base; a leaf's entry takes one itself.
    if (load_fixed<uint64_t>(record(i) + kDelta) != inodes + (is_index() ? 0 : 1)) {
      return damaged("numbers");
    }
    uint64_t step = 0;
    if (__builtin_add_overflow(below.inode_count, is_index() ? 0 : 1, &step) ||
        __builtin_add_overflow(inodes, step, &inodes) || inodes >> 56 != 0) {
      return damaged("numbers");
    }
    entries += is_index() ? below.entry_count : 1;
  }
  if (inodes != inode_count() || entries != entry_count()) return damaged("totals");
  return {};
}

Status TreePage::validate_leaf_record(size_t i) const {
  auto type_value = static_cast<uint8_t>(record(i)[kType]);
  if (type_value == 0 || type_value > static_cast<uint8_t>(FileType::whiteout)) {
    return damaged("file type");
  }
  if (flags(i) & kLinked) {
    if (flags(i) != kLinked || type(i) == FileType::directory || extra(i).size() != 8 ||
        link_id(i) == 0) {
      return damaged("hard link");
    }
    return {};
  }
  if (load_fixed<uint32_t>(record(i) + kMtimeNanoseconds) > 999'999'999) return damaged("mtime");
  if (type(i) == FileType::directory) {
    if (extra(i).size() < kTreeRefBytes || !plausible(tree(i))) return damaged("subdirectory");
  } else if (flags(i) & (kOpaque | kImplicit)) {
    return damaged("directory mark on another type");
  }
  if (type(i) == FileType::symlink && load_fixed<uint64_t>(record(i) + kSize) > extra(i).size()) {
    return damaged("symlink target");
  }
  return {};
}

size_t TreePage::level() const { return load_fixed<uint32_t>(bytes_.data() + 4); }
size_t TreePage::size() const { return load_fixed<uint16_t>(bytes_.data() + 2); }
size_t TreePage::memory_bytes() const { return sizeof(*this) + bytes_.capacity(); }
uint64_t TreePage::inode_count() const { return load_fixed<uint64_t>(bytes_.data() + 8); }
uint64_t TreePage::entry_count() const { return load_fixed<uint64_t>(bytes_.data() + 16); }

const char* TreePage::record(size_t i) const {
  return bytes_.data() + kHeaderBytes + i * (is_index() ? kIndexRecordBytes : kLeafRecordBytes);
}

uint8_t TreePage::flags(size_t i) const {
  return load_fixed<uint16_t>(record(i) + kModeFlags) >> 12;
}

std::string_view TreePage::name(size_t i) const {
  const char* r = record(i);
  return {bytes_.data() + load_fixed<uint32_t>(r + kHeapOffset),
          static_cast<uint8_t>(r[kNameBytes])};
}

std::string_view TreePage::extra(size_t i) const {
  size_t start =
      load_fixed<uint32_t>(record(i) + kHeapOffset) + static_cast<uint8_t>(record(i)[kNameBytes]);
  size_t end = i + 1 < size() ? load_fixed<uint32_t>(record(i + 1) + kHeapOffset) : bytes_.size();
  return {bytes_.data() + start, end - start};
}

size_t TreePage::lower_bound(std::string_view wanted) const {
  size_t low = 0;
  size_t high = size();
  while (low < high) {
    size_t middle = (low + high) / 2;
    if (name(middle) < wanted) {
      low = middle + 1;
    } else {
      high = middle;
    }
  }
  if (!is_index()) return low;
  // The child that starts at or before `wanted`.
  if (low < size() && name(low) == wanted) return low;
  return low == 0 ? 0 : low - 1;
}

size_t TreePage::find_delta(uint64_t wanted) const {
  uint64_t last = is_index() ? wanted - 1 : wanted;  // the greatest field value that may hold it
  size_t low = 0;
  size_t high = size();
  while (high - low > 1) {
    size_t middle = (low + high) / 2;
    if (delta(middle) <= last) {
      low = middle;
    } else {
      high = middle;
    }
  }
  return low;
}

uint64_t TreePage::delta(size_t i) const { return load_fixed<uint64_t>(record(i) + kDelta); }

uint64_t TreePage::entries_before(size_t i) const {
  return load_fixed<uint64_t>(record(i) + kEntriesBefore);
}

TreeRef TreePage::tree(size_t i) const {
  if (is_index()) return load_tree_ref(record(i) + kChildTree);
  return type(i) == FileType::directory ? load_tree_ref(extra(i).data()) : TreeRef{};
}

TreeRef TreePage::counts() const {
  TreeRef counts;
  for (size_t i = 0; i < size(); ++i) {
    if (is_index()) {
      count_page(counts, tree(i));
      continue;
    }
    Entry summary;  // what count_entry looks at
    summary.attributes.type = type(i);
    summary.link_id = link_id(i);
    if (summary.link_id == 0) summary.attributes.size_bytes = attributes(i).size_bytes;
    summary.tree = tree(i);
    summary.opaque = flags(i) & kOpaque;
    summary.implicit = flags(i) & kImplicit;
    count_entry(counts, summary);
  }
  return counts;
}

FileType TreePage::type(size_t i) const { return static_cast<FileType>(record(i)[kType]); }

uint64_t TreePage::link_id(size_t i) const {
  return flags(i) & kLinked ? load_fixed<uint64_t>(extra(i).data()) : 0;
}

Attributes TreePage::attributes(size_t i) const {
  const char* r = record(i);
  Attributes a;
  a.type = type(i);
  if (flags(i) & kLinked) return a;
  a.mode = load_fixed<uint16_t>(r + kModeFlags) & 07777;
  a.uid = load_fixed<uint32_t>(r + kUid);
  a.gid = load_fixed<uint32_t>(r + kGid);
  a.nlink = load_fixed<uint32_t>(r + kNlink);
  a.mtime.seconds = load_fixed<int64_t>(r + kMtimeSeconds);
  a.mtime.nanoseconds = load_fixed<uint32_t>(r + kMtimeNanoseconds);
  auto size = load_fixed<uint64_t>(r + kSize);
  if (is_device(a.type)) {
    a.rdev_major = static_cast<uint32_t>(size >> 32);
    a.rdev_minor = static_cast<uint32_t>(size);
  } else if (a.type == FileType::directory) {
    a.nlink = 2 + tree(i).subdirectory_count;
    a.size_bytes = kDirectorySizeBytes;
  } else {
    a.size_bytes = size;
  }
  return a;
}

std::string_view TreePage::symlink_target(size_t i) const {
  if (type(i) != FileType::symlink || flags(i) & kLinked) return {};
  return extra(i).substr(0, load_fixed<uint64_t>(record(i) + kSize));
}

bool TreePage::has_xattrs(size_t i) const { return flags(i) & kHasXattrs; }

Result<Entry> TreePage::entry(size_t i) const {
  Entry entry;
  entry.name = name(i);
  entry.attributes = attributes(i);
  entry.link_id = link_id(i);
  if (entry.link_id != 0) return entry;
  entry.opaque = flags(i) & kOpaque;
  entry.implicit = flags(i) & kImplicit;
  Reader in(extra(i));
  switch (entry.attributes.type) {
    case FileType::directory:
      entry.tree = tree(i);
      in.take(kTreeRefBytes);
      break;
    case FileType::symlink:
      entry.symlink_target = in.take(entry.attributes.size_bytes);
      break;
    case FileType::regular:
      TRY(take_content(in, entry.content));
      break;
    default:
      break;
  }
  if (has_xattrs(i)) TRY(take_xattrs(in, entry.xattrs));
  if (!in.done()) return damaged(fmt::format("entry {} does not decode", entry.name));
  return entry;
}

}  // namespace layerfs
