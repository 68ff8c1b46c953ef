// SPDX-License-Identifier: Apache-2.0
#include "fuse/negotiation.h"

#include <linux/fuse.h>
#include <sys/uio.h>

#include <cstddef>

#include "fuse/reply.h"

namespace layerfs {

void choose_capabilities(fuse_conn_info& connection, bool writeback, bool posix_acl) {
  unsigned wanted = FUSE_CAP_ASYNC_READ | FUSE_CAP_PARALLEL_DIROPS | FUSE_CAP_READDIRPLUS |
                    FUSE_CAP_NO_OPEN_SUPPORT | FUSE_CAP_NO_OPENDIR_SUPPORT |
                    FUSE_CAP_CACHE_SYMLINKS | FUSE_CAP_EXPORT_SUPPORT | FUSE_CAP_DONT_MASK |
                    FUSE_CAP_EXPLICIT_INVAL_DATA;
  if (writeback) wanted |= FUSE_CAP_WRITEBACK_CACHE;
  if (posix_acl) wanted |= FUSE_CAP_POSIX_ACL;
  // READDIRPLUS always, not AUTO: a listing served from the cache brings no attributes, and every
  // name would then be looked up. Not wanted: ATOMIC_O_TRUNC needs OPEN; AUTO_INVAL_DATA drops
  // caches nobody else can outdate; with ASYNC_DIO the kernel leaves pages that were read while an
  // asynchronous direct write went on as they were before it.
  connection.want = wanted & connection.capable;
  connection.max_readahead = kMaxRequestBytes;
  connection.max_write = kMaxRequestBytes;
  connection.max_background = 64;
  connection.congestion_threshold = 48;
}

uint32_t add_init_flags(const fuse_in_header* message, iovec* parts, int count) {
  if (count < 2 || parts[1].iov_len < offsetof(fuse_init_out, max_background)) return 0;
  const auto* in = reinterpret_cast<const fuse_init_in*>(message + 1);
  auto* out = static_cast<fuse_init_out*>(parts[1].iov_base);
  uint32_t added = in->flags & (FUSE_HANDLE_KILLPRIV_V2 | FUSE_SETXATTR_EXT);
  out->flags |= added;
  return added;
}

}  // namespace layerfs
