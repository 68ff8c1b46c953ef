// SPDX-License-Identifier: Apache-2.0
//
// What this process does to files below one directory: every system call that changes something
// there is written down in order, and can be made to fail. It works by defining open(2), write(2)
// and their kin in the test program, before libc's: so it sees all of it, whoever calls (layerfs,
// RocksDB, the C++ library), and nothing in the program under test knows of it.
//
// While a directory is watched nothing is really synced: what a sync promises is judged from what
// was written down (crashing_disk.h), and tests stay fast.
//
// Thread-safe; one directory at a time.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace layerfs::test_support {

struct HostCall {
  enum class Kind {
    create,           // path: a new, empty file with the number `file`
    make_directory,   // path
    write,            // bytes at offset
    truncate,         // to `length`
    punch,            // [offset, offset + length) becomes zeros, the size stays
    extend,           // fallocate: the size becomes `length` if it was smaller
    rename,           // path -> to
    link,             // path -> to
    unlink,           // path: a file or an empty directory
    sync,             // the file's content
    sync_directory,   // the names in path
    sync_everything,  // syncfs
  };
  Kind kind = Kind::sync_everything;
  uint64_t file = 0;
  uint64_t offset = 0;
  uint64_t length = 0;
  std::string bytes;
  std::string path;  // relative to the watched directory, without a slash in front
  std::string to;
  bool syncs() const {
    return kind == Kind::sync || kind == Kind::sync_directory || kind == Kind::sync_everything;
  }
};

class HostCalls {
 public:
  // Which calls fail.
  enum Which : unsigned {
    kGrowing = 1,  // that take space: creating, writing
    kSyncing = 2,
    kOpening = 4,   // any open(2)
    kRemoving = 8,  // unlink, truncate, rename
    kReading = 16,
    kChanging = kGrowing | kSyncing | kRemoving,
  };

  // From now until the object ends; files that are there already are numbered from 1 in the order
  // of their paths.
  explicit HostCalls(const std::string& directory);
  ~HostCalls();
  HostCalls(const HostCalls&) = delete;
  HostCalls& operator=(const HostCalls&) = delete;

  std::vector<HostCall> calls() const;  // so far
  size_t count() const;

  // After `n` more calls of the kinds `which`, these fail with `code`: `times` of them.
  void fail_after(uint64_t n, int code, unsigned which, uint64_t times = UINT64_MAX);
  void work_again();
  bool failed() const;  // at least one call has

  // What the kernel says of its boot from now on (watching or not); 0: the truth.
  static void pretend_boot(int number);

  // A disk of this size: what does not fit is ENOSPC. 0: no limit.
  void limit_space(uint64_t size_bytes);
  uint64_t used_bytes() const;
};

}  // namespace layerfs::test_support
