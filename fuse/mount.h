// SPDX-License-Identifier: Apache-2.0
//
// Mounting and the daemon's life: find or make the container, lock it, open store, lower and upper,
// mount (mount(2) with privileges in the own user namespace, else fusermount3), go to the
// background once the mount answers, serve until unmounted, sync and exit.
//
// A container is mounted once at a time: the daemon holds the flock of `<container>/lock` as long
// as it lives. An image mounted read-only without a container name gets a container without an
// upper, which keeps the image from being collected and shows in `ps`; it goes with the mount.
//
// Identity: as root (also of a user namespace) the mount is default_permissions,allow_other. As an
// ordinary user through fusermount3 only that user can enter; uid and gid 0 of the image are shown
// as the user's and back, and the daemon grants everything, so the user is root inside
// (fuse/design.md).
//
// SIGTERM, SIGINT and SIGHUP unmount; when the mount is in use it is detached, and ends with its
// last user, or at a second signal.
#pragma once

#include <cstdint>
#include <functional>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <vector>

#include "layerdb/base/result.h"

namespace layerfs {

struct MountRequest {
  std::string root;                      // store root, absolute
  std::string reference;                 // the image
  std::optional<std::string> container;  // new or existing; none: a name is made up
  uint64_t size_limit_bytes = 0;         // of a new container's upper; 0: none
  std::string mountpoint;
  bool read_only = false;
  bool foreground = false;
  std::vector<std::string> options;  // -o: what the kernel and container engines pass
};

// Calls `mounted` with the container's name when the mount answers; returns then, or (foreground)
// after it was unmounted. Must be called while the process has one thread, before RocksDB is used.
Status run_mount(const MountRequest& request,
                 const std::function<void(const std::string& container)>& mounted);

// By mount point or container. Returns when the daemon has everything on disk. EINVAL with a
// sentence when it is not a layerfs mount, EBUSY when it is in use.
Status run_unmount(const std::string& root, const std::string& target);

// The counters of fuse/stats.h of a mount, named likewise.
Result<nlohmann::json> mount_stats(const std::string& root, const std::string& target);

}  // namespace layerfs
