// SPDX-License-Identifier: Apache-2.0
//
// Keeps the machine's processors from sleeping while message follows message. A program that waits
// for a reply leaves its processor idle, and waking that takes longer than all the rest: on a
// virtual machine, where an idle processor is given back to the host, 10 of 17 us. So it costs less
// work, not more, to have idle processors poll meanwhile, if they are few.
//
// The kernel's interface for it is PM QoS (Documentation/power/pm_qos_interface.rst): what is
// written to /dev/cpu_dma_latency is the longest acceptable time to wake a processor, until
// something else is written or the file closed, so a daemon that is killed leaves nothing behind.
// Only root may open it. For others, on machines with many processors and where the file is missing
// nothing happens.
// Thread-safe.
#pragma once

#include <atomic>
#include <mutex>
#include <string>

#include "layerdb/base/sys.h"

namespace layerfs {

class StayAwake {
 public:
  static constexpr const char* kDevice = "/dev/cpu_dma_latency";
  static constexpr long kMostProcessors = 4;  // all of them poll, whatever the program needs

  StayAwake(const std::string& device, long processors);

  // From now on all idle processors poll: take it back as soon as there is no reason any more.
  void ask() { set(true); }
  void take_back() { set(false); }
  bool asked() const { return asked_.load(std::memory_order_relaxed); }

 private:
  void set(bool asked);

  UniqueFd device_;
  std::mutex mutex_;  // what was written last is what asked_ says
  std::atomic<bool> asked_ = false;
};

}  // namespace layerfs
