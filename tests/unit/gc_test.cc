// SPDX-License-Identifier: Apache-2.0
//
// Garbage collection and usage: what is needed stays, what is not goes, and the sums are exact.
#include "layerdb/ops/gc.h"

#include <fcntl.h>
#include <gtest/gtest.h>

#include "layerdb/base/coding.h"
#include "layerdb/base/sys.h"
#include "layerdb/ops/container.h"
#include "layerdb/ops/fsck.h"
#include "layerdb/ops/remove_image.h"
#include "layerdb/ops/usage.h"
#include "layerdb/store/content.h"
#include "layerdb/store/database.h"
#include "layerdb/store/group_copies.h"
#include "layerdb/store/maintenance.h"
#include "tests/support/random.h"
#include "tests/support/result_matchers.h"
#include "tests/support/store_images.h"
#include "tests/support/temp_dir.h"

namespace layerfs {
namespace {

class Gc : public ::testing::Test {
 protected:
  Gc() : store_(VALUE(Store::open(dir_.path()))) {}

  void expect_whole() {
    FsckResult result = VALUE(check_store(*store_));
    for (const Finding& finding : result.findings) ADD_FAILURE() << finding.to_string();
  }

  ImageRecord image(const std::string& reference, size_t files,
                    const std::optional<ImageRecord>& parent = {}) {
    ModelTree diff = empty_model();
    ModelNode& directory = diff.root.children["of " + reference] = model_directory();
    for (size_t i = 0; i < files; ++i) {
      directory.children[std::to_string(i)] = model_file(*store_, random_.bytes(50000));
    }
    return publish_image(*store_, diff, reference, parent);
  }

  test_support::TempDir dir_;
  test_support::Random random_;
  std::unique_ptr<Store> store_;
};

TEST_F(Gc, FindsNothingWhereEverythingIsUsed) {
  image("a:1", 10);
  GcResult result = VALUE(collect_garbage(*store_, false));
  EXPECT_EQ(result.layers + result.chains + result.objects + result.groups, 0u);
  expect_whole();
}

TEST_F(Gc, RemovedImagesGoAndOthersStay) {
  ImageRecord base = image("base:1", 30);
  image("child:1", 30, base);
  image("other:1", 200);
  ASSERT_OK(remove_image(*store_, "other:1"));
  ASSERT_OK(remove_image(*store_, "child:1"));

  GcResult dry = VALUE(collect_garbage(*store_, true));
  EXPECT_GT(dry.groups, 50u);
  EXPECT_GT(dry.group_bytes, 230u * 50000);
  EXPECT_GT(dry.objects, 3u);
  EXPECT_EQ(dry.freed_bytes, 0u);

  GcResult result = VALUE(collect_garbage(*store_, false));
  EXPECT_EQ(result.groups, dry.groups);
  EXPECT_GT(result.freed_bytes, 200u * 50000);
  expect_whole();

  GcResult again = VALUE(collect_garbage(*store_, false));
  EXPECT_EQ(again.objects, 0u);
  store_.reset();
  store_ = VALUE(Store::open(dir_.path()));
  expect_whole();
  image("other:2", 5, base);  // numbers are not given twice
  expect_whole();
}

TEST_F(Gc, WhatAKilledImportLeftGoes) {
  image("a:1", 3);
  {
    ContentWriter writer(store_->chunks(), store_->objects());
    ASSERT_OK(writer.append(random_.bytes(20 << 20)));
    VALUE(writer.finish());
    ASSERT_OK(store_->chunks().flush());
    ASSERT_OK(
        store_->database().flush({Family::chunk_index, Family::objects, Family::object_index}));
  }
  store_.reset();
  store_ = VALUE(Store::open(dir_.path()));
  GcResult result = VALUE(collect_garbage(*store_, false));
  EXPECT_GT(result.group_bytes, 20u << 20);
  EXPECT_GT(result.freed_bytes, 19u << 20);
  expect_whole();
}

TEST_F(Gc, KeepsWhatAContainerUses) {
  ImageRecord record = image("a:1", 20);
  Container container;
  container.name = "web";
  container.reference = "a:1";
  container.image = record.id;
  container.chain_id = record.chain_id;
  {
    UniqueFd lock = VALUE(lock_containers(dir_.path()));
    ASSERT_OK(create_container(dir_.path(), container));
  }
  CatalogBatch batch;  // behind rmi's back, which would refuse
  batch.delete_ref("a:1");
  batch.delete_image(record.id);
  ASSERT_OK(store_->publish(std::move(batch)));
  GcResult result = VALUE(collect_garbage(*store_, false));
  EXPECT_EQ(result.layers + result.chains + result.objects + result.groups, 0u);
  ASSERT_OK(store_->catalog().chain(record.chain_id));
}

TEST_F(Gc, DeletesNothingWhereARootIsDamaged) {
  ImageRecord record = image("a:1", 20);
  image("b:1", 20);
  ASSERT_OK(remove_image(*store_, "b:1"));
  ChainRecord chain = VALUE(store_->catalog().chain(record.chain_id));
  rocksdb::WriteBatch batch;
  batch.Delete(store_->database().handle(Family::objects), be64(raw(chain.root)));
  ASSERT_OK(store_->database().write(batch));
  ASSERT_OK(store_->database().flush({Family::objects}));
  store_.reset();
  store_ = VALUE(Store::open(dir_.path()));
  uint64_t before = 0, after = 0;
  ASSERT_OK(for_each_group(store_->database(), [&](auto&) { return ++before; }));
  EXPECT_ERRNO(collect_garbage(*store_, false), EUCLEAN);
  ASSERT_OK(for_each_group(store_->database(), [&](auto&) { return ++after; }));
  EXPECT_EQ(before, after);
}

// Numbers of deleted groups would be in the way of others' copies for ever.
TEST_F(Gc, CopiesOfGroupsGoWithGroups) {
  image("a:1", 20);
  image("b:1", 200);
  ModelTree few = empty_model(), many = empty_model();  // in one table
  for (int i = 0; i < 40; ++i)
    (i < 5 ? few : many).root.children[std::to_string(i)] =
        model_file(*store_, random_.bytes(50000));
  publish_image(*store_, few, "few:1");
  publish_image(*store_, many, "many:1");
  std::string path = GroupCopies::path_in(dir_.path());
  VALUE(GroupCopies::open(path, 1, 1)).add(std::vector<GroupId>{1}, 1 << 20, [&](GroupId) {
    return random_.bytes(30'000);
  });
  ASSERT_OK(sync_file(VALUE(open_file(path, O_RDWR)).get(), path));
  uint64_t with_copy = VALUE(measure_usage(*store_)).disk_bytes;
  EXPECT_GE(VALUE(measure_usage(*store_)).hint_bytes, 30'000u);
  VALUE(collect_garbage(*store_, false));
  EXPECT_TRUE(path_exists(path)) << "nothing was deleted";
  ASSERT_OK(GroupCopies::remove(path));
  EXPECT_LE(VALUE(measure_usage(*store_)).disk_bytes, with_copy - 30'000);
  VALUE(GroupCopies::open(path, 1, 1));
  ASSERT_OK(remove_image(*store_, "few:1"));
  VALUE(collect_garbage(*store_, false));
  EXPECT_TRUE(path_exists(path)) << "too few are dead to delete them";
  ASSERT_OK(remove_image(*store_, "b:1"));
  VALUE(collect_garbage(*store_, true));
  EXPECT_TRUE(path_exists(path)) << "nothing was deleted";
  VALUE(collect_garbage(*store_, false));
  EXPECT_FALSE(path_exists(path));
}

TEST_F(Gc, UsageIsExact) {
  std::string common = random_.bytes(200000), only_a = random_.bytes(70000),
              only_b = random_.bytes(30000);
  auto publish = [&](const std::string& reference, const std::string& own) {
    ModelTree tree = empty_model();
    tree.root.children["common"] = model_file(*store_, common);
    tree.root.children["own"] = model_file(*store_, own);
    publish_image(*store_, tree, reference);
  };
  publish("a:1", only_a);
  publish("b:1", only_b);
  Usage usage = VALUE(measure_usage(*store_));
  ASSERT_EQ(usage.images.size(), 2u);
  constexpr uint64_t kHeader = sizeof("header of a:1") - 1;
  for (const ImageUsage& image : usage.images) {
    uint64_t own = (image.references[0] == "a:1" ? only_a : only_b).size();
    EXPECT_EQ(image.logical_bytes, common.size() + own);
    EXPECT_EQ(image.shared_bytes, common.size());
    EXPECT_EQ(image.unique_bytes, own + kHeader);
    EXPECT_NEAR(image.stored_bytes, common.size() + own, 2000);  // random bytes do not compress
    EXPECT_NEAR(image.unique_stored_bytes, own, 2000);
  }
  EXPECT_EQ(usage.shared_bytes, common.size());
  EXPECT_EQ(usage.data_bytes, common.size() + only_a.size() + only_b.size() + 2 * kHeader);
  EXPECT_EQ(usage.logical_bytes, 2 * common.size() + only_a.size() + only_b.size());
  EXPECT_LT(usage.unreferenced_bytes, 1000u);
  EXPECT_GT(usage.disk_bytes, usage.stored_bytes);
  ASSERT_OK(remove_image(*store_, "a:1"));
  usage = VALUE(measure_usage(*store_));
  ASSERT_EQ(usage.images.size(), 1u);
  EXPECT_EQ(usage.images[0].shared_bytes, 0u);
  EXPECT_NEAR(usage.unreferenced_bytes, only_a.size(), 2000);
}

}  // namespace
}  // namespace layerfs
