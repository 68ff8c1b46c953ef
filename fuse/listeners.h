// SPDX-License-Identifier: Apache-2.0
//
// Which of a session's workers listen for messages. A message that wakes a sleeping thread costs
// both sides a trip through the scheduler, on a virtual machine mostly an exit to the host, so:
// - as few listen as can keep up: one, until it takes a message that may last or finds messages
//   waiting again and again. The others are spare: they sleep where no message wakes them;
// - for a message that may last no spare worker is woken either. It is *called*: from then on the
//   next message wakes it, unless the one that called comes back first;
// - after a reply the listener polls for a short while before it sleeps, because a program that
//   got one reply mostly asks again at once. It polls only while that pays, and no longer than a
//   sleep and a wake would take: others may want its processor.
//
// Invariant: at every time a worker listens or is called (as long as there is a spare one), or one
// is about to listen after a message that does not last; so every message is taken. Thread-safe,
// but for add().
#pragma once

#include <algorithm>
#include <atomic>
#include <chrono>
#include <functional>
#include <mutex>
#include <vector>

#include "layerdb/base/result.h"
#include "layerdb/base/sys.h"

struct fuse_in_header;

namespace layerfs {

// What a worker does that slept so long.
struct Rest {
  int after_milliseconds = -1;
  std::function<void()> action = {};
};

class Listeners {
 public:
  // Where one worker sleeps.
  class Spare {
   private:
    friend class Listeners;
    UniqueFd epoll_;  // has the end of the session always, the device only while called
    int device_ = -1;
    Rest rest_;
    bool asleep_ = false;
    bool called_ = false;
  };

  // Before any worker starts. `device`: where its messages come from. `spare` must outlive this.
  Status add(Spare& spare, int device, Rest rest = {});

  // A worker starts as a listener.
  void join() { listening_.fetch_add(1); }
  // It took a message. `need_help`: others must listen meanwhile. Returns whom it called.
  Spare* leave(bool need_help) {
    return listening_.fetch_sub(1) == 1 && need_help ? call_one() : nullptr;
  }
  // It is done with it.
  void come_back(Spare* called) {
    listening_.fetch_add(1);
    if (called != nullptr) send_back(*called);
  }

  // Sleeps until needed if others listen; false: this is the only listener.
  bool sleep_if_spare(Spare& self);

  int listening() const { return listening_; }

  // Nobody sleeps any more.
  void end();

 private:
  Spare* call_one();
  void send_back(Spare& called);
  static void forget_device(Spare& spare);  // mutex_ held

  std::atomic<int> listening_ = 0;
  UniqueFd end_fd_;  // readable once ended
  std::mutex mutex_;
  bool ended_ = false;
  std::vector<Spare*> spares_;
};

// Whether a message may take longer than another one should wait.
bool may_last(const fuse_in_header& message, size_t size_bytes);

// Whether a worker that found no message should look again at once. One thread.
class Polling {
 public:
  using Clock = std::chrono::steady_clock;
  // What a sleep and a wake take; and where processors may be kept awake (stay_awake.h).
  static constexpr Clock::duration kPatience = std::chrono::microseconds(50);
  static constexpr Clock::duration kPatienceAwake = std::chrono::microseconds(20);
  static constexpr Clock::duration kWorthwhile = std::chrono::microseconds(100);
  static constexpr int kMaxScore = 16;

  explicit Polling(Clock::duration patience) : patience_(patience) {}

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
    if (now - replied_ < patience_) return true;
    --score_;
    slept();
    return false;
  }
  void slept() { polling_ = false; }

 private:
  Clock::duration patience_;  // zero: never polls
  Clock::time_point replied_ = {};
  bool polling_ = false;
  int score_ = 0;
};

}  // namespace layerfs
