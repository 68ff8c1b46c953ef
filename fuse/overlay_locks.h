// SPDX-License-Identifier: Apache-2.0
//
// The locks of Overlay (order: overlay.h).
//
// FreezeGate: mutations pass through it; freeze() waits until none is inside and keeps new ones
// out. Unlike a shared_mutex it may be frozen and thawed by different threads.
// InodeLocks: a fixed number of reader-writer locks; an inode's lock is the one its number maps to.
// Several are taken together in ascending order, so holders of sets never deadlock.
#pragma once

#include <algorithm>
#include <array>
#include <condition_variable>
#include <initializer_list>
#include <mutex>
#include <shared_mutex>

#include "layerdb/object/types.h"

namespace layerfs {

class FreezeGate {
 public:
  void enter() {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [this] { return freezers_ == 0; });
    ++inside_;
  }
  bool try_enter() {
    std::lock_guard lock(mutex_);
    if (freezers_ != 0) return false;
    ++inside_;
    return true;
  }
  void leave() {
    std::lock_guard lock(mutex_);
    if (--inside_ == 0 && freezers_ != 0) changed_.notify_all();
  }
  void freeze() {
    std::unique_lock lock(mutex_);
    ++freezers_;
    changed_.wait(lock, [this] { return inside_ == 0; });
  }
  void thaw() {
    std::lock_guard lock(mutex_);
    if (--freezers_ == 0) changed_.notify_all();
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  int inside_ = 0;
  int freezers_ = 0;
};

class InodeLocks {
  static constexpr size_t kShards = 256;

 public:
  class Guard {
   public:
    Guard(InodeLocks& locks, std::initializer_list<Ino> inos) : locks_(locks) {
      shards_.fill(kShards);  // sorts behind every lock; the array is sorted whole
      size_t given = 0;
      for (Ino ino : inos) {
        if (ino != 0) shards_[given++] = ino % kShards;
      }
      std::sort(shards_.begin(), shards_.end());
      auto end = std::unique(shards_.begin(), shards_.end());
      count_ = std::find(shards_.begin(), end, kShards) - shards_.begin();
      for (size_t i = 0; i < count_; ++i) locks_.shards_[shards_[i]].lock();
    }
    ~Guard() {
      for (size_t i = count_; i-- > 0;) locks_.shards_[shards_[i]].unlock();
    }
    Guard(const Guard&) = delete;
    Guard& operator=(const Guard&) = delete;

   private:
    InodeLocks& locks_;
    std::array<size_t, 4> shards_{};  // rename needs four
    size_t count_ = 0;
  };

  // Zeros among `inos` are ignored; at most four.
  [[nodiscard]] Guard exclusive(std::initializer_list<Ino> inos) { return Guard(*this, inos); }
  [[nodiscard]] std::shared_lock<std::shared_mutex> shared(Ino ino) {
    return std::shared_lock(shards_[ino % kShards]);
  }

 private:
  std::array<std::shared_mutex, kShards> shards_;
};

}  // namespace layerfs
