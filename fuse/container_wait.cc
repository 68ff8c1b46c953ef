// SPDX-License-Identifier: Apache-2.0
#include "fuse/container_wait.h"

#include <unistd.h>

#include "fuse/mountpoint.h"

namespace layerfs {
namespace {

// Whether the mount that holds the container's lock is in the mount table.
bool mount_is_seen(const Container& container) {
  Result<std::optional<MountInfo>> holder = mounted(container);
  if (!holder.ok() || !*holder) return false;
  Result<std::optional<MountEntry>> entry = find_mount((*holder)->mountpoint);
  if (!entry.ok() || !*entry) return false;
  return (*entry)->type == kPlainMountType || (*entry)->source == container.directory;
}

}  // namespace

Result<bool> wait_until_free(const Container& container, int& waited_milliseconds,
                             int patience_milliseconds) {
  constexpr int kStep = 5, kInstant = 100;
  while (waited_milliseconds < patience_milliseconds) {
    ::usleep(kStep * 1000);
    waited_milliseconds += kStep;
    Result<UniqueFd> lock = try_lock_file(container.directory + "/lock");
    if (lock.ok() || lock.error().code == ENOENT) return true;
    if (lock.error().code != EWOULDBLOCK) return std::move(lock).error();
    if (waited_milliseconds % kInstant == 0 && mount_is_seen(container)) return false;
  }
  return false;
}

}  // namespace layerfs
