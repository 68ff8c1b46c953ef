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
// For a range of one file there is a way that waits for its pages only: sync_file_range(2) on a
// descriptor of it, which is opened by another name of that kind. (Its messages are the overlay's:
// inode_of() tells which inode the name stands for, and the session answers with it.)
//
// Not every error that the kernel tells of write-back means that something is lost. After a rename,
// link or unlink it writes the inode's times (SETATTR) in the caller's name; a caller that is
// killed then ends that with EINTR, which the kernel keeps as an error of the file's content, and
// as EIO once it waits for the file again (fuse_flush_time_update in fs/fuse/inode.c,
// mapping_set_error). The daemon knows better: content is lost when it has answered a message of
// write-back an error.
//
// The daemon waits for itself here. If it is killed meanwhile, the wait ends when the kernel closes
// the connection, and that it does when nobody has /dev/fuse open any more, the waiting thread
// included. So the calls are made by a thread that has no descriptors but its own.
//
// Thread-safety: messages and failures from any thread; each write_back() from one thread at a
// time, not a worker.
#pragma once

#include <linux/fuse.h>

#include <atomic>
#include <functional>
#include <mutex>
#include <optional>
#include <string>

#include "layerdb/base/result.h"
#include "layerdb/base/sys.h"
#include "layerdb/object/types.h"

namespace layerfs {

class Barrier {
 public:
  Barrier();

  struct Answer {
    int code = 0;
    std::string body;
    bool wanted = true;  // FORGET has none
  };
  // When the message is for the barrier's file.
  std::optional<Answer> answer(const fuse_in_header& message, size_t size_bytes) const;

  // The inode that a message looks up for write_back() of a range. The entry must not be kept.
  std::optional<Ino> inode_of(const fuse_in_header& message, size_t size_bytes) const;

  // `message` was answered with an error.
  void failed(const fuse_in_header& message, int code);

  // Returns when every page that was dirty has been handed to a worker; then calls `between`, and
  // does the same again (with no new name, as somebody may be waiting who makes one).
  Status write_back_twice(const std::string& mountpoint, const std::function<void()>& between);
  // Returns when the pages of [offset, end) that were dirty have been written, where the kernel
  // waits for that (6.16 and later), or else handed to a worker. end 0: all from offset on.
  // ENOSYS: the mount cannot be reached; other errors: some could not be written.
  Status write_back(const std::string& mountpoint, Ino ino, uint64_t offset, uint64_t end,
                    bool kernel_waits);

 private:
  Result<UniqueFd> open_barrier_file(const UniqueFd& root);
  Status write_all_back(const UniqueFd& root, const UniqueFd& file, const std::string& mountpoint);
  bool is_loss(int code) const;
  void name_inode(const std::string& name, Ino ino);

  std::string prefix_;
  std::string file_prefix_;
  std::atomic<uint64_t> count_{0};
  std::atomic<bool> lost_{false};  // failed() since write_back_twice() told so
  mutable std::mutex mutex_;       // guards the members below
  std::string inode_name_;
  Ino inode_ = 0;
};

}  // namespace layerfs
