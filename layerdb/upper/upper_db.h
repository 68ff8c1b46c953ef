// SPDX-License-Identifier: Apache-2.0
//
// The Upper over RocksDB: one column family, no syncs but sync(), small buffers (a machine runs
// many mounts). After a failed write RocksDB refuses all others; apply() then reopens the database
// first, so that a disk that was full or faulty for a moment does no lasting harm.
//
// Power loss. The log on the disk may end anywhere after the last sync, and bodies are files of
// their own. So nothing that a durable log may speak of is destroyed before a later log is durable:
//   - a deleted body is doomed: its file goes after the next sync of the log (sync_log());
//   - a body is cut only after the log that says so is durable;
//   - a small body that moves into a file: the file is synced before the log says so;
//   - ranges over the lower are synced before the log that has them is.
// An inode made since the last sync has nothing durable (durable_ino_), and none of this costs it
// anything.
//
// Lock order: write_mutex_ -> db_mutex_ (shared: any use of db_; exclusive: reopening). Neither is
// held while a visitor runs.
#pragma once

#include <rocksdb/db.h>
#include <rocksdb/options.h>
#include <rocksdb/utilities/write_batch_with_index.h>

#include <atomic>
#include <memory>
#include <mutex>
#include <shared_mutex>
#include <string>
#include <string_view>
#include <unordered_set>
#include <vector>

#include "layerdb/upper/body_files.h"
#include "layerdb/upper/database_files.h"
#include "layerdb/upper/ino_set.h"
#include "layerdb/upper/log_check.h"
#include "layerdb/upper/range_cache.h"
#include "layerdb/upper/record_cache.h"
#include "layerdb/upper/records.h"
#include "layerdb/upper/reserve.h"
#include "layerdb/upper/upper.h"

namespace layerfs {

class UpperTransaction;

Error from_rocksdb(const rocksdb::Status& status, const std::string& what);

// To `value` at least.
template <typename Number>
void raise(std::atomic<Number>& number, Number value) {
  Number now = number;
  while (now < value && !number.compare_exchange_weak(now, value)) {
  }
}

class UpperDb final : public Upper {
 public:
  UpperDb(const std::string& directory, Options options);
  ~UpperDb() override;
  Status initialise(Ino first_ino);

  std::unique_ptr<Transaction> begin() override;
  Status apply(std::unique_ptr<Transaction> transaction) override;
  Ino allocate_ino() override { return next_ino_++; }

  Result<std::optional<InodeRecord>> inode(Ino ino) override;
  Result<std::optional<UpperName>> name(Ino directory, std::string_view name) override;
  bool may_have_names(Ino directory) override { return directories_.contains(directory); }
  Status list_names(Ino directory, std::string_view after, const NameVisitor& visit) override;
  Status list_by_position(Ino directory, uint64_t after_position,
                          const NameVisitor& visit) override;
  Result<std::optional<std::string>> xattr(Ino ino, std::string_view name) override;
  Result<Xattrs> xattrs(Ino ino) override;
  Result<std::string> small_body(Ino ino) override;
  Result<std::vector<Range>> ranges(Ino ino, uint64_t offset, uint64_t length) override;
  Result<uint64_t> range_bytes(Ino ino) override;
  void drop_caches() override;

  Result<size_t> read_body(Ino ino, uint64_t offset, std::span<char> out) override;
  Status write_body(Ino ino, uint64_t offset, std::string_view bytes) override;
  Status truncate_body(Ino ino, uint64_t size_bytes) override;
  Status punch_body(Ino ino, uint64_t offset, uint64_t length) override;
  Status allocate_body(Ino ino, uint64_t offset, uint64_t length) override;
  Result<uint64_t> seek_body(Ino ino, uint64_t offset, int whence) override;
  Status remove_body(Ino ino) override;
  Result<uint64_t> body_blocks(Ino ino) override;
  Status sync(Ino ino, Sync what) override;

  Status for_each_inode(const std::function<bool(Ino, const InodeRecord&)>& visit) override;
  Status for_each_name(
      const std::function<bool(Ino, std::string_view, const UpperName&)>& visit) override;
  Result<std::vector<Ino>> orphans() override;
  Status free_removed() override;
  Result<uint64_t> stored_bytes() override;
  uint64_t size_limit_bytes() const override { return options_.size_limit_bytes; }

  // For the transaction: one value, and visiting the records whose keys start with `prefix` and are
  // > prefix + after, with the transaction's own changes on top when `batch` is given.
  Result<std::optional<std::string>> get(const std::string& key,
                                         rocksdb::WriteBatchWithIndex* batch = nullptr);
  using RecordVisitor = std::function<Result<bool>(std::string_view key, std::string_view value)>;
  Status scan(const std::string& prefix, const std::string& after, const RecordVisitor& visit,
              rocksdb::WriteBatchWithIndex* batch = nullptr);
  // The ranges of `ino` that end at or after `offset`, in order, until `visit` returns false; from
  // memory, unless the transaction has changed them already (`batch`).
  Status scan_ranges(Ino ino, uint64_t offset, const std::function<bool(const Range&)>& visit,
                     rocksdb::WriteBatchWithIndex* batch = nullptr);

 private:
  Status open_database();
  Status open_or_start_over();
  Status open_finding_room();  // the reserve's, if need be
  Status check_logs();
  Status reopen();  // with write_mutex_ held
  Status reopen_if_broken();
  Status reopen_if_lost();
  void note_progress(rocksdb::WriteBatch& batch);
  void note_logs(const std::vector<LogStart>& starts);
  void forget_progress();
  Error damaged_log(const LogGap& gap) const;
  Status cut_logs(const LogGap& gap);
  Status check_version(Ino first_ino);
  Status fill_filters();
  Status reap();  // orphans and stale bodies a crash left
  enum class Matters { to_data_sync, to_full_sync };
  Status write(rocksdb::WriteBatch* batch, Matters matters = Matters::to_data_sync);
  Matters matters(UpperTransaction& transaction);
  Status reserve_numbers();
  Status sync_opened();
  Status sync_database_files();
  Status sync_log();
  Status sync_database();
  void remove_doomed(const std::unordered_set<Ino>& doomed);
  bool is_doomed(Ino ino);
  // Whether a power failure now could bring back an earlier state of it.
  bool may_be_durable(Ino ino) const { return ino < durable_ino_; }
  std::string synced_mark() const { return directory_ + "/synced"; }
  // The boot in which a process changed the container and did not end with all of it synced. Not
  // synced itself: once the power failed, what is there is on the disk.
  std::string open_mark() const { return directory_ + "/open"; }
  Status note_open();
  bool is_synced();  // all of it, on a disk that works
  // The boot that made the database. Not synced: power loss may take it, and then it says nothing.
  std::string made_mark() const { return directory_ + "/made"; }
  bool made_in_this_boot() const;
  void note_made();
  Status reclaim();
  Status ready_body(Ino ino);  // before the first write to a body
  Status check_space(uint64_t more_bytes);
  Status check_body_space(Ino ino, uint64_t offset, uint64_t length);
  Result<bool> has_room(uint64_t more_bytes);  // without taking back what is deleted
  Result<uint64_t> database_bytes();
  Result<std::shared_ptr<RangeCache::Ranges>> cached_ranges(Ino ino);
  void change_cached_ranges(const UpperTransaction& t);

  const std::string directory_;  // the container's
  const std::string database_;   // directory_/upper
  const Options options_;
  const std::shared_ptr<DatabaseFiles> files_;
  const std::unique_ptr<rocksdb::Env> env_;
  const std::shared_ptr<rocksdb::Cache> block_cache_;
  rocksdb::Options rocksdb_options_;
  BodyFiles bodies_;

  // Before the others. What the log builds on and the log itself are synced by one at a time.
  std::mutex sync_mutex_;
  std::mutex write_mutex_;  // reserving numbers, reopening
  std::shared_mutex db_mutex_;
  std::unique_ptr<rocksdb::DB> db_;        // null only when even reopening read-only failed
  std::atomic<bool> broken_ = false;       // a write failed: reopen before the next one
  std::atomic<bool> lost_ = false;         // db_ is null: the next use tries to open it
  std::atomic<bool> sync_failed_ = false;  // the log's pages may be lost: write them anew

  std::atomic<Ino> next_ino_ = 0;
  std::atomic<Ino> reserved_ino_ = 0;  // numbers below are safe from reuse

  Ino first_ino_ = 0;   // records of lower inodes are found through overridden_ first
  InoSet overridden_;   // lower inodes that have, or had, a record
  InoSet directories_;  // directories that have, or had, name records

  RangeCache range_cache_;
  RecordCache record_cache_;

  std::mutex body_mutex_;           // guards the members below; then only BodyFiles' own
  std::unordered_set<Ino> fresh_;   // body made, record does not say Body::file yet
  std::vector<Ino> removed_;        // body removed, its R record is still there
  std::unordered_set<Ino> doomed_;  // to be removed once the log is durable; R is there
  uint64_t doomed_bytes_ = 0;
  std::unordered_set<Ino> over_lower_;  // ranges added since the log was synced

  std::atomic<bool> unsynced_ = false;  // what open_database() made is not known to be synced
  bool earlier_unsynced_ = false;       // nor what an earlier process wrote; under write_mutex_
  std::atomic<Ino> durable_ino_ = 0;    // numbers from here on were given since a sync
  std::atomic<uint64_t> synced_sequence_ = 0;  // of RocksDB's, by this process
  std::atomic<uint64_t> data_sequence_ = 0;    // of the last change of more than times
  std::atomic<uint64_t> noted_sequence_ = 0;   // the last one that the log was told of
  std::atomic<bool> boot_noted_ = false;
  upper_key::LoggedFrom logged_from_;  // as the database was opened; 0: nothing was

  Reserve reserve_;
  std::atomic<bool> freed_since_compaction_ = false;

  std::atomic<uint64_t> written_bytes_ = 0;  // since database_bytes was last looked at
  std::atomic<uint64_t> counted_database_bytes_ = 0;

  friend class UpperTransaction;
};

}  // namespace layerfs
