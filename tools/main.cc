// SPDX-License-Identifier: Apache-2.0
//
// The table of commands, in the order in which `layerfs --help` shows them.
#include "tools/cli.h"

namespace layerfs {

// tools/cmd_NAME.cc
#define LAYERFS_COMMANDS(X)                                                               \
  X(import)                                                                               \
  X(images)                                                                               \
  X(layers)                                                                               \
  X(inspect)                                                                              \
  X(history)                                                                              \
  X(tag)                                                                                  \
  X(rmi)                                                                                  \
  X(export) X(mount) X(umount) X(ps) X(diff) X(commit) X(rm) X(stats) X(df) X(gc) X(fsck) \
      X(optimize) X(dump)

#define LAYERFS_DECLARE(name) void add_##name(CommandLine& line);
LAYERFS_COMMANDS(LAYERFS_DECLARE)
#undef LAYERFS_DECLARE

}  // namespace layerfs

int main(int argc, char** argv) {
  layerfs::CommandLine line;
#define LAYERFS_ADD(name) layerfs::add_##name(line);
  LAYERFS_COMMANDS(LAYERFS_ADD)
#undef LAYERFS_ADD
  return line.run(argc, argv);
}
