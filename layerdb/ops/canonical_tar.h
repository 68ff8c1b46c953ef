// SPDX-License-Identifier: Apache-2.0
//
// The canonical tar of layers that layerfs makes (commit, directory import, flattened export): pax,
// entries in preorder with names ascending, "./" omitted (the root alone is "./"), numeric owners,
// nanosecond mtimes, xattrs as SCHILY.xattr with their raw bytes (ACLs and capabilities are xattrs
// like others), whiteouts as OCI's `.wh.` files. Names are bytes: their encoding is never touched.
// The same tree always yields the same bytes, whatever the libraries' versions; where holes are
// kept (directory import) they belong to the tree. Pure; thread-safe.
//
// Not libarchive's pax writer: it renames xattrs (URL encoding), marks raw names with a keyword
// that makes GNU tar complain about every entry, gets times before 1970 wrong, and its bytes (so
// our diffIDs) may change between versions.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "layerdb/base/result.h"
#include "layerdb/object/types.h"

namespace layerfs {

// `length` bytes of a body belong at `offset` of the file.
struct TarSegment {
  uint64_t offset = 0;
  uint64_t length = 0;
};

// Tar has no sockets: archivers leave them out, and so must the caller.
inline bool tar_can_hold(FileType type) {
  return type != FileType::none && type != FileType::socket;
}

// Header blocks of one entry (pax extensions included). `path` as in "a/b", "" is the root; for a
// whiteout it is the name that is deleted. `hard_link_target` (a path) not empty: a link to it; the
// entry has the inode's metadata as its other names do, no body follows. Otherwise a regular file's
// body of attributes.size_bytes follows in the tar, padded to 512 bytes; tar_padding says with how
// many zeros. ENOTSUP: a socket; EINVAL: not encodable.
Result<std::string> encode_tar_header(const std::string& path, const Entry& entry,
                                      const std::string& hard_link_target);
// The same for a regular file with holes, in GNU tar's pax format 1.0: with the map that the body
// begins with. `data` is where the file is not a hole (ascending, apart, inside its size). What
// follows in the tar are these parts, together padded to 512 bytes.
Result<std::string> encode_sparse_header(const std::string& path, const Entry& entry,
                                         const std::vector<TarSegment>& data);
// The entry (`.wh..wh..opq`) that hides everything below lower layers' `directory`; comes right
// after the directory's own entry.
Result<std::string> encode_opaque_header(const std::string& directory);

inline uint64_t tar_padding(uint64_t size_bytes) { return (512 - size_bytes % 512) % 512; }
std::string tar_trailer();  // two zero blocks

// An xattr's name as a pax keyword holds it (which ends at its first '='): '=' becomes "%3D" and,
// so that this can be undone, a '%' before "3D" or "25" becomes "%25"; GNU tar reads it so, too.
std::string encode_xattr_keyword(const std::string& name);
std::string decode_xattr_keyword(const std::string& keyword);

}  // namespace layerfs
