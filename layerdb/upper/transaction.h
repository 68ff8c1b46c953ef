// SPDX-License-Identifier: Apache-2.0
//
// A transaction of UpperDb: a write batch, indexed once a call must see what another one added
// about the same inode (few do).
// An error while building (a record that does not parse, a failed read) is kept for apply().
// Belongs to one thread.
#pragma once

#include <rocksdb/utilities/write_batch_with_index.h>

#include <algorithm>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "layerdb/upper/upper_db.h"

namespace layerfs {

class UpperTransaction final : public Upper::Transaction {
 public:
  explicit UpperTransaction(UpperDb& upper) : upper_(upper) {}

  void put_inode(Ino ino, const InodeRecord& record) override;
  void delete_inode(Ino ino) override;
  void put_name(Ino directory, std::string_view name, UpperName target) override;
  void delete_name(Ino directory, std::string_view name) override;
  void delete_names(Ino directory) override;
  void put_xattr(Ino ino, std::string_view name, std::string_view value) override;
  void delete_xattr(Ino ino, std::string_view name) override;
  void put_small_body(Ino ino, std::string_view bytes) override;
  void delete_small_body(Ino ino) override;
  void add_range(Ino ino, Range range) override;
  void clear_ranges(Ino ino, uint64_t from_offset) override;
  void drop_body(Ino ino) override;
  void makes_room() override { frees_ = true; }
  void replaces() override { replaces_ = true; }
  void put_orphan(Ino ino) override;
  void delete_orphan(Ino ino) override;

 private:
  friend class UpperDb;
  static constexpr size_t kReservedBytes = 512;  // most transactions fit
  void put(const std::string& key, std::string_view value);
  void erase(const std::string& key);
  void erase_all(const std::string& prefix);
  void keep_error(Status status);
  rocksdb::WriteBatch* batch() { return indexed_ ? indexed_->GetWriteBatch() : &plain_; }
  void note_key(const std::string& key);
  // The batch to read through for keys with the number in `key`; null when it says nothing of it.
  rocksdb::WriteBatchWithIndex* batch_for(const std::string& key);

  UpperDb& upper_;
  rocksdb::WriteBatch plain_{kReservedBytes};
  std::unique_ptr<rocksdb::WriteBatchWithIndex> indexed_;  // then plain_ is done with
  std::vector<Ino> numbers_;                               // of all keys put and erased
  Status status_;
  bool frees_ = false;     // makes room: let it pass a size limit
  bool replaces_ = false;  // takes no more room, unless it marks a range: this one, too
  struct RangeChange {
    Ino ino = 0;
    uint64_t end = 0;
    uint64_t start = 0;
    bool erased = false;
  };
  void put_range(Ino ino, uint64_t start, uint64_t end);
  void erase_range(Ino ino, uint64_t end);
  // The batch, when it says something about the inode's ranges that memory does not know yet.
  rocksdb::WriteBatchWithIndex* batch_for_ranges(Ino ino);
  bool marks_range() const { return !std::ranges::all_of(range_changes_, &RangeChange::erased); }

  std::vector<RangeChange> range_changes_;  // for the cache, in order
  std::vector<Ino> without_ranges_;         // deleted inodes
  struct InodeChange {
    Ino ino = 0;
    std::optional<InodeRecord> record;  // nullopt: deleted
  };
  std::vector<InodeChange> inode_changes_;  // for the filter and the cache, in order
  std::vector<Ino> directories_;            // names put: for the filter
  std::vector<Ino> with_body_;              // records put that say Body::file
  std::vector<Ino> moved_to_body_;          // small bodies with content that became files
};

}  // namespace layerfs
