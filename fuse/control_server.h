// SPDX-License-Identifier: Apache-2.0
//
// The daemon's end of the control socket (fuse/control.h): one thread that serves every connection
// in turn.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <functional>
#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <string>

#include "layerdb/base/result.h"

namespace layerfs {

class ControlServer {
 public:
  // Called from the server's thread.
  struct Handlers {
    std::function<Status(pid_t client)> freeze;
    std::function<void()> while_frozen;  // again and again
    std::function<void()> thaw;
    std::function<nlohmann::json()> stats;
    std::function<Status()> unmount;  // success: the mount is gone, its end is under way
  };
  // A freeze ends when its client has not asked for it again for so long: a client that hangs in
  // what it has frozen must not hang for ever.
  static constexpr std::chrono::milliseconds kFreezeLease{30'000};
  static Result<std::unique_ptr<ControlServer>> start(
      const std::string& container_directory, Handlers handlers,
      std::chrono::milliseconds freeze_lease = kFreezeLease);
  virtual ~ControlServer() = default;

  // A freeze ends soon; its client is told so when it asks for it again.
  virtual void end_freeze() = 0;
  // Ends the thread (and a freeze) and removes the socket. Who asked to unmount still waits.
  virtual void stop() = 0;
  // Answers those, once everything is on disk (or failed to get there).
  virtual void answer_unmounts(const Status& synced) = 0;
};

}  // namespace layerfs
