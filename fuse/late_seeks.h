// SPDX-License-Identifier: Apache-2.0
//
// SEEK_DATA and SEEK_HOLE (LSEEK messages) are answered by a thread of their own, one after the
// other in the order they came. The kernel sends them while it may hold data that the daemon has
// not seen: written to its page cache, or by mmap. So before the daemon calls something a hole it
// has the kernel write that range back (Mount::write_back), and waits for WRITE messages, which the
// workers must be free to answer, and which a freeze holds back.
// Thread-safe. The thread starts with the first message.
#pragma once

#include <atomic>
#include <condition_variable>
#include <deque>
#include <functional>
#include <mutex>
#include <string>
#include <thread>

#include "layerdb/base/result.h"

namespace layerfs {

class LateSeeks {
 public:
  using Answer = std::function<void(int device, const std::string& message)>;
  explicit LateSeeks(Answer answer) : answer_(std::move(answer)) {}
  ~LateSeeks() { stop(); }

  // `device`: through which it came, for the reply. ENOMEM: nobody will answer it.
  Status take(int device, const char* message, size_t size_bytes);
  // Returns when the thread has ended; what waits is not answered any more.
  void stop();
  bool stopped() const { return stopped_; }

 private:
  struct Message {
    int device = -1;
    std::string bytes;
  };
  void run();

  const Answer answer_;
  std::mutex mutex_;  // guards the members below
  std::condition_variable changed_;
  std::deque<Message> waiting_;
  std::atomic<bool> stopped_{false};
  std::thread thread_;
};

}  // namespace layerfs
