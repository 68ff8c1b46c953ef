// SPDX-License-Identifier: Apache-2.0
//
// Mounting and the daemon's life: open store, lower and upper; mount (mount(2) with privileges in
// the own user namespace, else fusermount3); fork to the background once the mount answers; serve
// until unmounted; sync and exit. The parent exits only when the child said "ready" or failed, with
// the child's error sentence.
//
// Identity: as root (also of a user namespace) the mount is default_permissions,allow_other. As an
// ordinary user through fusermount3 only that user can enter; uid and gid 0 of the image are shown
// as the user's and back, and the daemon grants everything, so the user is root inside (fuse/design.md).
#pragma once

#include <string>
#include <vector>

#include "layerdb/base/result.h"
#include "layerdb/ops/container.h"

namespace layerfs {

struct MountRequest {
  std::string root;            // store root
  Container container;         // exists already; for a plain --read-only image mount: no upper is made
  std::string mountpoint;      // absolute
  bool read_only = false;
  bool foreground = false;
  std::vector<std::string> options;  // -o: what the kernel and engines pass
};

// Returns 0 in the parent after the daemon is ready, or (foreground) after unmounting.
Status run_mount(const MountRequest& request);

// By mount point or container; EINVAL with a sentence when it is not a layerfs mount.
Status run_unmount(const std::string& root, const std::string& target);

}  // namespace layerfs
