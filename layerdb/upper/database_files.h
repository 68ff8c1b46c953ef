// SPDX-License-Identifier: Apache-2.0
//
// The FileSystem under an upper's RocksDB: the host's, minus what would make opening slow. Opening
// a database writes a manifest, CURRENT and an options file, and syncs each and the directory;
// on a busy disk that takes longer than everything else about a mount.
//   - Options files are refused (RocksDB goes on without; ours are in the code).
//   - While a *new* database is being made nothing is synced: nothing in it is promised yet, and
//     the first Upper::sync() syncs the whole filesystem it is on.
//   - While an existing one is opened, files are synced but the directory is not: the manifest is
//     durable before the rename that makes it current, and that rename is journalled before the
//     removal of the old one.
//   - Logs are synced by sync_logs() instead of DB::SyncWAL(): Debian's RocksDB is built with its
//     assertions, and one of them ends the process when a log is synced that another thread has
//     just failed to write. RocksDB has handed all of a record to the file when Write() returns.
// Thread-safe.
#pragma once

#include <rocksdb/file_system.h>

#include <atomic>
#include <memory>
#include <mutex>
#include <string>
#include <unordered_set>

namespace layerfs {

class LogFile;

// The log files that are open, and whether the directory has the name of each. Shared with the
// files, which RocksDB may keep a little longer.
struct OpenLogs {
  std::mutex mutex;  // held while they are synced: a log is not closed meanwhile
  std::unordered_set<LogFile*> files;
  std::string unsynced_directory;  // "": none
};

class DatabaseFiles final : public rocksdb::FileSystemWrapper {
 public:
  enum class Syncing { all, no_directories, nothing };

  explicit DatabaseFiles(const std::shared_ptr<rocksdb::FileSystem>& host)
      : FileSystemWrapper(host) {}
  const char* Name() const override { return "layerfs.DatabaseFiles"; }

  void set_syncing(Syncing syncing) { *syncing_ = syncing; }

  // What was written to any log before the call is durable after it. After an error nothing is
  // known of what was.
  rocksdb::IOStatus sync_logs();

  rocksdb::IOStatus NewWritableFile(const std::string& name, const rocksdb::FileOptions& options,
                                    std::unique_ptr<rocksdb::FSWritableFile>* result,
                                    rocksdb::IODebugContext* context) override;
  rocksdb::IOStatus NewDirectory(const std::string& name, const rocksdb::IOOptions& options,
                                 std::unique_ptr<rocksdb::FSDirectory>* result,
                                 rocksdb::IODebugContext* context) override;

 private:
  // Shared with the files, which RocksDB may keep a little longer.
  std::shared_ptr<std::atomic<Syncing>> syncing_ =
      std::make_shared<std::atomic<Syncing>>(Syncing::all);
  const std::shared_ptr<OpenLogs> logs_ = std::make_shared<OpenLogs>();
};

}  // namespace layerfs
