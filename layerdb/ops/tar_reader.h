// SPDX-License-Identifier: Apache-2.0
//
// Reads tar archives: v7, ustar, star, GNU (long names, base-256 numbers, sparse) and pax (with
// GNU's sparse formats 0.0, 0.1 and 1.0, xattrs and ACLs in SCHILY's, libarchive's and Red Hat's
// keywords). Every byte of the stream is either part of a file's body, handed out by body(), or is
// handed to `literal`, in order: so the caller can keep the archive byte for byte.
//
// libarchive's own reader is not used here: it does not say where bytes lie, converts names to the
// locale's character set, and misreads negative times with a fraction. It does decompress
// (input_stream.h) and parse ACL texts (posix_acl.h).
//
// Memory: extension headers (up to kMaxExtensionBytes) and sparse maps. Not thread-safe.
// Errors: EINVAL with a sentence naming source and entry.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "layerdb/base/result.h"
#include "layerdb/object/types.h"
#include "layerdb/ops/canonical_tar.h"
#include "layerdb/ops/input_stream.h"

namespace layerfs {

inline constexpr size_t kTarBlockBytes = 512;
inline constexpr uint64_t kMaxExtensionBytes = 16 << 20;
inline constexpr size_t kMaxSparseSegments = 1 << 20;

struct TarEntry {
  std::string path;  // as in the archive
  bool hard_link = false;
  std::string link_target;           // of hard links
  Entry entry;                       // attributes, symlink target, xattrs
  uint64_t body_bytes = 0;           // in the archive, without padding
  std::vector<TarSegment> segments;  // what the body holds; a plain file has at most one
};

class TarReader {
 public:
  using LiteralSink = std::function<Status(std::string_view)>;
  TarReader(InputStream& input, std::string source_name, LiteralSink literal);

  // False at the end of the archive. What is left of the entry before becomes literal.
  Result<bool> next(TarEntry& entry);
  // The next piece of the current body, empty at its end; valid until the next call.
  Result<std::string_view> body();
  // After next() returned false: everything up to the end of the stream.
  Status finish();
  bool end_marker_seen() const { return end_marker_seen_; }

 private:
  using PaxRecords = std::vector<std::pair<std::string, std::string>>;
  struct Extensions {
    std::string long_name;
    std::string long_link;
    PaxRecords pax;
    bool any = false;
  };
  struct SparseHeaders;

  Error bad(const std::string& what) const;
  Result<std::string_view> peek_block();  // 512 bytes, empty at the end
  Status skip(uint64_t size_bytes, std::string* copy);
  Result<std::string> read_extension(std::string_view header);
  Status parse_pax(std::string_view body, PaxRecords& out) const;
  Result<bool> read_extension_header(const std::string& header, Extensions& extensions);
  Status decode_header(const std::string& header, const Extensions& extensions, TarEntry& entry);
  Status apply_pax(const PaxRecords& records, TarEntry& entry, SparseHeaders& sparse);
  Status apply_xattr(const std::string& key, const std::string& value, TarEntry& entry,
                     SparseHeaders& sparse);
  Status read_old_sparse_map(const std::string& header, TarEntry& entry);
  Status read_sparse_map_1(TarEntry& entry);
  Status finish_sparse(const SparseHeaders& sparse, TarEntry& entry);
  Status check_segments(TarEntry& entry) const;
  Status drop_phantom_body(TarEntry& entry);

  InputStream& input_;
  std::string source_;
  LiteralSink literal_;
  std::string current_;  // path, for sentences
  PaxRecords global_pax_;
  uint64_t body_left_ = 0;
  uint64_t padding_ = 0;
  std::string_view piece_;  // handed out by body(), not consumed yet
  bool end_marker_seen_ = false;
  bool any_header_ = false;
};

}  // namespace layerfs
