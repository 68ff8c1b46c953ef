// SPDX-License-Identifier: Apache-2.0
#include "fuse/control_server.h"

#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <list>
#include <nlohmann/json.hpp>
#include <thread>
#include <vector>

#include "fuse/control_socket.h"
#include "layerdb/base/json.h"
#include "layerdb/base/log.h"

namespace layerfs {
namespace {

std::string error_reply(const Error& error) {
  nlohmann::json reply = {{"ok", false}, {"errno", error.code}, {"message", error.message}};
  return json_text(reply);
}

class Server : public ControlServer {
 public:
  Server(std::string directory, Handlers handlers, std::chrono::milliseconds freeze_lease)
      : path_(directory + "/control"), handlers_(std::move(handlers)), lease_(freeze_lease) {}
  ~Server() override { stop(); }

  Status listen(const std::string& directory) {
    ::unlink(path_.c_str());  // a killed daemon's; the container's lock is ours
    ControlAddress own = TRY(control_address(directory));
    listener_ = UniqueFd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    if (!listener_.valid() || !stop_.valid() || !end_freeze_.valid() ||
        ::bind(listener_.get(), reinterpret_cast<const sockaddr*>(&own.address),
               sizeof own.address) != 0 ||
        ::listen(listener_.get(), 16) != 0)
      return errno_error("listen on '" + path_ + "'");
    thread_ = std::thread([this] { serve(); });
    return {};
  }

  void stop() override {
    if (!thread_.joinable()) return;
    uint64_t one = 1;
    [[maybe_unused]] ssize_t written = ::write(stop_.get(), &one, sizeof one);
    thread_.join();
    ::unlink(path_.c_str());
  }

  void end_freeze() override {
    uint64_t one = 1;
    [[maybe_unused]] ssize_t written = ::write(end_freeze_.get(), &one, sizeof one);
  }

  void answer_unmounts(const Status& synced) override {
    for (Client& client : clients_)
      if (client.waits_for_end) [[maybe_unused]]
        Status sent = send_line(client.socket.get(),
                                synced.ok() ? R"({"ok":true})" : error_reply(synced.error()));
    clients_.clear();
  }

 private:
  using Clock = std::chrono::steady_clock;
  struct Client {
    UniqueFd socket;
    std::string input;
    pid_t pid = 0;
    bool freezes = false;
    Clock::time_point freezes_until;
    std::string lost_freeze;  // why it does not freeze any more
    bool waits_for_end = false;
  };

  void serve() {
    for (;;) {
      std::vector<pollfd> watched = {
          {stop_.get(), POLLIN, 0}, {listener_.get(), POLLIN, 0}, {end_freeze_.get(), POLLIN, 0}};
      for (const Client& client : clients_) watched.push_back({client.socket.get(), POLLIN, 0});
      if (::poll(watched.data(), watched.size(), time_left()) < 0) continue;  // EINTR
      size_t at = 3;
      for (auto client = clients_.begin(); client != clients_.end();) {
        bool keep = watched[at++].revents == 0 || receive(*client);
        if (!keep && client->freezes) handlers_.thaw();
        client = keep ? std::next(client) : clients_.erase(client);
      }
      if (watched[0].revents != 0) break;
      if (watched[2].revents != 0) {
        uint64_t count;
        [[maybe_unused]] ssize_t got = ::read(end_freeze_.get(), &count, sizeof count);
        end_freezes(Clock::time_point::max(), "the container is being unmounted");
      }
      end_freezes(Clock::now(), "this command did not go on for too long");
      if (frozen()) handlers_.while_frozen();
      if (watched[1].revents != 0) accept_client();
    }
    for (Client& client : clients_)
      if (client.freezes) handlers_.thaw();
  }

  // Milliseconds until a freeze ends by itself, or is looked after; -1: there is none.
  int time_left() const {
    constexpr int64_t kFrozenMilliseconds = 100;
    for (const Client& client : clients_) {
      if (!client.freezes) continue;
      auto left = std::chrono::ceil<std::chrono::milliseconds>(client.freezes_until - Clock::now());
      return static_cast<int>(std::clamp<int64_t>(left.count(), 0, kFrozenMilliseconds));
    }
    return -1;
  }

  void end_freezes(Clock::time_point now, const char* why) {
    for (Client& client : clients_) {
      if (!client.freezes || client.freezes_until > now) continue;
      client.freezes = false;
      client.lost_freeze = std::string("the container was not held still any longer: ") + why;
      log_warning("a freeze by process {} ended: {}", client.pid, why);
      handlers_.thaw();
    }
  }

  void accept_client() {
    UniqueFd socket(::accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
    if (!socket.valid()) return;
    Client client;
    ucred peer = {};
    socklen_t size = sizeof peer;
    if (::getsockopt(socket.get(), SOL_SOCKET, SO_PEERCRED, &peer, &size) == 0)
      client.pid = peer.pid;
    client.socket = std::move(socket);
    clients_.push_back(std::move(client));
  }

  // False: the client is gone, talks nonsense, or does not read its replies: nobody waits for it.
  bool receive(Client& client) {
    char buffer[4096];
    ssize_t size = ::read(client.socket.get(), buffer, sizeof buffer);
    if (size < 0) return errno == EINTR || errno == EAGAIN;
    if (size == 0) return false;
    client.input.append(buffer, static_cast<size_t>(size));
    size_t end;
    while ((end = client.input.find('\n')) != std::string::npos) {
      std::string line = client.input.substr(0, end);
      client.input.erase(0, end + 1);
      std::string reply = answer(client, line);
      if (!reply.empty() && !send_line(client.socket.get(), reply).ok()) return false;
    }
    return client.input.size() <= kMaxControlLineBytes;
  }

  // The reply line; empty: later.
  std::string answer(Client& client, const std::string& line) {
    nlohmann::json request = parse_json(line);
    std::string op = request.is_object() && request.contains("op") && request["op"].is_string()
                         ? request["op"].get<std::string>()
                         : std::string();
    Result<nlohmann::json> reply = Error{EINVAL, "the daemon knows no operation '" + op + "'"};
    if (op == "stats") reply = handlers_.stats();
    if (op == "freeze") reply = freeze(client);
    if (op == "unmount") {
      Status status = unmount();
      client.waits_for_end = status.ok();
      if (status.ok()) return {};
      reply = std::move(status).error();
    }
    if (!reply.ok()) return error_reply(reply.error());
    (*reply)["ok"] = true;
    return json_text(*reply);
  }

  bool frozen() const {
    for (const Client& client : clients_)
      if (client.freezes) return true;
    return false;
  }

  Result<nlohmann::json> freeze(Client& client) {
    if (!client.lost_freeze.empty()) return Error{ETIMEDOUT, client.lost_freeze + "; try again"};
    if (!client.freezes) {
      if (frozen()) return Error{EBUSY, "another command reads this container's state; try again"};
      TRY(handlers_.freeze(client.pid));
      client.freezes = true;
    }
    client.freezes_until = Clock::now() + lease_;
    return nlohmann::json::object();
  }

  Status unmount() {
    if (frozen()) return Error{EBUSY, "a command reads this container's state; try again"};
    return handlers_.unmount();
  }

  std::string path_;
  Handlers handlers_;
  UniqueFd listener_;
  UniqueFd stop_{::eventfd(0, EFD_CLOEXEC)};
  UniqueFd end_freeze_{::eventfd(0, EFD_CLOEXEC)};
  const std::chrono::milliseconds lease_;
  std::thread thread_;
  std::list<Client> clients_;
};

}  // namespace

Result<std::unique_ptr<ControlServer>> ControlServer::start(
    const std::string& container_directory, Handlers handlers,
    std::chrono::milliseconds freeze_lease) {
  auto server = std::make_unique<Server>(container_directory, std::move(handlers), freeze_lease);
  TRY(server->listen(container_directory));
  return std::unique_ptr<ControlServer>(std::move(server));
}

}  // namespace layerfs
