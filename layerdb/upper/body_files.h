// SPDX-License-Identifier: Apache-2.0
//
// The upper's large bodies: one plain file each, `data/<xx>/<ino>` (xx: the number's low byte in
// hex, so that no directory grows huge). Descriptors are kept in a small LRU; one in use outlives
// its eviction. Knows nothing of records: whether a body counts is the upper's matter.
//
// Durability: sync() makes a body, its length and its name power-safe; sync_all() those that were
// written since they were last synced. Thread-safe; writers of one body serialise themselves.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <list>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <unordered_set>
#include <utility>

#include "layerdb/base/result.h"
#include "layerdb/base/sys.h"
#include "layerdb/object/types.h"

namespace layerfs {

// The host's blocks of all regular files below a directory; 0 when it does not exist.
Result<uint64_t> allocated_bytes_below(const std::string& directory);

class BodyFiles {
 public:
  BodyFiles(std::string directory, bool read_only)
      : directory_(std::move(directory)), read_only_(read_only) {}

  Status create(Ino ino);  // already there: success
  bool is_open(Ino ino);   // in the LRU, so it exists

  // ENOENT when there is no such body.
  Result<size_t> read(Ino ino, uint64_t offset, std::span<char> out);
  Status write(Ino ino, uint64_t offset, std::string_view bytes);
  Status truncate(Ino ino, uint64_t size_bytes);
  Status punch(Ino ino, uint64_t offset, uint64_t length);
  Status allocate(Ino ino, uint64_t offset, uint64_t length);
  Result<uint64_t> seek(Ino ino, uint64_t offset, int whence);
  Result<uint64_t> blocks(Ino ino);  // allocated, in 512 byte units
  Result<uint64_t> size_bytes(Ino ino);
  // All of the range has blocks already. (A host that cannot tell of blocks without data, as
  // allocate() makes them, is taken to have none.)
  Result<bool> is_allocated(Ino ino, uint64_t offset, uint64_t length);
  Status remove(Ino ino);  // nothing there: success

  Status sync(Ino ino);
  Status sync_all();
  bool all_synced();  // of what was written here

  // Blocks of all bodies on the host. The first call walks data/, later ones are counted.
  Result<uint64_t> allocated_bytes();

  static constexpr size_t kOpenFiles = 128;

 private:
  using File = std::shared_ptr<UniqueFd>;
  std::string fanout(Ino ino) const;
  std::string path(Ino ino) const;
  Result<File> open(Ino ino);
  Result<UniqueFd> open_evicting(const std::string& path, int flags);
  void remember(Ino ino, File file, std::optional<uint64_t> removals = {});
  void forget_oldest(size_t keep);
  void mark_dirty(Ino ino);
  uint64_t allocated(int fd) const;
  Status sync_one(Ino ino, bool new_name);
  Status sync_these(const std::unordered_map<Ino, bool>& dirty);
  // Runs `change` on the body and counts the blocks it took or gave back.
  template <typename Change>
  Status changing(Ino ino, Change change);

  const std::string directory_;
  const bool read_only_;

  std::mutex mutex_;  // guards the members below; leaf lock
  struct Cached {
    File file;
    std::list<Ino>::iterator age;
  };
  std::unordered_map<Ino, Cached> open_;
  std::list<Ino> ages_;                  // most recently used first
  std::unordered_map<Ino, bool> dirty_;  // written since synced; true: its name is new, too
  uint64_t removals_ = 0;                // so many so far
  std::unordered_set<Ino> syncing_;
  bool syncing_all_ = false;
  std::condition_variable synced_;

  std::atomic<bool> counted_ = false;
  std::atomic<int64_t> allocated_bytes_ = 0;
};

}  // namespace layerfs
