// SPDX-License-Identifier: Apache-2.0
//
// Groups as differences: what resembles earlier groups is stored small, reads back, costs a bounded
// amount of decoding, keeps its bases alive, and shares their damage.
#include "layerdb/store/similarity.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <set>

#include "layerdb/base/coding.h"
#include "layerdb/ops/fsck.h"
#include "layerdb/ops/gc.h"
#include "layerdb/ops/remove_image.h"
#include "layerdb/store/catalog.h"
#include "layerdb/store/content.h"
#include "layerdb/store/group_codec.h"
#include "layerdb/store/maintenance.h"
#include "layerdb/view/tree_reader.h"
#include "tests/support/random.h"
#include "tests/support/result_matchers.h"
#include "tests/support/store_images.h"
#include "tests/support/temp_dir.h"

namespace layerfs {
namespace {

using test_support::Random;
using test_support::TempDir;

constexpr size_t kVersionBytes = 600'000;

// The next version of a file: a change every few hundred bytes, so that hardly a chunk is shared.
std::string next_version(Random& random, std::string bytes) {
  for (size_t at = random.below(500); at < bytes.size(); at += 500 + random.below(500))
    bytes.replace(at, 5, random.text(random.between(2, 9)));
  return bytes;
}

std::vector<GroupInfo> all_groups(Store& store) {
  std::vector<GroupInfo> groups;
  EXPECT_TRUE(for_each_group(store.database(), [&](const GroupInfo& info) {
                groups.push_back(info);
                return true;
              }).ok());
  return groups;
}

uint64_t stored_bytes(Store& store) {
  uint64_t sum = 0;
  for (const GroupInfo& group : all_groups(store)) sum += group.stored_bytes;
  return sum;
}

class Similarity : public ::testing::Test {
 protected:
  Similarity() { reopen(); }

  void reopen(bool read_only = false) {
    store_.reset();
    store_ = VALUE(Store::open(dir_.path(), {.read_only = read_only}));
  }
  ImageRecord image(const std::string& reference, const std::map<std::string, std::string>& files) {
    ModelTree tree = empty_model();
    for (const auto& [name, bytes] : files) tree.root.children[name] = model_file(*store_, bytes);
    return publish_image(*store_, tree, reference);
  }
  // Images v:0 to v:n-1, each with another version of the file "f".
  std::vector<std::string> versions(size_t n) {
    std::vector<std::string> out;
    for (size_t i = 0; i < n; ++i) {
      out.push_back(i == 0 ? random_.text(kVersionBytes) : next_version(random_, out.back()));
      image("v:" + std::to_string(i), {{"f", out.back()}});
    }
    return out;
  }
  std::vector<Finding> check() { return VALUE(check_store(*store_)).findings; }
  void expect_whole() {
    for (const Finding& finding : check()) ADD_FAILURE() << finding.to_string();
  }
  void put_group(GroupId number, const std::optional<std::string>& record) {
    rocksdb::WriteBatch batch;
    rocksdb::ColumnFamilyHandle* family = store_->database().handle(Family::groups);
    if (record)
      batch.Put(family, be64(number), *record);
    else
      batch.Delete(family, be64(number));
    ASSERT_OK(store_->database().write(batch));
    ASSERT_OK(store_->database().flush({Family::groups}));
    reopen();
  }
  // The group that most others build on.
  GroupId favourite_base() {
    std::map<GroupId, int> users;
    for (const GroupInfo& group : all_groups(*store_))
      for (GroupId base : group.bases) ++users[base];
    auto less = [](const auto& a, const auto& b) { return a.second < b.second; };
    return std::max_element(users.begin(), users.end(), less)->first;
  }

  TempDir dir_;
  Random random_;
  std::unique_ptr<Store> store_;
};

TEST_F(Similarity, VersionsAreStoredAsDifferences) {
  std::string first = random_.text(kVersionBytes);
  image("v:0", {{"f", first}});
  uint64_t alone = stored_bytes(*store_);
  image("v:1", {{"f", next_version(random_, first)}});
  EXPECT_LT(stored_bytes(*store_) - alone, alone / 4);
  expect_whole();
}

TEST_F(Similarity, AColdReadDecodesABoundedAmount) {
  versions(12);
  reopen(true);
  size_t differences = 0;
  for (const GroupInfo& group : all_groups(*store_)) {
    reopen(true);
    auto raw = VALUE(store_->chunks().read_group(group.number));
    EXPECT_LE(store_->chunks().counters().decoded_bytes, BaseLimits().max_closure_bytes);
    differences += group.bases.empty() ? 0 : 1;
    for (GroupId base : group.bases) EXPECT_LT(base, group.number);
  }
  EXPECT_GT(differences, 20u);
}

// Every group is decoded once, however many build on it.
TEST_F(Similarity, ReadingAllDecodesAllOnce) {
  versions(12);
  uint64_t raw_bytes = 0;
  for (const GroupInfo& group : all_groups(*store_)) raw_bytes += group.raw_bytes;
  reopen(true);
  for (const GroupInfo& group : all_groups(*store_))
    VALUE(store_->chunks().read_group(group.number));
  EXPECT_EQ(store_->chunks().counters().decoded_bytes, raw_bytes);
  EXPECT_EQ(store_->chunks().counters().groups_read, all_groups(*store_).size());
}

// What resembles nothing, or only a little, costs no base: a cold read decodes its group alone.
TEST_F(Similarity, GroupsThatShareLittleHaveNoBases) {
  constexpr size_t kShared = 3'000;  // of which no feature lies in what is shared, as of most
  std::string first = random_.text(kVersionBytes);
  image("v:0", {{"f", first}});
  size_t from = 1'000;
  while (!group_features(std::string_view(first).substr(from, kShared)).empty()) from += kShared;
  ASSERT_LT(from, first.size() - kShared);
  std::string second = random_.text(kVersionBytes);
  second.replace(kVersionBytes / 2, kShared, first, from, kShared);
  image("v:1", {{"f", second}});
  for (const GroupInfo& group : all_groups(*store_)) {
    EXPECT_TRUE(group.bases.empty());
    reopen(true);
    VALUE(store_->chunks().read_group(group.number));
    EXPECT_EQ(store_->chunks().counters().decoded_bytes, group.raw_bytes);
  }
}

TEST_F(Similarity, EqualInputGivesEqualGroupsWhateverTheThreadsDo) {
  std::vector<std::string> input = {random_.text(kVersionBytes)};
  for (int i = 0; i < 4; ++i) input.push_back(next_version(random_, input.back()));
  auto records_of = [&](const std::string& root) {
    auto store = VALUE(Store::open(root));
    for (const std::string& bytes : input) {
      ContentWriter writer(store->chunks(), store->objects());
      EXPECT_TRUE(writer.append(bytes).ok());
      EXPECT_TRUE(writer.finish().ok());
      EXPECT_TRUE(store->publish({}).ok());
    }
    std::vector<std::string> records;
    for (Family family : {Family::groups, Family::similar})
      EXPECT_TRUE(for_each_record(store->database(), family, [&](auto key, auto value) {
                    records.push_back(std::string(key) + std::string(value));
                    return true;
                  }).ok());
    return records;
  };
  EXPECT_EQ(records_of(dir_ / "one"), records_of(dir_ / "two"));
}

TEST_F(Similarity, ADamagedBaseNamesEveryFileItAffects) {
  versions(4);
  GroupId base = favourite_base();
  std::set<GroupId> affected = {base};
  for (const GroupInfo& group : all_groups(*store_))
    for (GroupId b : group.bases)
      if (affected.contains(b)) affected.insert(group.number);
  std::set<std::string> owners;
  auto images = VALUE(store_->catalog().images());
  auto references = VALUE(store_->catalog().refs());
  for (const ImageRecord& record : images) {
    for (const auto& [reference, id] : references) {
      if (id != record.id) continue;
      ChainRecord chain = VALUE(store_->catalog().chain(record.chain_id));
      Entry root = VALUE(read_root_page(store_->objects(), chain.root));
      auto found = VALUE(find_name(store_->objects(), root.tree.page, "f"));
      Entry file = VALUE(found.page->entry(found.index));
      ContentReader reader(store_->chunks(), store_->objects(), file.content, kVersionBytes);
      auto extents = VALUE(reader.extents(0, UINT64_MAX));
      for (const Extent& extent : extents)
        if (affected.contains(extent.group)) owners.insert("image " + reference);
    }
  }
  EXPECT_GT(owners.size(), 1u);
  for (bool missing : {false, true}) {
    std::string record = *VALUE(store_->database().get(Family::groups, be64(base)));
    put_group(base, missing ? std::nullopt : std::optional(record.substr(0, record.size() / 2)));
    std::set<std::string> named;
    for (const Finding& finding : check())
      if (finding.path == "/f") named.insert(finding.owner);
    for (const std::string& owner : owners) EXPECT_TRUE(named.contains(owner)) << owner;
    put_group(base, record);
    expect_whole();
  }
}

TEST_F(Similarity, ADamagedBaseIsNotBuiltOnAgain) {
  std::string first = random_.text(kVersionBytes);
  image("v:0", {{"f", first}});
  for (const GroupInfo& group : all_groups(*store_)) {
    std::string record = *VALUE(store_->database().get(Family::groups, be64(group.number)));
    put_group(group.number, record.substr(0, record.size() / 2));
  }
  GroupId damaged = all_groups(*store_).back().number;
  std::string second = next_version(random_, first);
  image("v:1", {{"f", second}});
  for (const GroupInfo& group : all_groups(*store_))
    if (group.number > damaged) {
      for (GroupId base : group.bases) EXPECT_GT(base, damaged);
    }
  for (const Finding& finding : check()) EXPECT_EQ(finding.owner.find("v:1"), std::string::npos);
}

TEST_F(Similarity, BasesStayWhileSomethingBuildsOnThem) {
  versions(3);
  ASSERT_OK(remove_image(*store_, "v:0"));
  ASSERT_OK(remove_image(*store_, "v:1"));
  VALUE(collect_garbage(*store_, false));
  expect_whole();
  reopen();
  expect_whole();
  ASSERT_OK(remove_image(*store_, "v:2"));
  GcResult result = VALUE(collect_garbage(*store_, false));
  EXPECT_GT(result.groups, 0u);
  EXPECT_TRUE(all_groups(*store_).empty());
  size_t hints = 0;
  ASSERT_OK(for_each_record(store_->database(), Family::similar,
                            [&](auto, auto) { return ++hints, true; }));
  EXPECT_EQ(hints, 0u);
}

TEST_F(Similarity, HintsAreOnlyHints) {
  std::string first = random_.text(kVersionBytes);
  std::vector<std::string> keys;
  image("v:0", {{"f", first}});
  ASSERT_OK(for_each_record(store_->database(), Family::similar, [&](auto key, auto) {
    keys.emplace_back(key);
    return true;
  }));
  ASSERT_GT(keys.size(), 20u);
  rocksdb::WriteBatch batch;  // gone, from the future, impossible, no number at all
  for (size_t i = 0; i < keys.size(); ++i) {
    std::string value = i % 4 == 3 ? "\xff" : similar_record(i % 4 == 0 ? 1'000'000 : 1 + i % 4);
    batch.Put(store_->database().handle(Family::similar), keys[i], value);
  }
  ASSERT_OK(store_->database().write(batch));
  image("v:1", {{"f", next_version(random_, first)}});
  expect_whole();
}

TEST_F(Similarity, AStoreOfVersionOneIsReadAndBroughtUpToDate) {
  {
    Database& database = store_->database();
    image("v:0", {{"f", random_.text(1000)}});
    rocksdb::WriteBatch batch;
    std::string format;
    put_u32(format, 1);
    put_u32(format, 1);
    batch.Put(database.handle(Family::meta), "format", format);
    ASSERT_OK(database.write(batch));
    ASSERT_OK(database.flush({Family::meta}));
    ASSERT_TRUE(database.db().DropColumnFamily(database.handle(Family::similar)).ok());
  }
  reopen(true);
  EXPECT_FALSE(store_->database().has(Family::similar));
  expect_whole();
  EXPECT_FALSE(family_sizes(store_->database()).empty());
  reopen();
  image("v:1", {{"f", random_.text(1000)}});
  reopen(true);
  expect_whole();
  EXPECT_EQ(VALUE(store_->database().get(Family::meta, "format"))->at(0), kFormatVersion);
}

// A reader follows bases of bases as far as `optimize` can make it have to, and no further.
TEST_F(Similarity, ChainsOfBasesEnd) {
  GroupEncoder encoder;
  GroupBases base;
  std::vector<std::string> raws;
  rocksdb::WriteBatch batch;
  for (GroupId number = 1; number <= kMaxReadDepth + 2; ++number) {
    raws.push_back(number == 1 ? random_.bytes(1'000) : raws.back() + random_.bytes(10));
    std::string record = VALUE(encoder.encode(number, raws.back(), base));
    EXPECT_EQ(VALUE(parse_group(number, record)).bases.size(), number == 1 ? 0u : 1u);
    batch.Put(store_->database().handle(Family::groups), be64(number), record);
    base = {};
    base.add(number, raws.back());
  }
  ASSERT_OK(store_->database().write(batch));
  ASSERT_OK(store_->database().flush({Family::groups}));
  reopen(true);
  EXPECT_ERRNO(store_->chunks().read_group(kMaxReadDepth + 2), EUCLEAN);
  EXPECT_EQ(*VALUE(store_->chunks().read_group(kMaxReadDepth + 1)), raws[kMaxReadDepth]);
}

TEST(GroupDifference, ReadsBackAndRejectsDamage) {
  Random random;
  GroupEncoder encoder;
  std::map<GroupId, std::string> raws = {{3, random.bytes(60'000)}, {8, random.bytes(60'000)}};
  GroupBases bases;
  for (const auto& [number, raw] : raws) bases.add(number, raw);
  std::string raw = raws[8].substr(10'000) + raws[3].substr(0, 10'000);
  std::string record = VALUE(encoder.encode(9, raw, bases));
  EXPECT_LT(record.size(), 200u);
  EXPECT_EQ(VALUE(parse_group(9, record)).bases, (std::vector<GroupId>{3, 8}));
  auto read = [&](GroupId number) -> Result<GroupBytes> {
    return std::make_shared<const std::string>(raws.at(number == 8 ? 8 : 3));
  };
  EXPECT_EQ(VALUE(decode_group(9, record, read)), raw);
  EXPECT_EQ(VALUE(encoder.encode(9, raw, bases)), record);  // the context keeps nothing
  std::string other = random.bytes(50'000);                 // which does not compress
  EXPECT_EQ(VALUE(parse_group(9, VALUE(encoder.encode(9, other, bases)))).bases.size(), 0u);
  EXPECT_EQ(VALUE(encoder.encode(9, raw, bases)), record);
  auto gone = [](GroupId) -> Result<GroupBytes> { return Error{EUCLEAN, "it is missing"}; };
  EXPECT_ERRNO(decode_group(9, record, gone), EUCLEAN);
  for (int i = 0; i < 500; ++i) {  // may decode to something, must not crash
    std::string bad = record;
    bad[random.below(bad.size())] ^= static_cast<char>(random.between(1, 255));
    Result<std::string> decoded = decode_group(9, bad, read);
    if (!decoded.ok()) {
      EXPECT_EQ(decoded.error().code, EUCLEAN);
    }
  }
  EXPECT_EQ(VALUE(decode_group(9, record, read)), raw);
}

TEST(GroupFeatures, DoNotDependOnPosition) {
  Random random;
  std::string content = random.bytes(60'000);
  std::vector<uint64_t> alone = group_features(content);
  std::vector<uint64_t> moved = group_features(random.bytes(4'321) + content);
  size_t common = 0;
  for (uint64_t feature : alone) common += std::count(moved.begin(), moved.end(), feature);
  EXPECT_GE(common + 2, alone.size());  // the first 64 bytes see what is before them
  EXPECT_TRUE(group_features("").empty());
}

// A hash depends on 64 bytes only: a window of them whose last byte has a feature has it anywhere.
TEST(GroupFeatures, AreFoundInAllPartsOfAGroup) {
  Random random;
  std::string window;
  std::vector<uint64_t> last;
  while (last.empty()) {
    window = random.bytes(64);
    std::vector<uint64_t> all = group_features(window);
    std::vector<uint64_t> before = group_features(window.substr(0, 63));
    std::set_difference(all.begin(), all.end(), before.begin(), before.end(),
                        std::back_inserter(last));
  }
  for (size_t size : {64, 65, 255, 256, 257, 1'000, 20'001})
    for (int i = 0; i < 40; ++i) {
      std::string raw = random.bytes(size);
      raw.replace(random.below(size - 63), 64, window);
      std::vector<uint64_t> features = group_features(raw);
      EXPECT_EQ(std::count(features.begin(), features.end(), last[0]), 1) << size;
    }
}

}  // namespace
}  // namespace layerfs
