// SPDX-License-Identifier: Apache-2.0
#include "layerdb/upper/upper.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <linux/magic.h>
#include <rocksdb/perf_context.h>
#include <rocksdb/perf_level.h>
#include <signal.h>
#include <sys/vfs.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <random>

#include "layerdb/base/sys.h"
#include "tests/support/random.h"
#include "tests/support/temp_dir.h"
#include "tests/support/upper_fixture.h"

namespace layerfs {
namespace {

TEST(Upper, KeepsRecordsAcrossReopening) {
  test_support::TempDir dir;
  InodeRecord file = regular(Body::small, 5);
  InodeRecord link;
  link.attributes.type = FileType::symlink;
  link.symlink_target = "../a b";
  InodeRecord lower = regular(Body::lower, 9);
  lower.lower_size_bytes = 9;
  lower.own_xattrs = true;
  {
    auto upper = open_upper(dir.path());
    EXPECT_EQ(upper->allocate_ino(), kFirst);
    EXPECT_EQ(upper->allocate_ino(), kFirst + 1);
    ASSERT_TRUE(apply(*upper, [&](Upper::Transaction& t) {
                  t.put_inode(kFirst, file);
                  t.put_small_body(kFirst, std::string_view("a\0b\nc", 5));
                  t.put_inode(kFirst + 1, link);
                  t.put_inode(17, lower);
                  t.put_xattr(17, "user.x", std::string_view("\0\xff", 2));
                  t.put_xattr(17, "user.a", "");
                  t.put_name(1, "new", {kFirst, FileType::regular, true});
                  t.put_name(1, "gone", {});
                }).ok());
  }
  auto upper = open_upper(dir.path());
  EXPECT_EQ(**upper->inode(kFirst), file);
  EXPECT_EQ(**upper->inode(kFirst + 1), link);
  EXPECT_EQ(**upper->inode(17), lower);
  EXPECT_FALSE(upper->inode(18)->has_value());
  EXPECT_FALSE(upper->inode(kFirst + 2)->has_value());
  EXPECT_EQ(*upper->small_body(kFirst), std::string("a\0b\nc", 5));
  EXPECT_EQ(*upper->xattrs(17), (Xattrs{{"user.a", ""}, {"user.x", std::string("\0\xff", 2)}}));
  EXPECT_EQ(**upper->xattr(17, "user.a"), "");
  EXPECT_FALSE(upper->xattr(17, "user.b")->has_value());
  EXPECT_EQ((**upper->name(1, "new")).ino, kFirst);
  EXPECT_TRUE((**upper->name(1, "new")).over_lower);
  EXPECT_TRUE((**upper->name(1, "gone")).whiteout());
  EXPECT_FALSE(upper->name(1, "ne")->has_value());
  EXPECT_TRUE(upper->may_have_names(1));
  EXPECT_FALSE(upper->may_have_names(2));
  EXPECT_GT(upper->allocate_ino(), kFirst + 1);
}

TEST(Upper, ListsNamesOfOneDirectoryInBytewiseOrder) {
  test_support::TempDir dir;
  std::vector<std::string> expected = {"\x01", "a",    "a.",    "aa",
                                       "b\n",  "\x7f", "\x80z", "\xff\xff\xff"};
  for (int i = 0; i < 600; ++i) expected.push_back("n" + std::to_string(i));
  std::sort(expected.begin(), expected.end());
  auto upper = open_upper(dir.path());
  for (Ino directory : {Ino{0x40}, Ino{0x41}, Ino{0x42}})
    ASSERT_TRUE(apply(*upper, [&](Upper::Transaction& t) {
                  for (const std::string& name : expected)
                    t.put_name(directory, name, {directory, FileType::fifo});
                }).ok());
  EXPECT_EQ(names(*upper, 0x41), expected);
  EXPECT_EQ(names(*upper, 0x41, "n300"),
            std::vector<std::string>(std::upper_bound(expected.begin(), expected.end(), "n300"),
                                     expected.end()));
  std::vector<uint64_t> positions;
  uint64_t after = 0;
  for (bool more = true; more;) {  // three at a time, as a small readdir buffer would
    more = false;
    int count = 0;
    ASSERT_TRUE(upper
                    ->list_by_position(0x41, after,
                                       [&](std::string_view name, const UpperName&) {
                                         more = ++count == 3;
                                         positions.push_back(after = name_position(name));
                                         return !more;
                                       })
                    .ok());
  }
  EXPECT_EQ(positions.size(), expected.size());
  EXPECT_TRUE(std::is_sorted(positions.begin(), positions.end()));
  ASSERT_TRUE(apply(*upper, [](Upper::Transaction& t) { t.delete_names(0x41); }).ok());
  EXPECT_TRUE(names(*upper, 0x41).empty());
  EXPECT_EQ(names(*upper, 0x42).size(), expected.size());
  upper.reset();
  upper = open_upper(dir.path());
  EXPECT_TRUE(upper->may_have_names(0x40));
  EXPECT_FALSE(upper->may_have_names(0x41));
  EXPECT_TRUE(upper->may_have_names(0x42));
}

// Removing a tree empties one directory after the other, and each is listed before it goes.
TEST(Upper, WhatWasDeletedInOneDirectoryCostsAnotherNothing) {
  test_support::TempDir dir;
  auto upper = open_upper(dir.path());
  auto change = [&](const std::function<void(Upper::Transaction&, const std::string&)>& one) {
    ASSERT_TRUE(apply(*upper, [&](Upper::Transaction& t) {
                  for (int i = 0; i < 1000; ++i) one(t, "n" + std::to_string(i));
                }).ok());
  };
  change([](auto& t, const std::string& name) { t.put_name(0x41, name, {9, FileType::fifo}); });
  change([](auto& t, const std::string& name) { t.delete_name(0x41, name); });
  ASSERT_TRUE(apply(*upper, [](Upper::Transaction& t) {
                t.put_name(0x40, "one", {9, FileType::fifo});
              }).ok());
  rocksdb::SetPerfLevel(rocksdb::PerfLevel::kEnableCount);
  rocksdb::get_perf_context()->Reset();
  EXPECT_EQ(names(*upper, 0x40), std::vector<std::string>{"one"});
  EXPECT_EQ(rocksdb::get_perf_context()->internal_delete_skipped_count, 0u);
  EXPECT_EQ(names(*upper, 0x41), std::vector<std::string>());
  EXPECT_EQ(rocksdb::get_perf_context()->internal_delete_skipped_count, 1000u);
  rocksdb::SetPerfLevel(rocksdb::PerfLevel::kDisable);
}

TEST(Upper, OpeningDoesNotWalkOverWhatWasDeleted) {
  test_support::TempDir dir;
  {
    auto upper = open_upper(dir.path());
    ASSERT_TRUE(apply(*upper, [](Upper::Transaction& t) {
                  t.put_inode(17, regular(Body::small, 0));
                  t.put_name(1, "stays", {17, FileType::regular});
                  for (Ino i = 0; i < 1000; ++i) t.put_inode(kFirst + i, regular(Body::small, 0));
                }).ok());
    ASSERT_TRUE(apply(*upper, [](Upper::Transaction& t) {
                  for (Ino i = 0; i < 1000; ++i) t.delete_inode(kFirst + i);
                }).ok());
  }
  rocksdb::SetPerfLevel(rocksdb::PerfLevel::kEnableCount);
  rocksdb::get_perf_context()->Reset();
  auto upper = open_upper(dir.path());
  EXPECT_EQ(rocksdb::get_perf_context()->internal_delete_skipped_count, 0u);
  rocksdb::SetPerfLevel(rocksdb::PerfLevel::kDisable);
  EXPECT_TRUE(upper->inode(17)->has_value());
  EXPECT_TRUE(upper->may_have_names(1));
}

TEST(Upper, ATransactionSeesWhatItSaidOfTheSameInode) {
  test_support::TempDir dir;
  auto upper = open_upper(dir.path());
  ASSERT_TRUE(apply(*upper, [](Upper::Transaction& t) {
                t.put_xattr(kFirst, "user.old", "1");
                t.put_inode(kFirst + 1, regular(Body::small, 1));  // stays
                InodeRecord record = regular(Body::small, 2);
                record.own_xattrs = true;
                t.put_inode(kFirst, record);
                t.put_small_body(kFirst, "ab");
                t.put_xattr(kFirst, "user.new", "2");
                t.delete_inode(kFirst);
                t.put_name(1, "after", {kFirst + 1, FileType::regular});
              }).ok());
  EXPECT_FALSE(upper->inode(kFirst)->has_value());
  EXPECT_EQ(*upper->xattrs(kFirst), Xattrs());
  EXPECT_EQ(upper->small_body(kFirst).error().code, EUCLEAN);
  EXPECT_TRUE(upper->inode(kFirst + 1)->has_value());
  EXPECT_EQ(names(*upper, 1), std::vector<std::string>{"after"});
}

TEST(Upper, DeletingAnInodeTakesEverythingOfIt) {
  test_support::TempDir dir;
  auto upper = open_upper(dir.path());
  InodeRecord record = regular(Body::file, 100);
  record.own_xattrs = true;
  ASSERT_TRUE(upper->write_body(5, 10, "hello").ok());
  ASSERT_TRUE(apply(*upper, [&](Upper::Transaction& t) {
                t.put_inode(5, record);
                t.put_xattr(5, "user.a", "1");
                t.put_xattr(6, "user.b", "2");
                t.add_range(5, {10, 5});
              }).ok());
  ASSERT_TRUE(apply(*upper, [](Upper::Transaction& t) { t.delete_inode(5); }).ok());
  ASSERT_TRUE(upper->remove_body(5).ok());
  ASSERT_TRUE(upper->sync(0).ok());  // until then the body is doomed only
  EXPECT_FALSE(upper->inode(5)->has_value());
  EXPECT_TRUE(upper->xattrs(5)->empty());
  EXPECT_EQ(upper->xattrs(6)->size(), 1u);
  EXPECT_TRUE(upper->ranges(5, 0, 1000)->empty());
  char buffer[8];
  EXPECT_EQ(*upper->read_body(5, 0, buffer), 0u);
}

TEST(Upper, BodiesReadWriteTruncatePunchSeek) {
  test_support::TempDir dir;
  auto upper = open_upper(dir.path());
  Ino ino = upper->allocate_ino();
  std::string data(300000, 'x');
  ASSERT_TRUE(upper->write_body(ino, 1 << 20, data).ok());
  ASSERT_TRUE(apply(*upper, [&](Upper::Transaction& t) {
                t.put_inode(ino, regular(Body::file, (1 << 20) + data.size()));
              }).ok());
  std::string got(10, '?');
  EXPECT_EQ(*upper->read_body(ino, (1 << 20) - 5, got), 10u);
  EXPECT_EQ(got, std::string(5, '\0') + "xxxxx");
  EXPECT_EQ(*upper->seek_body(ino, 0, SEEK_DATA), 1u << 20);
  ASSERT_TRUE(upper->punch_body(ino, 1 << 20, 65536).ok());
  EXPECT_EQ(*upper->seek_body(ino, 0, SEEK_DATA), (1u << 20) + 65536);
  ASSERT_TRUE(upper->truncate_body(ino, (1 << 20) + 100000).ok());
  EXPECT_EQ(*upper->read_body(ino, (1 << 20) + 99998, got), 2u);
  EXPECT_EQ(upper->seek_body(ino, 1 << 22, SEEK_HOLE).error().code, ENXIO);
  ASSERT_TRUE(upper->allocate_body(ino, 0, 8192).ok());
  EXPECT_GT(*upper->stored_bytes(), 8192u);
  ASSERT_TRUE(upper->sync(ino).ok());
  ASSERT_TRUE(upper->sync(0).ok());
}

TEST(Upper, ManyBodiesNeedFewDescriptors) {
  test_support::TempDir dir;
  auto upper = open_upper(dir.path());
  for (int i = 0; i < 600; ++i) {
    Ino ino = upper->allocate_ino();
    ASSERT_TRUE(upper->write_body(ino, 0, std::to_string(ino)).ok());
    ASSERT_TRUE(
        apply(*upper, [&](Upper::Transaction& t) { t.put_inode(ino, regular(Body::file)); }).ok());
  }
  EXPECT_LT(list_directory("/proc/self/fd")->size(), 220u);
  for (Ino ino = kFirst; ino < kFirst + 600; ++ino) {
    std::string got(8, '?');
    EXPECT_EQ(*upper->read_body(ino, 0, got), 4u);
    EXPECT_EQ(got.substr(0, 4), std::to_string(ino));
  }
  ASSERT_TRUE(upper->sync(0).ok());
}

// A body written for a transaction that never came must not show up under a later one.
TEST(Upper, BodyOfAnUnfinishedChangeIsDropped) {
  test_support::TempDir dir;
  ASSERT_TRUE(open_upper(dir.path())->write_body(7, 0, "stale stale").ok());
  auto upper = open_upper(dir.path());
  ASSERT_TRUE(upper->write_body(7, 6, "new").ok());
  ASSERT_TRUE(
      apply(*upper, [](Upper::Transaction& t) { t.put_inode(7, regular(Body::file, 9)); }).ok());
  upper.reset();
  upper = open_upper(dir.path());
  std::string got(9, '?');
  EXPECT_EQ(*upper->read_body(7, 0, got), 9u);
  EXPECT_EQ(got, std::string(6, '\0') + "new");
  // Back to a small body; the process ends before it removes the file.
  ASSERT_TRUE(apply(*upper, [](Upper::Transaction& t) {
                t.put_inode(7, regular(Body::small, 1));
                t.put_small_body(7, "s");
                t.drop_body(7);
              }).ok());
  upper.reset();
  upper = open_upper(dir.path());
  ASSERT_TRUE(upper->sync(0).ok());  // until then the body is doomed only
  EXPECT_EQ(*upper->read_body(7, 0, got), 0u);
  EXPECT_FALSE(path_exists(dir.path() + "/data/07/7"));
}

TEST(Upper, OrphansAreReapedAtOpen) {
  test_support::TempDir dir;
  auto upper = open_upper(dir.path());
  Ino ino = upper->allocate_ino();
  ASSERT_TRUE(upper->write_body(ino, 0, "body").ok());
  ASSERT_TRUE(apply(*upper, [&](Upper::Transaction& t) {
                t.put_inode(ino, regular(Body::file, 4));
                t.put_orphan(ino);
                t.put_inode(3, regular(Body::lower));
                t.put_orphan(3);
                t.put_inode(4, regular(Body::lower));
              }).ok());
  EXPECT_EQ(*upper->orphans(), (std::vector<Ino>{3, ino}));
  upper.reset();
  upper = open_upper(dir.path());
  EXPECT_TRUE(upper->orphans()->empty());
  EXPECT_FALSE(upper->inode(ino)->has_value());
  EXPECT_FALSE(upper->inode(3)->has_value());
  EXPECT_TRUE(upper->inode(4)->has_value());
  EXPECT_EQ(*upper->stored_bytes() > 0, true);
  size_t files = 0;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(dir.path() + "/data"))
    files += entry.is_regular_file();
  EXPECT_EQ(files, 0u);
}

TEST(Upper, RangesMatchABitmap) {
  test_support::TempDir dir;
  test_support::Random random;
  auto upper = open_upper(dir.path());
  constexpr uint64_t kSize = 300;
  std::vector<bool> model(kSize + 1);
  ASSERT_TRUE(apply(*upper, [](Upper::Transaction& t) {
                t.add_range(8, {0, 1000});
                t.add_range(10, {0, 1000});
              }).ok());
  for (int step = 0; step < 1500; ++step) {
    ASSERT_TRUE(apply(*upper, [&](Upper::Transaction& t) {
                  for (int change = random.below(3); change >= 0; --change) {
                    uint64_t from = random.below(kSize);
                    if (random.one_in(4)) {
                      t.clear_ranges(9, from);
                      std::fill(model.begin() + from, model.end(), false);
                    } else {
                      uint64_t length = std::min<uint64_t>(random.below(40), kSize - from);
                      t.add_range(9, {from, length});
                      std::fill_n(model.begin() + from, length, true);
                    }
                  }
                }).ok());
    uint64_t from = random.below(kSize);
    uint64_t length = random.below(100);
    std::vector<bool> seen(kSize + 1);
    uint64_t last_end = 0;
    bool first = true;
    std::vector<Range> ranges = *upper->ranges(9, from, length);
    for (const Range& range : ranges) {
      ASSERT_GE(range.offset, from);
      ASSERT_LE(range.offset + range.length, from + length);
      ASSERT_TRUE(first || range.offset > last_end) << "ranges overlap or touch";
      last_end = range.offset + range.length;
      first = false;
      std::fill_n(seen.begin() + range.offset, range.length, true);
    }
    for (uint64_t i = from; i < from + length && i < kSize; ++i)
      ASSERT_EQ(seen[i], model[i]) << "at " << i << " in step " << step;
    ASSERT_EQ(*upper->range_bytes(9), uint64_t(std::count(model.begin(), model.end(), true)));
    if (step % 500 == 499) {
      upper.reset();
      upper = open_upper(dir.path());
    }
  }
  EXPECT_EQ(upper->ranges(8, 0, 5000)->size(), 1u);
  EXPECT_EQ(upper->ranges(10, 999, UINT64_MAX)->size(), 1u);
}

TEST(Upper, NothingAcknowledgedIsLostByKill) {
  test_support::TempDir dir;
  int pipe_fds[2];
  ASSERT_EQ(::pipe(pipe_fds), 0);
  pid_t child = ::fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    auto upper = open_upper(dir.path());
    for (;;) {
      Ino ino = upper->allocate_ino();
      std::string name = "f" + std::to_string(ino);
      Status status = apply(*upper, [&](Upper::Transaction& t) {
        t.put_inode(ino, regular(Body::small, name.size()));
        t.put_small_body(ino, name);
        t.put_name(1, name, {ino, FileType::regular});
      });
      if (!status.ok() || ::write(pipe_fds[1], &ino, sizeof ino) != sizeof ino) ::_exit(1);
    }
  }
  ::close(pipe_fds[1]);
  Ino acknowledged = 0;
  for (int i = 0; i < 3000; ++i)
    ASSERT_EQ(::read(pipe_fds[0], &acknowledged, sizeof acknowledged),
              static_cast<ssize_t>(sizeof acknowledged));
  ::kill(child, SIGKILL);
  ::waitpid(child, nullptr, 0);
  while (::read(pipe_fds[0], &acknowledged, sizeof acknowledged) == sizeof acknowledged) {
  }
  ::close(pipe_fds[0]);
  auto upper = open_upper(dir.path());
  for (Ino ino = kFirst; ino <= acknowledged; ++ino) {
    std::string name = "f" + std::to_string(ino);
    ASSERT_TRUE(upper->inode(ino)->has_value()) << ino;
    ASSERT_EQ(*upper->small_body(ino), name);
    ASSERT_EQ((**upper->name(1, name)).ino, ino);
  }
  Ino next = upper->allocate_ino();
  EXPECT_FALSE(upper->inode(next)->has_value());
  EXPECT_GT(next, acknowledged);
}

TEST(Upper, AnotherProcessReadsWhileItIsOpen) {
  test_support::TempDir dir;
  int ready[2];
  ASSERT_EQ(::pipe(ready), 0);
  // Before this database has threads: what they hold at a fork, the child finds locked for ever.
  pid_t child = ::fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    char word;
    ::close(ready[1]);
    if (::read(ready[0], &word, 1) != 1) ::_exit(1);
    auto reader = open_upper(dir.path(), {.read_only = true});
    std::string got(4, '?');
    bool good =
        reader != nullptr && reader->inode(5)->has_value() &&
        names(*reader, 1) == std::vector<std::string>{"x"} && reader->read_body(5, 0, got).ok() &&
        got == "body" &&
        apply(*reader, [](Upper::Transaction& t) { t.delete_inode(5); }).error().code == EROFS;
    ::_exit(good ? 0 : 1);
  }
  auto upper = open_upper(dir.path());
  ASSERT_TRUE(upper->write_body(5, 0, "body").ok());
  ASSERT_TRUE(apply(*upper, [](Upper::Transaction& t) {
                t.put_inode(5, regular(Body::file, 4));
                t.put_name(1, "x", {5, FileType::regular});
              }).ok());
  ASSERT_EQ(::write(ready[1], "r", 1), 1);
  ::close(ready[1]);
  ::close(ready[0]);
  int status = 0;
  ::waitpid(child, &status, 0);
  EXPECT_EQ(status, 0);
  EXPECT_TRUE(apply(*upper, [](Upper::Transaction& t) { t.put_orphan(5); }).ok());
  Result<std::unique_ptr<Upper>> second = Upper::open(dir.path(), kFirst, {});
  ASSERT_FALSE(second.ok());
  EXPECT_EQ(second.error().code, EBUSY);
}

TEST(Upper, RefusesANewerFormatAndDamage) {
  test_support::TempDir dir;
  EXPECT_FALSE(Upper::open(dir.path(), kFirst, {.read_only = true}).ok());
  {
    auto upper = open_upper(dir.path());
    ASSERT_TRUE(apply(*upper, [](Upper::Transaction& t) { t.put_orphan(1); }).ok());
  }
  ASSERT_TRUE(write_file_atomically(dir.path() + "/upper/CURRENT", "nonsense\n").ok());
  Result<std::unique_ptr<Upper>> damaged = Upper::open(dir.path(), kFirst, {});
  ASSERT_FALSE(damaged.ok());
  EXPECT_EQ(damaged.error().code, EUCLEAN);
}

TEST(Upper, SizeLimitHoldsButRemovingGoesOn) {
  test_support::TempDir dir;
  auto upper = open_upper(dir.path(), {.size_limit_bytes = 4 << 20});
  std::string block(256 * 1024, 'b');
  Ino ino = upper->allocate_ino();
  Status status;
  uint64_t written = 0;
  for (; status.ok() && written < 64; ++written)
    status = upper->write_body(ino, written * block.size(), block);
  ASSERT_FALSE(status.ok());
  EXPECT_EQ(status.error().code, ENOSPC);
  EXPECT_GT(written, 8u);
  EXPECT_LE(written, 17u);
  InodeRecord record;
  record.attributes.type = FileType::regular;
  record.body = Body::file;
  ASSERT_TRUE(apply(*upper, [&](Upper::Transaction& t) {
                t.put_inode(ino, record);
                t.replaces();
              }).ok());
  EXPECT_TRUE(upper->write_body(ino, 0, block).ok()) << "in the place of other bytes";
  EXPECT_TRUE(upper->allocate_body(ino, 0, block.size()).ok());
  ASSERT_TRUE(upper->punch_body(ino, block.size(), block.size()).ok());
  ASSERT_TRUE(upper->allocate_body(ino, block.size(), block.size()).ok());
  uint64_t end = (written - 1) * block.size();
  EXPECT_FALSE(upper->write_body(ino, end - 4096, block).ok()) << "some of it beyond the end";
  bool allocated = upper->write_body(ino, block.size() / 2, block).ok();
  struct statfs host = {};  // tmpfs cannot tell of blocks without data
  ASSERT_EQ(::statfs(dir.path().c_str(), &host), 0);
  EXPECT_EQ(allocated, host.f_type != TMPFS_MAGIC) << "allocated before";
  EXPECT_TRUE(apply(*upper, [](Upper::Transaction& t) { t.put_name(1, "a", {}); }).ok());
  auto put_large = [&](Upper::Transaction& t) { t.put_xattr(ino, "user.x", block); };
  Status refused = apply(*upper, put_large);
  ASSERT_FALSE(refused.ok());
  EXPECT_EQ(refused.error().code, ENOSPC);
  EXPECT_TRUE(apply(*upper, [&](Upper::Transaction& t) {
                put_large(t);
                t.replaces();
              }).ok());
  ASSERT_TRUE(upper->remove_body(ino).ok());
  EXPECT_TRUE(upper->write_body(upper->allocate_ino(), 0, block).ok());
}

}  // namespace
}  // namespace layerfs
