// SPDX-License-Identifier: Apache-2.0
#include "layerdb/base/sys.h"

#include <fcntl.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>

namespace layerfs {

void UniqueFd::reset() {
  if (fd_ >= 0) ::close(fd_);
  fd_ = -1;
}

Result<UniqueFd> open_file(const std::string& path, int flags, mode_t mode) {
  int fd;
  do {
    fd = ::open(path.c_str(), flags | O_CLOEXEC, mode);
  } while (fd < 0 && errno == EINTR);
  if (fd < 0) return errno_error("open '" + path + "'");
  return UniqueFd(fd);
}

Result<UniqueFd> open_unnamed_file(const std::string& directory) {
  TRY(make_directories(directory));
  UniqueFd fd(::open(directory.c_str(), O_TMPFILE | O_RDWR | O_CLOEXEC, 0600));
  if (fd.valid()) return fd;
  std::string path = directory + "/.layerfs-unnamed-XXXXXX";
  fd = UniqueFd(::mkostemp(path.data(), O_CLOEXEC));
  if (!fd.valid()) return errno_error("create a temporary file in '" + directory + "'");
  ::unlink(path.c_str());
  return fd;
}

Result<std::string> read_file(const std::string& path) {
  UniqueFd fd = TRY(open_file(path, O_RDONLY));
  std::string out;
  char buffer[64 * 1024];
  for (;;) {
    ssize_t n = ::read(fd.get(), buffer, sizeof buffer);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return errno_error("read '" + path + "'");
    if (n == 0) return out;
    out.append(buffer, static_cast<size_t>(n));
  }
}

Status write_file_atomically(const std::string& path, std::string_view bytes, mode_t mode) {
  std::string temporary = path + ".tmp";
  UniqueFd fd = TRY(open_file(temporary, O_WRONLY | O_CREAT | O_TRUNC, mode));
  TRY(write_full(fd.get(), bytes));
  TRY(sync_file(fd.get(), temporary));
  if (::rename(temporary.c_str(), path.c_str()) != 0) return errno_error("rename to '" + path + "'");
  return sync_directory(std::filesystem::path(path).parent_path().string());
}

Status make_directories(const std::string& path, mode_t mode) {
  for (size_t i = 1; i <= path.size(); ++i) {
    if (i != path.size() && path[i] != '/') continue;
    if (::mkdir(path.substr(0, i).c_str(), mode) != 0 && errno != EEXIST && errno != EISDIR &&
        (i == path.size() || (errno != EROFS && errno != EACCES)))
      return errno_error("make directory '" + path.substr(0, i) + "'");
  }
  struct stat st;
  if (::stat(path.c_str(), &st) != 0) return errno_error("make directory '" + path + "'");
  if (!S_ISDIR(st.st_mode)) return errno_error("make directory '" + path + "'", ENOTDIR);
  return {};
}

Status remove_tree(const std::string& path) {
  std::error_code code;
  std::filesystem::remove_all(path, code);
  if (code) return Error{code.value(), "remove '" + path + "': " + code.message()};
  return {};
}

Result<std::vector<std::string>> list_directory(const std::string& path) {
  std::error_code code;
  std::vector<std::string> out;
  for (std::filesystem::directory_iterator it(path, code), end; !code && it != end;
       it.increment(code))
    out.push_back(it->path().filename().string());
  if (code) return Error{code.value(), "list '" + path + "': " + code.message()};
  std::sort(out.begin(), out.end());
  return out;
}

bool path_exists(const std::string& path) {
  struct stat st;
  return ::lstat(path.c_str(), &st) == 0;
}

Result<size_t> pread_full(int fd, std::span<char> out, uint64_t offset) {
  size_t done = 0;
  while (done < out.size()) {
    ssize_t n = ::pread(fd, out.data() + done, out.size() - done, static_cast<off_t>(offset + done));
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return errno_error("read");
    if (n == 0) break;
    done += static_cast<size_t>(n);
  }
  return done;
}

Status pwrite_full(int fd, std::string_view bytes, uint64_t offset) {
  while (!bytes.empty()) {
    ssize_t n = ::pwrite(fd, bytes.data(), bytes.size(), static_cast<off_t>(offset));
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return errno_error("write");
    bytes.remove_prefix(static_cast<size_t>(n));
    offset += static_cast<uint64_t>(n);
  }
  return {};
}

Status write_full(int fd, std::string_view bytes) {
  while (!bytes.empty()) {
    ssize_t n = ::write(fd, bytes.data(), bytes.size());
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return errno_error("write");
    bytes.remove_prefix(static_cast<size_t>(n));
  }
  return {};
}

Status sync_file(int fd, const std::string& path) {
  if (::fsync(fd) != 0) return errno_error("sync '" + path + "'");
  return {};
}

Status sync_directory(const std::string& path) {
  UniqueFd fd = TRY(open_file(path.empty() ? "." : path, O_RDONLY | O_DIRECTORY));
  return sync_file(fd.get(), path);
}

namespace {
Result<UniqueFd> lock_with(const std::string& path, int operation, int flags = O_RDWR | O_CREAT) {
  UniqueFd fd = TRY(open_file(path, flags, 0600));
  while (::flock(fd.get(), operation) != 0)
    if (errno != EINTR) return errno_error("lock '" + path + "'");
  return fd;
}
}  // namespace

void prepare_for_many_files() {
  constexpr rlim_t kExpected = 1024;
  rlimit limit = {};
  if (::getrlimit(RLIMIT_NOFILE, &limit) != 0) return;
  limit.rlim_cur = limit.rlim_max;
  ::setrlimit(RLIMIT_NOFILE, &limit);
  UniqueFd any(::eventfd(0, EFD_CLOEXEC));
  int last = static_cast<int>(std::min(limit.rlim_cur, kExpected)) - 1;
  UniqueFd(::fcntl(any.get(), F_DUPFD_CLOEXEC, last));
}

Result<UniqueFd> lock_file(const std::string& path) { return lock_with(path, LOCK_EX); }
Result<UniqueFd> try_lock_file(const std::string& path) {
  return lock_with(path, LOCK_EX | LOCK_NB);
}
Result<UniqueFd> try_lock_file_to_read(const std::string& path) {
  Result<UniqueFd> lock = try_lock_file(path);
  if (lock.ok() || lock.error().code != EROFS) return lock;
  lock = lock_with(path, LOCK_EX | LOCK_NB, O_RDONLY);
  if (!lock.ok() && lock.error().code == ENOENT) return UniqueFd();
  return lock;
}

}  // namespace layerfs
