// SPDX-License-Identifier: Apache-2.0
//
// Getting everything out of the kernel's write-back cache, from inside the daemon.
//
// syncfs(2) on a FUSE mount starts the writing of every dirty page but does not reliably wait until
// the daemon has it (kernels before 6.16 copy the page and are done; FUSE_SYNCFS is sent to
// virtiofs and fuseblk only). But WRITE messages of the write-back cache travel in one queue, first
// in first out. So after syncfs the daemon writes one byte to a file that exists only for it and
// syncs that: when its own WRITE has been answered, every earlier one has at least been handed to a
// worker.
//
// The file has a random name below the root that only this process looks up, and an inode number no
// overlay gives out. Its messages are answered here and never reach the overlay.
// Thread-safety: answer() from any thread; write_back() from one thread at a time, not a worker.
#pragma once

#include <linux/fuse.h>

#include <optional>
#include <string>

#include "layerdb/base/result.h"

namespace layerfs {

class Barrier {
 public:
  Barrier();

  // The whole reply when the message is for the barrier's file (empty: it wants none).
  std::optional<std::string> answer(const fuse_in_header& message, size_t size_bytes) const;

  // Returns when every page that was dirty has been handed to a worker.
  Status write_back(const std::string& mountpoint);

 private:
  std::string prefix_;
  uint64_t count_ = 0;
};

}  // namespace layerfs
