// SPDX-License-Identifier: Apache-2.0
//
// TarReader: from a header block and its extensions to an entry; sparse maps.
#include <algorithm>
#include <limits>
#include <map>
#include <optional>

#include "layerdb/ops/canonical_tar.h"
#include "layerdb/ops/posix_acl.h"
#include "layerdb/ops/tar_header.h"
#include "layerdb/ops/tar_reader.h"

namespace layerfs {
namespace {

FileType file_type(char type, const std::string& path) {
  switch (type) {
    case '2':
      return FileType::symlink;
    case '3':
      return FileType::char_device;
    case '4':
      return FileType::block_device;
    case '5':
    case 'D':
      return FileType::directory;  // D: GNU incremental, the body lists what was there
    case '6':
      return FileType::fifo;
    default:
      return path.ends_with('/') ? FileType::directory : FileType::regular;
  }
}

std::optional<uint32_t> to_id(std::optional<int64_t> number) {
  if (!number || *number < 0 || *number >= std::numeric_limits<uint32_t>::max())
    return std::nullopt;
  return static_cast<uint32_t>(*number);
}

void set_xattr(Xattrs& xattrs, std::string name, std::string value, bool replace) {
  auto it = std::lower_bound(xattrs.begin(), xattrs.end(), name,
                             [](const auto& x, const std::string& n) { return x.first < n; });
  if (it == xattrs.end() || it->first != name) {
    xattrs.insert(it, {std::move(name), std::move(value)});
  } else if (replace) {
    it->second = std::move(value);
  }
}

}  // namespace

// What pax records say about a sparse file, in GNU's three formats.
struct TarReader::SparseHeaders {
  std::optional<int64_t> major;
  std::optional<int64_t> minor;
  std::optional<int64_t> real_size;
  std::string name;
  bool mapped = false;                      // 0.0 or 0.1: segments are in the records
  std::optional<int64_t> offset;            // 0.0: of the segment whose length comes next
  std::map<std::string, std::string> acls;  // xattr name -> ACL text
};

Status TarReader::decode_header(const std::string& header, const Extensions& extensions,
                                TarEntry& entry) {
  TarHeader h(header);
  entry = {};
  entry.path = extensions.long_name.empty() ? h.path() : extensions.long_name;
  current_ = entry.path;
  std::string link = extensions.long_link.empty() ? h.link_target() : extensions.long_link;
  Attributes& a = entry.entry.attributes;
  auto mode = h.mode();
  auto size = h.size_bytes();
  auto mtime = h.mtime();
  auto uid = to_id(h.uid()), gid = to_id(h.gid());
  bool has_uid = false, has_gid = false, has_size = false;
  for (const auto& [key, value] : extensions.pax) {
    has_uid |= key == "uid";
    has_gid |= key == "gid";
    has_size |= key == "size";
  }
  if (!mode || !mtime || (!uid && !has_uid) || (!gid && !has_gid) ||
      (!has_size && (!size || *size < 0))) {
    return bad("a damaged header: a field is not a number in range");
  }
  a.mode = static_cast<uint16_t>(*mode & 07777);
  a.uid = uid.value_or(0);
  a.gid = gid.value_or(0);
  a.mtime.seconds = *mtime;
  entry.body_bytes = static_cast<uint64_t>(std::max<int64_t>(size.value_or(0), 0));
  entry.link_target = std::move(link);
  SparseHeaders sparse;
  TRY(apply_pax(global_pax_, entry, sparse));
  TRY(apply_pax(extensions.pax, entry, sparse));
  if (!sparse.name.empty()) entry.path = sparse.name;
  current_ = entry.path;
  for (const auto& [name, text] : sparse.acls) {
    Result<std::string> acl = encode_posix_acl(text);
    if (!acl.ok()) return bad(acl.error().message);
    set_xattr(entry.entry.xattrs, name, std::move(acl).value(), false);
  }

  a.type = file_type(h.type(), entry.path);
  entry.hard_link = h.type() == '1';
  if (h.type() >= '1' && h.type() <= '6' && entry.body_bytes > 0) TRY(drop_phantom_body(entry));
  if (a.type == FileType::directory && h.type() != 'D' && h.type() != '5') {
    TRY(drop_phantom_body(entry));  // "name/" of old tars
  }
  if (a.type == FileType::symlink) {
    a.mode = 0777;  // as Linux has them, whatever was written there
    entry.entry.symlink_target = std::move(entry.link_target);
    a.size_bytes = entry.entry.symlink_target.size();
  } else if (a.type == FileType::char_device || a.type == FileType::block_device) {
    auto device_major = to_id(h.device_major()), device_minor = to_id(h.device_minor());
    if (!device_major || !device_minor) return bad("a damaged header: device numbers");
    if (a.rdev_major == 0 && a.rdev_minor == 0) {
      a.rdev_major = *device_major;
      a.rdev_minor = *device_minor;
    }
  } else if (a.type == FileType::directory) {
    a.size_bytes = 4096;
  }
  body_left_ = entry.body_bytes;
  padding_ = -entry.body_bytes & (kTarBlockBytes - 1);
  if (a.type != FileType::regular || entry.hard_link) return {};
  a.size_bytes = entry.body_bytes;
  if (h.type() == 'S') {
    TRY(read_old_sparse_map(header, entry));
  } else if (sparse.major || sparse.mapped || sparse.real_size) {
    TRY(finish_sparse(sparse, entry));
  } else if (entry.body_bytes > 0) {
    entry.segments = {{0, entry.body_bytes}};
  }
  return check_segments(entry);
}

Status TarReader::apply_pax(const PaxRecords& records, TarEntry& entry, SparseHeaders& sparse) {
  Attributes& a = entry.entry.attributes;
  for (const auto& [key, value] : records) {
    auto number = [&]() -> Result<uint64_t> {
      auto n = parse_decimal(value);
      if (!n || *n < 0)
        return bad("pax header '" + key + "=" + value + "' is not a number in range");
      return static_cast<uint64_t>(*n);
    };
    auto id = [&]() -> Result<uint32_t> {
      auto n = to_id(parse_decimal(value));
      if (!n) return bad("pax header '" + key + "=" + value + "' is not a number in range");
      return *n;
    };
    if (key == "path") {
      entry.path = value;
    } else if (key == "linkpath") {
      entry.link_target = value;
    } else if (key == "size") {
      entry.body_bytes = TRY(number());
    } else if (key == "uid") {
      a.uid = TRY(id());
    } else if (key == "gid") {
      a.gid = TRY(id());
    } else if (key == "mtime") {
      auto time = parse_pax_time(value);
      if (!time) return bad("pax header 'mtime=" + value + "' is not a time");
      a.mtime = *time;
    } else if (key == "SCHILY.devmajor") {
      a.rdev_major = TRY(id());
    } else if (key == "SCHILY.devminor") {
      a.rdev_minor = TRY(id());
    } else if (key == "GNU.sparse.major") {
      sparse.major = TRY(number());
    } else if (key == "GNU.sparse.minor") {
      sparse.minor = TRY(number());
    } else if (key == "GNU.sparse.realsize" || key == "GNU.sparse.size") {
      sparse.real_size = TRY(number());
    } else if (key == "GNU.sparse.name") {
      sparse.name = value;
    } else if (key == "GNU.sparse.offset") {
      sparse.offset = TRY(number());
      sparse.mapped = true;
    } else if (key == "GNU.sparse.numbytes") {
      if (!sparse.offset) return bad("a damaged sparse map");
      entry.segments.push_back({static_cast<uint64_t>(*sparse.offset), TRY(number())});
      sparse.offset.reset();
    } else {
      TRY(apply_xattr(key, value, entry, sparse));
    }
  }
  return {};
}

Status TarReader::apply_xattr(const std::string& key, const std::string& value, TarEntry& entry,
                              SparseHeaders& sparse) {
  Xattrs& xattrs = entry.entry.xattrs;
  auto after = [&](std::string_view prefix) { return key.substr(prefix.size()); };
  if (key.starts_with("SCHILY.xattr.")) {
    set_xattr(xattrs, decode_xattr_keyword(after("SCHILY.xattr.")), value, true);
  } else if (key.starts_with("LIBARCHIVE.xattr.")) {
    auto bytes = decode_base64(value);
    if (!bytes) return bad("pax header '" + key + "' is not base64");
    set_xattr(xattrs, decode_url(after("LIBARCHIVE.xattr.")), std::move(*bytes), false);
  } else if (key == "RHT.security.selinux") {
    set_xattr(xattrs, "security.selinux", value, false);
  } else if (key == "SCHILY.acl.access") {
    sparse.acls["system.posix_acl_access"] = value;
  } else if (key == "SCHILY.acl.default") {
    sparse.acls["system.posix_acl_default"] = value;
  } else if (key == "GNU.sparse.map") {
    sparse.mapped = true;
    entry.segments.clear();
    std::string_view rest = value;
    auto number = [&]() -> Result<uint64_t> {
      size_t comma = std::min(rest.find(','), rest.size());
      auto n = parse_decimal(rest.substr(0, comma));
      if (!n || *n < 0) return bad("a damaged sparse map");
      rest.remove_prefix(std::min(comma + 1, rest.size()));
      return static_cast<uint64_t>(*n);
    };
    while (!rest.empty()) {
      uint64_t offset = TRY(number());
      entry.segments.push_back({offset, TRY(number())});
    }
  }
  return {};
}

// Old GNU: four segments in the header, then blocks of 21.
Status TarReader::read_old_sparse_map(const std::string& header, TarEntry& entry) {
  auto add = [&](const TarHeader& block, size_t at, int count) -> Status {
    for (int i = 0; i < count; ++i, at += 24) {
      auto offset = block.number(at, 12), length = block.number(at + 12, 12);
      if (!offset || !length || *offset < 0 || *length < 0) return bad("a damaged sparse map");
      if (block.byte(at) == 0) return {};
      if (*length > 0) {
        entry.segments.push_back({static_cast<uint64_t>(*offset), static_cast<uint64_t>(*length)});
      }
    }
    return {};
  };
  TarHeader h(header);
  auto real_size = h.number(483, 12);
  if (!real_size || *real_size < 0) return bad("a damaged sparse header");
  entry.entry.attributes.size_bytes = static_cast<uint64_t>(*real_size);
  TRY(add(h, 386, 4));
  bool more = h.byte(482) != 0;
  while (more) {
    if (entry.segments.size() > kMaxSparseSegments) return bad("a sparse map of too many parts");
    std::string block(TRY(peek_block()));
    if (block.empty()) return bad("the archive is cut short in a sparse map");
    TRY(skip(kTarBlockBytes, nullptr));
    TRY(add(TarHeader(block), 0, 21));
    more = TarHeader(block).byte(504) != 0;
  }
  return {};
}

// GNU 1.0: decimal lines at the start of the body, padded to a block.
Status TarReader::read_sparse_map_1(TarEntry& entry) {
  std::string text;
  uint64_t used = 0;
  size_t at = 0;
  auto line = [&]() -> Result<uint64_t> {
    size_t end;
    while ((end = text.find('\n', at)) == std::string::npos) {
      if (text.size() - at > 32 || used + kTarBlockBytes > entry.body_bytes) {
        return bad("a damaged sparse map");
      }
      text.erase(0, at);
      at = 0;
      TRY(skip(kTarBlockBytes, &text));
      used += kTarBlockBytes;
    }
    auto n = parse_decimal(std::string_view(text).substr(at, end - at));
    if (!n || *n < 0) return bad("a damaged sparse map");
    at = end + 1;
    return static_cast<uint64_t>(*n);
  };
  entry.segments.clear();
  uint64_t count = TRY(line());
  if (count > kMaxSparseSegments) return bad("a sparse map of too many parts");
  for (uint64_t i = 0; i < count; ++i) {
    uint64_t offset = TRY(line());
    entry.segments.push_back({offset, TRY(line())});
  }
  entry.body_bytes -= used;
  body_left_ = entry.body_bytes;
  return {};
}

Status TarReader::finish_sparse(const SparseHeaders& sparse, TarEntry& entry) {
  if (!sparse.real_size) return bad("a sparse file without a size");
  entry.entry.attributes.size_bytes = static_cast<uint64_t>(*sparse.real_size);
  if (sparse.major == 1 && sparse.minor == 0) return read_sparse_map_1(entry);
  if (!sparse.mapped) return bad("a sparse file of an unknown format");
  return {};
}

// The body must hold exactly the segments, in order and inside the file.
Status TarReader::check_segments(TarEntry& entry) const {
  std::erase_if(entry.segments, [](const TarSegment& s) { return s.length == 0; });
  if (entry.segments.size() > kMaxSparseSegments) return bad("a sparse map of too many parts");
  uint64_t end = 0;
  uint64_t total = 0;
  uint64_t size = entry.entry.attributes.size_bytes;
  for (const TarSegment& s : entry.segments) {
    if (s.offset < end || s.offset > size || s.length > size - s.offset) {
      return bad("a damaged sparse map");
    }
    end = s.offset + s.length;
    total += s.length;
  }
  if (total != entry.body_bytes) return bad("a sparse map that does not fit its body");
  return {};
}

}  // namespace layerfs
