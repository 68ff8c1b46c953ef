// SPDX-License-Identifier: Apache-2.0
#include "layerdb/upper/records.h"

#include <fmt/format.h>

namespace layerfs::upper_key {

namespace {

constexpr uint8_t kOwnXattrs = 1;
constexpr int kSmallHolesShift = 4;  // the upper half of the flags

void put_time(std::string& out, const Timestamp& time) {
  put_u64(out, static_cast<uint64_t>(time.seconds));
  put_u32(out, time.nanoseconds);
}

Timestamp read_time(Reader& reader) {
  Timestamp time;
  time.seconds = static_cast<int64_t>(reader.u64());
  time.nanoseconds = reader.u32();
  return time;
}

Error damaged(std::string_view what) {
  return {EUCLEAN, fmt::format("the upper's {} record is damaged", what)};
}

bool plausible(const InodeRecord& r) {
  const Attributes& a = r.attributes;
  return a.type > FileType::none && a.type < FileType::whiteout && a.mode <= 07777 &&
         r.body <= Body::file && (r.body == Body::none || a.type == FileType::regular) &&
         (r.body == Body::small || r.small_holes == 0) && a.mtime.nanoseconds < 1000000000 &&
         r.atime.nanoseconds < 1000000000 && r.ctime.nanoseconds < 1000000000 &&
         r.btime.nanoseconds < 1000000000;
}

}  // namespace

std::string encode_inode(const InodeRecord& record) {
  const Attributes& a = record.attributes;
  std::string out;
  out.reserve(96 + record.symlink_target.size());
  put_u8(out, static_cast<uint8_t>(a.type));
  put_u8(out, static_cast<uint8_t>(record.body));
  put_u8(out, static_cast<uint8_t>((record.own_xattrs ? kOwnXattrs : 0) | record.small_holes
                                                                              << kSmallHolesShift));
  put_u16(out, a.mode);
  put_varint(out, a.uid);
  put_varint(out, a.gid);
  put_varint(out, a.nlink);
  put_varint(out, a.rdev_major);
  put_varint(out, a.rdev_minor);
  put_varint(out, a.size_bytes);
  put_varint(out, record.lower_size_bytes);
  put_varint(out, record.parent);
  put_time(out, a.mtime);
  put_time(out, record.atime);
  put_time(out, record.ctime);
  put_time(out, record.btime);
  put_bytes(out, record.symlink_target);
  return out;
}

Result<InodeRecord> decode_inode(std::string_view bytes) {
  Reader reader(bytes);
  InodeRecord record;
  Attributes& a = record.attributes;
  a.type = static_cast<FileType>(reader.u8());
  record.body = static_cast<Body>(reader.u8());
  uint8_t flags = reader.u8();
  record.own_xattrs = flags & kOwnXattrs;
  record.small_holes = flags >> kSmallHolesShift;
  a.mode = reader.u16();
  a.uid = static_cast<uint32_t>(reader.varint());
  a.gid = static_cast<uint32_t>(reader.varint());
  a.nlink = static_cast<uint32_t>(reader.varint());
  a.rdev_major = static_cast<uint32_t>(reader.varint());
  a.rdev_minor = static_cast<uint32_t>(reader.varint());
  a.size_bytes = reader.varint();
  record.lower_size_bytes = reader.varint();
  record.parent = reader.varint();
  a.mtime = read_time(reader);
  record.atime = read_time(reader);
  record.ctime = read_time(reader);
  record.btime = read_time(reader);
  record.symlink_target = reader.bytes();
  if (!reader.done() || (flags & 0xf & ~kOwnXattrs) || !plausible(record)) return damaged("inode");
  return record;
}

std::string encode_name(const UpperName& name) {
  std::string out;
  put_u8(out, static_cast<uint8_t>(name.whiteout() ? FileType::whiteout : name.type));
  put_u8(out, name.whiteout() || name.over_lower);
  put_varint(out, name.ino);
  return out;
}

Result<UpperName> decode_name(std::string_view bytes) {
  Reader reader(bytes);
  UpperName name;
  name.type = static_cast<FileType>(reader.u8());
  uint8_t over_lower = reader.u8();
  name.over_lower = over_lower != 0;
  name.ino = reader.varint();
  bool whiteout = name.type == FileType::whiteout;
  if (!reader.done() || name.type == FileType::none || name.type > FileType::whiteout ||
      over_lower > 1 || whiteout != name.whiteout() || (whiteout && !name.over_lower))
    return damaged("name");
  return name;
}

std::string encode_number(uint64_t value) {
  std::string out;
  put_varint(out, value);
  return out;
}

Result<uint64_t> decode_number(std::string_view bytes) {
  Reader reader(bytes);
  uint64_t value = reader.varint();
  if (!reader.done()) return damaged("number");
  return value;
}

std::string encode_logged_from(const LoggedFrom& from) {
  return encode_number(from.log) + encode_number(from.sequence);
}

Result<LoggedFrom> decode_logged_from(std::string_view bytes) {
  Reader reader(bytes);
  LoggedFrom out;
  out.log = reader.varint();
  out.sequence = reader.varint();
  if (!reader.done()) return damaged("beginning of the logs");
  return out;
}

Result<Range> decode_range(std::string_view key, std::string_view value) {
  Result<uint64_t> start = decode_number(value);
  if (!start.ok() || rest(key).size() != 8) return damaged("range");
  uint64_t end = decode_be64(rest(key).data());
  if (*start >= end) return damaged("range");
  return Range{*start, end - *start};
}

}  // namespace layerfs::upper_key
