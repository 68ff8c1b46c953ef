// SPDX-License-Identifier: Apache-2.0
#include "fuse/control_server.h"

#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

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
  Server(std::string directory, Handlers handlers)
      : path_(directory + "/control"), handlers_(std::move(handlers)) {}
  ~Server() override { stop(); }

  Status listen(const std::string& directory) {
    ::unlink(path_.c_str());  // a killed daemon's; the container's lock is ours
    ControlAddress own = TRY(control_address(directory));
    listener_ = UniqueFd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    if (!listener_.valid() || !stop_.valid() ||
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

  void answer_unmounts(const Status& synced) override {
    for (Client& client : clients_)
      if (client.waits_for_end) [[maybe_unused]]
        Status sent = send_line(client.socket.get(),
                                synced.ok() ? R"({"ok":true})" : error_reply(synced.error()));
    clients_.clear();
  }

 private:
  struct Client {
    UniqueFd socket;
    std::string input;
    bool freezes = false;
    bool waits_for_end = false;
  };

  void serve() {
    for (;;) {
      std::vector<pollfd> watched = {{stop_.get(), POLLIN, 0}, {listener_.get(), POLLIN, 0}};
      for (const Client& client : clients_) watched.push_back({client.socket.get(), POLLIN, 0});
      if (::poll(watched.data(), watched.size(), -1) < 0) continue;  // EINTR
      size_t at = 2;
      for (auto client = clients_.begin(); client != clients_.end();) {
        bool keep = watched[at++].revents == 0 || receive(*client);
        if (!keep && client->freezes) handlers_.thaw();
        client = keep ? std::next(client) : clients_.erase(client);
      }
      if (watched[0].revents != 0) break;
      if (watched[1].revents != 0) accept_client();
    }
    for (Client& client : clients_)
      if (client.freezes) handlers_.thaw();
  }

  void accept_client() {
    UniqueFd socket(::accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
    if (!socket.valid()) return;
    Client client;
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
    if (frozen()) return Error{EBUSY, "another command reads this container's state; try again"};
    TRY(handlers_.freeze());
    client.freezes = true;
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
  std::thread thread_;
  std::list<Client> clients_;
};

}  // namespace

Result<std::unique_ptr<ControlServer>> ControlServer::start(const std::string& container_directory,
                                                            Handlers handlers) {
  auto server = std::make_unique<Server>(container_directory, std::move(handlers));
  TRY(server->listen(container_directory));
  return std::unique_ptr<ControlServer>(std::move(server));
}

}  // namespace layerfs
