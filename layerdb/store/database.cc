// SPDX-License-Identifier: Apache-2.0
#include "layerdb/store/database.h"

#include <fmt/format.h>
#if __has_include(<rocksdb/advanced_cache.h>)
#include <rocksdb/advanced_cache.h>  // where RocksDB 8 and later say what a cache can do
#endif
#include <rocksdb/cache.h>
#include <rocksdb/convenience.h>
#include <rocksdb/env.h>
#include <rocksdb/file_system.h>
#include <rocksdb/filter_policy.h>
#include <rocksdb/metadata.h>
#include <rocksdb/slice_transform.h>
#include <rocksdb/table.h>
#include <sys/stat.h>

#include <algorithm>
#include <chrono>
#include <thread>

#include "layerdb/base/caught.h"
#include "layerdb/base/coding.h"
#include "layerdb/base/sys.h"

namespace layerfs {
namespace {

constexpr std::array<const char*, kFamilyCount> kFamilyNames = {
    "default", "groups", "chunk_index", "objects", "object_index", "catalog", "similar"};
constexpr std::string_view kFormatKey = "format";

constexpr size_t kReaderBlockCacheBytes = 6 << 20;
constexpr size_t kWriterBlockCacheBytes = 24 << 20;
constexpr size_t kGroupIndexCacheBytes = 1 << 20;  // for 40,000 groups, some 3 GB
constexpr int kReaderOpenTables = 256;

// RocksDB would write (and rotate, one reader against the other) LOG files into the store.
class SilentLogger : public rocksdb::Logger {
 public:
  using rocksdb::Logger::Logv;
  void Logv(const char*, va_list) override {}
};

// When RocksDB fails to ingest a table it deletes its link to it. But when only the sync of the
// manifest failed, the manifest may name the table all the same, and the next opening would find a
// store with a file missing. So such deletions do not happen: a file that nothing names is removed
// by the next opening anyway.
class KeepingFiles : public rocksdb::FileSystemWrapper {
 public:
  explicit KeepingFiles(std::shared_ptr<rocksdb::FileSystem> files)
      : FileSystemWrapper(std::move(files)) {}
  const char* Name() const override { return "KeepingFiles"; }
  rocksdb::IOStatus DeleteFile(const std::string& name, const rocksdb::IOOptions& options,
                               rocksdb::IODebugContext* debug) override {
    if (ingesting && name.ends_with(".sst")) return rocksdb::IOStatus::OK();
    return target()->DeleteFile(name, options, debug);
  }
  static thread_local bool ingesting;
};
thread_local bool KeepingFiles::ingesting = false;

// For families with random keys that are looked for when they are not there (a Bloom filter of 10
// bits or more an entry) and written many at once, sorted: the search for a key's place goes on
// from the place of the one before it, as keys with a common prefix do, here the empty one.
void search_memtable_less(rocksdb::ColumnFamilyOptions& options) {
  options.memtable_whole_key_filtering = true;
  options.memtable_prefix_bloom_size_ratio = 0.02;
  options.memtable_insert_with_hint_prefix_extractor.reset(rocksdb::NewCappedPrefixTransform(0));
}

rocksdb::Slice slice(std::string_view bytes) { return {bytes.data(), bytes.size()}; }

}  // namespace

const char* family_name(Family family) {
  return family == Family::meta ? "meta" : kFamilyNames[static_cast<size_t>(family)];
}

Error rocksdb_error(const rocksdb::Status& status, const std::string& what) {
  int code = EIO;
  if (status.IsNoSpace() || status.subcode() == rocksdb::Status::kNoSpace)
    code = ENOSPC;
  else if (status.IsCorruption())
    code = EUCLEAN;
  else if (status.IsNotFound() || status.IsPathNotFound())
    code = ENOENT;
  else if (status.IsNotSupported() && status.ToString().find("read only") != std::string::npos)
    code = EROFS;
  else if (status.IsBusy())
    code = EBUSY;
  std::string reason = code == ENOSPC ? "no space is left on the device" : status.ToString();
  return {code, what + ": " + reason};
}

Database::Database(std::string path, const Options& options)
    : path_(std::move(path)), options_(options) {
  auto files = (options.env != nullptr ? options.env : rocksdb::Env::Default())->GetFileSystem();
  if (options.read_only)
    wrapped_env_ = rocksdb::NewCompositeEnv(held_ = std::make_shared<HeldTables>(std::move(files)));
  else
    wrapped_env_ = rocksdb::NewCompositeEnv(std::make_shared<KeepingFiles>(std::move(files)));
  env_ = wrapped_env_.get();
}

Database::~Database() { close(); }

rocksdb::DBOptions Database::database_options() const {
  rocksdb::DBOptions o;
  o.env = env_;
  o.create_if_missing = options_.create && !options_.read_only;
  o.create_missing_column_families = !options_.read_only;  // those of a newer version
  o.info_log = std::make_shared<SilentLogger>();
  // A reader opens tables when it needs them, but for the first sixteen, and keeps so many open.
  o.max_open_files = options_.read_only ? kReaderOpenTables : -1;
  o.table_cache_numshardbits = 2;
  o.max_file_opening_threads = 1;  // each family would start its own, at every mount
  // Publishing flushes an import's families together.
  o.max_background_flushes = 2;
  o.max_background_compactions = 1;
  o.avoid_flush_during_shutdown = true;
  o.max_bgerror_resume_count = 0;  // an error stays until reopen()
  o.stats_dump_period_sec = 0;
  o.stats_persist_period_sec = 0;
  o.skip_stats_update_on_db_open = true;
  o.skip_checking_sst_file_sizes_on_db_open = true;  // reading tells
  o.max_manifest_file_size = 1 << 20;
  o.bytes_per_sync = 4 << 20;
  // Neighbouring groups are often wanted together, so the kernel may read ahead, as it does for
  // other filesystems: cold programs start a fifth to a third sooner, although more is read from
  // the disk.
  o.advise_random_on_open = false;
  return o;
}

rocksdb::ColumnFamilyOptions Database::family_options(Family family) const {
  rocksdb::BlockBasedTableOptions table;
  table.format_version = 5;
  table.checksum = rocksdb::kXXH3;
  table.index_block_restart_interval = 16;
  table.block_cache = block_cache_;
  table.cache_index_and_filter_blocks = true;
  rocksdb::ColumnFamilyOptions o;
  o.compression = rocksdb::kNoCompression;
  o.write_buffer_size = 1 << 20;
  switch (family) {
    case Family::groups:
      // Every value fills a block of its own; the decoded group is cached above, so of this cache
      // the blocks get what the indexes leave. Ingested in key order, so there is never anything to
      // compact.
      table.block_cache = group_index_cache_;
      o.disable_auto_compactions = true;
      break;
    case Family::chunk_index:
    case Family::object_index:
      if (!options_.read_only) search_memtable_less(o);  // the filters take memory at once
      table.filter_policy.reset(rocksdb::NewBloomFilterPolicy(10));
      o.write_buffer_size = 8 << 20;
      break;
    case Family::similar:
      if (!options_.read_only) search_memtable_less(o);
      table.filter_policy.reset(rocksdb::NewBloomFilterPolicy(10));
      o.compression = rocksdb::kZSTD;
      o.write_buffer_size = 8 << 20;
      break;
    case Family::objects:
      table.block_size = 16 << 10;
      o.compression = rocksdb::kZSTD;
      o.write_buffer_size = 16 << 20;
      break;
    case Family::meta:
    case Family::catalog:
      break;
  }
  o.table_factory.reset(rocksdb::NewBlockBasedTableFactory(table));
  return o;
}

rocksdb::Options Database::group_table_options() const {
  return rocksdb::Options(database_options(), family_options(Family::groups));
}

Result<std::unique_ptr<Database>> Database::open(const std::string& path, const Options& options) {
  std::unique_ptr<Database> database(new Database(path, options));
  bool exists = database->env_->FileExists(path + "/CURRENT").ok();
  if (!exists && (options.read_only || !options.create)) {
    struct stat status;  // RocksDB does not tell what is not there from what it may not look at
    if (::stat((path + "/CURRENT").c_str(), &status) != 0 && errno != ENOENT)
      return errno_error("open the store at '" + path + "'");
    return Error{ENOENT, "there is no store at '" + path + "'; `layerfs import` makes one"};
  }
  TRY(database->open_again_while_files_move());
  return database;
}

// A writer may replace the manifest or delete a table between our reading its name and opening it.
Status Database::open_again_while_files_move() {
  constexpr int kAttempts = 8;
  for (int attempt = 1;; ++attempt) {
    Status status = open_once();
    if (status.ok()) return check_format();
    close();
    bool may_have_moved = status.error().code == EUCLEAN || status.error().code == EIO;
    if (!options_.read_only || !may_have_moved || attempt == kAttempts) return status;
    std::this_thread::sleep_for(std::chrono::milliseconds(attempt * 3));
  }
}

// Every opening for writing starts a log, and RocksDB keeps them all as long as one family was not
// flushed since. Nothing is ever written to them.
void Database::delete_empty_logs() {
  std::vector<std::string> names;
  if (!env_->GetChildren(path_, &names).ok()) return;
  for (const std::string& name : names) {
    uint64_t size = 1;
    std::string log = path_ + "/" + name;
    if (name.ends_with(".log") && env_->GetFileSize(log, &size).ok() && size == 0)
      (void)env_->DeleteFile(log);
  }
}

Status Database::open_once() {
  if (!options_.read_only) delete_empty_logs();
  block_cache_ = rocksdb::NewLRUCache(
      options_.read_only ? kReaderBlockCacheBytes : kWriterBlockCacheBytes, /*num_shard_bits=*/2);
  group_index_cache_ = rocksdb::NewLRUCache(kGroupIndexCacheBytes, /*num_shard_bits=*/0,
                                            /*strict_capacity_limit=*/false,
                                            /*high_pri_pool_ratio=*/0.8);
  rocksdb::DBOptions database_opts = database_options();
  std::span<const Family> wanted = wanted_families();
  std::vector<rocksdb::ColumnFamilyDescriptor> families;
  for (Family family : wanted)
    families.emplace_back(kFamilyNames[static_cast<size_t>(family)], family_options(family));
  if (!options_.read_only && env_->FileExists(path_ + "/CURRENT").ok()) {
    // A newer version's families must be named too, or RocksDB does not open to tell its version.
    std::vector<std::string> present;
    rocksdb::Status s = rocksdb::DB::ListColumnFamilies(database_opts, path_, &present);
    if (!s.ok()) return rocksdb_error(s, "open the store at '" + path_ + "'");
    for (const std::string& name : present)
      if (std::find(kFamilyNames.begin(), kFamilyNames.end(), name) == kFamilyNames.end())
        families.emplace_back(name, rocksdb::ColumnFamilyOptions());
  }
  rocksdb::DB* db = nullptr;
  std::vector<rocksdb::ColumnFamilyHandle*> handles;
  rocksdb::Status s;
  if (options_.read_only) {
    s = rocksdb::DB::OpenForReadOnly(database_opts, path_, families, &handles, &db);
    // A store of version 1 has all but the last family.
    if (s.IsInvalidArgument() && wanted.back() == Family::similar) {
      families.pop_back();
      s = rocksdb::DB::OpenForReadOnly(database_opts, path_, families, &handles, &db);
    }
  } else {
    s = rocksdb::DB::Open(database_opts, path_, families, &handles, &db);
  }
  if (!s.ok()) {
    Error error = rocksdb_error(s, "open the store at '" + path_ + "'");
    if (error.code == ENOENT) error.code = EUCLEAN;  // there is a store, without one of its files
    return error;
  }
  db_.reset(db);
  for (size_t i = 0; i < handles.size(); ++i) {
    if (i < wanted.size())
      handles_[static_cast<size_t>(wanted[i])] = handles[i];
    else
      unknown_handles_.push_back(handles[i]);
  }
  if (held_ && !(s = held_->hold(*db)).ok())  // not ENOENT: there is a store
    return Error{EIO, rocksdb_error(s, "open the store at '" + path_ + "'").message};
  return {};
}

std::span<const Family> Database::wanted_families() const {
  static constexpr Family kOfFiles[] = {Family::meta, Family::groups, Family::objects,
                                        Family::catalog};
  if (options_.files_only) return kOfFiles;
  return kAllFamilies;
}

Status Database::check_format() {
  std::optional<std::string> record = TRY(get(Family::meta, kFormatKey));
  if (!record) {
    if (options_.read_only)
      return Error{ENOENT, "the store at '" + path_ + "' is empty; `layerfs import` fills it"};
    return write_format();
  }
  Reader in(*record);
  uint32_t version = in.u32(), min_reader = in.u32();
  if (in.failed())
    return Error{EUCLEAN, "the store at '" + path_ + "' has a damaged format record"};
  if (options_.read_only ? min_reader > kFormatVersion : version > kFormatVersion)
    return Error{
        EPROTO, fmt::format("the store at '{}' was made by a newer layerfs (its format is "
                            "{}, this program {}s up to {}); use that version",
                            path_, version, options_.read_only ? "read" : "write", kFormatVersion)};
  if (!options_.read_only && version < kFormatVersion) return write_format();
  return {};
}

Status Database::write_format() {
  rocksdb::WriteBatch batch;
  std::string value;
  put_u32(value, kFormatVersion);
  put_u32(value, kMinReaderVersion);
  batch.Put(handle(Family::meta), slice(kFormatKey), value);
  TRY(write(batch));
  return flush({Family::meta});
}

void Database::close() {
  if (!db_) return;
  for (rocksdb::ColumnFamilyHandle* handle : handles_)
    if (handle != nullptr) db_->DestroyColumnFamilyHandle(handle);
  for (rocksdb::ColumnFamilyHandle* handle : unknown_handles_)
    db_->DestroyColumnFamilyHandle(handle);
  handles_.fill(nullptr);
  unknown_handles_.clear();
  db_.reset();
  if (held_) held_->release();
}

void Database::drop_cache() {
  block_cache_->EraseUnRefEntries();
  group_index_cache_->EraseUnRefEntries();
}

Status Database::reopen() {
  close();
  return open_again_while_files_move();
}

Status Database::usable() const {
  if (!db_) return Error{EIO, "the store at '" + path_ + "' could not be opened again"};
  return {};
}

Result<bool> Database::get(Family family, std::string_view key, rocksdb::PinnableSlice& value) {
  TRY(usable());
  if (!has(family)) return false;
  rocksdb::Status s = db_->Get(rocksdb::ReadOptions(), handle(family), slice(key), &value);
  if (s.IsNotFound()) return false;
  if (!s.ok()) return rocksdb_error(s, std::string("read from ") + family_name(family));
  return true;
}

Result<std::optional<std::string>> Database::get(Family family, std::string_view key) {
  rocksdb::PinnableSlice value;
  if (!TRY(get(family, key, value))) return std::optional<std::string>();
  return std::optional<std::string>(value.ToString());
}

void Database::begin_to_read(Family family, std::string_view key) {
  HeldTables::WithoutWaiting without_waiting;
  rocksdb::PinnableSlice value;
  (void)get(family, key, value);
}

std::unique_ptr<rocksdb::Iterator> Database::iterate(Family family) {
  rocksdb::ReadOptions options;
  options.fill_cache = false;
  options.total_order_seek = true;
  return std::unique_ptr<rocksdb::Iterator>(db_->NewIterator(options, handle(family)));
}

Result<uint64_t> Database::last_number(Family family) {
  TRY(usable());
  if (!has(family)) return 0;
  rocksdb::ColumnFamilyMetaData meta;
  db_->GetColumnFamilyMetaData(handle(family), &meta);
  uint64_t last = 0;
  for (const auto& level : meta.levels)
    for (const auto& file : level.files) {
      if (file.largestkey.size() != 8)
        return Error{EUCLEAN, std::string("a key of ") + family_name(family) + " is no number"};
      last = std::max(last, decode_be64(file.largestkey.data()));
    }
  return last;
}

Status Database::write(rocksdb::WriteBatch& batch) {
  if (options_.read_only) return Error{EROFS, "the store is open for reading only"};
  TRY(usable());
  rocksdb::WriteOptions options;
  options.disableWAL = true;
  rocksdb::Status s = db_->Write(options, &batch);
  if (!s.ok()) return rocksdb_error(s, "write to the store at '" + path_ + "'");
  return {};
}

Status Database::flush(std::initializer_list<Family> families) {
  if (options_.read_only) return Error{EROFS, "the store is open for reading only"};
  TRY(usable());
  std::vector<Status> done(families.size());
  auto flush_one = [&](size_t i) {
    done[i] = call_and_catch([&]() -> Status {
      rocksdb::FlushOptions options;
      options.allow_write_stall = true;
      rocksdb::Status s = db_->Flush(options, handle(families.begin()[i]));
      if (!s.ok()) return rocksdb_error(s, "write to the store at '" + path_ + "'");
      return {};
    });
  };
  {
    // One call of RocksDB's with several families would flush one after the other.
    std::vector<std::jthread> others;
    for (size_t i = 1; i < families.size(); ++i) others.emplace_back(flush_one, i);
    flush_one(0);
  }
  for (Status& status : done) TRY(std::move(status));
  return {};
}

Status Database::ingest_groups(const std::string& table_path) {
  rocksdb::IngestExternalFileOptions options;
  options.move_files = true;
  options.write_global_seqno = false;
  KeepingFiles::ingesting = true;
  rocksdb::Status s = db_->IngestExternalFile(handle(Family::groups), {table_path}, options);
  KeepingFiles::ingesting = false;
  if (!s.ok()) return rocksdb_error(s, "add '" + table_path + "' to the store");
  return {};
}

}  // namespace layerfs
