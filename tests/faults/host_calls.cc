// SPDX-License-Identifier: Apache-2.0
#include "tests/faults/host_calls.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstdio>
#include <filesystem>
#include <map>
#include <mutex>
#include <optional>
#include <string_view>

namespace layerfs::test_support {
namespace {

using Kind = HostCall::Kind;
constexpr uint64_t kBlock = 4096;

struct OpenedFile {
  uint64_t file = 0;  // 0: a directory
  std::string path;
  bool append = false;
};

// All that is watched. Guarded by g_mutex but for g_active.
struct Watch {
  std::string root;  // ends in '/'
  std::vector<HostCall> calls;
  std::map<std::string, uint64_t> files;         // by path
  std::map<uint64_t, std::vector<bool>> blocks;  // allocated, by file
  std::map<uint64_t, int> links;
  std::map<int, OpenedFile> opened;
  uint64_t next_file = 1;

  unsigned which = 0;
  uint64_t before_failure = 0;
  uint64_t failures_left = 0;
  int code = 0;
  bool failed = false;
  uint64_t space_bytes = 0;
  uint64_t used_blocks = 0;
};
// Tests of every call to the disk are no place to wait for one.
[[maybe_unused]] const bool g_in_memory =
    ::access("/dev/shm", W_OK) == 0 && ::setenv("TMPDIR", "/dev/shm", 0) == 0;

std::atomic<bool> g_active{false};
std::atomic<int> g_boot{0};
std::recursive_mutex g_mutex;
Watch* g_watch = nullptr;

std::string full_path(int directory, const char* path) {
  if (path[0] == '/') return path;
  char target[4096];
  std::string link =
      directory == AT_FDCWD ? "/proc/self/cwd" : "/proc/self/fd/" + std::to_string(directory);
  ssize_t size = ::readlink(link.c_str(), target, sizeof target);
  return std::string(target, size > 0 ? static_cast<size_t>(size) : 0) + "/" + path;
}

// Relative to the root; nothing: it is elsewhere.
std::optional<std::string> watched(int directory, const char* path) {
  std::string out;
  for (char c : full_path(directory, path))
    if (c != '/' || out.empty() || out.back() != '/') out.push_back(c);
  if (out + "/" == g_watch->root) return "";
  if (!out.starts_with(g_watch->root)) return std::nullopt;
  out.erase(0, g_watch->root.size());
  while (out.ends_with('/')) out.pop_back();
  return out;
}

// The errno with which this call fails; 0: it does not.
int failure(unsigned kind) {
  Watch& w = *g_watch;
  if ((w.which & kind) == 0 || w.failures_left == 0) return 0;
  if (w.before_failure > 0) {
    --w.before_failure;
    return 0;
  }
  --w.failures_left;
  w.failed = true;
  return w.code;
}

long fail(int code) {
  errno = code;
  return -1;
}

// Allocates the blocks of [offset, offset + length); how many bytes of it fit.
uint64_t take_space(uint64_t file, uint64_t offset, uint64_t length) {
  Watch& w = *g_watch;
  std::vector<bool>& blocks = w.blocks[file];
  for (uint64_t at = offset; at < offset + length; at = at / kBlock * kBlock + kBlock) {
    uint64_t block = at / kBlock;
    if (block < blocks.size() && blocks[block]) continue;
    if (w.space_bytes != 0 && (w.used_blocks + 1) * kBlock > w.space_bytes) {
      w.failed = true;
      return at - offset;
    }
    if (block >= blocks.size()) blocks.resize(block + 1);
    blocks[block] = true;
    ++w.used_blocks;
  }
  return length;
}

void give_space(uint64_t file, uint64_t from_block, uint64_t to_block) {
  std::vector<bool>& blocks = g_watch->blocks[file];
  for (uint64_t b = from_block; b < std::min<uint64_t>(to_block, blocks.size()); ++b) {
    if (blocks[b]) --g_watch->used_blocks;
    blocks[b] = false;
  }
}

HostCall& note(Kind kind, uint64_t file = 0, uint64_t offset = 0, uint64_t length = 0) {
  HostCall call;
  call.kind = kind;
  call.file = file;
  call.offset = offset;
  call.length = length;
  g_watch->calls.push_back(std::move(call));
  return g_watch->calls.back();
}

void note_names(Kind kind, const std::string& path, const std::string& to = "", uint64_t file = 0) {
  HostCall& call = note(kind, file);
  call.path = path;
  call.to = to;
}

void drop_link(uint64_t file) {
  if (--g_watch->links[file] == 0) give_space(file, 0, UINT64_MAX);
}

class Guard {
 public:
  Guard() {
    if (g_active) g_mutex.lock(), held_ = true;
    if (held_ && g_watch == nullptr) g_mutex.unlock(), held_ = false;
  }
  ~Guard() {
    if (held_) g_mutex.unlock();
  }
  explicit operator bool() const { return held_; }

 private:
  bool held_ = false;
};

OpenedFile* find_opened(int fd) {
  auto it = g_watch->opened.find(fd);
  return it == g_watch->opened.end() ? nullptr : &it->second;
}

long open_boot_id() {
  char text[37];
  std::snprintf(text, sizeof text, "00000000-0000-0000-0000-%012d", g_boot.load());
  long fd = ::syscall(SYS_memfd_create, "boot_id", 0);
  ::syscall(SYS_pwrite64, fd, text, 36, 0);
  return fd;
}

long do_open(int directory, const char* path, int flags, mode_t mode) {
  if (g_boot != 0 && std::string_view(path) == "/proc/sys/kernel/random/boot_id")
    return open_boot_id();
  auto real = [&] { return ::syscall(SYS_openat, directory, path, flags, mode); };
  Guard guard;
  if (!guard) return real();
  std::optional<std::string> name = watched(directory, path);
  if (!name || (flags & O_TMPFILE) == O_TMPFILE) return real();
  auto known = g_watch->files.find(*name);
  bool makes = (flags & O_CREAT) != 0 && known == g_watch->files.end();
  if (int code = failure(HostCalls::kOpening); code != 0) return fail(code);
  if (makes) {
    if (int code = failure(HostCalls::kGrowing); code != 0) return fail(code);
    if (g_watch->space_bytes != 0 && (g_watch->used_blocks + 1) * kBlock > g_watch->space_bytes) {
      g_watch->failed = true;
      return fail(ENOSPC);
    }
  }
  long fd = real();
  if (fd < 0) return fd;
  OpenedFile opened{0, *name, (flags & O_APPEND) != 0};
  if (makes) {
    opened.file = g_watch->next_file++;
    g_watch->files[*name] = opened.file;
    g_watch->links[opened.file] = 1;
    note_names(Kind::create, *name, "", opened.file);
  } else if (known != g_watch->files.end()) {
    opened.file = known->second;
    if ((flags & O_TRUNC) != 0) {
      note(Kind::truncate, opened.file);
      give_space(opened.file, 0, UINT64_MAX);
    }
  }
  g_watch->opened[static_cast<int>(fd)] = opened;
  return fd;
}

long do_write(int fd, const void* bytes, size_t size, std::optional<off_t> offset) {
  auto real = [&](size_t count) {
    return offset ? ::syscall(SYS_pwrite64, fd, bytes, count, *offset)
                  : ::syscall(SYS_write, fd, bytes, count);
  };
  Guard guard;
  OpenedFile* opened = guard ? find_opened(fd) : nullptr;
  if (opened == nullptr || opened->file == 0) return real(size);
  if (int code = failure(HostCalls::kGrowing); code != 0) return fail(code);
  off_t at = offset.value_or(0);
  if (!offset) at = ::lseek(fd, 0, opened->append ? SEEK_END : SEEK_CUR);
  size_t fits = take_space(opened->file, static_cast<uint64_t>(at), size);
  if (fits == 0 && size != 0) return fail(ENOSPC);
  long done = real(fits);
  if (done <= 0) return done;
  note(Kind::write, opened->file, static_cast<uint64_t>(at))
      .bytes.assign(static_cast<const char*>(bytes), static_cast<size_t>(done));
  return done;
}

long do_truncate(int fd, off_t size) {
  Guard guard;
  OpenedFile* opened = guard ? find_opened(fd) : nullptr;
  if (opened == nullptr) return ::syscall(SYS_ftruncate, fd, size);
  if (int code = failure(HostCalls::kRemoving); code != 0) return fail(code);
  long result = ::syscall(SYS_ftruncate, fd, size);
  if (result != 0) return result;
  note(Kind::truncate, opened->file, 0, static_cast<uint64_t>(size));
  give_space(opened->file, (static_cast<uint64_t>(size) + kBlock - 1) / kBlock, UINT64_MAX);
  return 0;
}

long do_fallocate(int fd, int mode, off_t offset, off_t length) {
  Guard guard;
  OpenedFile* opened = guard ? find_opened(fd) : nullptr;
  auto real = [&] { return ::syscall(SYS_fallocate, fd, mode, offset, length); };
  if (opened == nullptr) return real();
  uint64_t from = static_cast<uint64_t>(offset), size = static_cast<uint64_t>(length);
  if ((mode & FALLOC_FL_PUNCH_HOLE) != 0) {
    if (int code = failure(HostCalls::kRemoving); code != 0) return fail(code);
    long result = real();
    if (result != 0) return result;
    note(Kind::punch, opened->file, from, size);
    give_space(opened->file, (from + kBlock - 1) / kBlock, (from + size) / kBlock);
    return 0;
  }
  if (int code = failure(HostCalls::kGrowing); code != 0) return fail(code);
  if (take_space(opened->file, from, size) < size) return fail(ENOSPC);
  long result = real();
  if (result == 0 && (mode & FALLOC_FL_KEEP_SIZE) == 0)
    note(Kind::extend, opened->file, 0, from + size);
  return result;
}

long do_sync(int fd, long number) {
  Guard guard;
  OpenedFile* opened = guard ? find_opened(fd) : nullptr;
  if (opened == nullptr) return ::syscall(number, fd);
  if (int code = failure(HostCalls::kSyncing); code != 0) return fail(code);
  if (number == SYS_syncfs)
    note(Kind::sync_everything);
  else if (opened->file == 0)
    note_names(Kind::sync_directory, opened->path);
  else
    note(Kind::sync, opened->file);
  return 0;
}

long do_rename(int from_directory, const char* from, int to_directory, const char* to,
               unsigned flags) {
  auto real = [&] {
    return ::syscall(SYS_renameat2, from_directory, from, to_directory, to, flags);
  };
  Guard guard;
  if (!guard) return real();
  std::optional<std::string> old_name = watched(from_directory, from);
  std::optional<std::string> new_name = watched(to_directory, to);
  if (!old_name || !new_name) return real();
  if (int code = failure(HostCalls::kRemoving); code != 0) return fail(code);
  long result = real();
  if (result != 0) return result;
  note_names(Kind::rename, *old_name, *new_name);
  auto& files = g_watch->files;
  if (auto replaced = files.find(*new_name); replaced != files.end()) {
    drop_link(replaced->second);
    files.erase(replaced);
  }
  std::map<std::string, uint64_t> moved;
  for (auto it = files.begin(); it != files.end();) {
    bool below = it->first == *old_name || it->first.starts_with(*old_name + "/");
    if (below) moved[*new_name + it->first.substr(old_name->size())] = it->second;
    it = below ? files.erase(it) : std::next(it);
  }
  files.merge(moved);
  return 0;
}

long do_link(int from_directory, const char* from, int to_directory, const char* to, int flags) {
  auto real = [&] { return ::syscall(SYS_linkat, from_directory, from, to_directory, to, flags); };
  Guard guard;
  if (!guard) return real();
  std::optional<std::string> old_name = watched(from_directory, from);
  std::optional<std::string> new_name = watched(to_directory, to);
  if (!old_name || !new_name) return real();
  if (int code = failure(HostCalls::kGrowing); code != 0) return fail(code);
  long result = real();
  auto known = g_watch->files.find(*old_name);
  if (result != 0 || known == g_watch->files.end()) return result;
  note_names(Kind::link, *old_name, *new_name);
  ++g_watch->links[known->second];
  g_watch->files[*new_name] = known->second;
  return 0;
}

long do_unlink(int directory, const char* path, int flags) {
  auto real = [&] { return ::syscall(SYS_unlinkat, directory, path, flags); };
  Guard guard;
  std::optional<std::string> name = guard ? watched(directory, path) : std::nullopt;
  if (!name) return real();
  if (int code = failure(HostCalls::kRemoving); code != 0) return fail(code);
  long result = real();
  if (result != 0) return result;
  note_names(Kind::unlink, *name);
  if (auto known = g_watch->files.find(*name); known != g_watch->files.end()) {
    drop_link(known->second);
    g_watch->files.erase(known);
  }
  return 0;
}

long do_mkdir(int directory, const char* path, mode_t mode) {
  auto real = [&] { return ::syscall(SYS_mkdirat, directory, path, mode); };
  Guard guard;
  std::optional<std::string> name = guard ? watched(directory, path) : std::nullopt;
  struct stat present;
  if (!name || name->empty() || ::stat(full_path(directory, path).c_str(), &present) == 0)
    return real();  // or it says that it is there
  if (int code = failure(HostCalls::kGrowing); code != 0) return fail(code);
  long result = real();
  if (result == 0) note_names(Kind::make_directory, *name);
  return result;
}

long do_pread(int fd, void* bytes, size_t size, off_t offset) {
  Guard guard;
  OpenedFile* opened = guard ? find_opened(fd) : nullptr;
  if (opened != nullptr)
    if (int code = failure(HostCalls::kReading); code != 0) return fail(code);
  return ::syscall(SYS_pread64, fd, bytes, size, offset);
}

// By path, as the upper cuts a log before it is opened.
long do_truncate_path(const char* path, off_t size) {
  Guard guard;
  std::optional<std::string> name = guard ? watched(AT_FDCWD, path) : std::nullopt;
  long result = ::syscall(SYS_truncate, path, size);
  if (result != 0 || !name) return result;
  if (auto known = g_watch->files.find(*name); known != g_watch->files.end())
    note(Kind::truncate, known->second, 0, static_cast<uint64_t>(size));
  return 0;
}

long do_close(int fd) {
  Guard guard;
  if (guard) g_watch->opened.erase(fd);
  return ::syscall(SYS_close, fd);
}

}  // namespace

HostCalls::HostCalls(const std::string& directory) {
  std::lock_guard lock(g_mutex);
  auto* watch = new Watch;
  watch->root = std::filesystem::canonical(directory).string() + "/";
  std::vector<std::string> present;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(directory))
    if (entry.is_regular_file())
      present.push_back(entry.path().string().substr(watch->root.size()));
  std::sort(present.begin(), present.end());
  for (const std::string& path : present) {
    watch->files[path] = watch->next_file;
    watch->links[watch->next_file++] = 1;
  }
  delete g_watch;
  g_watch = watch;
  g_active = true;
}

HostCalls::~HostCalls() {
  std::lock_guard lock(g_mutex);
  g_active = false;
  delete g_watch;
  g_watch = nullptr;
}

void HostCalls::pretend_boot(int number) { g_boot = number; }

std::vector<HostCall> HostCalls::calls() const {
  std::lock_guard lock(g_mutex);
  return g_watch->calls;
}

size_t HostCalls::count() const {
  std::lock_guard lock(g_mutex);
  return g_watch->calls.size();
}

void HostCalls::fail_after(uint64_t n, int code, unsigned which, uint64_t times) {
  std::lock_guard lock(g_mutex);
  g_watch->before_failure = n;
  g_watch->failures_left = times;
  g_watch->code = code;
  g_watch->which = which;
  g_watch->failed = false;
}

void HostCalls::work_again() {
  std::lock_guard lock(g_mutex);
  g_watch->which = 0;
}

bool HostCalls::failed() const {
  std::lock_guard lock(g_mutex);
  return g_watch->failed;
}

void HostCalls::limit_space(uint64_t size_bytes) {
  std::lock_guard lock(g_mutex);
  g_watch->space_bytes = size_bytes;
}

uint64_t HostCalls::used_bytes() const {
  std::lock_guard lock(g_mutex);
  return g_watch->used_blocks * kBlock;
}

}  // namespace layerfs::test_support

// libc's names. Declared here under other names, so that its headers do not get in the way.
namespace t = layerfs::test_support;
#define HOST_CALL(result, symbol, parameters, ...)             \
  extern "C" result host_##symbol parameters __asm__(#symbol); \
  extern "C" result host_##symbol parameters { return static_cast<result>(t::__VA_ARGS__); }
HOST_CALL(int, open, (const char* p, int f, mode_t m), do_open(AT_FDCWD, p, f, m))
HOST_CALL(int, open64, (const char* p, int f, mode_t m), do_open(AT_FDCWD, p, f | O_LARGEFILE, m))
HOST_CALL(int, openat, (int d, const char* p, int f, mode_t m), do_open(d, p, f, m))
HOST_CALL(int, openat64, (int d, const char* p, int f, mode_t m), do_open(d, p, f | O_LARGEFILE, m))
HOST_CALL(int, close, (int fd), do_close(fd))
HOST_CALL(ssize_t, write, (int fd, const void* b, size_t n), do_write(fd, b, n, std::nullopt))
HOST_CALL(ssize_t, pwrite, (int fd, const void* b, size_t n, off_t o), do_write(fd, b, n, o))
HOST_CALL(ssize_t, pwrite64, (int fd, const void* b, size_t n, off_t o), do_write(fd, b, n, o))
HOST_CALL(ssize_t, pread, (int fd, void* b, size_t n, off_t o), do_pread(fd, b, n, o))
HOST_CALL(ssize_t, pread64, (int fd, void* b, size_t n, off_t o), do_pread(fd, b, n, o))
HOST_CALL(int, ftruncate, (int fd, off_t n), do_truncate(fd, n))
HOST_CALL(int, ftruncate64, (int fd, off_t n), do_truncate(fd, n))
HOST_CALL(int, truncate, (const char* p, off_t n), do_truncate_path(p, n))
HOST_CALL(int, truncate64, (const char* p, off_t n), do_truncate_path(p, n))
HOST_CALL(int, fallocate, (int fd, int m, off_t o, off_t n), do_fallocate(fd, m, o, n))
HOST_CALL(int, fallocate64, (int fd, int m, off_t o, off_t n), do_fallocate(fd, m, o, n))
HOST_CALL(int, fsync, (int fd), do_sync(fd, SYS_fsync))
HOST_CALL(int, fdatasync, (int fd), do_sync(fd, SYS_fdatasync))
HOST_CALL(int, syncfs, (int fd), do_sync(fd, SYS_syncfs))
HOST_CALL(int, rename, (const char* a, const char* b), do_rename(AT_FDCWD, a, AT_FDCWD, b, 0))
HOST_CALL(int, link, (const char* a, const char* b), do_link(AT_FDCWD, a, AT_FDCWD, b, 0))
HOST_CALL(int, unlink, (const char* p), do_unlink(AT_FDCWD, p, 0))
HOST_CALL(int, unlinkat, (int d, const char* p, int f), do_unlink(d, p, f))
HOST_CALL(int, rmdir, (const char* p), do_unlink(AT_FDCWD, p, AT_REMOVEDIR))
HOST_CALL(int, mkdir, (const char* p, mode_t m), do_mkdir(AT_FDCWD, p, m))
