// SPDX-License-Identifier: Apache-2.0
//
// What a message does not say of its sender, the thread that waits for its answer. All of it is in
// /proc/THREAD/status.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <optional>
#include <string_view>
#include <vector>

namespace layerfs {

struct Sender {
  pid_t process = 0;             // messages name the thread
  std::vector<uint32_t> groups;  // supplementary
  bool fsetid = false;           // CAP_FSETID in effect
  bool dying = false;            // of SIGKILL, which the kernel makes of every signal that kills
};

// The text of /proc/THREAD/status; nullopt when it is not such a text.
std::optional<Sender> parse_sender(std::string_view status);

// nullopt where the thread cannot be seen (another pid namespace) or is gone.
std::optional<Sender> sender_of(uint32_t thread);

}  // namespace layerfs
