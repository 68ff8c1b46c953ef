// SPDX-License-Identifier: Apache-2.0
#include "layerdb/store/held_tables.h"

#include <rocksdb/metadata.h>

#include <utility>
#include <vector>

namespace layerfs {

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
  if (held == files_.end()) return target()->NewRandomAccessFile(path, options, file, debug);
  *file = std::make_unique<rocksdb::FSRandomAccessFileWrapper>(held->second.get());
  return rocksdb::IOStatus::OK();
}

}  // namespace layerfs
