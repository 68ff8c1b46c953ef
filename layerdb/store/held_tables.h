// SPDX-License-Identifier: Apache-2.0
//
// The table files of a database that others may delete from: hold() opens all that a reader's state
// names, which costs a descriptor and some microseconds each, so that RocksDB can open a table (a
// quarter of a millisecond on a cold disk, and its index in memory) when it is first asked for
// something, and find it there although a writer has deleted it since.
//
// A thread may read WithoutWaiting: every read is then an error, but the disk begins with it
// (readahead(2), of just what is asked for, which waits only where the disk's queue is full).
//
// Thread-safety: hold() while nobody uses the database, all else from any thread.
#pragma once

#include <rocksdb/db.h>
#include <rocksdb/file_system.h>

#include <memory>
#include <string>
#include <unordered_map>

namespace layerfs {

class HeldTables : public rocksdb::FileSystemWrapper {
 public:
  using FileSystemWrapper::FileSystemWrapper;
  const char* Name() const override { return "HeldTables"; }

  // All tables of the database that was just opened. A status that says NotFound or PathNotFound:
  // one is gone already.
  rocksdb::Status hold(rocksdb::DB& database);
  // Once that database is closed: none.
  void release() { files_.clear(); }

  // What this thread reads while one of these lives.
  class WithoutWaiting {
   public:
    WithoutWaiting();
    ~WithoutWaiting();
    WithoutWaiting(const WithoutWaiting&) = delete;
    WithoutWaiting& operator=(const WithoutWaiting&) = delete;
  };

  rocksdb::IOStatus NewRandomAccessFile(const std::string& path,
                                        const rocksdb::FileOptions& options,
                                        std::unique_ptr<rocksdb::FSRandomAccessFile>* file,
                                        rocksdb::IODebugContext* debug) override;

 private:
  std::unordered_map<std::string, std::unique_ptr<rocksdb::FSRandomAccessFile>> files_;
};

}  // namespace layerfs
