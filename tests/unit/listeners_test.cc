// SPDX-License-Identifier: Apache-2.0
#include "fuse/listeners.h"

#include <gtest/gtest.h>

#include <thread>
#include <vector>

namespace layerfs {
namespace {

TEST(Listeners, TheOnlyOneIsNotSpare) {
  Listeners listeners;
  listeners.join();
  EXPECT_FALSE(listeners.sleep_if_spare());
  listeners.leave(false);
  listeners.come_back();
  EXPECT_FALSE(listeners.sleep_if_spare());
}

TEST(Listeners, ASpareOneSleepsUntilTheOtherNeedsHelp) {
  Listeners listeners;
  listeners.join();
  listeners.join();
  std::thread spare([&] { EXPECT_TRUE(listeners.sleep_if_spare()); });
  while (listeners.listening() == 2) std::this_thread::yield();
  listeners.leave(false);  // a short message: wakes nobody
  EXPECT_EQ(listeners.listening(), 0);
  listeners.come_back();
  listeners.leave(true);
  spare.join();
  EXPECT_EQ(listeners.listening(), 1);
}

TEST(Listeners, TheEndWakesAll) {
  Listeners listeners;
  for (int i = 0; i < 4; ++i) listeners.join();
  std::vector<std::thread> spare;
  for (int i = 0; i < 3; ++i) spare.emplace_back([&] { listeners.sleep_if_spare(); });
  while (listeners.listening() > 1) std::this_thread::yield();
  listeners.end();
  for (std::thread& thread : spare) thread.join();
  EXPECT_EQ(listeners.listening(), 4);
}

// However workers come and go, somebody listens whenever nobody works on a message that lasts.
TEST(Listeners, NobodyIsForgotten) {
  Listeners listeners;
  std::atomic<int> left = 20000;
  std::atomic<int> ended = 0;
  std::vector<std::thread> workers;
  for (int i = 0; i < 3; ++i)
    workers.emplace_back([&] {
      listeners.join();
      for (int turn = 0; left.fetch_sub(1) > 0; ++turn) {
        listeners.leave(turn % 3 == 0);
        listeners.come_back();
        listeners.sleep_if_spare();
        EXPECT_GT(listeners.listening(), 0);
      }
      listeners.end();
      ++ended;
    });
  for (std::thread& worker : workers) worker.join();
  EXPECT_EQ(ended, 3);
}

TEST(Polling, PaysOnlyAfterQuickMessages) {
  Polling polling;
  Polling::Clock::time_point now{};
  auto after = [&](Polling::Clock::duration pause) { return now += pause; };
  const auto shortly = Polling::kPatience / 2, long_after = Polling::kWorthwhile * 2;
  polling.received(after(long_after));
  polling.replied(now);
  EXPECT_FALSE(polling.goes_on(now));  // nothing says that a message will come soon

  polling.received(after(shortly));
  polling.replied(now);
  EXPECT_TRUE(polling.goes_on(after(shortly)));
  EXPECT_FALSE(polling.goes_on(after(shortly)));  // patience is over
  EXPECT_FALSE(polling.goes_on(now));

  polling.received(after(long_after));
  polling.replied(now);
  EXPECT_TRUE(polling.goes_on(now));  // one miss is forgiven
  EXPECT_FALSE(polling.goes_on(after(long_after)));
  polling.received(after(long_after));
  polling.replied(now);
  EXPECT_FALSE(polling.goes_on(now));
}

}  // namespace
}  // namespace layerfs
