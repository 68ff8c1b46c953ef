// SPDX-License-Identifier: Apache-2.0
#include "layerdb/base/available_memory.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "tests/support/temp_dir.h"

namespace layerfs {
namespace {

class AvailableMemoryTest : public ::testing::Test {
 protected:
  void write(const std::string& path, const std::string& text) {
    std::filesystem::create_directories(std::filesystem::path(dir_ / path).parent_path());
    std::ofstream(dir_ / path) << text;
  }
  uint64_t available() { return available_memory_bytes(dir_ / "proc", dir_ / "cgroup"); }

  test_support::TempDir dir_;
};

TEST_F(AvailableMemoryTest, IsWhatTheKernelSays) {
  EXPECT_EQ(available(), 0u);
  write("proc/meminfo", "MemTotal: 9000 kB\nMemAvailable:    5000 kB\n");
  EXPECT_EQ(available(), 5000u * 1024);
}

TEST_F(AvailableMemoryTest, IsNoMoreThanEveryGroupHasLeft) {
  write("proc/meminfo", "MemAvailable:    5000 kB\n");
  write("proc/self/cgroup", "1:name=x:/\n0::/user/inner\n");
  write("cgroup/user/inner/memory.max", "max\n");
  write("cgroup/user/inner/memory.current", "77777\n");
  EXPECT_EQ(available(), 5000u * 1024);
  write("cgroup/user/memory.max", "1000000\n");
  write("cgroup/user/memory.current", "400000\n");
  EXPECT_EQ(available(), 600000u);
  write("cgroup/user/inner/memory.max", "80000\n");
  EXPECT_EQ(available(), 2223u);
  write("cgroup/user/memory.stat", "anon 5\nactive_file 300000\ninactive_file 90000\n");
  write("cgroup/user/memory.current", "1390001\n");
  EXPECT_EQ(available(), 0u);
  write("cgroup/user/memory.current", "1389999\n");
  EXPECT_EQ(available(), 1u);
}

TEST_F(AvailableMemoryTest, CountsTheLimitThatSlowsDown) {
  write("proc/meminfo", "MemAvailable:    5000 kB\n");
  write("proc/self/cgroup", "0::/a\n");
  write("cgroup/a/memory.max", "4000000\n");
  write("cgroup/a/memory.high", "3000000\n");
  write("cgroup/a/memory.current", "1000000\n");
  EXPECT_EQ(available(), 2000000u);
}

TEST_F(AvailableMemoryTest, KnowsGroupsOfTheFirstVersion) {
  write("proc/meminfo", "MemAvailable:    5000 kB\n");
  write("proc/self/cgroup", "9:cpu:/\n4:memory:/a/b\n0::/\n");
  write("cgroup/memory/a/memory.limit_in_bytes", "3000000\n");
  write("cgroup/memory/a/memory.usage_in_bytes", "2000000\n");
  write("cgroup/memory/a/memory.stat", "total_inactive_file 500000\n");
  EXPECT_EQ(available(), 1500000u);
  write("cgroup/memory/a/b/memory.limit_in_bytes", "9223372036854771712\n");
  EXPECT_EQ(available(), 1500000u);
}

TEST_F(AvailableMemoryTest, IsKnownHere) { EXPECT_GT(available_memory_bytes(), 0u); }

}  // namespace
}  // namespace layerfs
