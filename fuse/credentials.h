// SPDX-License-Identifier: Apache-2.0
//
// What a message does not say of its sender and Linux's rules need: the supplementary groups, and
// whether CAP_FSETID is in effect. Both are in /proc/PID/status of the caller, who waits meanwhile.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <optional>
#include <string_view>
#include <vector>

namespace layerfs {

struct Credentials {
  std::vector<uint32_t> groups;  // supplementary
  bool fsetid = false;           // CAP_FSETID in effect
};

// The text of /proc/PID/status; nullopt when it is not such a text.
std::optional<Credentials> parse_credentials(std::string_view status);

// nullopt where the process cannot be seen (another pid namespace) or is gone.
std::optional<Credentials> credentials_of(pid_t pid);

}  // namespace layerfs
