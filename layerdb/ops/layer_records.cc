// SPDX-License-Identifier: Apache-2.0
#include "layerdb/ops/layer_records.h"

#include <algorithm>

#include "layerdb/base/coding.h"

namespace layerfs {
namespace {

// NUL is in no name and sorts before every byte of one: "a" < "a/b" < "a.b" becomes bytewise.
constexpr size_t kSuffixBytes = 1 + 8;  // NUL, sequence

int64_t unzigzag(uint64_t v) { return static_cast<int64_t>(v >> 1) ^ -static_cast<int64_t>(v & 1); }
uint64_t zigzag(int64_t v) {
  return static_cast<uint64_t>(v) << 1 ^ static_cast<uint64_t>(v >> 63);
}

}  // namespace

std::string record_key(std::string_view path, uint64_t sequence) {
  std::string key(path);
  std::replace(key.begin(), key.end(), '/', '\0');
  key.push_back('\0');
  put_be64(key, sequence);
  return key;
}

std::string record_path(std::string_view key) {
  std::string path(key.substr(0, key.size() - kSuffixBytes));
  std::replace(path.begin(), path.end(), '\0', '/');
  return path;
}

uint64_t record_sequence(std::string_view key) { return decode_be64(key.data() + key.size() - 8); }

bool same_path(std::string_view a, std::string_view b) {
  return a.size() == b.size() &&
         a.substr(0, a.size() - kSuffixBytes) == b.substr(0, b.size() - kSuffixBytes);
}

bool is_below(std::string_view path, std::string_view directory) {
  if (directory.empty()) return !path.empty();
  return path.size() > directory.size() + 1 && path[directory.size()] == '/' &&
         path.starts_with(directory);
}

std::string encode_mark_record(RecordKind kind) { return std::string(1, static_cast<char>(kind)); }

RecordKind record_kind(std::string_view value) { return static_cast<RecordKind>(value[0]); }

FileType record_type(std::string_view value) { return static_cast<FileType>(value[1]); }

std::string encode_entry_record(const Entry& entry) {
  const Attributes& a = entry.attributes;
  std::string out;
  put_u8(out, static_cast<uint8_t>(RecordKind::entry));
  put_u8(out, static_cast<uint8_t>(a.type));
  put_varint(out, a.mode);
  put_varint(out, a.uid);
  put_varint(out, a.gid);
  put_varint(out, a.rdev_major);
  put_varint(out, a.rdev_minor);
  put_varint(out, a.size_bytes);
  put_varint(out, zigzag(a.mtime.seconds));
  put_varint(out, a.mtime.nanoseconds);
  put_bytes(out, entry.symlink_target);
  put_varint(out, entry.xattrs.size());
  for (const auto& [name, value] : entry.xattrs) {
    put_bytes(out, name);
    put_bytes(out, value);
  }
  put_varint(out, raw(entry.content.map));
  put_varint(out, entry.content.extents.size());
  for (const Extent& extent : entry.content.extents) {
    put_varint(out, extent.file_offset);
    put_varint(out, extent.group);
    put_varint(out, extent.group_offset);
    put_varint(out, extent.length);
  }
  return out;
}

Result<Entry> decode_entry_record(std::string_view value) {
  Reader in(value);
  in.u8();
  Entry entry;
  Attributes& a = entry.attributes;
  a.type = static_cast<FileType>(in.u8());
  a.mode = static_cast<uint16_t>(in.varint());
  a.uid = static_cast<uint32_t>(in.varint());
  a.gid = static_cast<uint32_t>(in.varint());
  a.rdev_major = static_cast<uint32_t>(in.varint());
  a.rdev_minor = static_cast<uint32_t>(in.varint());
  a.size_bytes = in.varint();
  a.mtime.seconds = unzigzag(in.varint());
  a.mtime.nanoseconds = static_cast<uint32_t>(in.varint());
  entry.symlink_target = in.bytes();
  for (uint64_t left = in.varint(); left > 0 && !in.failed(); --left) {
    std::string_view name = in.bytes();
    entry.xattrs.emplace_back(name, in.bytes());
  }
  entry.content.map = static_cast<ObjectId>(in.varint());
  for (uint64_t left = in.varint(); left > 0 && !in.failed(); --left) {
    Extent extent;
    extent.file_offset = in.varint();
    extent.group = in.varint();
    extent.group_offset = static_cast<uint32_t>(in.varint());
    extent.length = static_cast<uint32_t>(in.varint());
    entry.content.extents.push_back(extent);
  }
  if (!in.done()) return Error{EIO, "a temporary record of the import is damaged"};
  return entry;
}

}  // namespace layerfs
