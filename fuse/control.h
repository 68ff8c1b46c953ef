// SPDX-License-Identifier: Apache-2.0
//
// The daemon's control socket (`<container>/control`, SOCK_STREAM, one JSON line each way): how
// umount, commit, diff, ps and stats talk to a running mount. Works across mount namespaces and from
// the container's owner only (directory mode 0700).
//   {"op":"freeze"}   writes back what the kernel holds (syncfs on its own mount), then holds back
//                     mutations until the client closes the connection -> {"ok":true}
//   {"op":"stats"}    -> {"ok":true, counters…}
//   {"op":"unmount"}  lazily unmounts when busy is accepted by "force"; -> ok after everything synced
// Errors: {"ok":false,"errno":N,"message":"…"}.
#pragma once

#include <memory>
#include <string>

#include <nlohmann/json_fwd.hpp>

#include "layerdb/base/result.h"
#include "layerdb/ops/container.h"

namespace layerfs {

// Client side. Holds the connection: a freeze lasts as long as the object.
class ControlClient {
 public:
  static Result<std::unique_ptr<ControlClient>> connect(const Container& container);
  virtual ~ControlClient() = default;
  virtual Result<nlohmann::json> call(const nlohmann::json& request) = 0;
};

}  // namespace layerfs
