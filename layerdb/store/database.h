// SPDX-License-Identifier: Apache-2.0
//
// Database: the store's RocksDB, and the only place that opens it. Families, keys and records are
// in format.md; this class knows their options, not their contents.
//
// No write ahead log: every write goes to the memtable and is durable, and visible to others, once
// its family was flushed. A reader therefore sees exactly what one state of RocksDB's manifest
// names, never a mixture of a newer log with older tables. Nothing is flushed when a database is
// closed: what was not flushed never happened.
//
// A reader (read_only) keeps every table file open, so what a writer deletes later stays readable;
// what is in them it looks at when it needs it (held_tables.h).
// Thread-safety: all but reopen() from any thread. Errors: ENOENT no database, EPROTO a newer
// format, EUCLEAN damage, ENOSPC, EROFS writing to a reader, EIO.
#pragma once

#include <rocksdb/db.h>

#include <array>
#include <initializer_list>
#include <iterator>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "layerdb/base/result.h"
#include "layerdb/store/held_tables.h"

namespace layerfs {

// The store's format. A version changes with any change of a record; `min_reader` is the oldest
// version whose programs still read what this one writes.
inline constexpr uint32_t kFormatVersion = 3;
inline constexpr uint32_t kMinReaderVersion = 2;

enum class Family { meta, groups, chunk_index, objects, object_index, catalog, similar };
inline constexpr Family kAllFamilies[] = {
    Family::meta,         Family::groups,  Family::chunk_index, Family::objects,
    Family::object_index, Family::catalog, Family::similar};
inline constexpr size_t kFamilyCount = std::size(kAllFamilies);
const char* family_name(Family family);

// What went wrong as an Error; `what` says what was being done. `status` is not ok.
Error rocksdb_error(const rocksdb::Status& status, const std::string& what);

class Database {
 public:
  struct Options {
    bool read_only = false;
    bool create = true;
    bool files_only = false;      // read_only: just the families that files are read from
    rocksdb::Env* env = nullptr;  // null: the host's
  };
  static Result<std::unique_ptr<Database>> open(const std::string& path, const Options& options);
  ~Database();
  Database(const Database&) = delete;
  Database& operator=(const Database&) = delete;

  const std::string& path() const { return path_; }
  bool read_only() const { return options_.read_only; }
  rocksdb::Env* env() const { return env_; }

  // False: there is no such key.
  Result<bool> get(Family family, std::string_view key, rocksdb::PinnableSlice& value);
  Result<std::optional<std::string>> get(Family family, std::string_view key);
  // For a reader: the disk begins to read what get() of the key will read next: its value where the
  // table's index is in memory, otherwise that.
  void begin_to_read(Family family, std::string_view key);
  // All keys of the family that start with `prefix`, in order, until `visit` returns false.
  template <typename Visit>  // bool(std::string_view key, std::string_view value)
  Status for_each(Family family, std::string_view prefix, Visit&& visit);
  std::unique_ptr<rocksdb::Iterator> iterate(Family family);
  // The last key in table files, when it is a be64 number; 0: there are none. Reads no data block.
  Result<uint64_t> last_number(Family family);

  Status write(rocksdb::WriteBatch& batch);
  // Durable and visible to readers that open from here on.
  Status flush(std::initializer_list<Family> families);
  // Moves a finished table file into the groups family.
  Status ingest_groups(const std::string& table_path);
  rocksdb::Options group_table_options() const;  // for writing such a file

  // Forgets what was not flushed, and errors that RocksDB holds on to. No other use meanwhile.
  // When it fails (the disk is full), everything else fails until it succeeds.
  Status reopen();
  Status usable() const;

  // False for a reader: of a store that a version without this family made, or of files only. It
  // has no records then.
  bool has(Family family) const { return handles_[static_cast<size_t>(family)] != nullptr; }
  // Gives the memory of blocks back that nobody is reading.
  void drop_cache();
  rocksdb::DB& db() { return *db_; }
  rocksdb::ColumnFamilyHandle* handle(Family family) {
    return handles_[static_cast<size_t>(family)];
  }

 private:
  Database(std::string path, const Options& options);
  Status open_once();
  std::span<const Family> wanted_families() const;
  Status open_again_while_files_move();
  void delete_empty_logs();
  Status check_format();
  Status write_format();
  void close();
  rocksdb::ColumnFamilyOptions family_options(Family family) const;
  rocksdb::DBOptions database_options() const;

  std::string path_;
  Options options_;
  std::shared_ptr<HeldTables> held_;           // a reader's
  std::unique_ptr<rocksdb::Env> wrapped_env_;  // around held_, or database.cc's KeepingFiles
  rocksdb::Env* env_;
  std::shared_ptr<rocksdb::Cache> block_cache_, group_index_cache_;
  std::unique_ptr<rocksdb::DB> db_;
  std::array<rocksdb::ColumnFamilyHandle*, kFamilyCount> handles_{};
  std::vector<rocksdb::ColumnFamilyHandle*> unknown_handles_;  // families of a newer version
};

template <typename Visit>
Status Database::for_each(Family family, std::string_view prefix, Visit&& visit) {
  TRY(usable());
  if (!has(family)) return {};
  auto it = iterate(family);
  rocksdb::Slice start(prefix.data(), prefix.size());
  for (it->Seek(start); it->Valid() && it->key().starts_with(start); it->Next())
    if (!visit(std::string_view(it->key().data(), it->key().size()),
               std::string_view(it->value().data(), it->value().size())))
      return {};
  if (!it->status().ok())
    return rocksdb_error(it->status(), std::string("list ") + family_name(family));
  return {};
}

}  // namespace layerfs
