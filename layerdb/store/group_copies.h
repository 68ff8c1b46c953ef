// SPDX-License-Identifier: Apache-2.0
//
// Copies of groups that are stored as differences, each compressed by itself: a program that starts
// then decodes what it reads, not the up to 512 KiB that each such group builds on. Mounts add them
// to `<root>/group_copies` (format.md) when the same was read a second time (read_ahead.h), until
// they take the kShare-th part of what the store's groups take. They go when gc deletes something.
//
// Only a cache: it may be removed at any time, is never synced, and a copy is believed when its
// checksum is right, which covers the group's number and the database. A number means the same
// bytes for ever, in one database: `identity` tells that one from all others, and a writer that may
// give numbers for the second time, because an older state of the database was put back, first
// removes the file (remove_if_newer).
//
// Which groups have one is read once, not from a cold disk for each group that is asked for: what
// others add later is seen after forget_slots().
//
// Thread-safety: all but add() from any thread; add() by one thread at a time of a process, by
// flock(2) among processes. One mutex, held while slots are read.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "layerdb/base/result.h"
#include "layerdb/base/sys.h"
#include "layerdb/object/types.h"

namespace layerfs {

class GroupCopies {
 public:
  static constexpr uint64_t kShare = 16;

  static std::string path_in(const std::string& root) { return root + "/group_copies"; }
  // Makes the file when there is none, or another database's. Where it cannot be written it is read
  // only. `end`: what the opener may ask for, or copy, is below. EPROTO: it is another version's,
  // or something else; EAGAIN: another process writes to it just now.
  static Result<GroupCopies> open(const std::string& path, uint64_t identity, GroupId end);
  // For looking at it, whichever database's it is. ENOENT.
  static Result<GroupCopies> open_to_read(const std::string& path);
  static Status remove(const std::string& path);
  // For who may give numbers from `next` on: where others knew such numbers.
  static Status remove_if_newer(const std::string& path, GroupId next);

  uint64_t identity() const { return head_.identity; }
  bool may_add() const { return may_add_; }

  // The copy's record (group_codec.h), which names no bases.
  std::optional<std::string> find(GroupId group) const;
  // The disk begins to read it. False: there is none.
  bool begin_to_read(GroupId group) const;
  void forget_slots() const;

  // Best effort, at once or not at all. Returns those that have a copy now and had none.
  using MakeRecord = std::function<Result<std::string>(GroupId)>;
  std::vector<GroupId> add(std::span<const GroupId> groups, uint64_t limit_bytes,
                           const MakeRecord& make);

  // All that slots name, in no order.
  Status for_each(const std::function<void(GroupId, uint64_t offset, uint32_t bytes)>& visit) const;

 private:
  struct Slot {
    uint32_t group, bytes;
    uint64_t offset;
  };
  struct Slots {
    std::mutex mutex;
    std::optional<std::vector<Slot>> used;  // by group; none: not read yet
  };
  struct Head {
    uint64_t identity = 0;
    GroupId end = 0;  // the highest of all openers
  };

  GroupCopies(UniqueFd fd, bool may_add) : fd_(std::move(fd)), may_add_(may_add) {}
  Status read_head(const std::string& path);
  Status make_ours(const std::string& path, const Head& ours);
  std::string pack(GroupId group, const std::string& record) const;
  Slot find_slot(GroupId group) const;
  std::optional<uint64_t> place_for(GroupId group) const;

  UniqueFd fd_;
  bool may_add_;
  Head head_;
  std::unique_ptr<Slots> slots_ = std::make_unique<Slots>();
};

}  // namespace layerfs
