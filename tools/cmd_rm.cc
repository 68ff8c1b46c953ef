// SPDX-License-Identifier: Apache-2.0
#include "fuse/container_wait.h"
#include "tools/cli.h"

namespace layerfs {
namespace {

// One that was unmounted just now is waited for. (Not long: it may be mounted where nobody sees it
// from here.)
Status remove_one(const Globals& globals, const std::string& name) {
  constexpr int kPatienceMilliseconds = 5000;
  for (int waited = 0;;) {
    UniqueFd lock = TRY(lock_containers(globals.root));
    Container container = TRY(find_container(globals.root, name));
    Status removed = remove_container(container);
    if (removed.ok() || removed.error().code != EBUSY) return removed;
    lock.reset();
    if (!TRY(wait_until_free(container, waited, kPatienceMilliseconds))) return removed;
  }
}

Status remove_containers(const Globals& globals, const std::vector<std::string>& names) {
  for (const std::string& name : names) {
    TRY(remove_one(globals, name));
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
