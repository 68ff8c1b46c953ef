// SPDX-License-Identifier: Apache-2.0
//
// Sorts records bytewise by key with bounded memory: records beyond `memory_bytes` are written as
// sorted runs to an unlinked file in `directory` and merged while scanning, so nothing is left
// behind by a crash. Keys must be unique for the order to be defined.
// Not thread-safe. Errors: what the file system says (ENOSPC, EIO).
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "layerdb/base/result.h"
#include "layerdb/base/sys.h"

namespace layerfs {

class ExternalSorter {
 public:
  explicit ExternalSorter(std::string directory, size_t memory_bytes = 24 << 20);

  Status add(std::string_view key, std::string_view value);  // each shorter than 4 GiB
  Status finish();                                           // call once, before the first scan
  uint64_t size() const { return size_; }

  // One pass in order; any number may follow each other. Must not outlive the sorter.
  class Cursor {
   public:
    Cursor(Cursor&&) noexcept;
    ~Cursor();
    bool valid() const { return valid_; }
    std::string_view key() const { return key_; }  // until next()
    std::string_view value() const { return value_; }
    Status next();

   private:
    friend class ExternalSorter;
    struct Run;
    explicit Cursor(const ExternalSorter& sorter);
    const ExternalSorter* sorter_;
    size_t position_ = 0;                     // in memory
    std::vector<std::unique_ptr<Run>> runs_;  // on disk: a heap, smallest key in front
    std::string_view key_;
    std::string_view value_;
    bool valid_ = false;
  };
  Result<Cursor> scan() const;

 private:
  struct RunExtent {
    uint64_t offset = 0;
    uint64_t length = 0;
  };
  std::string_view key_at(size_t offset) const;
  void sort_memory();
  Status spill();

  std::string directory_;
  size_t memory_bytes_;
  std::string arena_;            // records: u32 key size, u32 value size, key, value
  std::vector<size_t> offsets_;  // of the records in arena_
  UniqueFd file_;
  uint64_t file_bytes_ = 0;
  std::vector<RunExtent> extents_;
  uint64_t size_ = 0;
};

}  // namespace layerfs
