// SPDX-License-Identifier: Apache-2.0
//
// One FUSE connection: worker threads that read messages from the device and have them answered.
//
// The device is read here and not by libfuse, which only decodes: so flags that libfuse 3.14 does
// not know can be added to the answer to INIT, messages it does not know can be answered, and each
// worker can have its own clone of the device (replies must go where the message came from).
//
// A worker counts its turns: odd while it may hold a message that is not yet answered. Because it
// waits in epoll and reads without blocking, a message never leaves the kernel in an even turn; so
// "every worker has finished what it held" is exact, which freezing relies on.
//
// Freezing. freeze() drains the kernel's write-back cache (fuse/barrier.h), waits until the workers
// have finished what they held, and from then on workers set mutating messages aside instead of
// answering them; reading goes on. thaw() answers those in their order. No worker ever blocks.
//
// Thread-safety: freeze(), let_dying_go() and thaw() from one thread at a time; the rest as said.
#pragma once

#include <sys/types.h>

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "fuse/barrier.h"
#include "fuse/reply.h"
#include "layerdb/base/result.h"

namespace layerfs {

class Session {
 public:
  struct Options {
    std::string mountpoint;                  // absolute
    std::vector<std::string> mount_options;  // for libfuse's mount, each without commas
    bool posix_acl = false;                  // implies default_permissions
    bool writeback = true;
    std::function<void()> on_idle;  // a worker calls it once when no message came for a second
  };
  // Mounts, answers INIT and starts the workers. `mount` must outlive the session.
  static Result<std::unique_ptr<Session>> start(Mount& mount, Options options);
  virtual ~Session() = default;  // the connection must have ended

  // Readable once the kernel has closed the connection: nobody can see the mount any more.
  virtual int ended_fd() const = 0;
  // Joins the workers after ended_fd() became readable.
  virtual void join() = 0;

  // `client`: the process that asks for it (fuse/held_messages.h).
  virtual Status freeze(pid_t client) = 0;
  // Now and then while frozen: programs that wait and are being killed need not wait any longer.
  virtual void let_dying_go() = 0;
  virtual void thaw() = 0;
};

}  // namespace layerfs
