// SPDX-License-Identifier: Apache-2.0
//
// freeze_client CONTAINER_DIRECTORY [FILE]: freezes a mounted container as commit does, prints
// "frozen", tries to create FILE and prints how that went, waits for the end of standard input,
// asks for the freeze again, and prints "kept" or the error.
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include <cstdio>
#include <nlohmann/json.hpp>

#include "fuse/control.h"

int main(int argc, char** argv) {
  using namespace layerfs;
  if (argc < 2) return 2;
  std::setvbuf(stdout, nullptr, _IONBF, 0);
  Container container;
  container.directory = container.name = argv[1];
  auto daemon = ControlClient::connect(container);
  if (!daemon.ok()) return std::printf("%s\n", daemon.error().message.c_str()), 1;
  auto freeze = [&](const char* done) {
    Result<nlohmann::json> reply = (*daemon)->call({{"op", "freeze"}});
    std::printf("%s\n", reply.ok() ? done : reply.error().message.c_str());
    return reply.ok();
  };
  if (!freeze("frozen")) return 1;
  if (argc > 2) {
    int fd = ::open(argv[2], O_WRONLY | O_CREAT, 0644);
    std::printf("%s\n", fd >= 0 ? "created" : ::strerror(errno));
  }
  char byte;
  while (::read(STDIN_FILENO, &byte, 1) > 0) {
  }
  return freeze("kept") ? 0 : 1;
}
