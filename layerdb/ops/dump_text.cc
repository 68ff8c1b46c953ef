// SPDX-License-Identifier: Apache-2.0
#include "layerdb/ops/dump_text.h"

#include <fmt/format.h>

namespace layerfs {

std::string quote(std::string_view bytes) {
  std::string out = "\"";
  for (unsigned char c : bytes) {
    if (c == '"' || c == '\\') {
      out += '\\';
      out += static_cast<char>(c);
    } else if (c < 0x20 || c >= 0x7f) {
      out += fmt::format("\\x{:02x}", c);
    } else {
      out += static_cast<char>(c);
    }
  }
  return out + '"';
}

std::string hex_bytes(std::string_view bytes) {
  std::string out = "0x";
  for (unsigned char c : bytes) out += fmt::format("{:02x}", c);
  return out;
}

const char* type_name(FileType type) {
  switch (type) {
    case FileType::none:
      return "none";
    case FileType::regular:
      return "file";
    case FileType::directory:
      return "directory";
    case FileType::symlink:
      return "symlink";
    case FileType::char_device:
      return "char";
    case FileType::block_device:
      return "block";
    case FileType::fifo:
      return "fifo";
    case FileType::socket:
      return "socket";
    case FileType::whiteout:
      return "whiteout";
  }
  return "unknown";
}

std::string describe(const Timestamp& time) {
  return fmt::format("{}.{:09}", time.seconds, time.nanoseconds);
}

std::string describe(const Extent& extent) {
  return fmt::format("extent {}+{} at {}:{}", extent.file_offset, extent.length, extent.group,
                     extent.group_offset);
}

std::string describe(const Content& content) {
  if (content.map != ObjectId::none) return fmt::format("map {}", raw(content.map));
  if (content.extents.empty()) return "hole";
  std::string out;
  for (const Extent& extent : content.extents) {
    out += (out.empty() ? "" : " ") + describe(extent);
  }
  return out;
}

std::string describe(const TreeRef& tree) {
  return fmt::format("page {} inodes {} entries {} subdirectories {} marks {} linked {} content {}",
                     raw(tree.page), tree.inode_count, tree.entry_count, tree.subdirectory_count,
                     tree.whiteout_count, tree.linked_count, tree.content_bytes);
}

std::string describe(const Attributes& a) {
  std::string out = fmt::format("{} {:04o} {}:{} nlink {} size {} mtime {}", type_name(a.type),
                                a.mode, a.uid, a.gid, a.nlink, a.size_bytes, describe(a.mtime));
  if (a.type == FileType::char_device || a.type == FileType::block_device) {
    out += fmt::format(" device {}:{}", a.rdev_major, a.rdev_minor);
  }
  return out;
}

std::string describe(const Entry& entry) {
  std::string out = quote(entry.name) + " ";
  FileType type = entry.attributes.type;
  if (entry.link_id != 0) {
    return out + fmt::format("{} link {:016x}", type_name(type), entry.link_id);
  }
  if (type == FileType::whiteout) return out + type_name(type);
  out += describe(entry.attributes);
  if (entry.opaque) out += " opaque";
  if (entry.implicit) out += " implicit";
  if (type == FileType::symlink) out += " target " + quote(entry.symlink_target);
  if (type == FileType::regular) out += " " + describe(entry.content);
  if (type == FileType::directory) out += " " + describe(entry.tree);
  for (const auto& [name, value] : entry.xattrs) {
    out += fmt::format(" xattr {}={}", quote(name), quote(value));
  }
  return out;
}

}  // namespace layerfs
