// SPDX-License-Identifier: Apache-2.0
//
// Opening an upper: database options, format version, filters, and what a crash left behind.
#include <fmt/format.h>
#include <rocksdb/cache.h>
#include <rocksdb/filter_policy.h>
#include <rocksdb/slice_transform.h>
#include <rocksdb/table.h>
#include <stdio.h>

#include <filesystem>

#include "layerdb/base/assured_memory.h"
#include "layerdb/base/log.h"
#include "layerdb/upper/bounded_read.h"
#include "layerdb/upper/log_check.h"
#include "layerdb/upper/transaction.h"
#include "layerdb/upper/upper_db.h"

namespace layerfs {

namespace key = upper_key;

namespace {

// RocksDB's own log would be a file and several writes per open; its errors reach us as Status.
class NoLog final : public rocksdb::Logger {
 public:
  using rocksdb::Logger::Logv;
  void Logv(const char*, va_list) override {}
};

// Every open begins a new log; a memtable's worth of replay, or so many logs, become a table.
constexpr size_t kMaxLogs = 4;
constexpr uint64_t kMaxLogBytes = 4 << 20;

bool logs_are_due(const std::string& database) {
  size_t count = 0;
  uint64_t size_bytes = 0;
  std::error_code code;
  for (std::filesystem::directory_iterator it(database, code), end; !code && it != end;
       it.increment(code)) {
    if (it->path().extension() != ".log") continue;
    std::error_code gone;
    ++count;
    size_bytes += it->file_size(gone);
  }
  return count > kMaxLogs || size_bytes > kMaxLogBytes;
}

rocksdb::Options make_rocksdb_options(rocksdb::Env* env,
                                      std::shared_ptr<rocksdb::Cache> block_cache) {
  rocksdb::Options options;
  options.env = env;
  options.create_if_missing = true;
  options.info_log = std::make_shared<NoLog>();
  options.info_log_level = rocksdb::InfoLogLevel::FATAL_LEVEL;
  options.write_buffer_size = 4 << 20;
  options.max_write_buffer_number = 2;
  options.arena_block_size = 64 << 10;
  // Most questions are about what is not there: names to be made, attributes nobody set.
  options.memtable_whole_key_filtering = true;
  options.memtable_prefix_bloom_size_ratio = 0.01;
  options.allow_concurrent_memtable_write = false;  // one writer at a time, mostly
  // Each kind of key is put near its own last one: new inodes come in order.
  options.memtable_insert_with_hint_prefix_extractor.reset(rocksdb::NewCappedPrefixTransform(1));
  options.enable_write_thread_adaptive_yield = false;
  options.max_background_jobs = 2;
  options.max_open_files = 64;
  options.table_cache_numshardbits = 2;
  options.max_file_opening_threads = 1;
  options.allow_fallocate = false;
  options.compression = rocksdb::kLZ4Compression;
  options.target_file_size_base = 16 << 20;
  options.max_bytes_for_level_base = 64 << 20;
  // The log of the last run is replayed at the next open instead of being turned into a table at
  // every close and open: both stay cheap, and no open writes more than a few small files.
  options.avoid_flush_during_shutdown = true;
  // After power loss the log may end in a part that was never synced: what was synced is a prefix.
  options.wal_recovery_mode = rocksdb::WALRecoveryMode::kPointInTimeRecovery;
  options.skip_stats_update_on_db_open = true;
  options.skip_checking_sst_file_sizes_on_db_open = true;
  options.stats_dump_period_sec = 0;
  options.stats_persist_period_sec = 0;
  options.max_bgerror_resume_count = 0;  // apply() reopens; nothing retries behind our back
  options.keep_log_file_num = 1;
  options.fail_if_options_file_error = false;  // we refuse them; newer RocksDBs would not open
  rocksdb::BlockBasedTableOptions table;
  table.block_cache = std::move(block_cache);
  table.filter_policy.reset(rocksdb::NewBloomFilterPolicy(10));
  table.format_version = 5;
  options.table_factory.reset(rocksdb::NewBlockBasedTableFactory(table));
  return options;
}

}  // namespace

Error from_rocksdb(const rocksdb::Status& status, const std::string& what) {
  std::string message = what + ": " + status.ToString();
  if (status.IsCorruption() || status.IsPathNotFound()) return {EUCLEAN, message};
  if (status.IsNoSpace()) return {ENOSPC, message};
  if (status.IsIOError() && message.find("lock") != std::string::npos)
    return {EBUSY, what + ": another process has it open"};
  return {EIO, message};
}

Result<std::unique_ptr<Upper>> Upper::open(const std::string& directory, Ino first_ino,
                                           Options options) {
  auto upper = std::make_unique<UpperDb>(directory, options);
  TRY(upper->initialise(first_ino));
  return std::unique_ptr<Upper>(std::move(upper));
}

UpperDb::UpperDb(const std::string& directory, Options options)
    : directory_(directory),
      database_(directory + "/upper"),
      options_(options),
      files_(std::make_shared<DatabaseFiles>(
          (options.env != nullptr ? options.env : rocksdb::Env::Default())->GetFileSystem())),
      env_(rocksdb::NewCompositeEnv(files_)),
      block_cache_(rocksdb::NewLRUCache(2 << 20, 0)),
      rocksdb_options_(make_rocksdb_options(env_.get(), block_cache_)),
      bodies_(directory + "/data", options.read_only),
      reserve_(directory + "/reserve") {}

UpperDb::~UpperDb() {
  if (db_ == nullptr) return;
  bool all_synced = is_synced();
  if (!options_.read_only && !broken_ && boot_noted_) {  // it wrote something
    rocksdb::WriteBatch last;
    if (noted_sequence_ != synced_sequence_) (void)write(&last);
  }
  (void)db_->Close();
  if (all_synced) (void)::unlink(open_mark().c_str());
}

Status UpperDb::initialise(Ino first_ino) {
  if (!options_.read_only) {
    TRY(make_directories(directory_ + "/data", 0700));
    TRY(note_open());
  }
  TRY(check_logs());
  TRY(open_or_start_over());
  TRY(check_version(first_ino));
  TRY(fill_filters());
  if (!options_.read_only) TRY(reap());
  return {};
}

Status UpperDb::open_finding_room() {
  Status status = open_database();
  bool full = !status.ok() && status.error().code == ENOSPC && !options_.read_only;
  return full && reserve_.give_back() ? open_database() : status;
}

Status UpperDb::open_or_start_over() {
  Status status = open_finding_room();
  if (status.ok() || options_.read_only) return status;
  if (status.error().code != EUCLEAN || path_exists(synced_mark()) || made_in_this_boot())
    return status;
  // A new database is made without syncing anything. So a power failure before the first sync may
  // leave any part of it; nothing in it was ever promised. (Without one it was damaged.)
  log_warning("{}; it was never synced, so it starts empty (what is left of it: '{}.lost')",
              status.error().message, database_);
  for (const std::string& path : {database_, directory_ + "/data"}) {
    TRY(remove_tree(path + ".lost"));
    if (::rename(path.c_str(), (path + ".lost").c_str()) != 0)
      return errno_error("rename '" + path + "'");
  }
  TRY(make_directories(directory_ + "/data", 0700));
  return open_database();
}

Status UpperDb::open_database() {
  rocksdb::DB* db = nullptr;
  rocksdb::Status status;
  std::vector<LogStart> starts;
  if (!options_.read_only) {
    bool is_new = !path_exists(database_ + "/CURRENT");
    if (is_new && (path_exists(synced_mark()) || made_in_this_boot()))
      return Error{EUCLEAN, "'" + database_ + "' has lost its CURRENT file"};
    rocksdb_options_.avoid_flush_during_recovery = !logs_are_due(database_) && !sync_failed_;
    files_->set_syncing(is_new ? DatabaseFiles::Syncing::nothing
                               : DatabaseFiles::Syncing::no_directories);
    starts = TRY(read_log_starts(database_));
    status = rocksdb::DB::Open(rocksdb_options_, database_, &db);
    files_->set_syncing(DatabaseFiles::Syncing::all);
    if (is_new && status.ok()) note_made();
    unsynced_ = true;
    synced_sequence_ = 0;
    if (status.ok()) data_sequence_ = db->GetLatestSequenceNumber();
  } else {
    // A frozen daemon may still be compacting: a table that vanished meanwhile is worth a retry.
    for (int attempt = 0; attempt < 5; ++attempt) {
      rocksdb::Options options = rocksdb_options_;
      options.create_if_missing = false;
      options.max_open_files = -1;
      status = rocksdb::DB::OpenForReadOnly(options, database_, &db);
      if (status.ok()) break;
    }
  }
  if (!status.ok()) return from_rocksdb(status, "open '" + database_ + "'");
  db_.reset(db);
  note_logs(starts);
  return {};
}

Status UpperDb::reopen() {
  AssuredMemory memory;
  TRY(memory.status());
  std::unique_lock lock(db_mutex_);
  if (db_ != nullptr) (void)db_->Close();
  db_.reset();
  range_cache_.clear();  // a failing disk may have lost what was written
  record_cache_.clear();
  Status status = open_finding_room();
  if (!status.ok()) {  // no room to open it for writing: at least go on reading
    rocksdb::DB* db = nullptr;
    if (rocksdb::DB::OpenForReadOnly(rocksdb_options_, database_, &db).ok()) db_.reset(db);
    lost_ = db_ == nullptr;
    return status;
  }
  lost_ = false;
  broken_ = sync_failed_ = false;
  forget_progress();
  return {};
}

Status UpperDb::reopen_if_broken() {
  if (!broken_) return {};
  std::lock_guard lock(write_mutex_);
  return broken_ ? reopen() : Status();
}

Status UpperDb::reopen_if_lost() {
  if (!lost_) return {};
  std::lock_guard lock(write_mutex_);
  if (!lost_) return {};
  Status status = reopen();
  return lost_ ? status : Status();
}

Status UpperDb::check_version(Ino first_ino) {
  std::optional<std::string> version = TRY(get(key::version()));
  if (!version.has_value()) {
    if (options_.read_only) return Error{EUCLEAN, "'" + database_ + "' is not an upper"};
    rocksdb::WriteBatch batch;
    batch.Put(key::version(), key::encode_number(key::kFormatVersion));
    batch.Put(key::first_ino(), key::encode_number(first_ino));
    TRY(write(&batch));
    first_ino_ = next_ino_ = reserved_ino_ = durable_ino_ = first_ino;
    return {};
  }
  uint64_t number = TRY(key::decode_number(*version));
  if (number > key::kFormatVersion)
    return Error{EPROTO, fmt::format("'{}' has format {}, made by a newer version of layerfs",
                                     database_, number)};
  if (number < key::kFormatVersion && !options_.read_only) {
    rocksdb::WriteBatch batch;
    batch.Put(key::version(), key::encode_number(key::kFormatVersion));
    TRY(write(&batch));
  }
  std::optional<std::string> first = TRY(get(key::first_ino()));
  std::optional<std::string> next = TRY(get(key::next_ino()));
  if (!first.has_value()) return Error{EUCLEAN, "'" + database_ + "' lacks its first number"};
  first_ino_ = TRY(key::decode_number(*first));
  next_ino_ = reserved_ino_ = next.has_value() ? TRY(key::decode_number(*next)) : Ino{first_ino_};
  durable_ino_ = Ino{next_ino_};
  return {};
}

Status UpperDb::fill_filters() {
  BoundedRead lower_inodes(key::of(key::kInode, first_ino_));
  std::unique_ptr<rocksdb::Iterator> it(db_->NewIterator(lower_inodes.options()));
  for (it->Seek(std::string(1, key::kInode)); it->Valid(); it->Next())
    overridden_.insert(key::ino({it->key().data(), it->key().size()}));
  if (!it->status().ok()) return from_rocksdb(it->status(), "read '" + database_ + "'");
  BoundedRead names(end_of_prefix(std::string(1, key::kName)));
  it.reset(db_->NewIterator(names.options()));
  // One step per name is cheaper than a seek, until a directory proves to be large.
  constexpr int kSteps = 16;
  Ino last = 0;
  int same = 0;
  it->Seek(std::string(1, key::kName));
  while (it->Valid()) {
    Ino directory = key::ino({it->key().data(), it->key().size()});
    if (directory != last) {
      directories_.insert(directory);
      last = directory;
      same = 0;
    }
    if (++same < kSteps)
      it->Next();
    else
      it->Seek(key::of(key::kName, directory + 1));
  }
  if (!it->status().ok()) return from_rocksdb(it->status(), "read '" + database_ + "'");
  return {};
}

Status UpperDb::reap() {
  std::vector<Ino> gone = TRY(orphans());
  if (!gone.empty()) {
    std::unique_ptr<Transaction> transaction = begin();
    for (Ino ino : gone) {
      transaction->delete_inode(ino);
      transaction->delete_orphan(ino);
    }
    TRY(apply(std::move(transaction)));
  }
  std::vector<Ino> stale;
  TRY(scan(std::string(1, key::kStaleBody), "",
           [&](std::string_view record_key, std::string_view) -> Result<bool> {
             stale.push_back(key::ino(record_key));
             return true;
           }));
  rocksdb::WriteBatch batch;
  for (Ino ino : stale) {
    std::optional<InodeRecord> record = TRY(inode(ino));
    if (record.has_value() && record->body == Body::file)
      batch.Delete(key::of(key::kStaleBody, ino));
    else
      doomed_.insert(ino);  // the log that says so may not be durable yet
  }
  if (batch.Count() == 0) return {};
  return write(&batch);
}

}  // namespace layerfs
