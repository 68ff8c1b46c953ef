// SPDX-License-Identifier: Apache-2.0
//
// Mount points, seen from outside: what is mounted where, whether a directory may become a mount
// point, taking mounts away. The source of a layerfs mount is its container's directory, so whoever
// sees the mount table finds the container.
#pragma once

#include <optional>
#include <string>

#include "layerdb/base/result.h"

namespace layerfs {

inline constexpr const char* kMountType = "fuse.layerfs";
inline constexpr const char* kPlainMountType = "fuse";  // with fsname=: any source, any program's

struct MountEntry {
  std::string type;
  std::string source;
};
// The topmost mount at exactly this absolute path, from /proc/self/mountinfo.
Result<std::optional<MountEntry>> find_mount(const std::string& mountpoint);

// Where the container in this directory is mounted now: a mount moves with the directories above it.
// None: nowhere that this process sees.
Result<std::optional<std::string>> find_mountpoint(const std::string& container_directory);

// The path without symlinks, absolute; also when a dead mount covers it.
Result<std::string> resolve_mountpoint(const std::string& path);

// True when the daemon behind the mount is gone (ENOTCONN).
bool is_dead_mount(const std::string& mountpoint);

// An existing, empty directory on which nothing of ours is mounted. Takes a dead mount away first.
Status check_mountpoint(const std::string& mountpoint);

// umount2(2), or fusermount3 for ordinary users. EBUSY when something below is in use; `lazy`
// detaches at once and the mount ends when its last user does.
Status detach_mount(const std::string& mountpoint, bool lazy);

}  // namespace layerfs
