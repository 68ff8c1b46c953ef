// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <nlohmann/json.hpp>

#include "layerdb/ops/fsck.h"
#include "tools/cli.h"
#include "tools/quiet_container.h"
#include "tools/text.h"

namespace layerfs {
namespace {

nlohmann::json to_json(const FsckResult& result) {
  nlohmann::json findings = nlohmann::json::array();
  for (const Finding& finding : result.findings) {
    findings.push_back({{"Kind", finding_name(finding.kind)},
                        {"Owner", finding.owner},
                        {"Path", finding.path},
                        {"Message", finding.message}});
  }
  return {{"Findings", findings},
          {"Images", result.images},
          {"Layers", result.layers},
          {"Containers", result.containers},
          {"SkippedContainers", result.skipped_containers},
          {"Unchecked", result.unchecked},
          {"Groups", result.groups},
          {"DecodedBytes", result.decoded_bytes},
          {"ReclaimableGroups", result.reclaimable_groups},
          {"ReclaimableObjects", result.reclaimable_objects},
          {"ReclaimableBytes", result.reclaimable_bytes},
          {"StaleIndexEntries", result.stale_index_entries}};
}

void print_result(const Globals& globals, const FsckResult& result) {
  for (const Finding& finding : result.findings) print_line(printable(finding.to_string()));
  for (const std::string& what : result.unchecked) print_line("not-checked: " + printable(what));
  if (globals.quiet) return;
  print_line(fmt::format("Checked {} images, {} layers, {} containers, {} groups ({})",
                         result.images, result.layers, result.containers, result.groups,
                         human_size(result.decoded_bytes)));
  if (result.reclaimable_groups + result.reclaimable_objects > 0) {
    print_line(fmt::format("`layerfs gc` can take back {} groups and {} objects: {}",
                           result.reclaimable_groups, result.reclaimable_objects,
                           human_size(result.reclaimable_bytes)));
  }
  if (!result.skipped_containers.empty()) {
    note(globals, fmt::format("changes of mounted containers were not checked: {}",
                              fmt::join(result.skipped_containers, ", ")));
  }
}

Status run_fsck(const Globals& globals) {
  std::unique_ptr<Store> store = TRY(open_store_if_any(globals));
  FsckResult result;
  if (store != nullptr) {
    ProgressBar progress(globals);
    auto while_quiet = [&](const Container& container,
                           const std::function<Status(Lower&, Upper&)>& check) -> Status {
      std::unique_ptr<QuietContainer> quiet = TRY(QuietContainer::open(*store, container));
      TRY(check(quiet->lower(), quiet->upper()));
      return quiet->keep();
    };
    result = TRY(check_store(*store, progress.callback(), while_quiet));
  }
  if (globals.json) {
    print_json(to_json(result));
  } else {
    print_result(globals, result);
  }
  std::vector<std::string> problems;
  if (!result.findings.empty())
    problems.push_back(fmt::format("{} problems found", result.findings.size()));
  if (!result.unchecked.empty())
    problems.push_back("not everything could be checked: " + printable(result.unchecked.front()));
  if (problems.empty()) return {};
  return Error{EUCLEAN, fmt::format("{}", fmt::join(problems, "; "))};
}

}  // namespace

void add_fsck(CommandLine& line) {
  line.add("Store", "fsck", "Read everything and report damage",
           {"layerfs fsck", "layerfs fsck --json"}, run_fsck);
}

}  // namespace layerfs
