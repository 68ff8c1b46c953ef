// SPDX-License-Identifier: Apache-2.0
//
// System calls as Results. Only what more than one caller needs; every message names the path.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "layerdb/base/result.h"

namespace layerfs {

class UniqueFd {
 public:
  UniqueFd() = default;
  explicit UniqueFd(int fd) : fd_(fd) {}
  UniqueFd(UniqueFd&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  UniqueFd& operator=(UniqueFd&& other) noexcept {
    if (this != &other) {
      reset();
      fd_ = std::exchange(other.fd_, -1);
    }
    return *this;
  }
  ~UniqueFd() { reset(); }
  void reset();
  int get() const { return fd_; }
  int release() { return std::exchange(fd_, -1); }
  bool valid() const { return fd_ >= 0; }

 private:
  int fd_ = -1;
};

// All open files are close-on-exec.
Result<UniqueFd> open_file(const std::string& path, int flags, mode_t mode = 0644);
// A temporary file without a name in `directory`, which is made when missing; who is killed leaves
// nothing (where the filesystem has no O_TMPFILE, but for a moment).
Result<UniqueFd> open_unnamed_file(const std::string& directory);
Result<std::string> read_file(const std::string& path);
// Write to `path.tmp`, fsync, rename, fsync the directory.
Status write_file_atomically(const std::string& path, std::string_view bytes, mode_t mode = 0644);
Status make_directories(const std::string& path, mode_t mode = 0755);
Status remove_tree(const std::string& path);  // nothing there: success
Result<std::vector<std::string>> list_directory(const std::string& path);  // sorted, no dots
bool path_exists(const std::string& path);

Result<size_t> pread_full(int fd, std::span<char> out, uint64_t offset);  // short only at the end
Status pwrite_full(int fd, std::string_view bytes, uint64_t offset);
Status write_full(int fd, std::string_view bytes);
Status sync_file(int fd, const std::string& path);
Status sync_directory(const std::string& path);

// As many as this process may open, whatever its soft limit. Before it has threads: with them the
// kernel waits some 10 ms each time it enlarges the table of descriptors (synchronize_rcu). A child
// begins with a small table.
void prepare_for_many_files();

// flock(LOCK_EX), or EWOULDBLOCK from try_lock_file when another process has it.
Result<UniqueFd> lock_file(const std::string& path);
Result<UniqueFd> try_lock_file(const std::string& path);
// The same for who only reads, where the filesystem may be read-only. No descriptor: it is, and
// without that file nobody can be writing there.
Result<UniqueFd> try_lock_file_to_read(const std::string& path);

}  // namespace layerfs
