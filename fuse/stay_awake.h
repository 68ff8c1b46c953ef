// SPDX-License-Identifier: Apache-2.0
//
// Keeps the machine's processors from sleeping while message follows message. A program that waits
// for a reply leaves its processor idle, and waking that takes longer than all the rest: on a
// virtual machine, where an idle processor is given back to the host, 10 of 17 us. So it is hardly
// more work, on two processors less, to have idle processors poll meanwhile.
//
// The kernel's interface for it is PM QoS (Documentation/power/pm_qos_interface.rst): what is
// written to /dev/cpu_dma_latency is the longest acceptable time to wake a processor, until
// something else is written or the file closed, so a daemon that is killed leaves nothing behind.
// Only root may open it. For others, on machines with many processors, and where the kernel has no
// way to poll (no cpuidle driver), nothing changes.
//
// Thread-safe. A thread of its own takes the request back, so that no worker need be free for it;
// it starts with the first request.
#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <mutex>
#include <string>
#include <thread>

#include "fuse/stats.h"
#include "layerdb/base/sys.h"

namespace layerfs {

class StayAwake {
 public:
  using Clock = std::chrono::steady_clock;
  static constexpr const char* kDevice = "/dev/cpu_dma_latency";
  static constexpr long kMostProcessors = 4;  // all of them poll, whatever the program needs
  static constexpr Clock::duration kAfter = std::chrono::milliseconds(5);  // the last reason

  // `stats` is told how long each request was in force, when it is taken back.
  StayAwake(const std::string& device, long processors, Stats& stats);
  ~StayAwake();

  // There is a reason now. Idle processors poll until there was none for kAfter.
  void ask(Clock::time_point now);
  bool available() const { return device_.valid(); }

 private:
  void begin(Clock::time_point now);
  void take_back_when_due();
  bool write_latency(int32_t microseconds);

  UniqueFd device_;
  Stats& stats_;
  std::atomic<Clock::time_point> last_asked_{Clock::time_point()};
  std::atomic<bool> in_force_ = false;  // changed under mutex_ only

  std::mutex mutex_;  // guards the members below
  std::condition_variable changed_;
  Clock::time_point began_;
  bool stopped_ = false;
  std::thread thread_;
};

// Whether messages come so fast that there is a reason. One thread.
class Pace {
 public:
  using Clock = StayAwake::Clock;
  static constexpr int kMany = 16;
  static constexpr Clock::duration kShort = std::chrono::milliseconds(3);

  // One more. True: the last kMany came within kShort (asked once for each kMany).
  bool is_fast(Clock::time_point now) {
    if (++count_ < kMany) return false;
    bool fast = now - since_ < kShort;
    since_ = now;
    count_ = 0;
    return fast;
  }

 private:
  Clock::time_point since_;
  int count_ = 0;
};

}  // namespace layerfs
