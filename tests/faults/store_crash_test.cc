// SPDX-License-Identifier: Apache-2.0
//
// The store when the power fails around any sync of an import, a removal or a collection; when a
// collection is killed at any call; and on a disk that fails or fills up.
#include <gtest/gtest.h>

#include <filesystem>

#include "layerdb/ops/fsck.h"
#include "layerdb/ops/gc.h"
#include "layerdb/ops/remove_image.h"
#include "layerdb/store/content.h"
#include "layerdb/store/maintenance.h"
#include "tests/faults/crashing_disk.h"
#include "tests/support/result_matchers.h"
#include "tests/support/store_images.h"
#include "tests/support/temp_dir.h"

namespace layerfs {
namespace {

using test_support::CrashingDisk;
using test_support::HostCall;
using test_support::HostCalls;
using test_support::Loss;
using test_support::Random;
using test_support::TempDir;

using References = std::vector<std::string>;

References references(Store& store) {
  References out;
  auto found = VALUE(store.catalog().refs());
  for (const auto& [name, id] : found) out.push_back(name);
  return out;
}

void expect_whole(Store& store) {
  FsckResult result = VALUE(check_store(store));
  for (const Finding& finding : result.findings) ADD_FAILURE() << finding.to_string();
}

// Differs every few hundred bytes, so that groups of it become differences from groups of `bytes`.
std::string next_version(Random& random, std::string bytes) {
  for (size_t at = random.below(800); at < bytes.size(); at += 400 + random.below(800))
    bytes.replace(at, 4, random.bytes(4));
  return bytes;
}

size_t differences(Store& store) {
  size_t count = 0;
  EXPECT_TRUE(for_each_group(store.database(), [&](const GroupInfo& group) {
                count += group.bases.empty() ? 0 : 1;
                return true;
              }).ok());
  return count;
}

class StoreCrash : public ::testing::Test {
 protected:
  // Files named after their content, so that images share what has the same name; "x'" is another
  // version of "x".
  ImageRecord publish(Store& store, const std::string& reference, const References& files,
                      const std::optional<ImageRecord>& parent = {}) {
    ModelTree diff = empty_model();
    ModelNode& directory = diff.root.children["of " + reference] = model_directory();
    for (const std::string& name : files) {
      std::string& bytes = contents_[name];
      if (bytes.empty() && name.ends_with("'"))
        bytes = next_version(random_, contents_.at(name.substr(0, name.size() - 1)));
      if (bytes.empty()) bytes = random_.bytes(70'000);  // a group each
      directory.children[name] = model_file(store, bytes);
    }
    return publish_image(store, diff, reference, parent);
  }

  // Writes a history of publications, removals and collections down.
  void record() {
    std::filesystem::create_directory(dir_ / "live");
    HostCalls host(dir_ / "live");
    auto store = VALUE(Store::open(dir_ / "live"));
    auto step = [&] { steps_.push_back({host.count(), references(*store)}); };
    step();
    ImageRecord base = publish(*store, "base:1", {"a", "b", "c"});
    step();
    publish(*store, "child:1", {"d", "e"}, base);
    step();
    publish(*store, "other:1", {"f", "g", "h", "i"});
    step();
    publish(*store, "part:1", {"f", "j", "g'"});  // "g" stays as a base
    EXPECT_GT(differences(*store), 0u);
    step();
    ASSERT_OK(remove_image(*store, "other:1"));  // "f" stays: its table is rewritten
    step();
    ASSERT_OK(remove_image(*store, "child:1"));  // its table goes
    step();
    first_of_gc_ = host.count();
    GcResult collected = VALUE(collect_garbage(*store, false));
    EXPECT_GT(collected.groups, 1u);
    step();
    last_of_gc_ = host.count();
    publish(*store, "later:1", {"b", "g", "k", "a'"});
    EXPECT_GT(differences(*store), 1u);
    step();
    store.reset();
    store = VALUE(Store::open(dir_ / "live"));
    step();
    calls_ = host.calls();
  }

  bool check(const CrashingDisk& disk, size_t at, Loss loss) {
    std::string directory = dir_ / "crashed";
    disk.leave(directory, loss, random_);
    {
      HostCalls host(directory);  // nothing is really synced
      check_store_at(directory, at);
    }
    std::filesystem::remove_all(directory);
    ++checks_;
    if (HasFailure())
      ADD_FAILURE() << "crash before call " << at << ", loss " << static_cast<int>(loss);
    return !HasFailure();
  }

  void check_store_at(const std::string& directory, size_t at) {
    // What had been published, or is being published.
    size_t done = 0;
    while (done + 1 < steps_.size() && steps_[done + 1].calls <= at) ++done;
    auto store = VALUE(Store::open(directory));
    References found = references(*store);
    bool known = found == steps_[done].references ||
                 (done + 1 < steps_.size() && found == steps_[done + 1].references);
    EXPECT_TRUE(known) << "after step " << done << ": " << ::testing::PrintToString(found);
    expect_whole(*store);
    ASSERT_OK(collect_garbage(*store, false));
    publish(*store, "afterwards:1", {"a", "g", "z"});
    expect_whole(*store);
  }

  struct Step {
    size_t calls = 0;  // before it had returned
    References references;
  };
  TempDir dir_;
  Random random_;
  std::map<std::string, std::string> contents_;
  std::vector<Step> steps_;
  std::vector<HostCall> calls_;
  size_t first_of_gc_ = 0;
  size_t last_of_gc_ = 0;
  size_t checks_ = 0;
};

class StorePower : public StoreCrash, public ::testing::WithParamInterface<CrashingDisk::Names> {};

TEST_P(StorePower, FailsAroundEverySync) {
  record();
  std::filesystem::create_directory(dir_ / "empty");
  CrashingDisk disk(dir_ / "empty", GetParam());
  size_t syncs = 0;
  for (size_t at = 0; at < calls_.size(); ++at) {
    if (calls_[at].syncs()) {
      ++syncs;
      if (!check(disk, at, syncs % 2 == 0 ? Loss::torn : Loss::contents)) return;
    }
    if (at > 0 && calls_[at - 1].syncs() && !check(disk, at, Loss::unsynced)) return;
    disk.apply(calls_[at]);
  }
  std::printf("power failed %zu times around %zu syncs\n", checks_, syncs);
}

INSTANTIATE_TEST_SUITE_P(All, StorePower,
                         ::testing::Values(CrashingDisk::Names::journalled,
                                           CrashingDisk::Names::by_directory));

TEST_F(StoreCrash, ACollectionThatIsKilledAtAnyCallHurtsNothing) {
  record();
  std::filesystem::create_directory(dir_ / "empty");
  CrashingDisk disk(dir_ / "empty", CrashingDisk::Names::journalled);
  for (size_t at = 0; at <= last_of_gc_; ++at) {
    if (at >= first_of_gc_ && !check(disk, at, Loss::nothing)) return;
    disk.apply(calls_[at]);
  }
  std::printf("killed at %zu moments\n", checks_);
}

// Publishes with the Nth call failing, for every N until it succeeds.
class StoreFault : public StoreCrash,
                   public ::testing::WithParamInterface<std::pair<int, unsigned>> {};

Status publish_bytes(Store& store, std::string_view bytes) {
  ContentWriter writer(store.chunks(), store.objects());
  TRY(writer.append(bytes));
  LayerRecord layer{
      .diff_id = sha256(bytes), .tar = TRY(writer.finish()), .tar_bytes = bytes.size()};
  TRY(store.objects().put("an object of " + layer.diff_id.hex()));
  CatalogBatch batch;
  batch.put_layer(layer);
  return store.publish(std::move(batch));
}

std::string read_layer(Store& store, const Digest& id) {
  LayerRecord layer = VALUE(store.catalog().layer(id));
  std::string out(layer.tar_bytes, '?');
  ContentReader reader(store.chunks(), store.objects(), layer.tar, layer.tar_bytes);
  EXPECT_EQ(VALUE(reader.read(0, out)), layer.tar_bytes);
  return out;
}

TEST_P(StoreFault, LeavesTheStoreAsItWas) {
  auto [code, which] = GetParam();
  HostCalls host(dir_.path());
  std::string old_bytes = random_.text(200'000);
  std::string new_bytes = random_.bytes(250'000) + next_version(random_, old_bytes);
  auto store = VALUE(Store::open(dir_.path()));
  ASSERT_OK(publish_bytes(*store, old_bytes));
  int failures = 0;
  for (uint64_t n = 0;; n += n < 30 ? 1 : 3) {
    host.fail_after(n, code, which);
    Status published = publish_bytes(*store, new_bytes);
    bool failed = host.failed();
    host.work_again();
    store->discard();  // RocksDB may need a working disk to start again
    if (published.ok() && !failed) break;
    if (!published.ok()) {
      ++failures;
      EXPECT_EQ(published.error().code, code) << published.error().message;
    }
    // All or nothing. (All: the failing call did not matter, or was the very last sync.)
    if (VALUE(store->catalog().layers()).size() == 2) {
      EXPECT_EQ(read_layer(*store, sha256(new_bytes)), new_bytes);
      CatalogBatch batch;
      batch.delete_layer(sha256(new_bytes));
      ASSERT_OK(store->publish(std::move(batch)));
    }
    ASSERT_EQ(VALUE(store->catalog().layers()).size(), 1u) << "after call " << n;
    ASSERT_EQ(read_layer(*store, sha256(old_bytes)), old_bytes);
    ASSERT_LT(n, 1000u);
  }
  EXPECT_GT(failures, 5);
  EXPECT_GT(differences(*store), 0u);
  std::printf("%d publications failed\n", failures);
  EXPECT_EQ(read_layer(*store, sha256(new_bytes)), new_bytes);
  EXPECT_EQ(read_layer(*store, sha256(old_bytes)), old_bytes);
}

INSTANTIATE_TEST_SUITE_P(All, StoreFault,
                         ::testing::Values(std::pair(ENOSPC, unsigned{HostCalls::kGrowing}),
                                           std::pair(EIO, unsigned{HostCalls::kGrowing |
                                                                   HostCalls::kSyncing})));

}  // namespace
}  // namespace layerfs
