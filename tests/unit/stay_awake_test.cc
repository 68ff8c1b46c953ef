// SPDX-License-Identifier: Apache-2.0
#include "fuse/stay_awake.h"

#include <gtest/gtest.h>

#include <cstdint>
#include <cstring>
#include <limits>

#include "tests/support/temp_dir.h"

namespace layerfs {
namespace {

// A file in the place of the kernel's.
struct Device {
  Device() { EXPECT_TRUE(write_file_atomically(path, "").ok()); }
  int32_t written() const {
    std::string bytes = *read_file(path);
    int32_t value = -1;
    if (bytes.size() == sizeof value) std::memcpy(&value, bytes.data(), sizeof value);
    return value;
  }
  test_support::TempDir directory;
  std::string path = directory / "cpu_dma_latency";
};

TEST(StayAwake, AsksForNoLatencyAndTakesItBack) {
  Device device;
  StayAwake stay_awake(device.path, 2);
  EXPECT_EQ(device.written(), -1);  // nothing is asked for before there is a reason
  stay_awake.ask();
  stay_awake.ask();
  EXPECT_TRUE(stay_awake.asked());
  EXPECT_EQ(device.written(), 0);
  stay_awake.take_back();
  EXPECT_FALSE(stay_awake.asked());
  EXPECT_EQ(device.written(), std::numeric_limits<int32_t>::max());
}

TEST(StayAwake, ManyProcessorsAreLeftAlone) {
  Device device;
  StayAwake stay_awake(device.path, StayAwake::kMostProcessors + 1);
  stay_awake.ask();
  EXPECT_FALSE(stay_awake.asked());
  EXPECT_EQ(device.written(), -1);
}

TEST(StayAwake, WhoMayNotAskDoesWithout) {
  StayAwake stay_awake("/nonexistent/cpu_dma_latency", 2);
  stay_awake.ask();
  EXPECT_FALSE(stay_awake.asked());
}

TEST(StayAwake, AKernelThatRefusesIsAskedAgain) {
  StayAwake stay_awake("/dev/full", 2);
  stay_awake.ask();
  EXPECT_FALSE(stay_awake.asked());
}

}  // namespace
}  // namespace layerfs
