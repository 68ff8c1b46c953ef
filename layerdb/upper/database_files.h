// SPDX-License-Identifier: Apache-2.0
//
// The FileSystem under an upper's RocksDB: the host's, minus what would make opening slow. Opening
// a database writes a manifest, CURRENT and an options file, and syncs each and the directory;
// on a busy disk that takes longer than everything else about a mount.
//   - Options files are refused (RocksDB goes on without; ours are in the code).
//   - While a *new* database is being made nothing is synced: nothing in it is promised yet, and
//   the
//     first Upper::sync() syncs the whole filesystem it is on.
//   - While an existing one is opened, files are synced but the directory is not: the manifest is
//     durable before the rename that makes it current, and that rename is journalled before the
//     removal of the old one.
// Thread-safe.
#pragma once

#include <rocksdb/file_system.h>

#include <atomic>
#include <memory>
#include <string>

namespace layerfs {

class DatabaseFiles final : public rocksdb::FileSystemWrapper {
 public:
  enum class Syncing { all, no_directories, nothing };

  explicit DatabaseFiles(const std::shared_ptr<rocksdb::FileSystem>& host)
      : FileSystemWrapper(host) {}
  const char* Name() const override { return "layerfs.DatabaseFiles"; }

  void set_syncing(Syncing syncing) { *syncing_ = syncing; }

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
};

}  // namespace layerfs
