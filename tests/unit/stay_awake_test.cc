// SPDX-License-Identifier: Apache-2.0
#include "fuse/stay_awake.h"

#include <gtest/gtest.h>

#include <cstdint>
#include <cstring>
#include <limits>
#include <nlohmann/json.hpp>
#include <thread>

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

constexpr int32_t kAnyLatency = std::numeric_limits<int32_t>::max();
const auto now = StayAwake::Clock::now;

double kept_awake_seconds(const Stats& stats) { return stats.to_json()["kept_awake_seconds"]; }

TEST(StayAwake, AsksForNoLatencyWhileThereIsAReason) {
  Device device;
  Stats stats;
  StayAwake stay_awake(device.path, 2, stats);
  EXPECT_EQ(device.written(), -1);  // nothing is asked for before there is a reason
  const StayAwake::Clock::time_point began = now();
  do {
    stay_awake.ask(now());
    EXPECT_EQ(device.written(), 0);
  } while (now() - began < 5 * StayAwake::kAfter);
  while (device.written() == 0) std::this_thread::yield();
  EXPECT_EQ(device.written(), kAnyLatency);
  while (kept_awake_seconds(stats) == 0) std::this_thread::yield();
  const std::chrono::duration<double> asked = 5 * StayAwake::kAfter;
  EXPECT_GE(kept_awake_seconds(stats), asked.count());
}

TEST(StayAwake, CanAskAgain) {
  Device device;
  Stats stats;
  StayAwake stay_awake(device.path, 2, stats);
  for (int i = 0; i < 3; ++i) {
    stay_awake.ask(now());
    while (device.written() != kAnyLatency) std::this_thread::yield();
  }
}

TEST(StayAwake, TakesItBackAtTheEnd) {
  Device device;
  Stats stats;
  {
    StayAwake stay_awake(device.path, 2, stats);
    stay_awake.ask(now());
  }
  EXPECT_EQ(device.written(), kAnyLatency);
  EXPECT_GT(kept_awake_seconds(stats), 0);
}

TEST(StayAwake, ManyProcessorsAreLeftAlone) {
  Device device;
  Stats stats;
  StayAwake(device.path, StayAwake::kMostProcessors + 1, stats).ask(now());
  EXPECT_EQ(device.written(), -1);
}

TEST(StayAwake, WhoMayNotAskDoesWithout) {
  Stats stats;
  StayAwake("/nonexistent/cpu_dma_latency", 2, stats).ask(now());
  StayAwake("/dev/full", 2, stats).ask(now());  // writing fails
  EXPECT_EQ(kept_awake_seconds(stats), 0);
}

TEST(Pace, IsFastWhenManyMessagesCameInAShortTime) {
  Pace pace;
  Pace::Clock::time_point now = StayAwake::Clock::now();
  auto messages = [&](int count, Pace::Clock::duration pause) {
    int fast = 0;
    for (int i = 0; i < count; ++i) fast += pace.is_fast(now += pause) ? 1 : 0;
    return fast;
  };
  const auto often = Pace::kShort / (2 * Pace::kMany), seldom = Pace::kShort / (Pace::kMany / 2);
  EXPECT_EQ(messages(10 * Pace::kMany, seldom), 0);
  EXPECT_EQ(messages(10 * Pace::kMany, often), 10);
  EXPECT_EQ(messages(1, Pace::kShort), 0);
  EXPECT_EQ(messages(Pace::kMany - 1, often), 0);
  for (int i = 0; i < 100; ++i) {  // pairs
    EXPECT_EQ(messages(1, 2 * Pace::kShort), 0);
    EXPECT_EQ(messages(1, often), 0);
  }
}

}  // namespace
}  // namespace layerfs
