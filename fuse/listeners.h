// SPDX-License-Identifier: Apache-2.0
//
// Which of a session's workers listen for messages. A message that wakes a sleeping thread costs
// both sides a trip through the scheduler, on a virtual machine mostly an exit to the host, so:
// - as few listen as can keep up: one, until it takes a message that may last (then another is
//   woken first) or finds messages waiting again and again. The others sleep here, where the kernel
//   does not wake them for every message;
// - after a reply the listener polls for a short while before it sleeps, because a program that
//   got one reply mostly asks again at once. It polls only while that pays, and gives way to
//   whoever else wants to run on its processor.
//
// Invariant: at every time a worker listens, or is about to after a message that does not last; so
// every message is taken. Thread-safe.
#pragma once

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <mutex>

namespace layerfs {

class Listeners {
 public:
  // A worker starts as a listener.
  void join() { listening_.fetch_add(1); }
  // It took a message. `need_help`: others must listen meanwhile.
  void leave(bool need_help) {
    if (listening_.fetch_sub(1) == 1 && need_help) wake_one();
  }
  void come_back() { listening_.fetch_add(1); }

  // Sleeps until needed if others listen; false: this is the only listener.
  bool sleep_if_spare() {
    if (listening_.load() <= 1) return false;
    std::unique_lock lock(mutex_);
    ++sleeping_;  // before listening ends: who leaves next must see somebody to wake
    if (listening_.fetch_sub(1) <= 1 || ended_) {
      --sleeping_;
      listening_.fetch_add(1);
      return false;
    }
    wake_.wait(lock, [this] { return wakes_ > 0 || ended_; });
    if (wakes_ > 0) --wakes_;
    --sleeping_;
    listening_.fetch_add(1);
    return true;
  }

  int listening() const { return listening_; }

  // Nobody sleeps any more.
  void end() {
    std::lock_guard lock(mutex_);
    ended_ = true;
    wake_.notify_all();
  }

 private:
  void wake_one() {
    std::lock_guard lock(mutex_);
    if (wakes_ >= sleeping_) return;
    ++wakes_;
    wake_.notify_one();
  }

  std::atomic<int> listening_ = 0;
  std::atomic<bool> ended_ = false;
  std::mutex mutex_;
  std::condition_variable wake_;
  int sleeping_ = 0;
  int wakes_ = 0;
};

// Whether a worker that found no message should look again at once. One thread.
class Polling {
 public:
  using Clock = std::chrono::steady_clock;
  static constexpr Clock::duration kPatience = std::chrono::microseconds(50);  // a sleep and a wake
  static constexpr Clock::duration kWorthwhile = std::chrono::microseconds(100);
  static constexpr int kMaxScore = 16;

  void replied(Clock::time_point now) {
    replied_ = now;
    polling_ = score_ > 0;
  }
  void received(Clock::time_point now) {
    if (polling_ || now - replied_ < kWorthwhile) score_ = std::min(score_ + 2, kMaxScore);
  }
  // True: look again. False, from then on until the next reply: sleep.
  bool goes_on(Clock::time_point now) {
    if (!polling_) return false;
    if (now - replied_ < kPatience) return true;
    polling_ = false;
    --score_;
    return false;
  }

 private:
  Clock::time_point replied_ = {};
  bool polling_ = false;
  int score_ = 0;
};

}  // namespace layerfs
