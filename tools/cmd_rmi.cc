// SPDX-License-Identifier: Apache-2.0
#include "layerdb/ops/remove_image.h"
#include "tools/cli.h"

namespace layerfs {
namespace {

Status remove_images(const Globals& globals, const std::vector<std::string>& names) {
  std::unique_ptr<Store> store = TRY(open_store_to_write(globals, WhenMissing::fail));
  for (const std::string& name : names) {
    RemovedImage removed = TRY(remove_image(*store, name));
    if (globals.quiet) continue;
    for (const std::string& reference : removed.untagged) print_line("Untagged: " + reference);
    for (const Digest& digest : removed.deleted) print_line("Deleted: " + digest.to_string());
  }
  return {};
}

}  // namespace

void add_rmi(CommandLine& line) {
  auto names = std::make_shared<std::vector<std::string>>();
  Command command = line.add(
      "Images", "rmi",
      "Remove references, and images with their last one; `layerfs gc` then frees the space",
      {"layerfs rmi debian:12", "layerfs rmi 3f2a91c0d4e5"},
      [names](const Globals& globals) { return remove_images(globals, *names); });
  command.required("IMAGE", *names, "Reference or id");
}

}  // namespace layerfs
