// SPDX-License-Identifier: Apache-2.0
//
// The libfuse low-level callbacks: decode, call the overlay (fuse/overlay.h), reply. One file a
// kind: ops_meta.cc names and attributes, ops_dir.cc listing, ops_io.cc content.
//
// OPEN, OPENDIR, FLUSH and CREATE get ENOSYS once (the last two by having no callback): from then on
// the kernel neither sends them nor RELEASE, keeps file and directory caches over open and close,
// and makes files with MKNOD.
#pragma once

#include "fuse/reply.h"

namespace layerfs {

void add_meta_callbacks(fuse_lowlevel_ops& ops);
void add_directory_callbacks(fuse_lowlevel_ops& ops);
void add_io_callbacks(fuse_lowlevel_ops& ops);

// O_TMPFILE, which libfuse 3.14 does not decode. Returns the reply's body, a fuse_entry_out and a
// fuse_open_out; `size_bytes` is the whole message's.
Result<std::string> answer_tmpfile(Mount& mount, const fuse_in_header* message, size_t size_bytes);

}  // namespace layerfs
