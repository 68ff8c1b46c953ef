// SPDX-License-Identifier: Apache-2.0
#include "layerdb/ops/container.h"
#include "tools/cli.h"

namespace layerfs {
namespace {

Status remove_containers(const Globals& globals, const std::vector<std::string>& names) {
  for (const std::string& name : names) {
    UniqueFd lock = TRY(lock_containers(globals.root));
    TRY(remove_container(TRY(find_container(globals.root, name))));
    print_line(name);
  }
  return {};
}

}  // namespace

void add_rm(CommandLine& line) {
  auto names = std::make_shared<std::vector<std::string>>();
  Command command =
      line.add("Containers", "rm", "Remove containers and all their changes",
               {"layerfs rm web", "layerfs rm $(layerfs ps -q)"},
               [names](const Globals& globals) { return remove_containers(globals, *names); });
  command.required("CONTAINER", *names, "Containers, not mounted");
}

}  // namespace layerfs
