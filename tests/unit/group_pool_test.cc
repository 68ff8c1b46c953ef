// SPDX-License-Identifier: Apache-2.0
#include "layerdb/store/group_pool.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "layerdb/base/sys.h"
#include "layerdb/store/chunk_store.h"
#include "tests/support/random.h"
#include "tests/support/result_matchers.h"
#include "tests/support/temp_dir.h"

namespace layerfs {
namespace {

using test_support::TempDir;

constexpr uint64_t kStore = 7;

std::string pool_bytes(GroupId group) {
  return std::string(1000 + group * 7919 % 90'000, static_cast<char>('a' + group % 26)) +
         std::to_string(group);
}

class GroupPoolTest : public ::testing::Test {
 protected:
  std::unique_ptr<GroupPool> join(uint64_t identity = kStore) {
    return VALUE(GroupPool::join(dir_.path(), identity));
  }
  size_t links() const {
    return size_t(std::distance(std::filesystem::directory_iterator(dir_.path()), {}));
  }
  TempDir dir_;
  std::string out_;
};

TEST_F(GroupPoolTest, WhatOnePutsAnotherGets) {
  auto one = join(), other = join();
  EXPECT_FALSE(other->get(5, out_));
  EXPECT_FALSE(other->may_have(5));
  one->put(5, pool_bytes(5));
  EXPECT_TRUE(other->may_have(5));
  ASSERT_TRUE(other->get(5, out_));
  EXPECT_EQ(out_, pool_bytes(5));
  out_.assign(40, ' ');
  ASSERT_TRUE(other->read(5, 100, out_));
  EXPECT_EQ(out_, pool_bytes(5).substr(100, 40));
  EXPECT_FALSE(other->read(5, pool_bytes(5).size() - 39, out_));
  one.reset();  // who began it may leave
  auto third = join();
  ASSERT_TRUE(third->get(5, out_));
  EXPECT_EQ(out_, pool_bytes(5));
}

TEST_F(GroupPoolTest, KnowsWhetherThereAreOthers) {
  auto one = join();
  EXPECT_FALSE(one->has_others());
  auto other = join();
  EXPECT_TRUE(one->has_others() && other->has_others());
  other.reset();
  EXPECT_FALSE(one->has_others());
  int joined[2];
  ASSERT_EQ(::pipe(joined), 0);
  pid_t child = ::fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    auto mine = GroupPool::join(dir_.path(), kStore);
    if (!mine.ok() || ::write(joined[1], "j", 1) != 1) ::_exit(1);
    for (;;) ::pause();
  }
  ::close(joined[1]);
  char word;
  EXPECT_EQ(::read(joined[0], &word, 1), 1);
  ::close(joined[0]);
  EXPECT_TRUE(one->has_others());
  ::kill(child, SIGKILL);
  ASSERT_EQ(::waitpid(child, nullptr, 0), child);
  other = join();  // counts anew
  EXPECT_TRUE(one->has_others());
  other.reset();
  EXPECT_FALSE(one->has_others());
}

TEST_F(GroupPoolTest, OnlyItsOwnMembersAreOthers) {
  // A process that runs and has another file there, one of another store, and an attempt to join.
  std::filesystem::create_symlink("/dev/null", dir_ / (std::to_string(::getpid()) + "-0"));
  auto stranger = join(kStore + 1);
  auto one = join();
  EXPECT_FALSE(one->has_others());
  auto other = join();
  UniqueFd next(::open("/dev/null", O_RDONLY));  // the descriptor that one more would have
  std::string in_the_way = dir_ / fmt::format("{}-{}", ::getpid(), next.get());
  next.reset();
  std::filesystem::create_directories(in_the_way + "/full");
  EXPECT_FALSE(GroupPool::join(dir_.path(), kStore).ok());
  EXPECT_TRUE(one->has_others());
  other.reset();
  EXPECT_FALSE(one->has_others());
}

TEST_F(GroupPoolTest, AnotherStoreHasAnotherPool) {
  auto one = join();
  one->put(5, pool_bytes(5));
  EXPECT_FALSE(join(kStore + 1)->get(5, out_));
}

TEST_F(GroupPoolTest, TheLongestUnusedMakesRoom) {
  auto pool = join();
  constexpr size_t kSame = 9600;  // groups so far apart are of one set
  for (GroupId i = 1; i <= 8; ++i) pool->put(i * kSame, pool_bytes(i));
  EXPECT_TRUE(pool->get(kSame, out_));
  pool->put(9 * kSame, std::string(kMaxGroupBytes, 'x'));
  EXPECT_TRUE(pool->get(kSame, out_));
  EXPECT_FALSE(pool->get(2 * kSame, out_));
  ASSERT_TRUE(pool->get(9 * kSame, out_));
  EXPECT_EQ(out_, std::string(kMaxGroupBytes, 'x'));
}

// Time and memory as a test wants them.
class GrowingPoolTest : public GroupPoolTest {
 protected:
  static constexpr uint64_t kSecond = 1'000'000'000;
  static constexpr GroupId kSame = 9600;  // groups so far apart are of one set
  static inline uint64_t now_, available_;

  void SetUp() override {
    now_ = 100 * kSecond;
    available_ = 1 << 30;
    pool_ = VALUE(GroupPool::join(dir_.path(), kStore, host()));
  }
  static GroupPool::Host host() {
    return {[] { return now_; }, [] { return available_; }};
  }
  // How many of the set were not there.
  int ask(GroupId first, GroupId count) {
    int missed = 0;
    for (GroupId i = first; i < first + count; ++i, ++now_) {
      if (pool_->get(i * kSame, out_)) continue;
      ++missed;
      pool_->put(i * kSame, raw_);
    }
    return missed;
  }
  // Everybody sweeps in turn: after so long each set was looked at.
  void rest(uint64_t nanoseconds) {
    for (uint64_t end = now_ + nanoseconds; now_ < end; now_ += kSecond / 9)
      (void)pool_->get(1, out_);
  }

  std::unique_ptr<GroupPool> pool_;
  const std::string raw_ = std::string(4096, 'x');
};

TEST_F(GrowingPoolTest, WhatIsAskedForAgainGetsMoreRoom) {
  EXPECT_EQ(ask(1, 40), 40);
  EXPECT_EQ(ask(1, 40), 32) << "the last eight were there, and none went meanwhile";
  EXPECT_EQ(ask(1, 40), 0);
  EXPECT_EQ(ask(101, 40), 40) << "of what comes once the set keeps what it has room for";
  EXPECT_EQ(ask(1, 80), 80);
  EXPECT_EQ(pool_->memory_bytes() >> 12, 64u + (256 >> 2)) << "no more than 64 slots, and a header";
}

TEST_F(GrowingPoolTest, RoomThatNobodyUsesAnyMoreGoesAgain) {
  ask(1, 40);
  uint64_t before = pool_->memory_bytes();
  ask(1, 40);
  uint64_t grown = pool_->memory_bytes();
  EXPECT_GE(grown, before + 30 * raw_.size());
  rest(9 * kSecond);
  EXPECT_EQ(pool_->memory_bytes(), grown);
  rest(12 * kSecond);
  EXPECT_EQ(pool_->memory_bytes(), before);
}

TEST_F(GrowingPoolTest, NoMoreIsTakenThanCanBeSpared) {
  available_ = 1 << 20;
  ask(1, 40);
  uint64_t before = pool_->memory_bytes();
  EXPECT_EQ(ask(1, 40), 40);
  EXPECT_EQ(pool_->memory_bytes(), before);
  available_ = 1 << 30;
  now_ += kSecond;
  ask(1, 40);
  EXPECT_GT(pool_->memory_bytes(), before);
  available_ = 1 << 19;  // what was added goes at once, used or not
  for (int i = 0; i < 11; ++i) {
    ask(1, 20);
    rest(kSecond);
  }
  EXPECT_EQ(pool_->memory_bytes(), before);
}

TEST_F(GroupPoolTest, MemoryIsBoundedAndGivenBackWhenNobodyUsesIt) {
  auto one = join(), other = join();
  for (GroupId i = 1; i <= 3000; ++i) one->put(i, pool_bytes(i));
  uint64_t full = one->memory_bytes();
  EXPECT_GT(full, 20u << 20);
  EXPECT_LT(full, 100u << 20);
  other->release(3600);
  EXPECT_EQ(one->memory_bytes(), full);
  other->release(0);
  EXPECT_LT(one->memory_bytes(), 1u << 20);
  EXPECT_FALSE(one->get(3000, out_));
  one->put(3000, pool_bytes(3000));
  EXPECT_TRUE(other->get(3000, out_));
}

TEST_F(GroupPoolTest, WhoLeavesLastTakesTheMemoryAlong) {
  auto one = join(), other = join();
  one->put(5, pool_bytes(5));
  other->put(6, pool_bytes(6));
  one.reset();
  EXPECT_TRUE(other->get(5, out_)) << "another used it since";
  auto third = join();
  third->put(7, pool_bytes(7));
  third.reset();
  EXPECT_FALSE(other->get(7, out_));
  EXPECT_LT(other->memory_bytes(), 1u << 20);
}

TEST_F(GroupPoolTest, LinksOfTheDeadGoAndOnlyThose) {
  constexpr int kNobody = 1 << 23;  // no process has such a number
  std::string gone = std::to_string(kNobody) + "-3";
  std::filesystem::create_symlink("/proc/" + std::to_string(kNobody) + "/fd/3", dir_ / gone);
  std::ofstream(dir_ / "keep") << "not ours";
  std::ofstream(dir_ / (std::to_string(kNobody) + "-x")) << "not ours";
  auto pool = join();
  EXPECT_EQ(links(), 3u);
  pool->put(5, pool_bytes(5));
  EXPECT_TRUE(join()->get(5, out_));
  pool.reset();
  EXPECT_EQ(links(), 2u);
}

// What a number names that went to another process, or that somebody laid there.
TEST_F(GroupPoolTest, WhatIsNoPoolIsNotEntered) {
  uint64_t size = [&] {
    auto pool = join();
    std::string link = std::filesystem::directory_iterator(dir_.path())->path();
    return std::filesystem::file_size(link);
  }();
  auto lay = [&](int fd) {
    std::string number = std::to_string(fd), pid = std::to_string(::getpid());
    std::filesystem::create_symlink("/proc/" + pid + "/fd/" + number, dir_ / (pid + "-" + number));
  };
  TempDir elsewhere;
  UniqueFd file = VALUE(open_file(elsewhere / "file", O_RDWR | O_CREAT));
  UniqueFd open_memory(::memfd_create("layerfs-groups", MFD_CLOEXEC | MFD_ALLOW_SEALING));
  UniqueFd small(::memfd_create("layerfs-groups", MFD_CLOEXEC | MFD_ALLOW_SEALING));
  UniqueFd foreign(::memfd_create("layerfs-groups", MFD_CLOEXEC | MFD_ALLOW_SEALING));
  for (int fd : {file.get(), open_memory.get(), foreign.get()})
    ASSERT_EQ(::ftruncate(fd, off_t(size)), 0);
  constexpr int kSealed = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL;
  for (int fd : {small.get(), foreign.get()}) ASSERT_EQ(::fcntl(fd, F_ADD_SEALS, kSealed), 0);
  for (int fd : {file.get(), open_memory.get(), small.get(), foreign.get()}) lay(fd);
  auto pool = join();
  pool->put(5, pool_bytes(5));
  EXPECT_TRUE(join()->get(5, out_));
}

// Processes that put and get are killed and stopped at random moments: what others get is right all
// the same, and nobody waits for them.
TEST_F(GroupPoolTest, ProcessesMayDieAndStopAnywhere) {
  test_support::Random random;
  auto pool = join();
  std::vector<std::string> right(1001);  // made before, so that most of the time goes into copies
  for (GroupId group = 1; group < right.size(); ++group) right[group] = pool_bytes(group);
  // How often it found what it asked for; -1 when that was wrong.
  auto work = [&right](GroupPool& mine, test_support::Random& numbers, int count) {
    std::string raw;
    int found = 0;
    for (int i = 0; i != count; ++i) {
      GroupId group = numbers.between(1, 1000);
      size_t offset = numbers.below(1000);
      raw.resize(numbers.below(1000));
      bool part = numbers.one_in(2);
      if (part ? !mine.read(group, offset, raw) : !mine.get(group, raw)) {
        mine.put(group, right[group]);
      } else {
        if (raw != (part ? right[group].substr(offset, raw.size()) : right[group])) return -1;
        ++found;
      }
    }
    return found;
  };
  std::vector<pid_t> stopped;
  for (int round = 0; round < 60; ++round) {
    pid_t child = ::fork();
    ASSERT_GE(child, 0);
    if (child == 0) {
      test_support::Random numbers(static_cast<uint64_t>(round));
      work(*pool, numbers, -1);
      ::_exit(1);  // it found wrong bytes
    }
    ::usleep(static_cast<useconds_t>(random.below(3000)));
    bool stop = random.below(4) == 0;
    ::kill(child, stop ? SIGSTOP : SIGKILL);
    if (stop) {
      stopped.push_back(child);
    } else {
      int status = 0;
      ASSERT_EQ(::waitpid(child, &status, 0), child);
      EXPECT_TRUE(WIFSIGNALED(status));
    }
    EXPECT_GT(work(*pool, random, 500), 0);
  }
  for (pid_t child : stopped) {
    int status = 0;
    ::kill(child, SIGKILL);
    ASSERT_EQ(::waitpid(child, &status, 0), child);
    EXPECT_TRUE(WIFSIGNALED(status));
  }
}

}  // namespace
}  // namespace layerfs
