// SPDX-License-Identifier: Apache-2.0
//
// The store on a disk that fails, fills up or loses power.
#include <gtest/gtest.h>

#include "layerdb/store/catalog.h"
#include "layerdb/store/content.h"
#include "layerdb/store/database.h"
#include "layerdb/store/store.h"
#include "tests/support/faulty_env.h"
#include "tests/support/random.h"
#include "tests/support/result_matchers.h"
#include "tests/support/temp_dir.h"

namespace layerfs {
namespace {

using test_support::FaultyEnv;
using test_support::Random;
using test_support::TempDir;

Result<LayerRecord> publish_bytes(Store& store, std::string_view bytes) {
  ContentWriter writer(store.chunks(), store.objects());
  TRY(writer.append(bytes));
  LayerRecord layer{
      .diff_id = sha256(bytes), .tar = TRY(writer.finish()), .tar_bytes = bytes.size()};
  TRY(store.objects().put("an object of " + layer.diff_id.hex()));
  CatalogBatch batch;
  batch.put_layer(layer);
  TRY(store.publish(std::move(batch)));
  return layer;
}

std::string read_layer(Store& store, const Digest& id) {
  LayerRecord layer = VALUE(store.catalog().layer(id));
  std::string out(layer.tar_bytes, '?');
  ContentReader reader(store.chunks(), store.objects(), layer.tar, layer.tar_bytes);
  EXPECT_EQ(VALUE(reader.read(0, out)), layer.tar_bytes);
  return out;
}

// Imports with the Nth file operation failing, for every N until it succeeds.
void fail_everywhere(const rocksdb::Status& error, int error_code) {
  TempDir dir;
  Random random;
  FaultyEnv env;
  std::string old_bytes = random.text(200'000), new_bytes = random.bytes(200'000);
  for (size_t i = 0; i < old_bytes.size(); i += 700)  // part of it becomes differences
    new_bytes += std::to_string(i) + old_bytes.substr(i, 700);
  auto store = VALUE(Store::open(dir.path(), {.env = &env}));
  ASSERT_OK(publish_bytes(*store, old_bytes));
  int failures = 0;
  for (int n = 0;; n += n < 20 ? 1 : 5) {
    env.fail_after(n, error);
    Result<LayerRecord> layer = publish_bytes(*store, new_bytes);
    bool failed = env.failed();
    env.work_again();
    store->discard();  // RocksDB may need a working disk to start again
    if (layer.ok() && !failed) break;
    failures += layer.ok() ? 0 : 1;
    if (!layer.ok()) {
      EXPECT_EQ(layer.error().code, error_code) << layer.error().message;
    }
    // All or nothing. (All: the failing call did not matter, or was the very last sync.)
    if (VALUE(store->catalog().layers()).size() == 2) {
      EXPECT_EQ(read_layer(*store, sha256(new_bytes)), new_bytes);
      CatalogBatch batch;
      batch.delete_layer(sha256(new_bytes));
      ASSERT_OK(store->publish(std::move(batch)));
    }
    EXPECT_EQ(VALUE(store->catalog().layers()).size(), 1u) << "after operation " << n;
    EXPECT_EQ(read_layer(*store, sha256(old_bytes)), old_bytes);
  }
  EXPECT_GT(failures, 5);
  EXPECT_EQ(read_layer(*store, sha256(new_bytes)), new_bytes);
  EXPECT_EQ(read_layer(*store, sha256(old_bytes)), old_bytes);
}

TEST(StoreFault, AFullDiskLeavesTheStoreAsItWas) {
  fail_everywhere(rocksdb::Status::NoSpace("faulty"), ENOSPC);
}

TEST(StoreFault, ABrokenDiskLeavesTheStoreAsItWas) {
  fail_everywhere(rocksdb::Status::IOError("faulty"), EIO);
}

TEST(StoreFault, APowerFailureBeforePublishingShowsTheOldState) {
  TempDir dir;
  Random random;
  FaultyEnv env;
  std::string old_bytes = random.text(300'000), new_bytes = random.bytes(70 << 20);
  {
    auto store = VALUE(Store::open(dir / "a", {.env = &env}));
    ASSERT_OK(publish_bytes(*store, old_bytes));
    ContentWriter writer(store->chunks(), store->objects());
    ASSERT_OK(writer.append(new_bytes));
    ASSERT_OK(writer.finish());
    ASSERT_OK(store->objects().put("object"));
    ASSERT_OK(store->chunks().flush());
    env.copy_synced(dir / "a/store", dir / "b/store");
  }
  auto store = VALUE(Store::open(dir / "b"));
  EXPECT_EQ(VALUE(store->catalog().layers()).size(), 1u);
  EXPECT_EQ(read_layer(*store, sha256(old_bytes)), old_bytes);
  ASSERT_OK(publish_bytes(*store, new_bytes));
  EXPECT_EQ(read_layer(*store, sha256(new_bytes)), new_bytes);
}

TEST(StoreFault, APowerFailureAfterPublishingLosesNothing) {
  TempDir dir;
  Random random;
  FaultyEnv env;
  auto store = VALUE(Store::open(dir / "a", {.env = &env}));
  for (int i = 0; i < 5; ++i) {
    std::string bytes = random.text(random.between(1, 500'000));
    ASSERT_OK(publish_bytes(*store, bytes));
    std::string copy = dir / ("copy" + std::to_string(i));
    env.copy_synced(dir / "a/store", copy + "/store");
    auto after = VALUE(Store::open(copy, {.read_only = true}));
    EXPECT_EQ(VALUE(after->catalog().layers()).size(), static_cast<size_t>(i + 1));
    EXPECT_EQ(read_layer(*after, sha256(bytes)), bytes);
    ASSERT_OK(after->objects().get(ObjectId{static_cast<uint64_t>(i + 1)}));
  }
}

}  // namespace
}  // namespace layerfs
