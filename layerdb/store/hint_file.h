// SPDX-License-Identifier: Apache-2.0
//
// What the files beside the database have in common that mounts write for speed only
// (read_history.h, group_copies.h): numbers at fixed places, read without a lock while one process
// writes.
#pragma once

#include <fcntl.h>
#include <sys/file.h>

#include <chrono>
#include <optional>
#include <span>
#include <thread>

#include "layerdb/base/hash.h"
#include "layerdb/base/sys.h"
#include "layerdb/object/types.h"

namespace layerfs {

inline constexpr int kHintFileFlags = O_NOFOLLOW | O_NONBLOCK;  // a FIFO is no reason to wait

template <typename T>
std::span<char> bytes_of(std::span<T> values) {
  return {reinterpret_cast<char*>(values.data()), values.size_bytes()};
}
template <typename T>
std::optional<T> read_number(const UniqueFd& fd, uint64_t offset) {
  T value = {};
  Result<size_t> got = pread_full(fd.get(), bytes_of(std::span(&value, 1)), offset);
  if (!got.ok() || *got != sizeof value) return std::nullopt;
  return value;
}
template <typename T>
Status write_numbers(const UniqueFd& fd, std::span<const T> values, uint64_t offset) {
  return pwrite_full(fd.get(), {reinterpret_cast<const char*>(values.data()), values.size_bytes()},
                     offset);
}

// For the place of what is known of a group.
inline uint64_t hash_of(GroupId group) {
  return checksum64({reinterpret_cast<const char*>(&group), sizeof group});
}

// While it lives no other process writes, unless one was first. Tries again every millisecond.
class WriterTurn {
 public:
  explicit WriterTurn(const UniqueFd& fd, int more_tries = 0) : fd_(fd) {
    while (!(mine_ = ::flock(fd.get(), LOCK_EX | LOCK_NB) == 0) && more_tries-- > 0)
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  ~WriterTurn() {
    if (mine_) ::flock(fd_.get(), LOCK_UN);
  }
  WriterTurn(const WriterTurn&) = delete;
  WriterTurn& operator=(const WriterTurn&) = delete;
  bool mine() const { return mine_; }

 private:
  const UniqueFd& fd_;
  bool mine_;
};

}  // namespace layerfs
