// SPDX-License-Identifier: Apache-2.0
#include "fuse/late_forgets.h"

#include <linux/fuse.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <thread>

namespace layerfs {
namespace {

// After so many others no FORGET is left that was there before; one message brings all of them.
constexpr int kOthersBeforeForgets = 9;
constexpr int kMaxReads = 32;
// Removing a very large file may take long. Who waited in vain says ENOSPC.
constexpr auto kPatience = std::chrono::seconds(5);

bool is_forget(const char* message, size_t size_bytes) {
  if (size_bytes < sizeof(fuse_in_header)) return false;
  uint32_t opcode = reinterpret_cast<const fuse_in_header*>(message)->opcode;
  return opcode == FUSE_FORGET || opcode == FUSE_BATCH_FORGET;
}

}  // namespace

void LateForgets::Reader::has_read(const char* message, size_t size_bytes) {
  if (!is_forget(message, size_bytes)) done();
}

std::optional<LateForgets::Message> LateForgets::Reader::next_set_aside() {
  if (set_aside_.empty()) return std::nullopt;
  Message message = std::move(set_aside_.front());
  set_aside_.pop_front();
  return message;
}

void LateForgets::add(Reader& reader, int device) {
  reader.device_ = device;
  readers_.push_back(&reader);
}

void LateForgets::read_queue(Reader& self, const DealWith& deal_with) {
  int others = 0;
  for (int reads = 0; reads < kMaxReads && others < kOthersBeforeForgets; ++reads) {
    // All memory first: what was read must be answered.
    Message& message = self.set_aside_.emplace_back();
    message.bytes.reset(new (std::nothrow) char[message_bytes_]);
    ssize_t size = -1;
    int code = ENOMEM;
    if (message.bytes != nullptr) {
      size = ::read(self.device_, message.bytes.get(), message_bytes_);
      code = errno;
    }
    if (size >= static_cast<ssize_t>(sizeof(fuse_in_header))) {
      message.size_bytes = static_cast<size_t>(size);
      ++others;
      if (!is_forget(message.bytes.get(), message.size_bytes)) continue;
      --others;
    }
    Message taken = std::move(message);
    self.set_aside_.pop_back();
    if (taken.size_bytes != 0) deal_with(taken);
    if (size < 0 && code != EINTR && code != ENOENT) return;  // ENOENT: it was withdrawn
  }
}

void LateForgets::catch_up(Reader& self, bool any, const DealWith& deal_with) {
  if (any) {
    self.may_hold_ = true;
    read_queue(self, deal_with);
    self.done();
  }
  auto end = std::chrono::steady_clock::now() + kPatience;
  for (const Reader* reader : readers_)
    while (reader->may_hold_ && std::chrono::steady_clock::now() < end)
      std::this_thread::sleep_for(std::chrono::microseconds(50));
}

}  // namespace layerfs
