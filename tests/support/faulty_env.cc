// SPDX-License-Identifier: Apache-2.0
#include "tests/support/faulty_env.h"

#include <atomic>
#include <filesystem>

namespace layerfs::test_support {
namespace {

using rocksdb::Slice;
using rocksdb::Status;

class FaultyFile : public rocksdb::WritableFileWrapper {
 public:
  FaultyFile(std::unique_ptr<rocksdb::WritableFile> file, std::string name, FaultyEnv& env)
      : WritableFileWrapper(file.get()),
        file_(std::move(file)),
        name_(std::move(name)),
        env_(env) {}

  Status Append(const Slice& data) override {
    if (Status s = env_.spend(); !s.ok()) return s;
    Status s = file_->Append(data);
    size_ += data.size();
    return s;
  }
  Status Append(const Slice& data, const rocksdb::DataVerificationInfo&) override {
    return Append(data);
  }
  Status Sync() override {
    if (Status s = env_.spend(); !s.ok()) return s;
    uint64_t size = size_;  // others append meanwhile: that may not be on disk
    Status s = file_->Sync();
    if (s.ok()) env_.synced(name_, size);
    return s;
  }
  Status Fsync() override { return Sync(); }
  Status RangeSync(uint64_t, uint64_t) override { return Status::OK(); }

 private:
  std::unique_ptr<rocksdb::WritableFile> file_;
  std::string name_;
  FaultyEnv& env_;
  std::atomic<uint64_t> size_{0};
};

}  // namespace

Status FaultyEnv::spend() {
  if (budget_ == INT64_MAX) return Status::OK();
  return budget_-- > 0 ? Status::OK() : error_;
}

void FaultyEnv::synced(const std::string& name, uint64_t size) {
  std::lock_guard lock(mutex_);
  synced_bytes_[name] = size;
}

Status FaultyEnv::NewWritableFile(const std::string& name,
                                  std::unique_ptr<rocksdb::WritableFile>* file,
                                  const rocksdb::EnvOptions& options) {
  if (Status s = spend(); !s.ok()) return s;
  std::unique_ptr<rocksdb::WritableFile> inner;
  Status s = target()->NewWritableFile(name, &inner, options);
  if (!s.ok()) return s;
  synced(name, 0);
  *file = std::make_unique<FaultyFile>(std::move(inner), name, *this);
  return s;
}

Status FaultyEnv::RenameFile(const std::string& from, const std::string& to) {
  if (Status s = spend(); !s.ok()) return s;
  Status s = target()->RenameFile(from, to);
  std::lock_guard lock(mutex_);
  if (auto node = synced_bytes_.extract(from); s.ok() && !node.empty())
    synced_bytes_[to] = node.mapped();
  return s;
}

Status FaultyEnv::LinkFile(const std::string& from, const std::string& to) {
  if (Status s = spend(); !s.ok()) return s;
  Status s = target()->LinkFile(from, to);
  std::lock_guard lock(mutex_);
  if (auto it = synced_bytes_.find(from); s.ok() && it != synced_bytes_.end())
    synced_bytes_[to] = it->second;
  return s;
}

Status FaultyEnv::DeleteFile(const std::string& name) {
  std::lock_guard lock(mutex_);
  synced_bytes_.erase(name);
  return target()->DeleteFile(name);
}

void FaultyEnv::copy_synced(const std::string& from, const std::string& to) {
  namespace fs = std::filesystem;
  fs::create_directories(to);
  std::lock_guard lock(mutex_);
  for (const fs::directory_entry& entry : fs::directory_iterator(from)) {
    fs::path copy = fs::path(to) / entry.path().filename();
    fs::copy_file(entry.path(), copy);
    if (auto it = synced_bytes_.find(entry.path().string()); it != synced_bytes_.end())
      fs::resize_file(copy, it->second);
  }
}

}  // namespace layerfs::test_support
