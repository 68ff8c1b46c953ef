// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "layerdb/ops/gc.h"
#include "tools/cli.h"
#include "tools/text.h"

namespace layerfs {
namespace {

Status run_gc(const Globals& globals, bool dry_run) {
  std::unique_ptr<Store> store = dry_run ? TRY(open_store_to_read(globals))
                                         : TRY(open_store_to_write(globals, WhenMissing::fail));
  GcResult result = TRY(collect_garbage(*store, dry_run));
  uint64_t dead_bytes = result.group_bytes + result.object_bytes;
  if (globals.json) {
    print_json({{"DryRun", dry_run},
                {"Layers", result.layers},
                {"Chains", result.chains},
                {"Objects", result.objects},
                {"ObjectBytes", result.object_bytes},
                {"Groups", result.groups},
                {"GroupBytes", result.group_bytes},
                {"FreedBytes", result.freed_bytes}});
  } else if (!globals.quiet) {
    print_line(fmt::format("{} layers, {} groups and {} objects are unused: {}", result.layers,
                           result.groups, result.objects, human_size(dead_bytes)));
    if (!dry_run) print_line(fmt::format("{} freed on disk", human_size(result.freed_bytes)));
  }
  return {};
}

}  // namespace

void add_gc(CommandLine& line) {
  auto dry_run = std::make_shared<bool>(false);
  Command command =
      line.add("Store", "gc", "Delete what no image and no container uses",
               {"layerfs gc", "layerfs gc --dry-run"},
               [dry_run](const Globals& globals) { return run_gc(globals, *dry_run); });
  command.flag("--dry-run", *dry_run, "Only say what would go");
}

}  // namespace layerfs
