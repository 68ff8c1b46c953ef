// SPDX-License-Identifier: Apache-2.0
//
// The daemon's control socket (`<container>/control`, SOCK_STREAM, one JSON line each way): how
// umount, commit, diff, export and stats talk to a running mount. Works across mount namespaces and
// for the container's owner only (the container's directory has mode 0700).
//   {"op":"freeze"}   writes back what the kernel holds, then holds back mutations until the client
//                     closes the connection -> {"ok":true}; EBUSY while another client freezes.
//                     A client that goes on must ask again within 30 seconds; ETIMEDOUT: it was too
//                     late, or the daemon was told to end, and changes went on
//   {"op":"stats"}    -> {"ok":true, counters of fuse/stats.h}
//   {"op":"unmount"}  -> {"ok":true} once everything is on disk and the container is unlocked; EBUSY
// Errors: {"ok":false,"errno":N,"message":"…"}.
// The server is fuse/control_server.h.
#pragma once

#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <string>

#include "layerdb/base/result.h"
#include "layerdb/ops/container.h"

namespace layerfs {

// Client side. Holds the connection: a freeze lasts as long as the object. Not thread-safe.
class ControlClient {
 public:
  // ENOTCONN when the container is not mounted.
  static Result<std::unique_ptr<ControlClient>> connect(const Container& container);
  virtual ~ControlClient() = default;
  // The reply without "ok"; an error reply is the Error.
  virtual Result<nlohmann::json> call(const nlohmann::json& request) = 0;
  // After an unmount: until the daemon's process is gone too, with the last of what it has open on
  // the host. Ten seconds at most, and not at all where its process id cannot be seen.
  virtual void wait_for_end() = 0;
};

}  // namespace layerfs
