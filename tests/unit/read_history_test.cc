// SPDX-License-Identifier: Apache-2.0
#include "layerdb/store/read_history.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/file.h>
#include <sys/stat.h>

#include <filesystem>
#include <fstream>
#include <numeric>
#include <thread>

#include "layerdb/base/sys.h"
#include "tests/support/random.h"
#include "tests/support/result_matchers.h"
#include "tests/support/temp_dir.h"

namespace layerfs {
namespace {

using test_support::Random;
using test_support::TempDir;
using Groups = std::vector<GroupId>;

Groups numbers(GroupId first, size_t count) {
  Groups run(count);
  std::iota(run.begin(), run.end(), first);
  return run;
}

class ReadHistoryTest : public ::testing::Test {
 protected:
  ReadHistory open() { return VALUE(ReadHistory::open(path_)); }

  static Groups after(const ReadHistory& history, GroupId group, size_t count = 2000) {
    std::optional<ReadHistory::Place> place = history.after(group);
    if (!place) return {};
    Groups out(count);
    out.resize(history.read(*place, out).size());
    return out;
  }
  static std::vector<Groups> runs(const ReadHistory& history) {
    std::vector<Groups> out;
    history.for_each_run([&](auto, auto run) { out.emplace_back(run.begin(), run.end()); });
    return out;
  }

  TempDir dir_;
  std::string path_ = ReadHistory::path_in(dir_.path());
};

TEST_F(ReadHistoryTest, TellsWhatWasReadAfterAGroup) {
  Groups one = {5, 900, 6, 4'000'000'000, 7}, other = {40, 41, 6, 42, 43};
  ReadHistory writer = open();
  EXPECT_EQ(writer.after(5), std::nullopt);
  writer.append(one, false);
  writer.append(other, false);
  ReadHistory history = VALUE(ReadHistory::open_to_read(path_));
  EXPECT_EQ(after(history, 5), Groups({900, 6, 4'000'000'000, 7}));
  EXPECT_EQ(after(history, 7), Groups());
  EXPECT_EQ(after(history, 6), Groups({42, 43})) << "where it was named last";
  EXPECT_EQ(after(history, 8), Groups());
  EXPECT_EQ(runs(history), std::vector<Groups>({one, other}));
  EXPECT_ERRNO(ReadHistory::open_to_read(dir_ / "none"), ENOENT);
}

TEST_F(ReadHistoryTest, APlaceMovesOn) {
  ReadHistory history = open();
  history.append(numbers(100, 50), false);
  ReadHistory::Place place = history.after(100).value();
  Groups out(20);
  EXPECT_EQ(history.read(place, out).size(), 20u);
  EXPECT_EQ(out, numbers(101, 20));
  EXPECT_EQ(history.read(place, out).size(), 20u);
  EXPECT_EQ(out, numbers(121, 20));
  EXPECT_EQ(history.read(place, out).size(), 9u);
  EXPECT_EQ(history.read(place, out).size(), 0u);
}

TEST_F(ReadHistoryTest, PartsOfARunFollowEachOther) {
  ReadHistory history = open(), other = open();
  history.append(numbers(100, 10), true);
  history.append(numbers(110, 10), false);
  history.append(numbers(200, 10), true);
  EXPECT_EQ(after(history, 100), numbers(101, 19));
  other.append(numbers(300, 10), false);  // between two parts
  history.append(numbers(210, 10), false);
  EXPECT_EQ(after(history, 200), numbers(201, 9));
  EXPECT_EQ(after(history, 210), numbers(211, 9));
  EXPECT_EQ(after(history, 300), numbers(301, 9));
  EXPECT_EQ(runs(history).size(), 4u);
}

TEST_F(ReadHistoryTest, WhatIsKnownIsNotWrittenAgain) {
  ReadHistory history = open();
  Groups run = numbers(1, 300);
  history.append(run, false);
  history.append(run, false);
  history.append(numbers(50, 100), false);
  std::swap(run[17], run[18]);  // as threads do
  history.append(run, false);
  EXPECT_EQ(runs(history).size(), 1u);
  history.append(std::span(run).first(3), false);  // too short to be of use
  EXPECT_EQ(runs(history).size(), 1u);
  std::reverse(run.begin(), run.end());
  history.append(run, false);
  EXPECT_EQ(runs(history).size(), 2u);
}

TEST_F(ReadHistoryTest, TheOldestIsForgotten) {
  ReadHistory history = open();
  constexpr size_t kRun = 1000;
  for (GroupId i = 0; i < 200; ++i) history.append(numbers(1 + i * kRun, kRun), false);
  EXPECT_EQ(history.after(1), std::nullopt);
  // Of the last runs everything, also of the one that goes around the end of the file; an index
  // place has two owners now and then.
  size_t kept = 0;
  for (GroupId i = 70; i < 200; ++i)
    for (GroupId group = 1 + i * kRun; group < 1 + (i + 1) * kRun - 1; ++group)
      kept += after(history, group, 1) == Groups({group + 1});
  EXPECT_GT(kept, 95'000u);
  for (GroupId group = 1; group < 200 * kRun; group += 97) {
    Groups next = after(history, group, 100);
    for (size_t i = 0; i < next.size() && group + 1 + i <= 200 * kRun; ++i) EXPECT_NE(next[i], 0u);
  }
}

TEST_F(ReadHistoryTest, WhatIsReadAgainIsNotPushedOutByWhatIsNot) {
  ReadHistory history = open();
  Groups again = numbers(1, 300);
  GroupId next = 1000;
  for (int round = 0; round < 30; ++round) {
    history.append(again, false);
    for (int i = 0; i < 20; ++i, next += 1000) history.append(numbers(next, 1000), false);
    size_t foretold = 0;  // an index place has two owners now and then
    for (size_t i = 0; i + 1 < again.size(); ++i)
      foretold += after(history, again[i], 1) == Groups({again[i + 1]});
    EXPECT_GT(foretold, 190u) << round;
  }
  size_t written = 0;
  for (const Groups& run : runs(history)) written += run.size() == again.size();
  EXPECT_LE(written, 3u) << "no more often than needed";
}

TEST_F(ReadHistoryTest, NumbersThatDoNotFitAreNotRemembered) {
  ReadHistory history = open();
  Groups run = numbers(GroupId{1} << 32, 10);
  history.append(run, false);
  EXPECT_EQ(runs(history).size(), 0u);
  EXPECT_EQ(history.after(run[0]), std::nullopt);
}

TEST_F(ReadHistoryTest, WhoCannotWriteAtOnceDoesNot) {
  ReadHistory history = open();
  UniqueFd other = VALUE(open_file(path_, O_RDWR));
  ASSERT_EQ(::flock(other.get(), LOCK_EX), 0);
  history.append(numbers(1, 100), false);
  EXPECT_EQ(history.after(1), std::nullopt);
  ASSERT_EQ(::flock(other.get(), LOCK_UN), 0);
  history.append(numbers(1, 100), false);
  EXPECT_TRUE(history.after(1));
}

TEST_F(ReadHistoryTest, ReplacingWaitsAMoment) {
  ReadHistory history = open();
  Groups run = {5, 6, 7, 8, 9};
  std::vector<ReadHistory::BuiltOn> built_on = {{6, 1}};
  history.append(run, false, built_on);
  EXPECT_EQ(after(history, 5), Groups({6, 1, 7, 8, 9}));
  EXPECT_TRUE(history.append(run, false)) << "known";
  UniqueFd other = VALUE(lock_file(path_));
  {
    std::jthread writer([&] { EXPECT_TRUE(history.replace(run, {})); });
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
    other.reset();
  }
  EXPECT_EQ(after(history, 5), Groups({6, 7, 8, 9}));
  other = VALUE(lock_file(path_));
  EXPECT_FALSE(history.replace(run, built_on));
}

TEST_F(ReadHistoryTest, AFileWhoseMakerWasKilledIsMadeAgain) {
  for (const char* leftover : {"", "layerfs", "layerfs reads\n\1"}) {
    std::ofstream(path_, std::ios::trunc) << leftover;
    ReadHistory history = open();
    history.append(numbers(1, 100), false);
    EXPECT_EQ(after(history, 1), numbers(2, 99));
  }
}

TEST_F(ReadHistoryTest, WhatIsNotItsOwnIsLeftAlone) {
  for (const std::string& foreign :
       {std::string("root:x:0:0\n"), std::string("layerfs reads\n\2\0more", 20)}) {
    std::ofstream(path_, std::ios::trunc) << foreign;
    EXPECT_ERRNO(ReadHistory::open(path_), EPROTO);
    EXPECT_EQ(VALUE(read_file(path_)), foreign);
  }
  std::filesystem::remove(path_);
  ASSERT_EQ(::mkfifo(path_.c_str(), 0600), 0);
  EXPECT_FALSE(ReadHistory::open(path_).ok());
  EXPECT_FALSE(ReadHistory::open_to_read(path_).ok());
}

TEST_F(ReadHistoryTest, WhatAGroupBuildsOnStandsBehindIt) {
  ReadHistory history = open();
  history.append(numbers(1, 5), false);
  std::vector<ReadHistory::BuiltOn> built_on = {{101, 1}, {1, 77}, {102, 2}, {103, 2}, {999, 5}};
  history.append(numbers(101, 4), true, built_on);
  history.append(numbers(105, 4), false, built_on);
  EXPECT_EQ(after(history, 101), Groups({1, 77, 102, 2, 103, 104, 105, 106, 107, 108}));
  // It was not asked for there, so nothing follows from its being asked for.
  EXPECT_EQ(after(history, 1), numbers(2, 4));
  EXPECT_EQ(history.after(77), std::nullopt);
  history.append(numbers(101, 4), false, built_on);
  EXPECT_EQ(runs(history).size(), 2u) << "known already";
  // As many as there can be behind one group hide no neighbour.
  built_on.clear();
  for (GroupId base = 1; base <= 32; ++base) built_on.push_back({1000, base});
  for (int i = 0; i < 2; ++i) history.append(numbers(1000, 4), false, built_on);
  EXPECT_EQ(runs(history).size(), 3u);
}

TEST_F(ReadHistoryTest, AnotherVersionsFileIsLeftAlone) {
  open().append(numbers(1, 100), false);
  std::fstream file(path_, std::ios::in | std::ios::out);
  file.seekp(14);
  file.put('\x7f').flush();
  EXPECT_ERRNO(ReadHistory::open(path_), EPROTO);
  EXPECT_ERRNO(ReadHistory::open_to_read(path_), EPROTO);
  std::filesystem::remove(path_);
  std::filesystem::create_directory(path_);
  EXPECT_ERRNO(ReadHistory::open(path_), EISDIR);
}

TEST_F(ReadHistoryTest, DamageIsAWrongGuessAtWorst) {
  Random random;
  for (int round = 0; round < 20; ++round) {
    std::filesystem::remove(path_);
    ReadHistory history = open();
    history.append(numbers(1, 5000), false);
    std::fstream file(path_, std::ios::in | std::ios::out | std::ios::binary);
    for (int i = 0; i < 50; ++i) {
      file.seekp(static_cast<std::streamoff>(16 + random.below(1'500'000)));
      file << random.bytes(64);
    }
    file.flush();
    if (round % 4 == 0) std::filesystem::resize_file(path_, random.below(1'000'000));
    for (GroupId group = 1; group < 6000; group += 7) after(history, group, 64);
    history.append(numbers(10'000, 3000), false);
    runs(history);
  }
}

}  // namespace
}  // namespace layerfs
