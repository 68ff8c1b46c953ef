// SPDX-License-Identifier: Apache-2.0
#include "fuse/mount.h"
#include "tools/cli.h"

namespace layerfs {

void add_umount(CommandLine& line) {
  auto target = std::make_shared<std::string>();
  Command command =
      line.add("Containers", "umount", "Unmount; returns when everything is on disk",
               {"layerfs umount /mnt", "layerfs umount web"},
               [target](const Globals& globals) { return run_unmount(globals.root, *target); });
  command.required("MOUNTPOINT|CONTAINER", *target, "What to unmount");
}

}  // namespace layerfs
