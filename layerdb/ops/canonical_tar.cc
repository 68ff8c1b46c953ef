// SPDX-License-Identifier: Apache-2.0
#include "layerdb/ops/canonical_tar.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <optional>
#include <string_view>

namespace layerfs {
namespace {

constexpr size_t kBlockBytes = 512;
constexpr uint64_t kMaxOctal7 = 07777777;       // uid, gid, device numbers
constexpr uint64_t kMaxOctal11 = 077777777777;  // size, mtime

// A POSIX ustar header block.
struct UstarHeader {
  char name[100];
  char mode[8];
  char uid[8];
  char gid[8];
  char size[12];
  char mtime[12];
  char checksum[8];
  char type;
  char link_name[100];
  char magic[6];
  char version[2];
  char user_name[32];
  char group_name[32];
  char device_major[8];
  char device_minor[8];
  char prefix[155];
  char padding[12];
};
static_assert(sizeof(UstarHeader) == kBlockBytes);

// Octal digits with leading zeros, the last byte NUL; 0 when the value does not fit (a pax record
// then has it).
template <size_t N>
void put_octal(char (&field)[N], uint64_t value) {
  if (value >> (3 * (N - 1)) != 0) value = 0;
  field[N - 1] = '\0';
  for (size_t i = N - 1; i-- > 0; value >>= 3) field[i] = static_cast<char>('0' + (value & 7));
}

// As much as fits; a name of exactly the field's size has no NUL.
template <size_t N>
void put_name(char (&field)[N], std::string_view name) {
  std::memcpy(field, name.data(), std::min(N, name.size()));
}

struct Header {
  std::string name;
  std::string link_name;
  char type = '0';
  uint64_t mode = 0, uid = 0, gid = 0, size = 0, device_major = 0, device_minor = 0;
  Timestamp mtime;
  std::optional<uint64_t> sparse_size;  // the file's; `size` is then what the tar has of it
};

void append_ustar(std::string& out, const Header& header) {
  UstarHeader block{};
  put_name(block.name, header.name);
  put_octal(block.mode, header.mode);
  put_octal(block.uid, header.uid);
  put_octal(block.gid, header.gid);
  put_octal(block.size, header.size);
  put_octal(block.mtime,
            header.mtime.seconds < 0 ? 0 : static_cast<uint64_t>(header.mtime.seconds));
  block.type = header.type;
  put_name(block.link_name, header.link_name);
  std::memcpy(block.magic, "ustar", sizeof block.magic);
  std::memcpy(block.version, "00", sizeof block.version);
  put_octal(block.device_major, header.device_major);
  put_octal(block.device_minor, header.device_minor);
  std::memset(block.checksum, ' ', sizeof block.checksum);
  uint64_t sum = 0;
  const auto* bytes = reinterpret_cast<const uint8_t*>(&block);
  for (size_t i = 0; i < sizeof block; ++i) sum += bytes[i];
  char digits[7];
  put_octal(digits, sum);
  std::memcpy(block.checksum, digits, sizeof digits);  // six digits, NUL; then the space
  out.append(reinterpret_cast<const char*>(&block), sizeof block);
}

// "LENGTH key=value\n", where LENGTH counts itself.
void append_record(std::string& records, std::string_view key, std::string_view value) {
  size_t rest = key.size() + value.size() + 3;
  size_t length = rest + 1;
  while (rest + fmt::formatted_size("{}", length) != length)
    length = rest + fmt::formatted_size("{}", length);
  records += fmt::format("{} ", length);
  records.append(key).append("=").append(value).append("\n");
}

// Seconds with as many decimals as needed: {-5, 500000000} is "-4.5".
std::string format_time(Timestamp time) {
  int64_t seconds = time.seconds;
  uint32_t nanoseconds = time.nanoseconds;
  std::string_view sign;
  if (seconds < 0) {
    sign = "-";
    if (nanoseconds != 0) {
      ++seconds;
      nanoseconds = 1'000'000'000 - nanoseconds;
    }
  }
  uint64_t magnitude =
      seconds < 0 ? 0 - static_cast<uint64_t>(seconds) : static_cast<uint64_t>(seconds);
  std::string out = fmt::format("{}{}", sign, magnitude);
  if (nanoseconds == 0) return out;
  out += fmt::format(".{:09}", nanoseconds);
  out.erase(out.find_last_not_of('0') + 1);
  return out;
}

// What does not fit into the ustar block.
std::string pax_records(const Header& header, const Xattrs* xattrs) {
  std::string out;
  if (header.sparse_size) {
    append_record(out, "GNU.sparse.major", "1");
    append_record(out, "GNU.sparse.minor", "0");
    append_record(out, "GNU.sparse.name", header.name);
    append_record(out, "GNU.sparse.realsize", std::to_string(*header.sparse_size));
  } else if (header.name.size() > sizeof UstarHeader::name) {
    append_record(out, "path", header.name);
  }
  if (header.link_name.size() > sizeof UstarHeader::link_name)
    append_record(out, "linkpath", header.link_name);
  if (header.size > kMaxOctal11) append_record(out, "size", std::to_string(header.size));
  if (header.uid > kMaxOctal7) append_record(out, "uid", std::to_string(header.uid));
  if (header.gid > kMaxOctal7) append_record(out, "gid", std::to_string(header.gid));
  if (header.mtime.nanoseconds != 0 || header.mtime.seconds < 0 ||
      static_cast<uint64_t>(header.mtime.seconds) > kMaxOctal11)
    append_record(out, "mtime", format_time(header.mtime));
  if (xattrs != nullptr)
    for (const auto& [name, value] : *xattrs)
      append_record(out, "SCHILY.xattr." + encode_xattr_keyword(name), value);
  return out;
}

char type_flag(FileType type) {
  switch (type) {
    case FileType::directory:
      return '5';
    case FileType::symlink:
      return '2';
    case FileType::char_device:
      return '3';
    case FileType::block_device:
      return '4';
    case FileType::fifo:
      return '6';
    default:
      return '0';
  }
}

// What readers that do not know sparse files call one: a/b -> a/GNUSparseFile.0/b, as GNU tar.
std::string sparse_name(const std::string& path) {
  size_t slash = path.rfind('/');
  size_t start = slash == std::string::npos ? 0 : slash + 1;
  return path.substr(0, start) + "GNUSparseFile.0/" + path.substr(start);
}

// a/b -> a/.wh.b
std::string whiteout_path(const std::string& path) {
  size_t slash = path.rfind('/');
  size_t start = slash == std::string::npos ? 0 : slash + 1;
  return path.substr(0, start) + ".wh." + path.substr(start);
}

Header describe(const std::string& path, const Entry& entry, const std::string& hard_link_target) {
  const Attributes& a = entry.attributes;
  Header out;
  out.mtime = a.mtime;
  if (a.type == FileType::whiteout) {
    out.name = whiteout_path(path);
    return out;
  }
  out.name = path;
  if (a.type == FileType::directory) out.name = path.empty() ? "./" : path + "/";
  out.mode = a.mode & 07777u;
  out.uid = a.uid;
  out.gid = a.gid;
  out.type = type_flag(a.type);
  if (!hard_link_target.empty()) {
    out.type = '1';
    out.link_name = hard_link_target;
  } else if (a.type == FileType::regular) {
    out.size = a.size_bytes;
  } else if (a.type == FileType::symlink) {
    out.link_name = entry.symlink_target;
  } else if (a.type == FileType::char_device || a.type == FileType::block_device) {
    out.device_major = a.rdev_major;
    out.device_minor = a.rdev_minor;
  }
  return out;
}

// The header block and, before it, the extension that it needs.
Result<std::string> encode(const std::string& path, Header header, const Xattrs* xattrs) {
  if (header.size > INT64_MAX || header.device_major > kMaxOctal7 ||
      header.device_minor > kMaxOctal7 || header.mtime.nanoseconds >= 1'000'000'000)
    return Error{EINVAL, "'" + path + "' has a size, device number or time that no tar can hold"};

  std::string records = pax_records(header, xattrs);
  std::string out;
  out.reserve(3 * kBlockBytes + records.size());
  if (!records.empty()) {
    Header extension;
    extension.name = "././@PaxHeader";
    extension.type = 'x';
    extension.mode = 0644;
    extension.size = records.size();
    append_ustar(out, extension);
    out += records;
    out.append(tar_padding(records.size()), '\0');
  }
  if (header.sparse_size) header.name = sparse_name(header.name);
  append_ustar(out, header);
  return out;
}

}  // namespace

Result<std::string> encode_tar_header(const std::string& path, const Entry& entry,
                                      const std::string& hard_link_target) {
  if (!tar_can_hold(entry.attributes.type))
    return Error{ENOTSUP, "'" + path + "' is a socket, which a tar cannot hold"};
  bool with_xattrs = hard_link_target.empty() && entry.attributes.type != FileType::whiteout;
  return encode(path, describe(path, entry, hard_link_target),
                with_xattrs ? &entry.xattrs : nullptr);
}

Result<std::string> encode_sparse_header(const std::string& path, const Entry& entry,
                                         const std::vector<TarSegment>& data) {
  Header header = describe(path, entry, "");
  header.sparse_size = header.size;
  // A file that ends in a hole has an empty part there: extractors seek to it and cut.
  bool ends_in_hole = data.empty() || data.back().offset + data.back().length < header.size;
  std::string map = fmt::format("{}\n", data.size() + ends_in_hole);
  uint64_t total = 0;
  for (const TarSegment& part : data) {
    map += fmt::format("{}\n{}\n", part.offset, part.length);
    total += part.length;
  }
  if (ends_in_hole) map += fmt::format("{}\n0\n", header.size);
  map.append(tar_padding(map.size()), '\0');
  header.size = map.size() + total;
  return TRY(encode(path, header, &entry.xattrs)) + map;
}

Result<std::string> encode_opaque_header(const std::string& directory) {
  Entry marker;
  marker.attributes.type = FileType::regular;
  return encode_tar_header(directory.empty() ? ".wh..wh..opq" : directory + "/.wh..wh..opq", marker,
                           "");
}

std::string tar_trailer() { return std::string(2 * kBlockBytes, '\0'); }

std::string encode_xattr_keyword(const std::string& name) {
  std::string out;
  for (size_t i = 0; i < name.size(); ++i) {
    std::string_view rest = std::string_view(name).substr(i + 1, 2);
    if (name[i] == '=')
      out += "%3D";
    else if (name[i] == '%' && (rest == "3D" || rest == "25"))
      out += "%25";
    else
      out += name[i];
  }
  return out;
}

std::string decode_xattr_keyword(const std::string& keyword) {
  std::string out;
  for (size_t i = 0; i < keyword.size(); ++i) {
    std::string_view code = std::string_view(keyword).substr(i, 3);
    if (code == "%3D" || code == "%25") {
      out += code == "%3D" ? '=' : '%';
      i += 2;
    } else {
      out += keyword[i];
    }
  }
  return out;
}

}  // namespace layerfs
