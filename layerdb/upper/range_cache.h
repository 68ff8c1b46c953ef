// SPDX-License-Identifier: Apache-2.0
//
// The ranges of the inodes used last, in memory. A file that is overwritten piece by piece leaves
// outdated range records behind, which every seek in the database would have to skip.
// Thread-safe. Who loads ranges from the database notes generation() first and drops what it
// inserted if that has moved since: a change was applied meanwhile, perhaps unseen. Who applies a
// change calls advance() after writing it and then updates what is here.
#pragma once

#include <atomic>
#include <cstdint>
#include <list>
#include <map>
#include <memory>
#include <mutex>
#include <shared_mutex>
#include <unordered_map>
#include <utility>

#include "layerdb/object/types.h"

namespace layerfs {

class RangeCache {
 public:
  struct Ranges {
    std::shared_mutex mutex;
    std::map<uint64_t, uint64_t> by_end;  // end -> start
    uint64_t covered_bytes = 0;           // their sum

    void set(uint64_t start, uint64_t end) {
      auto [it, added] = by_end.try_emplace(end, start);
      if (!added) covered_bytes -= end - std::exchange(it->second, start);
      covered_bytes += end - start;
    }
    void erase(uint64_t end) {
      auto it = by_end.find(end);
      if (it == by_end.end()) return;
      covered_bytes -= end - it->second;
      by_end.erase(it);
    }
  };

  uint64_t generation() const { return generation_; }
  void advance() { ++generation_; }

  // Null when it is not there.
  std::shared_ptr<Ranges> find(Ino ino) {
    std::lock_guard lock(mutex_);
    auto it = entries_.find(ino);
    if (it == entries_.end()) return nullptr;
    ages_.splice(ages_.begin(), ages_, it->second.age);
    return it->second.ranges;
  }
  void insert(Ino ino, std::shared_ptr<Ranges> ranges) {
    std::lock_guard lock(mutex_);
    if (entries_.contains(ino)) return;
    ages_.push_front(ino);
    entries_[ino] = {std::move(ranges), ages_.begin()};
    if (entries_.size() <= kInodes) return;
    entries_.erase(ages_.back());
    ages_.pop_back();
  }
  void clear() {
    advance();
    std::lock_guard lock(mutex_);
    entries_.clear();
    ages_.clear();
  }
  void erase(Ino ino) {
    std::lock_guard lock(mutex_);
    auto it = entries_.find(ino);
    if (it == entries_.end()) return;
    ages_.erase(it->second.age);
    entries_.erase(it);
  }

 private:
  static constexpr size_t kInodes = 64;
  struct Entry {
    std::shared_ptr<Ranges> ranges;
    std::list<Ino>::iterator age;
  };
  std::atomic<uint64_t> generation_ = 0;
  std::mutex mutex_;
  std::unordered_map<Ino, Entry> entries_;
  std::list<Ino> ages_;  // most recently used first
};

}  // namespace layerfs
