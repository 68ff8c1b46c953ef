// SPDX-License-Identifier: Apache-2.0
#include "fuse/control_socket.h"

#include <fcntl.h>
#include <sys/socket.h>

#include <cstring>

namespace layerfs {

Result<ControlAddress> control_address(const std::string& container_directory) {
  ControlAddress out;
  out.address.sun_family = AF_UNIX;
  std::string path = container_directory + "/control";
  if (path.size() >= sizeof out.address.sun_path) {
    out.directory = TRY(open_file(container_directory, O_PATH | O_DIRECTORY));
    path = "/proc/self/fd/" + std::to_string(out.directory.get()) + "/control";
  }
  std::memcpy(out.address.sun_path, path.c_str(), path.size() + 1);
  return out;
}

Status send_line(int socket, const std::string& line) {
  std::string bytes = line + "\n";
  size_t done = 0;
  while (done < bytes.size()) {
    ssize_t size = ::send(socket, bytes.data() + done, bytes.size() - done, MSG_NOSIGNAL);
    if (size < 0 && errno == EINTR) continue;
    if (size < 0) return errno_error("write to the control socket");
    done += static_cast<size_t>(size);
  }
  return {};
}

}  // namespace layerfs
