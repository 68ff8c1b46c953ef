// SPDX-License-Identifier: Apache-2.0
//
// Recompressing: the same bytes under the same numbers, smaller; readers go on; a run that was
// stopped or failed leaves a whole store and the next one goes on.
#include "layerdb/store/recompress.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <map>
#include <set>
#include <vector>

#include "layerdb/base/coding.h"
#include "layerdb/ops/fsck.h"
#include "layerdb/ops/gc.h"
#include "layerdb/ops/remove_image.h"
#include "layerdb/store/catalog.h"
#include "layerdb/store/chunk_store.h"
#include "layerdb/store/group_codec.h"
#include "layerdb/store/maintenance.h"
#include "tests/support/faulty_env.h"
#include "tests/support/random.h"
#include "tests/support/result_matchers.h"
#include "tests/support/store_images.h"
#include "tests/support/temp_dir.h"

namespace layerfs {
namespace {

using test_support::FaultyEnv;
using test_support::Random;
using test_support::TempDir;

class Recompress : public ::testing::Test {
 protected:
  Recompress() : store_(VALUE(Store::open(dir_.path(), {.env = &env_}))) {
    for (int version = 0; version < 4; ++version) {
      if (version == 0) bytes_ = random_.text(500'000);
      for (size_t at = random_.below(600); at < bytes_.size(); at += 600 + random_.below(600))
        bytes_.replace(at, 4, random_.text(6));
      ModelTree tree = empty_model();
      tree.root.children["f"] = model_file(*store_, bytes_);
      tree.root.children["g"] = model_file(*store_, random_.text(100'000));
      publish_image(*store_, tree, "v:" + std::to_string(version));
    }
  }
  // Every group decoded, each by a cold reader.
  std::map<GroupId, std::string> contents(Store& store) {
    std::map<GroupId, std::string> out;
    std::vector<GroupId> numbers;
    EXPECT_TRUE(for_each_group(store.database(), [&](const GroupInfo& info) {
                  numbers.push_back(info.number);
                  return true;
                }).ok());
    for (GroupId number : numbers) out[number] = *VALUE(store.chunks().read_group(number));
    return out;
  }
  std::map<GroupId, std::string> records(Store& store) {
    std::map<GroupId, std::string> out;
    EXPECT_TRUE(for_each_group(store.database(), [&](const GroupInfo& info) {
                  out[info.number] = info.record;
                  return true;
                }).ok());
    return out;
  }
  uint64_t stored_bytes() {
    uint64_t sum = 0;
    for (const auto& [number, record] : records(*store_)) sum += record.size();
    return sum;
  }
  // Their numbers; the records would fill pages.
  static std::vector<GroupId> differences(const std::map<GroupId, std::string>& a,
                                          const std::map<GroupId, std::string>& b) {
    std::vector<GroupId> out;
    EXPECT_EQ(a.size(), b.size());
    for (const auto& [number, record] : a)
      if (auto it = b.find(number); it == b.end() || it->second != record) out.push_back(number);
    return out;
  }
  // The records of a copy of the store that is recompressed in one go.
  std::map<GroupId, std::string> recompressed_copy() {
    TempDir copy;
    store_.reset();  // which deletes files now and then
    std::filesystem::copy(dir_.path(), copy.path(), std::filesystem::copy_options::recursive);
    store_ = VALUE(Store::open(dir_.path(), {.env = &env_}));
    auto store = VALUE(Store::open(copy.path()));
    VALUE(recompress_groups(*store, {}));
    return records(*store);
  }
  void expect_whole() {
    for (const Finding& f : VALUE(check_store(*store_)).findings) ADD_FAILURE() << f.to_string();
  }

  TempDir dir_;
  Random random_;
  FaultyEnv env_;
  std::unique_ptr<Store> store_;
  std::string bytes_;
};

TEST_F(Recompress, SmallerAndTheSame) {
  auto before = contents(*store_);
  uint64_t stored = stored_bytes();
  auto reader = VALUE(Store::open(dir_.path(), {.read_only = true, .group_cache_bytes = 0}));
  RecompressResult result = VALUE(recompress_groups(*store_, {}));
  EXPECT_EQ(result.groups, before.size());
  EXPECT_LT(stored_bytes(), stored);
  EXPECT_LT(result.bytes_after, result.bytes_before);
  EXPECT_EQ(contents(*store_), before);
  EXPECT_EQ(contents(*reader), before);  // what it has open is gone from the directory
  expect_whole();
  for (const auto& [number, bytes] : before) {
    auto cold = VALUE(Store::open(dir_.path(), {.read_only = true}));
    EXPECT_EQ(*VALUE(cold->chunks().read_group(number)), bytes);
    EXPECT_LE(cold->chunks().counters().decoded_bytes, kOptimizedLimits.max_closure_bytes);
  }
  EXPECT_EQ(VALUE(recompress_groups(*store_, {})).groups, 0u);
}

// What has to be decoded for a group with these bases, itself not included, were it stored so.
uint64_t bytes_below(const std::map<GroupId, std::string>& records,
                     const std::vector<GroupId>& bases) {
  std::set<GroupId> closure(bases.begin(), bases.end());
  uint64_t bytes = 0;
  for (auto it = closure.rbegin(); it != closure.rend(); ++it) {  // bases have smaller numbers
    GroupRecord record = VALUE(parse_group(*it, records.at(*it)));
    bytes += record.raw_bytes;
    closure.insert(record.bases.begin(), record.bases.end());
  }
  return bytes;
}

TEST_F(Recompress, KeepsWhatWouldNotBecomeSmaller) {
  auto before = records(*store_);
  VALUE(recompress_groups(*store_, {}));
  auto after = records(*store_);
  size_t kept = 0;
  for (const auto& [number, record] : before) {
    GroupRecord old = VALUE(parse_group(number, record));
    uint64_t bytes = old.raw_bytes + bytes_below(after, old.bases);
    EXPECT_TRUE(after[number] == record || after[number].size() < record.size() ||
                bytes > kOptimizedLimits.max_closure_bytes)
        << number;
    kept += after[number] == record;
  }
  EXPECT_GT(kept, 0u);
  expect_whole();
}

// Later imports find bases among optimized groups, within what a reader of those may have to
// decode.
TEST_F(Recompress, LaterImportsBuildOnIt) {
  VALUE(recompress_groups(*store_, {}));
  std::map<GroupId, std::string> before = contents(*store_);
  uint64_t stored = stored_bytes();
  for (int version = 0; version < 3; ++version) {
    for (size_t at = random_.below(600); at < bytes_.size(); at += 600 + random_.below(600))
      bytes_.replace(at, 4, random_.text(6));
    ModelTree tree = empty_model();
    tree.root.children["f"] = model_file(*store_, bytes_);
    publish_image(*store_, tree, "later:" + std::to_string(version));
  }
  EXPECT_LT(stored_bytes() - stored, 3 * bytes_.size() / 8);
  size_t differences = 0;
  ASSERT_OK(for_each_group(store_->database(), [&](const GroupInfo& info) {
    differences += info.number > before.rbegin()->first && !info.bases.empty();
    return true;
  }));
  EXPECT_GE(differences, 3 * bytes_.size() / kGroupLimitBytes);
  for (const auto& [number, bytes] : contents(*store_)) {
    auto cold = VALUE(Store::open(dir_.path(), {.read_only = true}));
    EXPECT_EQ(*VALUE(cold->chunks().read_group(number)), bytes);
    EXPECT_LE(cold->chunks().counters().decoded_bytes, kOptimizedClosureBytes);
  }
  expect_whole();
}

TEST_F(Recompress, GoesOnWhereItWasStopped) {
  auto before = contents(*store_);
  auto in_one_go = recompressed_copy();
  std::atomic<bool> cancelled = false;
  RecompressOptions options{.cancelled = &cancelled, .batch_bytes = 200'000};
  options.progress = [&](uint64_t done, uint64_t total, const std::string&) {
    cancelled = done >= total / 2;
  };
  EXPECT_ERRNO(recompress_groups(*store_, options), ECANCELED);
  EXPECT_EQ(contents(*store_), before);
  expect_whole();
  cancelled = false;
  options.progress = nullptr;
  uint64_t rest = VALUE(recompress_groups(*store_, options)).groups;
  EXPECT_GT(rest, 0u);
  EXPECT_LE(rest, before.size() / 2 + 1);
  EXPECT_EQ(contents(*store_), before);
  EXPECT_EQ(differences(records(*store_), in_one_go), std::vector<GroupId>());
  ModelTree tree = empty_model();
  tree.root.children["f"] = model_file(*store_, random_.text(100'000) + bytes_);
  publish_image(*store_, tree, "new:1");
  uint64_t all = contents(*store_).size();
  EXPECT_EQ(VALUE(recompress_groups(*store_, {})).groups, all - before.size());
  expect_whole();
}

TEST_F(Recompress, LeavesAWholeStoreWhereverItFails) {
  auto before = contents(*store_);
  auto in_one_go = recompressed_copy();
  RecompressOptions options{.batch_bytes = 200'000};
  int failures = 0;
  for (int n = 0;; n += 7) {
    env_.fail_after(n, rocksdb::Status::IOError("faulty"));
    Result<RecompressResult> result = recompress_groups(*store_, options);
    bool failed = env_.failed();
    env_.work_again();
    store_->discard();
    EXPECT_EQ(contents(*store_), before);
    if (result.ok() && !failed) break;
    failures += result.ok() ? 0 : 1;
  }
  EXPECT_GT(failures, 3);
  EXPECT_EQ(differences(records(*store_), in_one_go), std::vector<GroupId>());
  expect_whole();
  EXPECT_EQ(VALUE(recompress_groups(*store_, options)).groups, 0u);
}

TEST_F(Recompress, PassesGapsAndDamage) {
  ASSERT_OK(remove_image(*store_, "v:1"));
  VALUE(collect_garbage(*store_, false));
  auto before = contents(*store_);
  GroupId damaged = before.rbegin()->first;
  std::string record = *VALUE(store_->database().get(Family::groups, be64(damaged)));
  auto put = [&](const std::string& value) {
    rocksdb::WriteBatch batch;
    batch.Put(store_->database().handle(Family::groups), be64(damaged), value);
    ASSERT_OK(store_->database().write(batch));
    ASSERT_OK(store_->database().flush({Family::groups}));
    store_.reset();
    store_ = VALUE(Store::open(dir_.path(), {.env = &env_}));
  };
  put(record.substr(0, record.size() / 2));
  EXPECT_EQ(VALUE(recompress_groups(*store_, {})).groups, before.size() - 1);
  put(record);
  EXPECT_EQ(contents(*store_), before);
  expect_whole();
}

TEST_F(Recompress, NeedsAStoreForWriting) {
  auto reader = VALUE(Store::open(dir_.path(), {.read_only = true}));
  EXPECT_ERRNO(recompress_groups(*reader, {}), EROFS);
}

}  // namespace
}  // namespace layerfs
