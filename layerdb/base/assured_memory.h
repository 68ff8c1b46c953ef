// SPDX-License-Identifier: Apache-2.0
//
// Memory for calls that an exception must not leave halfway: a RocksDB whose write threw
// std::bad_alloc keeps its write queue locked, and all later writes wait for ever.
//
//   AssuredMemory memory;
//   TRY(memory.status());       // ENOMEM before anything was begun
//   db->Write(...);             // finds kBytes more than the system would give
//
// A program that uses it has set_new_handler(AssuredMemory::give). Outside of such a scope that
// throws std::bad_alloc as ever. Inside, one piece after the other goes back to the system; when
// none is left the program says so and exits: whoever can be killed at any time can end so, but
// never hang. The pieces are address space nobody has written to: they cost memory only where the
// system counts that (ulimit -v, vm.overcommit_memory=2). Shared by all threads. Thread-safe.
#pragma once

#include <cstddef>

#include "layerdb/base/result.h"

namespace layerfs {

class AssuredMemory {
 public:
  AssuredMemory();
  ~AssuredMemory();
  AssuredMemory(const AssuredMemory&) = delete;
  AssuredMemory& operator=(const AssuredMemory&) = delete;

  const Status& status() const { return status_; }

  static void give();  // a std::new_handler

  static constexpr size_t kPieceBytes = 512 << 10;  // RocksDB takes 64 KiB at a time
  static constexpr size_t kBytes = 8 * kPieceBytes;

 private:
  Status status_;
};

}  // namespace layerfs
