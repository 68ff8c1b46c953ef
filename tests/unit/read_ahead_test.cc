// SPDX-License-Identifier: Apache-2.0
#include "layerdb/store/read_ahead.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <new>
#include <numeric>
#include <set>
#include <thread>

#include "tests/support/random.h"
#include "tests/support/result_matchers.h"
#include "tests/support/temp_dir.h"

namespace layerfs {
namespace {

using test_support::Random;
using test_support::TempDir;
using Groups = std::vector<GroupId>;

Groups in_any_order(GroupId first, size_t count, Random& random) {
  Groups run(count);
  std::iota(run.begin(), run.end(), first);
  for (size_t i = count; i > 1; --i) std::swap(run[i - 1], run[random.below(i)]);
  return run;
}

// Two threads fetch and prepare: nearly in order.
Groups sorted(Groups groups) {
  std::sort(groups.begin(), groups.end());
  return groups;
}

class ReadAheadTest : public ::testing::Test {
 protected:
  std::unique_ptr<ReadAhead> open() {
    return std::make_unique<ReadAhead>(
        VALUE(ReadHistory::open(ReadHistory::path_in(dir_.path()))),
        ReadAhead::Actions{[this](GroupId group, bool in_order) {
                             if (!in_order) prepare(group);
                           },
                           [this](GroupId group) { fetch(group); },
                           [this](auto groups) { return copy(groups); }});
  }
  void prepare(GroupId group) {
    std::lock_guard lock(mutex_);
    prepared_.push_back(group);
    if (starved_) throw std::bad_alloc();
  }
  Groups copy(std::span<const GroupId> groups) {
    std::lock_guard wait(copying_);
    copied_.assign(groups.begin(), groups.end());
    return copied_;
  }
  void fetch(GroupId group) {
    std::lock_guard lock(mutex_);
    fetched_.push_back(group);
    if (starved_) throw std::bad_alloc();
  }
  void learn(const Groups& run) {
    auto teacher = open();
    for (GroupId group : run) teacher->asked(group);
  }
  size_t fetched_count() {
    std::lock_guard lock(mutex_);
    return fetched_.size();
  }
  bool was_fetched(GroupId group) {
    std::lock_guard lock(mutex_);
    return std::find(fetched_.begin(), fetched_.end(), group) != fetched_.end();
  }
  // Once it is `count`; what else comes within a moment is too much.
  Groups fetched(size_t count) {
    for (int i = 0; i < 5000 && fetched_count() < count; ++i)
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
    std::lock_guard lock(mutex_);
    return fetched_;
  }

  void read_no_faster_than_it_fetches(const Groups& run, size_t count) {
    auto again = open();
    for (size_t i = 0; i < count; ++i) {
      again->asked(run[i]);
      fetched(i == 0 ? 0 : i + 1);
    }
  }

  TempDir dir_;
  Random random_;
  std::mutex mutex_;
  Groups fetched_, prepared_, copied_;
  bool starved_ = false;
  std::mutex copying_;
};

TEST_F(ReadAheadTest, FetchesWhatWasReadTheLastTime) {
  Groups run = in_any_order(1, 300, random_);
  learn(run);
  EXPECT_EQ(fetched(0), Groups());
  auto again = open();
  again->asked(run[0]);
  EXPECT_EQ(fetched(0), Groups()) << "one alone foretells nothing";
  again->asked(run[1]);
  EXPECT_EQ(sorted(fetched(4)), sorted({run[2], run[3], run[4], run[5]}));
  for (size_t i = 2; i < 100; ++i) again->asked(run[i]);
  Groups got = fetched(fetched_count());
  EXPECT_LE(std::find(run.begin(), run.end(), got.back()) - run.begin(), 99 + 32);
  // Whoever reads no faster than it fetches finds everything there.
  for (size_t i = 101; i < run.size(); ++i) {
    again->asked(run[i - 1]);
    for (int k = 0; k < 5000 && !was_fetched(run[i]); ++k)
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    ASSERT_TRUE(was_fetched(run[i])) << i;
  }
}

TEST_F(ReadAheadTest, TheDiskBeginsEarlier) {
  Groups run = in_any_order(1, 300, random_);
  for (GroupId& group : run) group *= 10;  // none follows another
  learn(run);
  read_no_faster_than_it_fetches(run, 100);
  size_t last = 0;
  for (GroupId group : fetched_)
    last =
        std::max(last, static_cast<size_t>(std::find(run.begin(), run.end(), group) - run.begin()));
  // All up to 64 before the last one fetched, but for those fetched at once; nothing twice.
  size_t first = last + 64 - prepared_.size();
  EXPECT_LE(first, 5u);
  EXPECT_EQ(sorted(prepared_), sorted(Groups(run.begin() + static_cast<ptrdiff_t>(first),
                                             run.begin() + static_cast<ptrdiff_t>(last) + 64)));
}

TEST_F(ReadAheadTest, WhatLiesInOrderTheKernelReadsAhead) {
  Groups run(300);
  std::iota(run.begin(), run.end(), 1000);
  for (size_t i = 100; i < run.size(); ++i) run[i] = 10'000 + 5 * i;
  learn(run);
  read_no_faster_than_it_fetches(run, 150);
  Groups expected = {run[3]};  // of two before it nothing can be said
  ASSERT_GT(prepared_.size(), 50u);
  for (size_t i = 100; expected.size() < prepared_.size(); ++i) expected.push_back(run[i]);
  EXPECT_EQ(sorted(prepared_), sorted(expected));
}

TEST_F(ReadAheadTest, WhatGroupsBuildOnComesAlong) {
  {
    auto teacher = open();
    for (GroupId group = 1; group <= 20; ++group) {
      teacher->asked(group);
      teacher->needed(group, 1000 + group);
      teacher->needed(1000 + group, 2000);  // named once
    }
  }
  auto again = open();
  again->asked(1);
  again->asked(2);
  EXPECT_EQ(sorted(fetched(4)), Groups({3, 4, 1002, 1003}));
  again->asked(3);
  EXPECT_EQ(sorted(fetched(7)), Groups({3, 4, 5, 1002, 1003, 1004, 1005})) << "five ahead of it";
  // The same again is not written again, whoever decodes what now.
  for (GroupId group = 4; group <= 20; ++group) again->asked(group);
  again.reset();
  size_t runs = 0;
  VALUE(ReadHistory::open_to_read(ReadHistory::path_in(dir_.path())))
      .for_each_run([&](auto, auto run) {
        ++runs;
        EXPECT_EQ(run.size(), 20u + 20 + 1);
      });
  EXPECT_EQ(runs, 1u);
}

TEST_F(ReadAheadTest, WhatIsReadAgainIsCopied) {
  auto start = [&](bool decode) {
    auto reader = open();
    // 1084 is noted where 60 was, so that is in the run twice.
    for (GroupId group : {50, 30, 40, 20, 60, 1084, 60}) {
      reader->asked(group);
      bool difference = group != 40 && group != 1084;
      if (decode && difference) reader->needed(group, 10);  // nobody asks for it
    }
    if (decode) reader->needed(31, 40);
    reader->asked(31);
  };
  start(true);
  EXPECT_EQ(copied_, Groups()) << "once is not again";
  start(true);
  EXPECT_EQ(copied_, Groups({50, 30, 20, 60, 31})) << "in their order, each once";
  ReadHistory history = VALUE(ReadHistory::open_to_read(ReadHistory::path_in(dir_.path())));
  ReadHistory::Place place = history.after(50).value();
  Groups behind(20);
  auto named = history.read(place, behind);
  EXPECT_EQ(Groups(named.begin(), named.end()), Groups({30, 40, 20, 60, 1084, 60, 31}))
      << "without bases";
  copied_.clear();
  start(false);
  EXPECT_EQ(copied_, Groups());
}

// Copying takes long; what is read meanwhile is learned all the same.
TEST_F(ReadAheadTest, LearnsWhileItCopies) {
  Groups run = in_any_order(1, 20, random_);
  auto reader = open();
  std::unique_lock busy(copying_);
  for (int round = 0; round < 2; ++round) {
    for (GroupId group : run) {
      reader->asked(group);
      reader->needed(group, 1000 + group);
    }
    reader->pause();
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
  }
  for (GroupId group : {500, 510, 505, 507, 503}) reader->asked(group);
  reader->pause();
  std::this_thread::sleep_for(std::chrono::milliseconds(50));
  busy.unlock();
  reader.reset();
  EXPECT_EQ(copied_, run);
  size_t runs = 0;
  VALUE(ReadHistory::open_to_read(ReadHistory::path_in(dir_.path())))
      .for_each_run([&](auto, auto found) { runs += found[0] == 500 && found.size() == 5; });
  EXPECT_EQ(runs, 1u);
}

TEST_F(ReadAheadTest, WhatIsLongIsNotCopied) {
  Groups run = in_any_order(1, 1500, random_);
  for (int round = 0; round < 3; ++round) {
    auto reader = open();
    for (GroupId group : run) {
      reader->asked(group);
      reader->needed(group, 10'000 + group);
      if (group % 8 == 0) fetched(0);
    }
  }
  EXPECT_EQ(copied_, Groups());
}

TEST_F(ReadAheadTest, LearnsRunsOfAnyLength) {
  Groups run = in_any_order(1, 5000, random_);
  learn(run);
  auto again = open();
  for (size_t i = 0; i < run.size(); ++i) {
    again->asked(run[i]);
    if (i % 4 == 0) std::this_thread::yield();
    if (i % 256 == 0) fetched(0);
  }
  Groups got = fetched(0);
  std::set<GroupId> unique(got.begin(), got.end());
  EXPECT_EQ(unique.size(), got.size()) << "nothing twice";
  EXPECT_GT(got.size(), 20u);
}

TEST_F(ReadAheadTest, WhoJumpsAboutHasNothingFetched) {
  learn(in_any_order(1, 10'000, random_));
  auto again = open();
  for (GroupId group : in_any_order(1, 10'000, random_)) again->asked(group);
  // By chance one in sixty is near where a stream is.
  EXPECT_LT(fetched(0).size(), 2000u);
}

// Requests of several groups each, at random places of a file that was read in order.
TEST_F(ReadAheadTest, OneRequestConfirmsNothing) {
  Groups run(1000);
  std::iota(run.begin(), run.end(), 1);
  learn(run);
  auto again = open();
  for (GroupId place : in_any_order(1, 9, random_))  // too far apart to be one stream's
    for (GroupId i = 0; i < 3; ++i) again->asked(100 * place + i, i > 0);
  EXPECT_EQ(fetched(0), Groups());
  again->pause();
  for (GroupId group = 1; group < 40; ++group) again->asked(group, group % 3 != 1);
  EXPECT_FALSE(fetched(10).empty()) << "the next request does";
}

// A run's end leaves the thread with nothing to do just after it was woken; it is woken again.
TEST_F(ReadAheadTest, ManyShortRunsInARow) {
  std::vector<Groups> runs;
  for (GroupId i = 0; i < 40; ++i) {
    runs.push_back(in_any_order(1 + 100 * i, 4 + i % 3, random_));
    learn(runs.back());
  }
  Groups last = in_any_order(10'000, 60, random_);
  learn(last);
  for (unsigned microseconds : {0, 100, 1000}) {
    auto again = open();
    for (const Groups& run : runs)
      for (GroupId group : run) {
        again->asked(group);
        std::this_thread::sleep_for(std::chrono::microseconds(microseconds));
      }
    size_t before = fetched_count();
    for (size_t i = 0; i < 30; ++i) again->asked(last[i]);
    EXPECT_GT(fetched(before + 2).size(), before + 1) << microseconds;
  }
}

TEST_F(ReadAheadTest, TwoAtOnceAreBothFollowed) {
  Groups one = in_any_order(1, 200, random_), other = in_any_order(1000, 200, random_);
  learn(one);
  learn(other);
  auto again = open();
  for (size_t i = 0; i < one.size(); ++i) {
    again->asked(one[i]);
    again->asked(other[i]);
    if (i % 8 == 0) fetched(0);
  }
  Groups got = fetched(0);
  size_t of_one = static_cast<size_t>(
      std::count_if(got.begin(), got.end(), [](GroupId g) { return g < 1000; }));
  EXPECT_GT(of_one, 20u);
  EXPECT_GT(got.size() - of_one, 20u);
}

TEST_F(ReadAheadTest, SomeOutOfOrderChangesNothing) {
  Groups run = in_any_order(1, 400, random_);
  learn(run);
  for (size_t i = 10; i + 3 < run.size(); i += 5) std::swap(run[i], run[i + 2]);
  auto again = open();
  for (GroupId group : run) {
    again->asked(group);
    if (group % 8 == 0) fetched(0);
  }
  EXPECT_GT(fetched(0).size(), 40u);
}

TEST_F(ReadAheadTest, AfterAPauseAllBeginsAnew) {
  Groups run = in_any_order(1, 100, random_);
  auto reader = open();
  for (int round = 0; round < 3; ++round) {
    size_t before = fetched_count();
    for (size_t i = 0; i < 10; ++i) reader->asked(run[i]);
    if (round == 0)
      EXPECT_EQ(fetched_count(), 0u);
    else
      EXPECT_GT(fetched(before + 1).size(), before) << "learned in the first round";
    for (size_t i = 10; i < run.size(); ++i) reader->asked(run[i]);
    reader->pause();
    reader->pause();
    size_t after = fetched_count() + 1;  // one may be on its way
    EXPECT_LE(fetched(0).size(), after);
  }
}

TEST_F(ReadAheadTest, WithoutMemoryItGoesOn) {
  Groups run = in_any_order(1, 100, random_);
  learn(run);
  starved_ = true;
  auto again = open();
  for (size_t i = 0; i < 50; ++i) again->asked(run[i]);
  EXPECT_GT(fetched(2).size(), 1u);
}

TEST_F(ReadAheadTest, FromManyThreadsWithPausesBetween) {
  Groups run = in_any_order(1, 3000, random_);
  learn(run);
  auto reader = open();
  {
    std::vector<std::jthread> threads;
    for (size_t t = 0; t < 4; ++t)
      threads.emplace_back([&, t] {
        for (size_t i = t; i < run.size(); ++i) {
          reader->asked(run[i]);
          if (i % 1000 == 10 * t) reader->pause();
        }
      });
  }
  reader.reset();
  for (GroupId group : fetched(0)) EXPECT_TRUE(group >= 1 && group <= 3000);
}

}  // namespace
}  // namespace layerfs
