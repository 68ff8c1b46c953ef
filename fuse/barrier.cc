// SPDX-License-Identifier: Apache-2.0
#include "fuse/barrier.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sched.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstring>
#include <string_view>
#include <thread>

#include "layerdb/base/caught.h"
#include "layerdb/base/sys.h"

namespace layerfs {
namespace {

constexpr uint64_t kBarrierNode = uint64_t{1} << 62;

template <typename Body>
Barrier::Answer reply(const Body& body) {
  return {0, std::string(reinterpret_cast<const char*>(&body), sizeof body)};
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

Result<UniqueFd> open_own(const UniqueFd& root, const std::string& name, int flags) {
  UniqueFd file(::openat(root.get(), name.c_str(), flags | O_CLOEXEC));
  if (!file.valid()) return errno_error("the daemon cannot reach its own mount");
  return file;
}

// By cachestat(2), which our headers may be too old for. sync_file_range() without need would take
// from close(2) what it has to tell of earlier pages that could not be written.
bool nothing_dirty(int fd, uint64_t offset, uint64_t length) {
  constexpr long kSysCachestat = 451;
  struct {
    uint64_t offset, length;
  } range = {offset, length};
  struct {
    uint64_t cached, dirty, under_write_back, evicted, recently_evicted;
  } found = {};
  return ::syscall(kSysCachestat, fd, &range, &found, 0) == 0 && found.dirty == 0 &&
         found.under_write_back == 0;
}

template <typename Calls>
Status without_descriptors(const Calls& calls) {
  Status status;
  auto body = [&]() -> Status {
    if (::unshare(CLONE_FILES) != 0 || ::close_range(3, ~0U, 0) != 0)
      return errno_error("leave the descriptors of other threads");
    return calls();
  };
  TRY(call_and_catch([&]() -> Status {
    std::thread([&]() noexcept { status = call_and_catch(body); }).join();
    return {};
  }));
  return status;
}

// Returns when what was handed to the kernel's queue before has been handed to a worker.
Status pass_all_earlier(const UniqueFd& barrier_file, const std::string& mountpoint) {
  TRY(pwrite_full(barrier_file.get(), "x", 0));
  return sync_file(barrier_file.get(), mountpoint);
}

// What nobody waits for but the kernel itself: pages of its cache, and times that go with them.
bool is_write_back(const fuse_in_header& message) {
  if (message.opcode == FUSE_WRITE)
    return reinterpret_cast<const fuse_write_in*>(&message + 1)->write_flags & FUSE_WRITE_CACHE;
  constexpr uint32_t kTimes = FATTR_MTIME | FATTR_CTIME;
  return message.opcode == FUSE_SETATTR &&
         (reinterpret_cast<const fuse_setattr_in*>(&message + 1)->valid & ~FATTR_FH) == kTimes;
}

}  // namespace

Barrier::Barrier() {
  uint64_t random[2] = {};
  [[maybe_unused]] ssize_t size = ::getrandom(random, sizeof random, 0);
  prefix_ = fmt::format(".layerfs-barrier-{:016x}{:016x}-", random[0], random[1]);
  file_prefix_ = prefix_ + "file-";
}

std::optional<Barrier::Answer> Barrier::answer(const fuse_in_header& message,
                                               size_t size_bytes) const {
  const char* body = reinterpret_cast<const char*>(&message + 1);
  size_t body_bytes = size_bytes - sizeof message;
  if (message.opcode == FUSE_LOOKUP && message.nodeid == FUSE_ROOT_ID) {
    if (!std::string_view(body, body_bytes).starts_with(file_prefix_)) return std::nullopt;
    fuse_entry_out entry = {};
    entry.nodeid = kBarrierNode;
    entry.attr = attributes(message);
    return reply(entry);
  }
  if (message.nodeid != kBarrierNode) return std::nullopt;
  switch (message.opcode) {
    case FUSE_FORGET:
      return Answer{.wanted = false};
    case FUSE_GETATTR:
    case FUSE_SETATTR: {
      fuse_attr_out out = {};
      out.attr = attributes(message);
      return reply(out);
    }
    case FUSE_WRITE: {
      fuse_write_in in = {};
      if (body_bytes >= sizeof in) std::memcpy(&in, body, sizeof in);
      fuse_write_out out = {};
      out.size = in.size;
      return reply(out);
    }
    case FUSE_READ:
    case FUSE_FSYNC:
    case FUSE_RELEASE:
      return Answer{};
    case FUSE_GETXATTR:
      return Answer{ENODATA};
    default:
      return Answer{ENOSYS};
  }
}

std::optional<Ino> Barrier::inode_of(const fuse_in_header& message, size_t size_bytes) const {
  if (message.opcode != FUSE_LOOKUP || message.nodeid != FUSE_ROOT_ID) return std::nullopt;
  std::string_view name(reinterpret_cast<const char*>(&message + 1), size_bytes - sizeof message);
  name = name.substr(0, name.find('\0'));
  if (!name.starts_with(prefix_)) return std::nullopt;
  std::lock_guard lock(mutex_);
  if (name != inode_name_) return std::nullopt;
  return inode_;
}

Result<UniqueFd> Barrier::open_barrier_file(const UniqueFd& root) {
  return open_own(root, file_prefix_ + std::to_string(count_++), O_WRONLY);
}

void Barrier::failed(const fuse_in_header& message, int code) {
  if (code != EINTR && is_write_back(message)) lost_ = true;
}

bool Barrier::is_loss(int code) const { return lost_ || (code != EINTR && code != EIO); }

Status Barrier::write_all_back(const UniqueFd& root, const UniqueFd& file,
                               const std::string& mountpoint) {
  if (::syncfs(root.get()) != 0 && is_loss(errno)) {
    // The kernel tells it once, also of a file that has been removed since.
    Error error = errno_error("write back '" + mountpoint + "'");
    error.message += "; something written there lately is lost. Run this again to go on without it";
    lost_ = false;
    return error;
  }
  return pass_all_earlier(file, mountpoint);
}

Status Barrier::write_back_twice(const std::string& mountpoint,
                                 const std::function<void()>& between) {
  return without_descriptors([&]() -> Status {
    UniqueFd root = TRY(open_file(mountpoint, O_RDONLY | O_DIRECTORY));
    UniqueFd file = TRY(open_barrier_file(root));
    TRY(write_all_back(root, file, mountpoint));
    between();
    return write_all_back(root, file, mountpoint);
  });
}

// An entry is not used again, but the kernel keeps it, and the inode, until it asks for the name
// and hears that there is none.
void Barrier::name_inode(const std::string& name, Ino ino) {
  std::lock_guard lock(mutex_);
  inode_name_ = name;
  inode_ = ino;
}

Status Barrier::write_back(const std::string& mountpoint, Ino ino, uint64_t offset, uint64_t end,
                           bool kernel_waits) {
  uint64_t length = end == 0 ? 0 : end - offset;
  std::string name = prefix_ + "inode-" + std::to_string(count_++);
  name_inode(name, ino);
  return without_descriptors([&]() -> Status {
    Result<UniqueFd> root = open_file(mountpoint, O_RDONLY | O_DIRECTORY);
    if (!root.ok()) return Error{ENOSYS, root.error().message};
    Result<UniqueFd> file = open_own(*root, name, O_RDONLY);
    name_inode("", 0);
    ::faccessat(root->get(), name.c_str(), F_OK, AT_SYMLINK_NOFOLLOW);
    if (!file.ok()) return Error{ENOSYS, file.error().message};
    if (kernel_waits && nothing_dirty(file->get(), offset, length)) return {};
    constexpr unsigned kWaitForAll =
        SYNC_FILE_RANGE_WAIT_BEFORE | SYNC_FILE_RANGE_WRITE | SYNC_FILE_RANGE_WAIT_AFTER;
    if (::sync_file_range(file->get(), static_cast<off_t>(offset), static_cast<off_t>(length),
                          kWaitForAll) != 0 &&
        is_loss(errno))
      return errno_error("write back '" + mountpoint + "'");
    if (kernel_waits) return {};
    return pass_all_earlier(TRY(open_barrier_file(*root)), mountpoint);
  });
}

}  // namespace layerfs
