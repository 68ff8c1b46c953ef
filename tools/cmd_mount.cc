// SPDX-License-Identifier: Apache-2.0
#include <cstdio>

#include "fuse/mount.h"
#include "tools/cli.h"

namespace layerfs {

void add_mount(CommandLine& line) {
  auto request = std::make_shared<MountRequest>();
  auto container = std::make_shared<std::string>();
  Command command = line.add(
      "Containers", "mount", "Mount an image with a writable layer; prints the container's name",
      {"layerfs mount debian:12 /mnt", "layerfs mount --container web debian:12 /mnt",
       "layerfs mount --read-only debian:12 /mnt"},
      [request, container](const Globals& globals) {
        request->root = globals.root;
        if (!container->empty()) request->container = *container;
        return run_mount(*request, [](const std::string& name) {
          print_line(name);
          std::fflush(stdout);  // in the foreground there is more to come
        });
      });
  command.optional("--container", *container,
                   "Name of the container: an existing one is mounted with all its changes");
  command.flag("--read-only", request->read_only, "Allow no changes");
  command.flag("-f,--foreground", request->foreground, "Stay until unmounted");
  command.optional("-o", request->options, "Mount options, separated by commas");
  command.optional_size("--size", request->size_limit_bytes,
                        "Limit of what a new container may hold, such as 10G");
  command.required("REFERENCE", request->reference, "Image reference or id");
  command.required("MOUNTPOINT", request->mountpoint, "An empty directory");
}

}  // namespace layerfs
