// SPDX-License-Identifier: Apache-2.0
#include "layerdb/upper/database_files.h"

#include <utility>

namespace layerfs {

namespace {

using Syncing = DatabaseFiles::Syncing;
using SharedSyncing = std::shared_ptr<std::atomic<Syncing>>;

class File final : public rocksdb::FSWritableFileOwnerWrapper {
 public:
  File(std::unique_ptr<rocksdb::FSWritableFile> file, SharedSyncing syncing)
      : FSWritableFileOwnerWrapper(std::move(file)), syncing_(std::move(syncing)) {}
  rocksdb::IOStatus Sync(const rocksdb::IOOptions& options,
                         rocksdb::IODebugContext* context) override {
    if (*syncing_ == Syncing::nothing) return rocksdb::IOStatus::OK();
    return FSWritableFileOwnerWrapper::Sync(options, context);
  }
  rocksdb::IOStatus Fsync(const rocksdb::IOOptions& options,
                          rocksdb::IODebugContext* context) override {
    if (*syncing_ == Syncing::nothing) return rocksdb::IOStatus::OK();
    return FSWritableFileOwnerWrapper::Fsync(options, context);
  }

 private:
  const SharedSyncing syncing_;
};

class Directory final : public rocksdb::FSDirectoryWrapper {
 public:
  Directory(std::unique_ptr<rocksdb::FSDirectory> directory, SharedSyncing syncing)
      : FSDirectoryWrapper(std::move(directory)), syncing_(std::move(syncing)) {}
  rocksdb::IOStatus Fsync(const rocksdb::IOOptions& options,
                          rocksdb::IODebugContext* context) override {
    if (*syncing_ != Syncing::all) return rocksdb::IOStatus::OK();
    return FSDirectoryWrapper::Fsync(options, context);
  }
  rocksdb::IOStatus FsyncWithDirOptions(const rocksdb::IOOptions& options,
                                        rocksdb::IODebugContext* context,
                                        const rocksdb::DirFsyncOptions& how) override {
    if (*syncing_ != Syncing::all) return rocksdb::IOStatus::OK();
    return FSDirectoryWrapper::FsyncWithDirOptions(options, context, how);
  }

 private:
  const SharedSyncing syncing_;
};

}  // namespace

rocksdb::IOStatus DatabaseFiles::NewWritableFile(const std::string& name,
                                                 const rocksdb::FileOptions& options,
                                                 std::unique_ptr<rocksdb::FSWritableFile>* result,
                                                 rocksdb::IODebugContext* context) {
  if (name.find("/OPTIONS-") != std::string::npos)
    return rocksdb::IOStatus::NotSupported("options files are not kept");
  rocksdb::IOStatus status = FileSystemWrapper::NewWritableFile(name, options, result, context);
  if (status.ok()) *result = std::make_unique<File>(std::move(*result), syncing_);
  return status;
}

rocksdb::IOStatus DatabaseFiles::NewDirectory(const std::string& name,
                                              const rocksdb::IOOptions& options,
                                              std::unique_ptr<rocksdb::FSDirectory>* result,
                                              rocksdb::IODebugContext* context) {
  rocksdb::IOStatus status = FileSystemWrapper::NewDirectory(name, options, result, context);
  if (status.ok()) *result = std::make_unique<Directory>(std::move(*result), syncing_);
  return status;
}

}  // namespace layerfs
