// SPDX-License-Identifier: Apache-2.0
#include "layerdb/store/group_copies.h"

#include <gtest/gtest.h>
#include <sys/stat.h>

#include <filesystem>
#include <fstream>
#include <map>

#include "layerdb/base/coding.h"
#include "tests/support/random.h"
#include "tests/support/result_matchers.h"
#include "tests/support/temp_dir.h"

namespace layerfs {
namespace {

using test_support::Random;
using test_support::TempDir;
using Numbers = std::vector<GroupId>;

constexpr uint64_t kPlenty = 1 << 30;

class GroupCopiesTest : public ::testing::Test {
 protected:
  GroupCopies open(uint64_t identity = 7, GroupId end = 50'000) {
    return VALUE(GroupCopies::open(path_, identity, end));
  }
  std::string record(GroupId group) {
    std::string& bytes = records_[group];
    if (bytes.empty()) bytes = random_.bytes(1 + random_.below(500));
    return bytes;
  }
  Numbers add(GroupCopies& copies, const Numbers& groups, uint64_t limit_bytes = kPlenty) {
    return copies.add(groups, limit_bytes, [&](GroupId group) -> Result<std::string> {
      if (group == kDamaged) return Error{EUCLEAN, "damaged"};
      return record(group);
    });
  }
  static size_t count(const GroupCopies& copies) {
    size_t n = 0;
    return copies.for_each([&](auto...) { ++n; }).ok() ? n : 1'000'000;
  }

  static constexpr GroupId kDamaged = 1313;
  TempDir dir_;
  Random random_;
  std::string path_ = GroupCopies::path_in(dir_.path());
  std::map<GroupId, std::string> records_;
};

TEST_F(GroupCopiesTest, KeepsWhatWasAdded) {
  GroupCopies copies = open(), other = open();
  EXPECT_EQ(copies.find(5), std::nullopt);
  EXPECT_FALSE(copies.begin_to_read(5));
  EXPECT_EQ(add(copies, {5, kDamaged, 3, 4000}), Numbers({5, 3, 4000}));
  EXPECT_EQ(add(copies, {3, 6}), Numbers({6})) << "those that had none";
  for (const GroupCopies* one : {&copies, &other}) {
    for (GroupId group : {3, 4000, 5, 6}) EXPECT_EQ(one->find(group), record(group));
    EXPECT_TRUE(one->begin_to_read(3));
    EXPECT_EQ(one->find(kDamaged), std::nullopt);
    EXPECT_EQ(count(*one), 4u);
  }
  EXPECT_EQ(VALUE(GroupCopies::open_to_read(path_)).find(5), record(5));
  EXPECT_EQ(add(copies, {uint64_t{1} << 32}), Numbers());
}

TEST_F(GroupCopiesTest, WhatOthersAddIsSeenLater) {
  GroupCopies copies = open(), other = open();
  EXPECT_EQ(other.find(5), std::nullopt);
  EXPECT_EQ(add(copies, {5, 6}), Numbers({5, 6}));
  EXPECT_EQ(other.find(5), std::nullopt) << "it knows which there are";
  other.forget_slots();
  EXPECT_EQ(other.find(5), record(5));
  EXPECT_EQ(add(copies, {7}), Numbers({7}));
  EXPECT_EQ(add(other, {7, 8}), Numbers({8})) << "who adds looks again";
  copies.forget_slots();
  for (GroupId group : {5, 6, 7, 8}) EXPECT_EQ(copies.find(group), record(group));
}

TEST_F(GroupCopiesTest, TakesNoMoreThanItMay) {
  GroupCopies copies = open();
  Numbers all(200);
  for (size_t i = 0; i < all.size(); ++i) all[i] = 1 + i;
  Numbers added = add(copies, all, 10'000);
  size_t bytes = 0;
  for (GroupId group : added) bytes += record(group).size() + 24;
  EXPECT_LE(bytes, 10'000u);
  EXPECT_GT(bytes, 10'000u - 600);
  for (GroupId group : {1000, 1001, 1002}) records_[group] = random_.bytes(700);
  EXPECT_EQ(add(copies, {1000, 1001, 1002}, 10'000).size(), 0u);
  EXPECT_EQ(count(copies), added.size());
  EXPECT_EQ(add(copies, {1000, 1001, 1002}, 20'000).size(), 3u) << "the store has grown";
}

TEST_F(GroupCopiesTest, AsManyAsHavePlaces) {
  GroupCopies copies = open();
  Numbers all(40'000);
  for (size_t i = 0; i < all.size(); ++i) records_[all[i] = 1 + i] = "r";
  Numbers added = add(copies, all);
  EXPECT_GT(added.size(), 15'000u);
  EXPECT_EQ(count(copies), added.size());
  for (GroupId group : added) ASSERT_EQ(copies.find(group), "r");
  EXPECT_LT(std::filesystem::file_size(path_), 4096 + (256 << 10) + 25 * added.size() + 1)
      << "nothing is written for the others";
}

// Who still has another database open neither finds this one's, nor adds to them.
TEST_F(GroupCopiesTest, AnotherDatabasesAreForgotten) {
  GroupCopies old = open(7);
  EXPECT_EQ(add(old, {1, 2, 3}).size(), 3u);
  EXPECT_EQ(count(open(7)), 3u);
  GroupCopies copies = open(8);
  EXPECT_EQ(count(copies), 0u);
  EXPECT_EQ(copies.find(1), std::nullopt);
  std::string of_old = record(2);
  records_.clear();
  EXPECT_EQ(add(copies, {2, 5}).size(), 2u);
  EXPECT_EQ(old.find(5), std::nullopt);
  EXPECT_EQ(old.find(2), of_old);
  EXPECT_EQ(add(old, {6}), Numbers());
  EXPECT_EQ(open(8).find(2), record(2));
  EXPECT_EQ(count(open(8)), 2u);
}

// A copy that came into another database's file is none there.
TEST_F(GroupCopiesTest, ACopyIsOfOneDatabase) {
  {
    GroupCopies copies = open(7);
    EXPECT_EQ(add(copies, {1}).size(), 1u);
  }
  std::string bytes = VALUE(read_file(path_));
  ASSERT_EQ(bytes[16], 7);
  bytes[16] = 8;
  std::ofstream(path_, std::ios::binary) << bytes;
  EXPECT_EQ(open(8).find(1), std::nullopt);
  EXPECT_EQ(open(7).find(1), std::nullopt) << "and made anew";
}

TEST_F(GroupCopiesTest, GoesWhenNumbersComeAgain) {
  ASSERT_OK(GroupCopies::remove_if_newer(path_, 1));
  GroupCopies copies = open(7, 20);
  open(7, 10);
  ASSERT_OK(GroupCopies::remove_if_newer(path_, 20));
  EXPECT_TRUE(std::filesystem::exists(path_));
  open(7, 21);
  ASSERT_OK(GroupCopies::remove_if_newer(path_, 20));  // whether or not it names one of these
  EXPECT_FALSE(std::filesystem::exists(path_));
  GroupCopies other = open(7, 20);
  EXPECT_EQ(add(copies, {19}), Numbers()) << "nobody would find it, nor should";
  EXPECT_EQ(count(other), 0u);
  std::filesystem::remove(path_);
  std::ofstream(path_) << "who knows";
  ASSERT_OK(GroupCopies::remove_if_newer(path_, 1000));
  EXPECT_FALSE(std::filesystem::exists(path_));
  std::filesystem::create_directory(path_);
  ASSERT_OK(GroupCopies::remove_if_newer(path_, 1));
}

TEST_F(GroupCopiesTest, WhoCannotWriteAtOnceDoesNot) {
  GroupCopies copies = open(), other = open();
  add(copies, {1, 2}, kPlenty);
  copies.add(Numbers{3}, kPlenty, [&](GroupId) -> Result<std::string> {
    EXPECT_EQ(add(other, {4}), Numbers());
    EXPECT_ERRNO(GroupCopies::open(path_, 8, 1), EAGAIN);
    return record(3);
  });
  EXPECT_EQ(count(other), 3u);
  ASSERT_OK(GroupCopies::remove(path_));
  EXPECT_EQ(add(other, {4}), Numbers()) << "nobody would find it";
  EXPECT_EQ(other.find(3), record(3));
}

TEST_F(GroupCopiesTest, AFileWhoseMakerWasKilledIsMadeAgain) {
  { GroupCopies copies = open(); }
  for (uintmax_t size = 0; size < 32; ++size) {
    std::filesystem::resize_file(path_, size);
    GroupCopies copies = open();
    EXPECT_EQ(add(copies, {size + 1}), Numbers({size + 1})) << size;
    EXPECT_EQ(count(copies), 1u);
    EXPECT_EQ(VALUE(GroupCopies::open_to_read(path_)).find(size + 1), record(size + 1));
    std::filesystem::resize_file(path_, 32);
  }
}

TEST_F(GroupCopiesTest, WhatIsNotItsOwnIsLeftAlone) {
  for (std::string theirs : {"something else altogether",
                             "layerfs copies\n\2 of a newer version, whose head is longer"}) {
    std::ofstream(path_) << theirs;
    EXPECT_ERRNO(GroupCopies::open(path_, 7, 1), EPROTO);
    EXPECT_ERRNO(GroupCopies::open_to_read(path_), EPROTO);
    EXPECT_EQ(VALUE(read_file(path_)), theirs);
  }
  std::filesystem::remove(path_);
  EXPECT_ERRNO(GroupCopies::open_to_read(path_), ENOENT);
  ASSERT_EQ(::mkfifo(path_.c_str(), 0600), 0);
  EXPECT_FALSE(GroupCopies::open(path_, 7, 1).ok());
  EXPECT_FALSE(GroupCopies::open_to_read(path_).ok());
  std::filesystem::remove(path_);
  std::filesystem::create_directory(path_);
  EXPECT_ERRNO(GroupCopies::open(path_, 7, 1), EISDIR);
}

// A copy is what was put there, or none.
TEST_F(GroupCopiesTest, DamageIsNoCopy) {
  Numbers all(300);
  for (size_t i = 0; i < all.size(); ++i) all[i] = 1 + i;
  {
    GroupCopies copies = open();
    ASSERT_EQ(add(copies, all), all);
  }
  std::string whole = VALUE(read_file(path_));
  size_t found = 0;
  for (int round = 0; round < 30; ++round) {
    std::string damaged = whole;
    for (int i = 0; i < 3000; ++i) damaged[32 + random_.below(whole.size() - 32)] ^= 1 << i % 8;
    // Slots that name other groups' copies.
    for (size_t from = 4096, last = 0; from < 4096 + (256 << 10); from += 16)
      if (load_fixed<uint32_t>(whole.data() + from + 4) != 0) {
        if (last != 0 && random_.below(2) == 0) damaged.replace(from + 4, 12, whole, last + 4, 12);
        last = from;
      }
    std::ofstream(path_, std::ios::binary) << damaged;
    GroupCopies copies = VALUE(GroupCopies::open(path_, 7, 1));
    for (GroupId group : all) {
      std::optional<std::string> copy = copies.find(group);
      ASSERT_EQ(copy.value_or(record(group)), record(group));
      found += copy.has_value();
      copies.begin_to_read(group);
    }
    std::filesystem::resize_file(path_, random_.below(whole.size() + 1));
    if (random_.below(2) == 0) copies.forget_slots();
    for (GroupId group : all) ASSERT_EQ(copies.find(group).value_or(record(group)), record(group));
  }
  EXPECT_GT(found, 0u);
  EXPECT_LT(found, 30 * all.size());
}

}  // namespace
}  // namespace layerfs
