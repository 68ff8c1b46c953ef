// SPDX-License-Identifier: Apache-2.0
//
// What both ends of the control socket share: its address and its lines.
#pragma once

#include <sys/un.h>

#include <string>

#include "layerdb/base/result.h"
#include "layerdb/base/sys.h"

namespace layerfs {

// A socket's path has at most 107 bytes; a longer one is reached through `directory`'s descriptor,
// which must stay open until bind or connect is done.
struct ControlAddress {
  UniqueFd directory;
  sockaddr_un address = {};
};
Result<ControlAddress> control_address(const std::string& container_directory);

inline constexpr size_t kMaxControlLineBytes = 64 * 1024;

// send(2) without SIGPIPE: the whole line and its newline.
Status send_line(int socket, const std::string& line);

}  // namespace layerfs
