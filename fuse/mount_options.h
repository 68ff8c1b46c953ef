// SPDX-License-Identifier: Apache-2.0
//
// The -o options of mount, and what libfuse is given for them.
#pragma once

#include <string>
#include <vector>

#include "fuse/identity.h"

namespace layerfs {

struct MountOptions {
  bool read_only = false;
  bool kernel_checks = false;         // default_permissions
  bool keep_atime = false;            // noatime
  bool keep_directory_atime = false;  // nodiratime, noatime
  IdentityMap ids;
  std::vector<std::string> for_libfuse;  // one option each
};

// `given` may hold comma-separated lists and empty options. Unknown ones are ignored with a
// warning, as fuse-overlayfs does: engines pass each other's. `source` is shown in the mount table,
// or what fsname= says; then the type is "fuse" alone, as with every program on libfuse.
MountOptions choose_mount_options(const std::vector<std::string>& given, bool read_only,
                                  const std::string& source);

}  // namespace layerfs
