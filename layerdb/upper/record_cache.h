// SPDX-License-Identifier: Apache-2.0
//
// The inode records used last, decoded: what one message changes, the next ones mostly ask for (a
// new file's owner, mode and times are set one by one, and its directory's after each name).
// Direct-mapped by inode number; a record that is not here is read from the database.
// Thread-safe, takes no other lock. Who reads a record from the database notes version() first and
// inserts under it: nothing is inserted over what was applied meanwhile. Who applies a change
// calls put() or erase() after writing it and before anybody is told of it.
#pragma once

#include <array>
#include <cstdint>
#include <mutex>
#include <optional>

#include "layerdb/upper/upper.h"

namespace layerfs {

class RecordCache {
 public:
  std::optional<InodeRecord> find(Ino ino) {
    Slot& slot = slot_of(ino);
    std::lock_guard lock(slot.mutex);
    return slot.ino == ino ? std::optional(slot.record) : std::nullopt;
  }
  uint64_t version(Ino ino) {
    Slot& slot = slot_of(ino);
    std::lock_guard lock(slot.mutex);
    return slot.version;
  }
  void insert(Ino ino, const InodeRecord& record, uint64_t version) {
    Slot& slot = slot_of(ino);
    std::lock_guard lock(slot.mutex);
    if (slot.version != version) return;
    slot.ino = ino;
    slot.record = record;
  }
  void put(Ino ino, const InodeRecord& record) {
    Slot& slot = slot_of(ino);
    std::lock_guard lock(slot.mutex);
    ++slot.version;
    slot.ino = ino;
    slot.record = record;
  }
  void erase(Ino ino) {
    Slot& slot = slot_of(ino);
    std::lock_guard lock(slot.mutex);
    ++slot.version;
    if (slot.ino == ino) slot.ino = 0;
  }
  void clear() {
    for (Slot& slot : slots_) {
      std::lock_guard lock(slot.mutex);
      ++slot.version;
      slot.ino = 0;
    }
  }

  static constexpr size_t kSlots = 512;

 private:
  struct Slot {
    std::mutex mutex;
    uint64_t version = 0;
    Ino ino = 0;  // 0: empty
    InodeRecord record;
  };
  Slot& slot_of(Ino ino) { return slots_[ino % kSlots]; }
  std::array<Slot, kSlots> slots_;
};

}  // namespace layerfs
