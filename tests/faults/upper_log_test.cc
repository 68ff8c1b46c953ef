// SPDX-License-Identifier: Apache-2.0
//
// A log of the upper that is damaged in the middle, against one that power loss cut off.
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "layerdb/upper/log_check.h"
#include "tests/faults/host_calls.h"
#include "tests/support/random.h"
#include "tests/support/temp_dir.h"
#include "tests/support/upper_fixture.h"

namespace layerfs {
namespace {

using test_support::HostCalls;
using test_support::Random;
using test_support::TempDir;

constexpr int kLoggedFiles = 60;

// Files 0 to 59, each in a transaction of its own.
void fill_log(const std::string& directory, int sync_after, size_t size_bytes = 1000) {
  auto upper = open_upper(directory);
  for (int i = 0; i < kLoggedFiles; ++i) {
    Status applied = apply(*upper, [&](Upper::Transaction& t) {
      Ino ino = upper->allocate_ino();
      t.put_name(1, std::to_string(i), {ino, FileType::regular});
      t.put_inode(ino, regular(Body::small, size_bytes));
      t.put_small_body(ino, std::string(size_bytes, static_cast<char>('a' + i % 26)));
    });
    ASSERT_TRUE(applied.ok());
    if (i == sync_after) {
      ASSERT_TRUE(upper->sync(0).ok());
    }
  }
}

std::string only_log(const std::string& directory) {
  std::string found;
  for (const auto& entry : std::filesystem::directory_iterator(directory + "/upper"))
    if (entry.path().extension() == ".log" && entry.file_size() > 0) found = entry.path();
  return found;
}

void damage(const std::string& path, size_t at) {
  std::fstream file(path, std::ios::in | std::ios::out | std::ios::binary);
  file.seekg(static_cast<std::streamoff>(at));
  char byte = static_cast<char>(file.get() ^ 0x10);
  file.seekp(static_cast<std::streamoff>(at));
  file.put(byte);
}

TEST(UpperLog, DamageInTheMiddleIsSaidWhereverItIs) {
  TempDir dir;
  Random random;
  fill_log(dir / "c", -1);
  for (int i = 0; i < 40; ++i) {
    std::filesystem::copy(dir / "c", dir / "damaged", std::filesystem::copy_options::recursive);
    std::string log = only_log(dir / "damaged");
    size_t size = std::filesystem::file_size(log);
    // Not the first change, which says in which boot it was made, nor the last one.
    size_t at = random.between(1500, size - 2500);
    damage(log, at);
    auto opened = Upper::open(dir / "damaged", kFirst, {});
    ASSERT_FALSE(opened.ok()) << "byte " << at;
    EXPECT_EQ(opened.error().code, EUCLEAN);
    EXPECT_NE(opened.error().message.find(log), std::string::npos) << opened.error().message;
    opened = Upper::open(dir / "damaged", kFirst, {.read_only = true});
    EXPECT_FALSE(opened.ok());  // so do diff, commit and fsck
    opened = Upper::open(dir / "damaged", kFirst, {.read_only = true, .despite_damage = true});
    ASSERT_TRUE(opened.ok()) << opened.error().message;
    size_t before = names(**opened, 1).size();
    EXPECT_LT(before, static_cast<size_t>(kLoggedFiles));
    std::filesystem::remove_all(dir / "damaged");
  }
}

// A log is read 256 KiB at a time, and these records cross both such borders and blocks.
TEST(UpperLog, DamageIsSaidWhereverItIsInALargeLog) {
  TempDir dir;
  Random random;
  constexpr size_t kFileBytes = 15'000, kWindow = 256 * 1024;
  fill_log(dir / "c", -1, kFileBytes);
  size_t size = std::filesystem::file_size(only_log(dir / "c"));
  ASSERT_GT(size, 3 * kWindow);
  std::vector<size_t> places = {kWindow - 1, kWindow, kWindow + 6, 2 * kWindow + 8,
                                3 * kWindow - 9};
  for (int i = 0; i < 10; ++i)
    places.push_back(random.between(kFileBytes + 1500, size - 2 * kFileBytes - 1500));
  for (size_t at : places) {
    std::filesystem::copy(dir / "c", dir / "damaged", std::filesystem::copy_options::recursive);
    std::string log = only_log(dir / "damaged");
    damage(log, at);
    std::optional<LogGap> gap = *find_log_gap(dir / "damaged/upper", 0, 0);
    ASSERT_TRUE(gap.has_value()) << "byte " << at;
    EXPECT_EQ(gap->path, log);
    EXPECT_LE(gap->offset, at);
    EXPECT_GE(gap->offset + kFileBytes + 1500, at);
    EXPECT_EQ(Upper::open(dir / "damaged", kFirst, {}).error().code, EUCLEAN) << "byte " << at;
    std::filesystem::remove_all(dir / "damaged");
  }
  EXPECT_EQ(names(*open_upper(dir / "c"), 1).size(), static_cast<size_t>(kLoggedFiles));
}

TEST(UpperLog, GoesOnWhereItWasCutAsTheSentenceSays) {
  TempDir dir;
  fill_log(dir.path(), -1);
  std::string log = only_log(dir.path());
  damage(log, std::filesystem::file_size(log) / 2);
  auto opened = Upper::open(dir.path(), kFirst, {});
  ASSERT_FALSE(opened.ok());
  std::string message = opened.error().message, words = "truncate -s ";
  uint64_t size = std::stoull(message.substr(message.find(words) + words.size()));
  std::filesystem::resize_file(log, size);
  auto upper = open_upper(dir.path());
  ASSERT_NE(upper, nullptr);
  EXPECT_GT(names(*upper, 1).size(), kLoggedFiles / 3u);
  upper.reset();
  EXPECT_NE(open_upper(dir.path()), nullptr);
}

// Zeros in place of a page, as a file has whose size was written and a page was not.
void lose_page(const std::string& path, size_t at) {
  std::fstream file(path, std::ios::in | std::ios::out | std::ios::binary);
  file.seekp(static_cast<std::streamoff>(at / 4096 * 4096));
  file << std::string(4096, '\0');
}

TEST(UpperLog, AHoleAfterTheLastSyncIsPowerLossAndOneBeforeItIsDamage) {
  EXPECT_EQ(crc32c("123456789"), 0xe3069283u);
  for (bool was_synced : {false, true}) {
    TempDir dir;
    HostCalls::pretend_boot(1);
    fill_log(dir.path(), was_synced ? 50 : 10);
    HostCalls::pretend_boot(2);
    std::string log = only_log(dir.path());
    lose_page(log, std::filesystem::file_size(log) / 2);
    auto opened = Upper::open(dir.path(), kFirst, {});
    EXPECT_EQ(opened.ok(), !was_synced);
    if (opened.ok()) {
      size_t count = names(**opened, 1).size();
      EXPECT_GT(count, 11u);
      EXPECT_LT(count, 40u);
      // The cut is final: what lay behind it does not come back, nor looks like damage.
      ASSERT_TRUE(apply(**opened, [&](Upper::Transaction& t) {
                    t.put_name(1, "new", {1, FileType::directory});
                  }).ok());
      opened->reset();
      auto again = open_upper(dir.path());
      ASSERT_NE(again, nullptr);
      EXPECT_EQ(names(*again, 1).size(), count + 1);
    }
    HostCalls::pretend_boot(0);
  }
}

std::vector<std::string> logs_of(const std::string& directory) {
  std::vector<std::string> out;
  for (const auto& entry : std::filesystem::directory_iterator(directory + "/upper"))
    if (entry.path().extension() == ".log" && entry.file_size() > 0) out.push_back(entry.path());
  std::sort(out.begin(), out.end());
  return out;
}

// Where tables hold what came before, the sequence numbers of the next log do not tell.
TEST(UpperLog, ALogThatIsLostWholeTakesLaterOnesWithIt) {
  for (bool same_boot : {false, true}) {
    TempDir dir;
    HostCalls::pretend_boot(1);
    auto make = [&](const std::string& name) {
      auto upper = open_upper(dir.path());
      ASSERT_TRUE(apply(*upper, [&](Upper::Transaction& t) {
                    t.put_name(1, name, {upper->allocate_ino(), FileType::regular});
                  }).ok());
    };
    int count = 0;
    do make("early" + std::to_string(count++));
    while (logs_of(dir.path()).size() != 1 || count < 3);  // the opening before made a table
    std::string lost = logs_of(dir.path()).front();
    make("later");
    ASSERT_EQ(logs_of(dir.path()).size(), 2u);
    EXPECT_EQ(names(*open_upper(dir.path()), 1).size(), static_cast<size_t>(count) + 1);
    std::filesystem::resize_file(lost, 0);
    if (!same_boot) HostCalls::pretend_boot(2);
    auto opened = Upper::open(dir.path(), kFirst, {});
    ASSERT_EQ(opened.ok(), !same_boot);
    if (opened.ok()) {
      EXPECT_EQ(names(**opened, 1).size(), static_cast<size_t>(count) - 1);
      opened->reset();
      make("afterwards");
      EXPECT_EQ(names(*open_upper(dir.path()), 1).size(), static_cast<size_t>(count));
    }
    HostCalls::pretend_boot(0);
  }
}

}  // namespace
}  // namespace layerfs
