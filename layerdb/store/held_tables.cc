// SPDX-License-Identifier: Apache-2.0
#include "layerdb/store/held_tables.h"

#include <rocksdb/metadata.h>

#include <utility>
#include <vector>

namespace layerfs {
namespace {

thread_local bool t_without_waiting = false;

// A table as RocksDB reads it.
class Table : public rocksdb::FSRandomAccessFileWrapper {
 public:
  // `file`, if it is not held, belongs to this.
  explicit Table(rocksdb::FSRandomAccessFile* file,
                 std::unique_ptr<rocksdb::FSRandomAccessFile> own = nullptr)
      : FSRandomAccessFileWrapper(file), own_(std::move(own)) {}

  rocksdb::IOStatus Read(uint64_t offset, size_t size_bytes, const rocksdb::IOOptions& options,
                         rocksdb::Slice* result, char* scratch,
                         rocksdb::IODebugContext* debug) const override {
    if (!t_without_waiting)
      return target()->Read(offset, size_bytes, options, result, scratch, debug);
    target()->Prefetch(offset, size_bytes, options, debug).PermitUncheckedError();
    return rocksdb::IOStatus::Busy("the disk reads it");
  }

 private:
  const std::unique_ptr<rocksdb::FSRandomAccessFile> own_;
};

}  // namespace

HeldTables::WithoutWaiting::WithoutWaiting() { t_without_waiting = true; }
HeldTables::WithoutWaiting::~WithoutWaiting() { t_without_waiting = false; }

rocksdb::Status HeldTables::hold(rocksdb::DB& database) {
  std::vector<rocksdb::LiveFileMetaData> tables;
  database.GetLiveFilesMetaData(&tables);
  for (const rocksdb::LiveFileMetaData& table : tables) {
    std::string path = table.db_path + table.name;
    std::unique_ptr<rocksdb::FSRandomAccessFile> file;
    rocksdb::IOStatus opened =
        target()->NewRandomAccessFile(path, rocksdb::FileOptions(), &file, nullptr);
    if (!opened.ok()) return opened;
    files_.emplace(std::move(path), std::move(file));
  }
  return rocksdb::Status::OK();
}

rocksdb::IOStatus HeldTables::NewRandomAccessFile(
    const std::string& path, const rocksdb::FileOptions& options,
    std::unique_ptr<rocksdb::FSRandomAccessFile>* file, rocksdb::IODebugContext* debug) {
  auto held = files_.find(path);
  if (held != files_.end()) {
    *file = std::make_unique<Table>(held->second.get());
    return rocksdb::IOStatus::OK();
  }
  std::unique_ptr<rocksdb::FSRandomAccessFile> own;
  rocksdb::IOStatus opened = target()->NewRandomAccessFile(path, options, &own, debug);
  if (!opened.ok()) return opened;
  rocksdb::FSRandomAccessFile* opened_file = own.get();
  *file = std::make_unique<Table>(opened_file, std::move(own));
  return rocksdb::IOStatus::OK();
}

}  // namespace layerfs
