// SPDX-License-Identifier: Apache-2.0
//
// The daemon's end of the control socket (fuse/control.h): one thread that serves every connection
// in turn.
#pragma once

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
    std::function<Status()> freeze;
    std::function<void()> thaw;
    std::function<nlohmann::json()> stats;
    std::function<Status()> unmount;  // success: the mount is gone, its end is under way
  };
  static Result<std::unique_ptr<ControlServer>> start(const std::string& container_directory,
                                                      Handlers handlers);
  virtual ~ControlServer() = default;

  // Ends the thread (and a freeze) and removes the socket. Who asked to unmount still waits.
  virtual void stop() = 0;
  // Answers those, once everything is on disk (or failed to get there).
  virtual void answer_unmounts(const Status& synced) = 0;
};

}  // namespace layerfs
