// SPDX-License-Identifier: Apache-2.0
#include "layerdb/upper/database_files.h"

#include <filesystem>
#include <utility>

namespace layerfs {

class LogFile final : public rocksdb::FSWritableFileOwnerWrapper {
 public:
  LogFile(std::unique_ptr<rocksdb::FSWritableFile> file, const std::string& directory,
          std::shared_ptr<OpenLogs> logs)
      : FSWritableFileOwnerWrapper(std::move(file)), logs_(std::move(logs)) {
    std::lock_guard lock(logs_->mutex);
    logs_->files.insert(this);
    logs_->unsynced_directory = directory;
  }
  ~LogFile() override { forget(); }

  rocksdb::IOStatus Append(const rocksdb::Slice& data, const rocksdb::IOOptions& options,
                           rocksdb::IODebugContext* context) override {
    rocksdb::IOStatus status = FSWritableFileOwnerWrapper::Append(data, options, context);
    has_unsynced_ = true;
    return status;
  }
  rocksdb::IOStatus Append(const rocksdb::Slice& data, const rocksdb::IOOptions& options,
                           const rocksdb::DataVerificationInfo& verification,
                           rocksdb::IODebugContext* context) override {
    rocksdb::IOStatus status =
        FSWritableFileOwnerWrapper::Append(data, options, verification, context);
    has_unsynced_ = true;
    return status;
  }
  rocksdb::IOStatus Close(const rocksdb::IOOptions& options,
                          rocksdb::IODebugContext* context) override {
    forget();
    return FSWritableFileOwnerWrapper::Close(options, context);
  }
  rocksdb::IOStatus sync_if_needed() {  // logs_->mutex held
    // The kernel reports an error once; what it concerned is lost all the same.
    if (failed_.ok() && has_unsynced_.exchange(false)) failed_ = Sync({}, nullptr);
    return failed_;
  }

 private:
  void forget() {
    std::lock_guard lock(logs_->mutex);
    logs_->files.erase(this);
  }

  const std::shared_ptr<OpenLogs> logs_;
  std::atomic<bool> has_unsynced_ = false;
  rocksdb::IOStatus failed_;
};

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

rocksdb::IOStatus DatabaseFiles::sync_logs() {
  std::lock_guard lock(logs_->mutex);
  rocksdb::IOStatus status;
  for (LogFile* file : logs_->files)
    if (status.ok()) status = file->sync_if_needed();
  if (!status.ok() || logs_->unsynced_directory.empty()) return status;
  std::unique_ptr<rocksdb::FSDirectory> directory;
  status = target()->NewDirectory(logs_->unsynced_directory, {}, &directory, nullptr);
  if (status.ok()) status = directory->Fsync({}, nullptr);
  if (status.ok()) logs_->unsynced_directory.clear();
  return status;
}

rocksdb::IOStatus DatabaseFiles::NewWritableFile(const std::string& name,
                                                 const rocksdb::FileOptions& options,
                                                 std::unique_ptr<rocksdb::FSWritableFile>* result,
                                                 rocksdb::IODebugContext* context) {
  if (name.find("/OPTIONS-") != std::string::npos)
    return rocksdb::IOStatus::NotSupported("options files are not kept");
  rocksdb::IOStatus status = FileSystemWrapper::NewWritableFile(name, options, result, context);
  if (!status.ok()) return status;
  if (std::filesystem::path path(name); path.extension() == ".log")
    *result = std::make_unique<LogFile>(std::move(*result), path.parent_path(), logs_);
  else
    *result = std::make_unique<File>(std::move(*result), syncing_);
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
