// SPDX-License-Identifier: Apache-2.0
#include "layerdb/store/store.h"

#include <sys/stat.h>

#include <algorithm>
#include <thread>

#include "layerdb/base/caught.h"
#include "layerdb/base/coding.h"
#include "layerdb/base/hash.h"
#include "layerdb/base/log.h"
#include "layerdb/base/sys.h"
#include "layerdb/store/catalog_impl.h"
#include "layerdb/store/chunk_store_impl.h"
#include "layerdb/store/database.h"
#include "layerdb/store/group_copies.h"
#include "layerdb/store/group_pool.h"
#include "layerdb/store/maintenance.h"
#include "layerdb/store/object_store_impl.h"

namespace layerfs {

struct Store::State {
  std::string root;
  UniqueFd lock;
  std::unique_ptr<Database> database;
  std::unique_ptr<StoredChunks> chunks;
  std::unique_ptr<StoredObjects> objects;
  std::unique_ptr<StoredCatalog> catalog;

  Status write(const CatalogBatch& batch);
  Status set_next_numbers();
  Status start_again();
  void make_reads_faster(const Result<uint64_t>& before);
};

namespace {

Result<UniqueFd> lock_for_writing(const std::string& root, const std::function<void()>& on_wait) {
  std::string path = root + "/store.lock";
  Result<UniqueFd> lock = try_lock_file(path);
  if (lock.ok() || lock.error().code != EWOULDBLOCK) return lock;
  if (on_wait) on_wait();
  return lock_file(path);
}

}  // namespace

Store::Store() : state_(std::make_unique<State>()) {}
Store::~Store() = default;

Result<std::unique_ptr<Store>> Store::open(const std::string& root, StoreOptions options) {
  std::unique_ptr<Store> store(new Store());
  State& state = *store->state_;
  state.root = root;
  std::string path = root + "/store";
  if (!options.read_only) {
    if (options.create) {
      TRY(make_directories(root, 0755));
      TRY(make_directories(path, 0700));  // images hold secrets, and their modes do not count here
    }
    Result<UniqueFd> lock = lock_for_writing(root, options.on_wait);
    if (!lock.ok() && lock.error().code == ENOENT)
      return Error{ENOENT, "there is no store at '" + root + "'; `layerfs import` makes one"};
    state.lock = TRY(std::move(lock));
  }
  Result<uint64_t> identity = options.for_mount ? identify(root) : 0;
  state.database = TRY(Database::open(path, {.read_only = options.read_only,
                                             .create = options.create,
                                             .files_only = options.for_mount,
                                             .env = options.env}));
  state.chunks = std::make_unique<StoredChunks>(*state.database, options.group_cache_bytes);
  state.objects = std::make_unique<StoredObjects>(*state.database, options.page_cache_bytes);
  state.catalog = std::make_unique<StoredCatalog>(*state.database);
  if (options.for_mount) state.make_reads_faster(identity);
  if (!options.read_only) {
    TRY(state.set_next_numbers());
    TRY(GroupCopies::remove_if_newer(GroupCopies::path_in(root), state.chunks->next_group()));
  }
  return store;
}

Result<uint64_t> Store::identify(const std::string& root) {
  std::string path = root + "/store/IDENTITY";
  std::string name = TRY(read_file(path));
  struct stat status = {};
  if (::stat(path.c_str(), &status) != 0) return errno_error("look at '" + path + "'");
  for (uint64_t number : {uint64_t{status.st_dev}, uint64_t{status.st_ino},
                          uint64_t(status.st_ctim.tv_sec), uint64_t(status.st_ctim.tv_nsec)})
    put_u64(name, number);
  return checksum64(name);
}

// What mounts do for speed only; not where it cannot be (no right to write there, little memory).
// `before`: the store that was there before the database was opened.
void Store::State::make_reads_faster(const Result<uint64_t>& before) {
  Result<uint64_t> identity = identify(root);
  Result<StoredCatalog::Next> next = catalog->next();  // groups below are published
  if (!next.ok()) return;
  if (identity.ok() && before.ok() && *identity == *before) {
    Result<std::unique_ptr<GroupPool>> pool = GroupPool::join(root + "/pool", *identity);
    if (pool.ok())
      chunks->share(*std::move(pool));
    else
      log_info("decoded groups are not shared: {}", pool.error().message);
    auto copies = GroupCopies::open(GroupCopies::path_in(root), *identity, next->group);
    if (copies.ok())
      chunks->use_copies(*std::move(copies));
    else
      log_info("no copies of groups are used: {}", copies.error().message);
  }
  Result<ReadHistory> history = ReadHistory::open(ReadHistory::path_in(root));
  if (history.ok())
    chunks->foretell(*std::move(history), next->group);
  else
    log_info("nothing is read ahead: {}", history.error().message);
}

// Past what the last batch recorded and past what a crashed import left behind.
Status Store::State::set_next_numbers() {
  StoredCatalog::Next next = TRY(catalog->next());
  uint64_t last_group = TRY(database->last_number(Family::groups));
  uint64_t last_object = TRY(database->last_number(Family::objects));
  chunks->discard(std::max(next.group, last_group + 1));
  objects->set_next(std::max(next.object, last_object + 1), next.link);
  return {};
}

const std::string& Store::root() const { return state_->root; }
bool Store::read_only() const { return state_->database->read_only(); }
ChunkStore& Store::chunks() { return *state_->chunks; }
ObjectStore& Store::objects() { return *state_->objects; }
Catalog& Store::catalog() { return *state_->catalog; }
Database& Store::database() { return *state_->database; }

void Store::drop_caches() {
  state_->chunks->drop_cache();
  state_->objects->clear_caches();
  state_->database->drop_cache();
}

Status Store::State::write(const CatalogBatch& batch) {
  Status objects_status;
  {
    std::jthread other([&] {
      objects_status = call_and_catch([&] {
        return database->flush({Family::objects, Family::object_index});
      });
    });
    TRY(chunks->flush());
    TRY(database->flush({Family::chunk_index, Family::similar}));
  }
  TRY(std::move(objects_status));
  TRY(catalog->write(batch, {chunks->next_group(), objects->next_object(), objects->next_link()}));
  return database->flush({Family::catalog});
}

Status Store::publish(CatalogBatch batch) {
  Status status = state_->write(batch);
  if (!status.ok()) discard();  // the batch must not become visible later
  return status;
}

// As if the process had been killed and started again.
void Store::discard() {
  if (read_only()) return;
  State& state = *state_;
  state.chunks->discard(state.chunks->next_group());
  state.objects->clear_caches();
  Status status = state.start_again();
  if (!status.ok()) log_warning("after a failure: {}", status.error().message);
}

Status Store::State::start_again() {
  TRY(database->reopen());
  TRY(delete_groups_from(*database, TRY(catalog->next()).group));
  return set_next_numbers();
}

}  // namespace layerfs
