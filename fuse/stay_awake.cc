// SPDX-License-Identifier: Apache-2.0
#include "fuse/stay_awake.h"

#include <fcntl.h>
#include <unistd.h>

#include <cstdint>
#include <limits>

#include "layerdb/base/caught.h"

namespace layerfs {

StayAwake::StayAwake(const std::string& device, long processors, Stats& stats) : stats_(stats) {
  if (processors > kMostProcessors) return;
  Result<UniqueFd> opened = open_file(device, O_WRONLY);
  if (opened.ok()) device_ = std::move(*opened);
}

StayAwake::~StayAwake() {
  {
    std::lock_guard lock(mutex_);
    stopped_ = true;
  }
  changed_.notify_one();
  if (thread_.joinable()) thread_.join();
}

void StayAwake::ask(Clock::time_point now) {
  if (!device_.valid()) return;
  last_asked_.store(now, std::memory_order_relaxed);
  if (!in_force_.load(std::memory_order_relaxed)) begin(now);
}

// Without a thread that takes it back nothing is asked for.
void StayAwake::begin(Clock::time_point now) {
  (void)call_and_catch([&]() -> Status {
    std::lock_guard lock(mutex_);
    if (!thread_.joinable()) thread_ = std::thread([this] { take_back_when_due(); });
    if (in_force_ || !write_latency(0)) return {};
    began_ = now;
    in_force_ = true;
    changed_.notify_one();
    return {};
  });
}

void StayAwake::take_back_when_due() {
  std::unique_lock lock(mutex_);
  for (;;) {
    changed_.wait(lock, [this] { return stopped_ || in_force_; });
    if (!in_force_) return;
    changed_.wait_for(lock, kAfter, [this] { return stopped_; });
    Clock::time_point now = Clock::now();
    if (!stopped_ && now - last_asked_.load(std::memory_order_relaxed) < kAfter) continue;
    write_latency(std::numeric_limits<int32_t>::max());
    stats_.add_kept_awake(now - began_);
    in_force_ = false;
  }
}

bool StayAwake::write_latency(int32_t microseconds) {
  return ::pwrite(device_.get(), &microseconds, sizeof microseconds, 0) == sizeof microseconds;
}

}  // namespace layerfs
