// SPDX-License-Identifier: Apache-2.0
//
// The messages that a freeze holds back. A program that waits for one of them can be killed: the
// message is then answered EINTR without having been carried out. For other signals it goes on
// waiting, as system calls that change a filesystem do elsewhere. The kernel sends one INTERRUPT
// for a message, at the first signal of either kind.
// The client that freezes would wait for itself if it changed something through the mount: its
// messages are answered EDEADLK.
// Thread-safe.
#pragma once

#include <linux/fuse.h>
#include <sys/types.h>

#include <atomic>
#include <deque>
#include <mutex>
#include <optional>
#include <string>

namespace layerfs {

class HeldMessages {
 public:
  struct Held {
    int device = -1;  // that it came through, for the reply
    std::string message;
    bool interrupted = false;
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
  // Notes that its sender got a signal. False: the message that it is about is not here.
  bool interrupt(const fuse_in_header& interrupt);
  // Takes out one whose sender got a signal and is being killed (or cannot be seen).
  std::optional<Held> take_dying();

 private:
  bool from_client(const fuse_in_header& message) const;

  std::atomic<What> what_{What::nothing};
  std::mutex mutex_;  // guards the members below
  std::deque<Held> held_;
  pid_t client_ = 0;
};

}  // namespace layerfs
