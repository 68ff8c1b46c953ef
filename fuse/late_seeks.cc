// SPDX-License-Identifier: Apache-2.0
#include "fuse/late_seeks.h"

#include "layerdb/base/caught.h"

namespace layerfs {

Status LateSeeks::take(int device, const char* message, size_t size_bytes) {
  return call_and_catch([&]() -> Status {
    std::lock_guard lock(mutex_);
    if (!thread_.joinable()) thread_ = std::thread([this] { run(); });
    waiting_.push_back({device, std::string(message, size_bytes)});
    changed_.notify_one();
    return {};
  });
}

void LateSeeks::run() {
  std::unique_lock lock(mutex_);
  for (;;) {
    changed_.wait(lock, [this] { return stopped_ || !waiting_.empty(); });
    if (stopped_) return;
    Message message = std::move(waiting_.front());
    waiting_.pop_front();
    lock.unlock();
    answer_(message.device, message.bytes);
    lock.lock();
  }
}

void LateSeeks::stop() {
  {
    std::lock_guard lock(mutex_);
    stopped_ = true;
  }
  changed_.notify_one();
  if (thread_.joinable()) thread_.join();
}

}  // namespace layerfs
