// SPDX-License-Identifier: Apache-2.0
//
// The libfuse low-level callbacks: decode, call the overlay (fuse/overlay.h), reply. One file a
// kind: ops_meta.cc names and attributes, ops_dir.cc listing, ops_io.cc content.
//
// OPEN, OPENDIR, FLUSH and CREATE get ENOSYS once (the last two by having no callback): from then
// on the kernel neither sends them nor RELEASE, keeps file and directory caches over open and
// close, and makes files with MKNOD.
#pragma once

#include "fuse/reply.h"

namespace layerfs {

void add_meta_callbacks(fuse_lowlevel_ops& ops);
void add_directory_callbacks(fuse_lowlevel_ops& ops);
void add_io_callbacks(fuse_lowlevel_ops& ops);

// Messages that libfuse 3.14 does not decode (ops_raw.cc): answers with the reply's body;
// `size_bytes` is the whole message's. nullptr: libfuse decodes it. `setxattr_ext`: the connection
// has FUSE_SETXATTR_EXT.
using RawAnswer = Result<std::string> (*)(Mount& mount, const fuse_in_header* message,
                                          size_t size_bytes);
RawAnswer raw_answer(uint32_t opcode, bool setxattr_ext);
// To a LOOKUP under a name that the kernel must not keep: the body of the entry of `ino`.
Result<std::string> passing_entry(Mount& mount, Ino ino);

}  // namespace layerfs
