// SPDX-License-Identifier: Apache-2.0
//
// The messages that a freeze holds back. A program that waits for one of them is killable: the
// kernel then sends INTERRUPT, and the message is answered EINTR without having been carried out.
// The client that freezes would wait for itself if it changed something through the mount: its
// messages are answered EDEADLK.
// Thread-safe.
#pragma once

#include <linux/fuse.h>
#include <sys/types.h>

#include <atomic>
#include <deque>
#include <mutex>
#include <string>

namespace layerfs {

class HeldMessages {
 public:
  struct Held {
    int device = -1;  // that it came through, for the reply
    std::string message;
  };

  // Names: all that changes something but content, which the kernel may be writing back, and what
  // that could have to wait for.
  enum class What { nothing, names, all };
  void start(pid_t client, What what);
  // What was held, in its order; from now on nothing is.
  std::deque<Held> stop();
  bool holding() const { return what_ != What::nothing; }

  enum class Outcome { answer_it, held, refuse };
  // refuse: the message is the client's own.
  Outcome offer(int device, const char* message, size_t size_bytes);
  // Takes out the message that an INTERRUPT is about. False: it is not here.
  bool interrupt(const fuse_in_header& interrupt, Held& out);

 private:
  bool from_client(const fuse_in_header& message) const;

  std::atomic<What> what_{What::nothing};
  std::mutex mutex_;  // guards the members below
  std::deque<Held> held_;
  pid_t client_ = 0;
};

}  // namespace layerfs
