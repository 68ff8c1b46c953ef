// SPDX-License-Identifier: Apache-2.0
//
// The order in which mounts read groups, kept in `<root>/read_history` (format.md) from one mount
// to the next: a program that starts again, a tree that is copied again, reads what it read before.
// A run is the groups that one mount read from one pause to the next, each followed by what it
// builds on. The last kEntries groups are kept; an index tells where a group was last asked for.
// What is read again is written again when half of that was written since, so what never comes
// again (random reads, say) does not push it out.
// (Temporal streaming: a history buffer and an index into it; Wenisch et al., "Practical Off-Chip
// Meta-data for Temporal Memory Streaming", 2009.)
//
// Only hints: nothing is believed but the groups themselves, so nothing is synced, a torn write is
// a wrong guess, and the file may be removed at any time (mounts then remember nothing more).
// Reading from any thread; append() by one thread at a time of a process, by flock(2) among
// processes.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "layerdb/base/result.h"
#include "layerdb/base/sys.h"
#include "layerdb/object/types.h"

namespace layerfs {

class ReadHistory {
 public:
  static constexpr uint32_t kEntries = 1 << 17;
  // A place in the history: what stands there was read before what stands at the next one.
  using Place = uint32_t;

  // `group` is the difference from this one, among others.
  struct BuiltOn {
    GroupId group, base;
  };
  struct Entry {
    GroupId group;
    bool asked;  // for by itself: the index tells of it
  };

  static std::string path_in(const std::string& root) { return root + "/read_history"; }
  // Makes the file when there is none. Where it cannot be written it is read only. EPROTO: it is
  // another version's, or something else.
  static Result<ReadHistory> open(const std::string& path);
  // For looking at it. ENOENT.
  static Result<ReadHistory> open_to_read(const std::string& path);

  // Behind the last time that `group` was asked for.
  std::optional<Place> after(GroupId group) const;
  // Fills `out` with what was read from `place` on, and moves it behind that; fewer: the run ends.
  std::span<GroupId> read(Place& place, std::span<GroupId> out) const;

  // A run, or a part of it when `more_follows`, unless the like was written lately (true). What its
  // groups build on, as far as `built_on` says, is named behind them. Best effort: at once or not
  // at all.
  bool append(std::span<const GroupId> run, bool more_follows,
              std::span<const BuiltOn> built_on = {});
  // A run in the place of the like. False: it was not to be had for a moment.
  bool replace(std::span<const GroupId> run, std::span<const BuiltOn> built_on);

  // All runs, in the file's order.
  void for_each_run(const std::function<void(Place, std::span<const GroupId>)>& visit) const;

 private:
  explicit ReadHistory(UniqueFd fd) : fd_(std::move(fd)) {}
  Status check(const std::string& path) const;
  Status prepare() const;
  Place next_place() const;
  bool knows(std::span<const GroupId> run) const;
  static bool fits(std::span<const GroupId> run, std::span<const BuiltOn> built_on);
  Status write(const std::vector<Entry>& run);

  UniqueFd fd_;
  std::optional<Place> end_;  // of the part that was appended last, where the next one goes
};

}  // namespace layerfs
