// SPDX-License-Identifier: Apache-2.0
#include "fuse/control.h"

#include <poll.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <nlohmann/json.hpp>

#include "fuse/control_socket.h"
#include "layerdb/base/json.h"

namespace layerfs {
namespace {

constexpr int kEndTimeoutMs = 10'000;

// The process that listens there; invalid: not to be seen from this pid namespace.
UniqueFd daemon_process(int socket) {
  ucred peer{};
  socklen_t size = sizeof peer;
  if (::getsockopt(socket, SOL_SOCKET, SO_PEERCRED, &peer, &size) != 0 || peer.pid <= 0) return {};
  return UniqueFd(static_cast<int>(::syscall(SYS_pidfd_open, peer.pid, 0)));
}

class SocketClient : public ControlClient {
 public:
  SocketClient(UniqueFd socket, std::string name)
      : socket_(std::move(socket)),
        process_(daemon_process(socket_.get())),
        name_(std::move(name)) {}

  Result<nlohmann::json> call(const nlohmann::json& request) override {
    Status sent = send_line(socket_.get(), json_text(request));
    if (!sent.ok()) return ended();
    nlohmann::json reply = parse_json(TRY(receive_line()));
    if (!reply.is_object() || !reply.contains("ok"))
      return Error{EPROTO, "container '" + name_ + "': the daemon's answer is not understood"};
    if (reply["ok"] == true) {
      reply.erase("ok");
      return reply;
    }
    int code = reply["errno"].is_number_integer() ? reply["errno"].get<int>() : EIO;
    std::string message =
        reply["message"].is_string() ? reply["message"].get<std::string>() : "failed";
    return Error{code > 0 ? code : EIO, message};
  }

  void wait_for_end() override {
    if (!process_.valid()) return;
    pollfd ends{process_.get(), POLLIN, 0};
    while (::poll(&ends, 1, kEndTimeoutMs) < 0 && errno == EINTR) {
    }
  }

 private:
  Error ended() const {
    return {EIO,
            "container '" + name_ + "' was unmounted meanwhile, or its daemon ended; try again"};
  }

  Result<std::string> receive_line() {
    std::string line;
    char buffer[4096];
    while (line.empty() || line.back() != '\n') {
      ssize_t size = ::read(socket_.get(), buffer, sizeof buffer);
      if (size < 0 && errno == EINTR) continue;
      if (size <= 0) return ended();
      line.append(buffer, static_cast<size_t>(size));
    }
    return line;
  }

  UniqueFd socket_;
  UniqueFd process_;
  std::string name_;
};

}  // namespace

Result<std::unique_ptr<ControlClient>> ControlClient::connect(const Container& container) {
  ControlAddress target = TRY(control_address(container.directory));
  UniqueFd socket(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (!socket.valid()) return errno_error("make a socket");
  if (::connect(socket.get(), reinterpret_cast<const sockaddr*>(&target.address),
                sizeof target.address) != 0) {
    if (errno == ENOENT || errno == ECONNREFUSED)
      return Error{ENOTCONN, "container '" + container.name + "' is not mounted"};
    return errno_error("reach the daemon of container '" + container.name + "'");
  }
  return std::unique_ptr<ControlClient>(
      std::make_unique<SocketClient>(std::move(socket), container.name));
}

}  // namespace layerfs
