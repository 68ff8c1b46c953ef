// SPDX-License-Identifier: Apache-2.0
//
// What the daemon and the kernel agree on in the first message, INIT.
#pragma once

#include <cstdint>

struct fuse_conn_info;
struct fuse_in_header;
struct iovec;

namespace layerfs {

void choose_capabilities(fuse_conn_info& connection, bool writeback, bool posix_acl);

// To be called with the reply that libfuse makes.
// HANDLE_KILLPRIV_V2: the kernel says when setuid bits and capabilities must go, and then need not
// ask for security.capability before every write. SETXATTR_EXT: it says when a new ACL must clear
// the setgid bit. libfuse 3.14 cannot ask for them. Returns what was added.
uint32_t add_init_flags(const fuse_in_header* message, iovec* parts, int count);

}  // namespace layerfs
