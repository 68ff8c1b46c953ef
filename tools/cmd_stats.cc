// SPDX-License-Identifier: Apache-2.0
#include <nlohmann/json.hpp>

#include "fuse/mount.h"
#include "layerdb/base/json.h"
#include "tools/cli.h"
#include "tools/text.h"

namespace layerfs {
namespace {

Status show_stats(const Globals& globals, const std::string& target) {
  nlohmann::json stats = TRY(mount_stats(globals.root, target));
  if (globals.json) {
    print_json(stats);
    return {};
  }
  Table table({"COUNTER", "VALUE"});
  for (const auto& [name, count] : stats["messages"].items()) table.add({name, json_text(count)});
  for (const auto& [name, value] : stats.items())
    if (name != "messages") table.add({name, json_text(value)});
  print_line(table.to_string());
  return {};
}

}  // namespace

void add_stats(CommandLine& line) {
  auto target = std::make_shared<std::string>();
  Command command =
      line.add("Containers", "stats",
               "Messages from the kernel, bytes moved, time and memory of a mount so far",
               {"layerfs stats /mnt", "layerfs --json stats web"},
               [target](const Globals& globals) { return show_stats(globals, *target); });
  command.required("MOUNTPOINT|CONTAINER", *target, "A mounted container");
}

}  // namespace layerfs
