// SPDX-License-Identifier: Apache-2.0
#include "fuse/stats.h"

#include <nlohmann/json.hpp>
#include <string>

namespace layerfs {
namespace {

// The names of linux/fuse.h, by opcode.
constexpr const char* kNames[] = {
    "unknown",      "LOOKUP",        "FORGET",      "GETATTR",  "SETATTR",  "READLINK",
    "SYMLINK",      nullptr,         "MKNOD",       "MKDIR",    "UNLINK",   "RMDIR",
    "RENAME",       "LINK",          "OPEN",        "READ",     "WRITE",    "STATFS",
    "RELEASE",      nullptr,         "FSYNC",       "SETXATTR", "GETXATTR", "LISTXATTR",
    "REMOVEXATTR",  "FLUSH",         "INIT",        "OPENDIR",  "READDIR",  "RELEASEDIR",
    "FSYNCDIR",     "GETLK",         "SETLK",       "SETLKW",   "ACCESS",   "CREATE",
    "INTERRUPT",    "BMAP",          "DESTROY",     "IOCTL",    "POLL",     "NOTIFY_REPLY",
    "BATCH_FORGET", "FALLOCATE",     "READDIRPLUS", "RENAME2",  "LSEEK",    "COPY_FILE_RANGE",
    "SETUPMAPPING", "REMOVEMAPPING", "SYNCFS",      "TMPFILE",  "STATX"};

std::string opcode_name(size_t opcode) {
  if (opcode < std::size(kNames) && kNames[opcode] != nullptr) return kNames[opcode];
  return "opcode_" + std::to_string(opcode);
}

}  // namespace

nlohmann::json Stats::to_json() const {
  nlohmann::json messages = nlohmann::json::object();
  uint64_t total = 0;
  for (size_t opcode = 0; opcode < messages_.size(); ++opcode) {
    uint64_t count = messages_[opcode].load(std::memory_order_relaxed);
    if (count == 0) continue;
    messages[opcode_name(opcode)] = count;
    total += count;
  }
  return {{"messages", messages},
          {"messages_total", total},
          {"read_bytes", read_bytes_.load(std::memory_order_relaxed)},
          {"written_bytes", written_bytes_.load(std::memory_order_relaxed)},
          {"kept_awake_seconds", double(kept_awake_.load(std::memory_order_relaxed)) / 1e9}};
}

}  // namespace layerfs
