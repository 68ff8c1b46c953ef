// SPDX-License-Identifier: Apache-2.0
#include "fuse/barrier.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstring>
#include <string_view>

#include "layerdb/base/sys.h"

namespace layerfs {
namespace {

constexpr uint64_t kBarrierNode = uint64_t{1} << 62;

template <typename... Parts>
std::string reply(const fuse_in_header& message, int error, const Parts&... parts) {
  fuse_out_header header = {};
  header.len = static_cast<uint32_t>((sizeof header + ... + sizeof parts));
  header.error = -error;
  header.unique = message.unique;
  std::string out(reinterpret_cast<const char*>(&header), sizeof header);
  (out.append(reinterpret_cast<const char*>(&parts), sizeof parts), ...);
  return out;
}

fuse_attr attributes(const fuse_in_header& message) {
  fuse_attr out = {};
  out.ino = kBarrierNode;
  out.mode = S_IFREG | 0600;
  out.nlink = 1;
  out.uid = message.uid;
  out.gid = message.gid;
  return out;
}

}  // namespace

Barrier::Barrier() {
  uint64_t random[2] = {};
  [[maybe_unused]] ssize_t size = ::getrandom(random, sizeof random, 0);
  prefix_ = fmt::format(".layerfs-barrier-{:016x}{:016x}-", random[0], random[1]);
}

std::optional<std::string> Barrier::answer(const fuse_in_header& message, size_t size_bytes) const {
  const char* body = reinterpret_cast<const char*>(&message + 1);
  size_t body_bytes = size_bytes - sizeof message;
  if (message.opcode == FUSE_LOOKUP && message.nodeid == FUSE_ROOT_ID) {
    if (!std::string_view(body, body_bytes).starts_with(prefix_)) return std::nullopt;
    fuse_entry_out entry = {};
    entry.nodeid = kBarrierNode;
    entry.attr = attributes(message);
    return reply(message, 0, entry);
  }
  if (message.nodeid != kBarrierNode) return std::nullopt;
  switch (message.opcode) {
    case FUSE_FORGET:
      return std::string();
    case FUSE_GETATTR:
    case FUSE_SETATTR: {
      fuse_attr_out out = {};
      out.attr = attributes(message);
      return reply(message, 0, out);
    }
    case FUSE_WRITE: {
      fuse_write_in in = {};
      if (body_bytes >= sizeof in) std::memcpy(&in, body, sizeof in);
      fuse_write_out out = {};
      out.size = in.size;
      return reply(message, 0, out);
    }
    case FUSE_READ:
    case FUSE_FSYNC:
    case FUSE_RELEASE:
      return reply(message, 0);
    case FUSE_GETXATTR:
      return reply(message, ENODATA);
    default:
      return reply(message, ENOSYS);
  }
}

Status Barrier::write_back(const std::string& mountpoint) {
  UniqueFd root = TRY(open_file(mountpoint, O_RDONLY | O_DIRECTORY));
  if (::syncfs(root.get()) != 0) return errno_error("write back '" + mountpoint + "'");
  std::string name = prefix_ + std::to_string(count_++);
  UniqueFd file(::openat(root.get(), name.c_str(), O_WRONLY | O_CLOEXEC));
  if (!file.valid())
    return errno_error("the daemon cannot reach its own mount at '" + mountpoint + "'");
  TRY(pwrite_full(file.get(), "x", 0));
  return sync_file(file.get(), mountpoint);
}

}  // namespace layerfs
