// SPDX-License-Identifier: Apache-2.0
#include "tests/model/real_fs.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <grp.h>
#include <linux/capability.h>
#include <linux/fs.h>
#include <stdio.h>
#include <sys/fsuid.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <algorithm>

#include "layerdb/object/file_type.h"

namespace layerfs {
namespace {

Status result_of(long result, const char* what) {
  if (result < 0) return errno_error(what);
  return {};
}

// The capabilities of this thread, one left out for as long as it lives. Changing the file system
// uid takes some away: all are put back then, as only ownership is to differ.
class WithCapabilities {
 public:
  explicit WithCapabilities(int left_out = -1) {
    syscall(SYS_capget, &header_, before_);
    __user_cap_data_struct now[2] = {before_[0], before_[1]};
    for (auto& part : now) part.effective = part.permitted;
    if (left_out >= 0) now[left_out / 32].effective &= ~(1u << left_out % 32);
    syscall(SYS_capset, &header_, now);
  }
  ~WithCapabilities() { syscall(SYS_capset, &header_, before_); }

 private:
  __user_cap_header_struct header_{_LINUX_CAPABILITY_VERSION_3, 0};
  __user_cap_data_struct before_[2];
};

class FileSystemIds {
 public:
  FileSystemIds(uint32_t uid, uint32_t gid) {
    setfsgid(gid);
    setfsuid(uid);
  }
  ~FileSystemIds() {
    setfsuid(0);
    setfsgid(0);
  }
};

// As the caller, yet with every capability (but the one left out).
class As {
 public:
  explicit As(const Caller& caller, int left_out = -1)
      : ids_(caller.uid, caller.gid), capabilities_(left_out), umask_(::umask(caller.umask)) {}
  ~As() { ::umask(umask_); }

 private:
  FileSystemIds ids_;
  WithCapabilities capabilities_;
  mode_t umask_;
};

// Strangers take setgid from files that their group may not execute since Linux 6.2
// (and 6.1.14) only.
As as_writer(Writer writer, uint32_t group) {
  if (writer == Writer::privileged) return As(Caller{});
  return As({.uid = 1, .gid = writer == Writer::member ? group : group + 1}, CAP_FSETID);
}

Result<Stat> stat_of_fd(int fd) {
  struct statx st;
  TRY(result_of(::statx(fd, "", AT_EMPTY_PATH, STATX_BASIC_STATS | STATX_BTIME, &st), "statx"));
  auto time = [](const struct statx_timestamp& t) { return Timestamp{t.tv_sec, t.tv_nsec}; };
  Stat out;
  out.ino = st.stx_ino;
  Attributes& a = out.attributes;
  a.type = file_type_of(st.stx_mode);
  a.mode = st.stx_mode & 07777;
  a.uid = st.stx_uid;
  a.gid = st.stx_gid;
  a.nlink = st.stx_nlink;
  a.rdev_major = st.stx_rdev_major;
  a.rdev_minor = st.stx_rdev_minor;
  a.size_bytes = st.stx_size;
  a.mtime = time(st.stx_mtime);
  out.atime = time(st.stx_atime);
  out.ctime = time(st.stx_ctime);
  out.btime = time(st.stx_btime);
  out.blocks = st.stx_blocks;
  return out;
}

Status check_content(FileType type) {
  if (type == FileType::directory) return Error{EISDIR, "a directory"};
  if (type != FileType::regular) return Error{EINVAL, "not a regular file"};
  return {};
}

struct DirectoryRecord {  // linux_dirent64
  uint64_t ino;
  int64_t cookie;
  uint16_t length;
  uint8_t type;
  char name[];
};

}  // namespace

Status RealFs::open() {
  UniqueFd root(::open(path_.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
  if (!root.valid()) return errno_error(path_);
  inodes_[kRootIno] = {std::move(root), 1};
  // A stranger to a file's group must not be of it by the way.
  TRY(result_of(::setgroups(0, nullptr), "setgroups"));
  return {};
}

int RealFs::fd(Ino ino) const {
  auto it = inodes_.find(ino);
  return it == inodes_.end() ? -1 : it->second.fd.get();
}

std::string RealFs::magic_path(Ino ino) const { return fmt::format("/proc/self/fd/{}", fd(ino)); }

Result<UniqueFd> RealFs::open_file(Ino ino, int flags) {
  TRY(check_content(TRY(stat(ino)).attributes.type));
  UniqueFd file(::open(magic_path(ino).c_str(), flags | O_CLOEXEC));
  if (!file.valid()) return errno_error("open");
  return file;
}

Result<Stat> RealFs::remember(UniqueFd fd) {
  Stat found = TRY(stat_of_fd(fd.get()));
  Inode& inode = inodes_[found.ino];
  if (inode.references++ == 0) inode.fd = std::move(fd);
  return found;
}

Result<Stat> RealFs::lookup(Ino directory, std::string_view name) {
  UniqueFd found(
      ::openat(fd(directory), std::string(name).c_str(), O_PATH | O_NOFOLLOW | O_CLOEXEC));
  if (!found.valid()) return errno_error("lookup");
  return remember(std::move(found));
}

void RealFs::forget(Ino ino, uint64_t count) {
  auto it = inodes_.find(ino);
  if (it == inodes_.end() || ino == kRootIno) return;
  it->second.references -= std::min(count, it->second.references);
  if (it->second.references == 0) inodes_.erase(it);
}

Result<Stat> RealFs::make(Ino directory, std::string_view name, const NewNode& node,
                          const Caller& caller) {
  std::string path(name);
  {
    As as(caller);
    int at = fd(directory);
    int made;
    switch (node.type) {
      case FileType::directory:
        made = ::mkdirat(at, path.c_str(), node.mode);
        break;
      case FileType::symlink:
        made = ::symlinkat(node.symlink_target.c_str(), at, path.c_str());
        break;
      case FileType::regular:
        made = ::openat(at, path.c_str(), O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC, node.mode);
        if (made >= 0) UniqueFd closed(made);
        break;
      default:
        made = ::mknodat(at, path.c_str(), file_type_bits(node.type) | node.mode,
                         makedev(node.rdev_major, node.rdev_minor));
    }
    TRY(result_of(made, "make"));
  }
  return lookup(directory, name);
}

Result<Stat> RealFs::make_unnamed(Ino directory, uint32_t mode, bool linkable,
                                  const Caller& caller) {
  if (TRY(stat(directory)).attributes.type != FileType::directory) return Error{ENOTDIR, "tmpfile"};
  As as(caller);
  int flags = O_TMPFILE | O_RDWR | O_CLOEXEC | (linkable ? 0 : O_EXCL);
  UniqueFd made(::open(magic_path(directory).c_str(), flags, mode));
  if (!made.valid()) return errno_error("O_TMPFILE");
  return remember(std::move(made));
}

Result<Stat> RealFs::link(Ino ino, Ino directory, std::string_view name) {
  TRY(result_of(::linkat(fd(ino), "", fd(directory), std::string(name).c_str(), AT_EMPTY_PATH),
                "link"));
  ++inodes_.at(ino).references;
  return stat(ino);
}

Status RealFs::unlink(Ino directory, std::string_view name) {
  return result_of(::unlinkat(fd(directory), std::string(name).c_str(), 0), "unlink");
}

Status RealFs::rmdir(Ino directory, std::string_view name) {
  return result_of(::unlinkat(fd(directory), std::string(name).c_str(), AT_REMOVEDIR), "rmdir");
}

Status RealFs::rename(Ino from_directory, std::string_view from_name, Ino to_directory,
                      std::string_view to_name, uint32_t flags) {
  return result_of(::renameat2(fd(from_directory), std::string(from_name).c_str(), fd(to_directory),
                               std::string(to_name).c_str(), flags),
                   "rename");
}

Result<Ino> RealFs::parent(Ino directory) { return TRY(lookup(directory, "..")).ino; }

Result<Stat> RealFs::stat(Ino ino) {
  Stat out = TRY(stat_of_fd(fd(ino)));
  out.ino = ino;
  return out;
}

Result<Stat> RealFs::set_attributes(Ino ino, const SetAttributes& changes, const Caller&) {
  std::string path = magic_path(ino);
  if (changes.size_bytes) {
    auto size_bytes = static_cast<off_t>(*changes.size_bytes);
    TRY(result_of(::truncate(path.c_str(), size_bytes), "truncate"));
    // To the size it had: truncate(2) leaves the mtime alone on FUSE mounts (fuse/design.md).
    UniqueFd file(::open(path.c_str(), O_WRONLY | O_CLOEXEC));
    TRY(result_of(file.get() >= 0 ? ::ftruncate(file.get(), size_bytes) : -1, "ftruncate"));
  }
  if (changes.uid || changes.gid) {
    TRY(result_of(
        ::fchownat(fd(ino), "", changes.uid.value_or(-1), changes.gid.value_or(-1), AT_EMPTY_PATH),
        "chown"));
  }
  if (changes.mode) {
    // What older kernels do here depends on the filesystem.
    if (TRY(stat(ino)).attributes.type == FileType::symlink) return Error{EOPNOTSUPP, "a symlink"};
    TRY(result_of(::chmod(path.c_str(), *changes.mode), "chmod"));
  }
  if (changes.atime || changes.mtime) {
    auto time = [](const std::optional<Timestamp>& t) {
      return t ? timespec{t->seconds, t->nanoseconds} : timespec{0, UTIME_OMIT};
    };
    timespec times[] = {time(changes.atime), time(changes.mtime)};
    TRY(result_of(::utimensat(fd(ino), "", times, AT_EMPTY_PATH), "utimes"));
  }
  return stat(ino);
}

Result<std::string> RealFs::readlink(Ino ino) {
  std::string target(4096, '\0');
  ssize_t size = ::readlinkat(fd(ino), "", target.data(), target.size());
  TRY(result_of(size, "readlink"));
  target.resize(size);
  return target;
}

Result<std::string> RealFs::get_xattr(Ino ino, const std::string& name) {
  std::string value(65536, '\0');
  ssize_t size = ::getxattr(magic_path(ino).c_str(), name.c_str(), value.data(), value.size());
  TRY(result_of(size, "getxattr"));
  value.resize(size);
  return value;
}

// The host's own (security.selinux) are left out.
Result<std::vector<std::string>> RealFs::list_xattrs(Ino ino) {
  std::string names(65536, '\0');
  ssize_t size = ::listxattr(magic_path(ino).c_str(), names.data(), names.size());
  TRY(result_of(size, "listxattr"));
  std::vector<std::string> out;
  for (ssize_t at = 0; at < size;) {
    std::string name = names.c_str() + at;
    at += static_cast<ssize_t>(name.size()) + 1;
    if (!name.starts_with("security.") || name == "security.capability") out.push_back(name);
  }
  return out;
}

Status RealFs::set_xattr(Ino ino, const std::string& name, std::string_view value, int flags,
                         bool) {
  return result_of(
      ::setxattr(magic_path(ino).c_str(), name.c_str(), value.data(), value.size(), flags),
      "setxattr");
}

Status RealFs::remove_xattr(Ino ino, const std::string& name) {
  return result_of(::removexattr(magic_path(ino).c_str(), name.c_str()), "removexattr");
}

Result<size_t> RealFs::read(Ino ino, uint64_t offset, std::span<char> out) {
  UniqueFd file = TRY(open_file(ino, O_RDONLY | O_NOATIME));
  return pread_full(file.get(), out, offset);
}

Result<size_t> RealFs::write(Ino ino, uint64_t offset, std::string_view bytes,
                             const WriterOf& writer_of, Times) {
  UniqueFd file = TRY(open_file(ino, O_WRONLY));
  Attributes attributes = TRY(stat(ino)).attributes;
  As as = as_writer(ask(writer_of, attributes), attributes.gid);
  ssize_t size = ::pwrite(file.get(), bytes.data(), bytes.size(), static_cast<off_t>(offset));
  TRY(result_of(size, "write"));
  return static_cast<size_t>(size);
}

Status RealFs::allocate(Ino ino, int mode, uint64_t offset, uint64_t length,
                        const WriterOf& writer_of) {
  Attributes attributes = TRY(stat(ino)).attributes;
  if (attributes.type != FileType::regular) return Error{ENODEV, "not a file"};
  UniqueFd file = TRY(open_file(ino, O_WRONLY));
  As as = as_writer(ask(writer_of, attributes), attributes.gid);
  return result_of(
      ::fallocate(file.get(), mode, static_cast<off_t>(offset), static_cast<off_t>(length)),
      "fallocate");
}

Result<uint64_t> RealFs::seek(Ino ino, uint64_t offset, int whence) {
  UniqueFd file = TRY(open_file(ino, O_RDONLY | O_NOATIME));
  off_t at = ::lseek(file.get(), static_cast<off_t>(offset), whence);
  TRY(result_of(at, "seek"));
  return static_cast<uint64_t>(at);
}

Result<size_t> RealFs::copy_range(Ino from, uint64_t from_offset, Ino to, uint64_t to_offset,
                                  uint64_t length, const WriterOf&) {
  UniqueFd source = TRY(open_file(from, O_RDONLY | O_NOATIME));
  UniqueFd target = TRY(open_file(to, O_WRONLY));
  off_t in = static_cast<off_t>(from_offset);
  off_t out = static_cast<off_t>(to_offset);
  size_t copied = 0;
  while (copied < length) {
    ssize_t n = ::copy_file_range(source.get(), &in, target.get(), &out, length - copied, 0);
    TRY(result_of(n, "copy_file_range"));
    if (n == 0) break;
    copied += static_cast<size_t>(n);
  }
  return copied;
}

Status RealFs::sync(Ino ino, Sync what) {
  FileType type = TRY(stat(ino)).attributes.type;
  if (type != FileType::regular && type != FileType::directory) return {};
  UniqueFd file(::open(magic_path(ino).c_str(), O_RDONLY | O_CLOEXEC));
  if (!file.valid()) return errno_error("open");
  return result_of(what == Sync::data ? ::fdatasync(file.get()) : ::fsync(file.get()), "fsync");
}

Status RealFs::list(Ino directory, uint64_t cookie, const DirectoryVisitor& visit) {
  UniqueFd fd(
      ::open(magic_path(directory).c_str(), O_RDONLY | O_DIRECTORY | O_NOATIME | O_CLOEXEC));
  if (!fd.valid()) return errno_error("opendir");
  TRY(result_of(::lseek(fd.get(), static_cast<off_t>(cookie), SEEK_SET), "seekdir"));
  alignas(DirectoryRecord) char buffer[4096];
  for (;;) {
    long size = syscall(SYS_getdents64, fd.get(), buffer, sizeof buffer);
    TRY(result_of(size, "getdents"));
    if (size == 0) return {};
    for (long at = 0; at < size;) {
      const auto* record = reinterpret_cast<const DirectoryRecord*>(buffer + at);
      at += record->length;
      std::string_view name = record->name;
      if (name == "." || name == "..") continue;
      bool taken = visit({name, record->ino, file_type_of(static_cast<mode_t>(record->type) << 12),
                          static_cast<uint64_t>(record->cookie)});
      if (!taken) return {};
    }
  }
}

Status RealFs::list_plus(Ino directory, uint64_t cookie, const DirectoryVisitorPlus& visit) {
  Status inner;
  TRY(list(directory, cookie, [&](const DirectoryEntry& entry) {
    auto found = lookup(directory, entry.name);
    if (!found.ok()) {
      inner = std::move(found).error();
      return false;
    }
    bool taken = visit(entry, *found);
    if (!taken) forget(found->ino, 1);
    return taken;
  }));
  return inner;
}

Result<struct statvfs> RealFs::statfs() {
  struct statvfs out {};
  TRY(result_of(::statvfs(path_.c_str(), &out), "statvfs"));
  return out;
}

}  // namespace layerfs
