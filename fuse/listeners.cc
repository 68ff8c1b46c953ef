// SPDX-License-Identifier: Apache-2.0
#include "fuse/listeners.h"

#include <linux/fuse.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <utility>

namespace layerfs {

Status Listeners::add(Spare& spare, int device, Rest rest) {
  if (!end_fd_.valid()) end_fd_ = UniqueFd(::eventfd(0, EFD_CLOEXEC));
  spare.epoll_ = UniqueFd(::epoll_create1(EPOLL_CLOEXEC));
  spare.device_ = device;
  spare.rest_ = std::move(rest);
  epoll_event event = {};
  event.events = EPOLLIN;
  if (!end_fd_.valid() || !spare.epoll_.valid() ||
      ::epoll_ctl(spare.epoll_.get(), EPOLL_CTL_ADD, end_fd_.get(), &event) != 0)
    return errno_error("make a worker's place to sleep");
  spares_.push_back(&spare);
  return {};
}

bool Listeners::sleep_if_spare(Spare& self) {
  if (listening_.load() <= 1) return false;
  std::unique_lock lock(mutex_);  // whoever leaves next finds this one asleep
  if (listening_.fetch_sub(1) <= 1 || ended_) {
    listening_.fetch_add(1);
    return false;
  }
  self.asleep_ = true;
  int patience = self.rest_.after_milliseconds;
  while (!ended_) {
    lock.unlock();
    epoll_event event;
    if (::epoll_wait(self.epoll_.get(), &event, 1, patience) == 0) {
      self.rest_.action();
      patience = -1;
    }
    lock.lock();
    if (self.called_) break;  // else it was sent back while it woke up
  }
  if (self.called_) forget_device(self);
  self.asleep_ = false;
  listening_.fetch_add(1);
  return true;
}

// Where the kernel refuses, messages wait until the caller is back.
Listeners::Spare* Listeners::call_one() {
  std::lock_guard lock(mutex_);
  for (Spare* spare : spares_) {
    if (!spare->asleep_ || spare->called_) continue;
    epoll_event event = {};
    event.events = EPOLLIN;
    if (::epoll_ctl(spare->epoll_.get(), EPOLL_CTL_ADD, spare->device_, &event) != 0) continue;
    spare->called_ = true;
    return spare;
  }
  return nullptr;
}

void Listeners::send_back(Spare& called) {
  std::lock_guard lock(mutex_);
  if (called.called_) forget_device(called);
}

void Listeners::forget_device(Spare& spare) {
  ::epoll_ctl(spare.epoll_.get(), EPOLL_CTL_DEL, spare.device_, nullptr);
  spare.called_ = false;
}

void Listeners::end() {
  std::lock_guard lock(mutex_);
  ended_ = true;
  uint64_t one = 1;
  [[maybe_unused]] ssize_t written = ::write(end_fd_.get(), &one, sizeof one);
}

bool may_last(const fuse_in_header& message, size_t size_bytes) {
  constexpr uint32_t kLargeBytes = 64 * 1024;
  switch (message.opcode) {
    case FUSE_READ:
      return reinterpret_cast<const fuse_read_in*>(&message + 1)->size > kLargeBytes;
    case FUSE_WRITE:
      return size_bytes > kLargeBytes;
    case FUSE_FSYNC:
    case FUSE_FSYNCDIR:
    case FUSE_STATFS:
    case FUSE_FALLOCATE:
    case FUSE_COPY_FILE_RANGE:
      return true;
    case FUSE_SETATTR:
      return (reinterpret_cast<const fuse_setattr_in*>(&message + 1)->valid & FATTR_SIZE) != 0;
    default:
      return false;
  }
}

}  // namespace layerfs
