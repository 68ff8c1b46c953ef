// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include "layerdb/ops/container.h"
#include "layerdb/ops/fsck_state.h"
#include "layerdb/ops/upper_check.h"
#include "layerdb/upper/upper.h"
#include "layerdb/view/store_lower.h"

namespace layerfs {
namespace {

Status check_resting(FsckState& state, const Container& container, const ChainRecord& chain,
                     const UpperProblem& report) {
  auto lower = open_store_lower(state.store, chain);
  if (!lower.ok()) return {};                                   // reported with the image
  if (!path_exists(container.directory + "/upper")) return {};  // never mounted
  auto upper = TRY(Upper::open(container.directory, (*lower)->inode_limit(), {.read_only = true}));
  return check_upper(**lower, *upper, report);
}

// Its problems count only when it was still all the while.
void check_mounted(FsckState& state, const std::string& owner, const Container& container,
                   const WhileQuiet& while_quiet) {
  std::vector<std::string> problems;
  Status checked = while_quiet(container, [&](Lower& lower, Upper& upper) {
    return check_upper(lower, upper, [&](const std::string& text) { problems.push_back(text); });
  });
  if (!checked.ok() && checked.error().code == EUCLEAN)
    problems.push_back(checked.error().message);
  else if (!checked.ok())
    return state.result.skipped_containers.push_back(container.name);
  ++state.result.containers;
  for (const std::string& problem : problems)
    state.report(FindingKind::damaged_container, owner, "", problem);
}

// Removed since it was listed, or made anew.
bool is_gone(FsckState& state, const Container& container) {
  auto now = find_container(state.store.root(), container.name);
  return now.ok() ? now->image != container.image : now.error().code == ENOENT;
}

// Made of an image that came after the store was opened.
bool is_newer(FsckState& state, const Container& container) {
  auto now = Store::open(state.store.root(), {.read_only = true});
  return now.ok() && (*now)->catalog().image(container.image).ok() &&
         (*now)->catalog().chain(container.chain_id).ok();
}

Status check_container(FsckState& state, const std::string& owner, const Container& container,
                       const WhileQuiet& while_quiet) {
  bool has_image = state.store.catalog().image(container.image).ok();
  auto chain = state.store.catalog().chain(container.chain_id);
  if (!has_image || !chain.ok()) {
    if (is_newer(state, container) || is_gone(state, container)) return {};
  }
  if (!has_image) {
    state.report(FindingKind::missing_record, owner, "",
                 fmt::format("its image {} is missing", container.image.to_string()));
  }
  if (!chain.ok()) {
    state.report(FindingKind::missing_record, owner, "", chain.error().message);
    return {};
  }
  if (TRY(mounted(container))) {
    if (while_quiet)
      check_mounted(state, owner, container, while_quiet);
    else
      state.result.skipped_containers.push_back(container.name);
    return {};
  }
  ++state.result.containers;
  return check_resting(state, container, *chain, [&](const std::string& problem) {
    state.report(FindingKind::damaged_container, owner, "", problem);
  });
}

}  // namespace

Status check_containers(FsckState& state, const WhileQuiet& while_quiet) {
  auto containers = list_containers(state.store.root());
  if (!containers.ok()) {
    if (!state.leave_unchecked("containers", containers.error()))
      state.report(FindingKind::damaged_container, "store", "", containers.error().message);
    return {};
  }
  for (const Container& container : *containers) {
    std::string owner = "container " + container.name;
    Status checked = check_container(state, owner, container, while_quiet);
    if (checked.ok() || is_gone(state, container)) continue;
    auto running = mounted(container);
    if (running.ok() && *running) {  // mounted just now
      state.result.skipped_containers.push_back(container.name);
    } else if (!state.leave_unchecked(owner, checked.error())) {
      state.report(FindingKind::damaged_container, owner, "", checked.error().message);
    }
  }
  return {};
}

}  // namespace layerfs
