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
#include <memory>
#include <mutex>
#include <new>
#include <optional>

#include "layerdb/upper/upper.h"

namespace layerfs {

class RecordCache {
 public:
  std::optional<InodeRecord> find(Ino ino) {
    Stripe& stripe = stripe_of(ino);
    std::lock_guard lock(stripe.mutex);
    Slot& slot = stripe.slot_of(ino);
    return slot.ino == ino && slot.record ? std::optional(*slot.record) : std::nullopt;
  }
  uint64_t version(Ino ino) {
    Stripe& stripe = stripe_of(ino);
    std::lock_guard lock(stripe.mutex);
    return stripe.version;
  }
  void insert(Ino ino, const InodeRecord& record, uint64_t version) {
    Stripe& stripe = stripe_of(ino);
    std::lock_guard lock(stripe.mutex);
    if (stripe.version == version) stripe.slot_of(ino).set(ino, record);
  }
  // Without memory for it the record is not here: the change is in the database already.
  void put(Ino ino, const InodeRecord& record) noexcept {
    Stripe& stripe = stripe_of(ino);
    std::lock_guard lock(stripe.mutex);
    ++stripe.version;
    try {
      stripe.slot_of(ino).set(ino, record);
    } catch (const std::bad_alloc&) {
      stripe.slot_of(ino) = {};
    }
  }
  void erase(Ino ino) noexcept {
    Stripe& stripe = stripe_of(ino);
    std::lock_guard lock(stripe.mutex);
    ++stripe.version;
    Slot& slot = stripe.slot_of(ino);
    if (slot.ino == ino) slot.ino = 0;
  }
  // Gives the memory back, too.
  void clear() {
    for (Stripe& stripe : stripes_) {
      std::lock_guard lock(stripe.mutex);
      ++stripe.version;
      for (Slot& slot : stripe.slots) slot = {};
    }
  }

  static constexpr size_t kSlots = 512;

 private:
  static constexpr size_t kStripes = 32;

  struct Slot {
    Ino ino = 0;  // 0: empty
    std::unique_ptr<InodeRecord> record;

    void set(Ino new_ino, const InodeRecord& new_record) {
      ino = 0;  // should it throw
      if (record)
        *record = new_record;
      else
        record = std::make_unique<InodeRecord>(new_record);
      ino = new_ino;
    }
  };
  struct Stripe {
    std::mutex mutex;
    uint64_t version = 0;
    std::array<Slot, kSlots / kStripes> slots;

    Slot& slot_of(Ino ino) { return slots[ino / kStripes % slots.size()]; }
  };
  Stripe& stripe_of(Ino ino) { return stripes_[ino % kStripes]; }
  std::array<Stripe, kStripes> stripes_;
};

}  // namespace layerfs
