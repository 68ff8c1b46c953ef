// SPDX-License-Identifier: Apache-2.0
//
// The store: one RocksDB database, `<root>/store`, that holds everything immutable (groups, chunk
// index, objects) and the catalog (images, layers, references). One writing process at a time:
// open(read_write) takes `<root>/store.lock` (flock) and waits for it, telling `on_wait` once.
// Readers take no lock; they see the store as it was when they opened it, and keep every table
// file open, so nothing that a writer deletes meanwhile is lost to them.
//
// Durability and order of writing (format.md): groups are written to table files and ingested
// first, then chunk index entries and objects go through the memtable without WAL; publish()
// flushes those and only then writes the catalog batch and flushes it, too: RocksDB's manifest
// naming that table file is the moment of publishing. A crash before that leaves groups and objects
// nobody names: not visible, reclaimed by gc. Nothing visible ever names what is not durable.
//
// Thread-safety: const use (reading) from any thread; writing from one thread unless a class says
// otherwise. Errors: EUCLEAN damage, EPROTO a store of a newer version, ENOENT no store (readers).
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "layerdb/base/result.h"

namespace rocksdb {
class Env;
}

namespace layerfs {

class Database;  // store/database.h: the only place that opens RocksDB
class ChunkStore;
class ObjectStore;
class Catalog;
class CatalogBatch;

struct StoreOptions {
  bool read_only = false;
  bool create = true;                   // read_write: make the store when there is none
  std::function<void()> on_wait;        // called once when another writer holds the lock
  rocksdb::Env* env = nullptr;          // tests: a faulty or in-memory Env
  size_t group_cache_bytes = 64 << 20;  // decoded groups
  size_t page_cache_bytes = 16 << 20;   // parsed tree pages, file maps
  // Readers: shares decoded groups with others that do (group_pool.h) and keeps few of its own,
  // reads ahead (read_ahead.h), and opens only what files are read from. Whoever opens such stores
  // does so one at a time.
  bool for_mount = false;
};

class Store {
 public:
  static Result<std::unique_ptr<Store>> open(const std::string& root, StoreOptions options = {});
  ~Store();

  // Tells the very database at `root` from its copies, and from what is put in its place.
  static Result<uint64_t> identify(const std::string& root);

  const std::string& root() const;
  bool read_only() const;

  ChunkStore& chunks();
  ObjectStore& objects();
  Catalog& catalog();
  Database& database();  // for gc, fsck, dump, df

  // Gives memory back: nobody reads for a while.
  void drop_caches();

  // Makes everything written so far durable, then the batch, atomically (see above). When it fails
  // the store is as after the last publish: discard() was called. (When the very last sync failed,
  // RocksDB's manifest may name the batch all the same: then all of it is published.)
  Status publish(CatalogBatch batch);
  // Takes back, as far as cheaply possible, what was written since the last publish (a failed
  // import); also errors after which RocksDB refuses to write. What it cannot take back is
  // invisible and left to gc. No other thread may use the store meanwhile.
  void discard();

 private:
  Store();
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace layerfs
