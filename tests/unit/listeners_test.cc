// SPDX-License-Identifier: Apache-2.0
#include "fuse/listeners.h"

#include <gtest/gtest.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <thread>
#include <vector>

namespace layerfs {
namespace {

// Listeners with `count` workers, whose devices are one eventfd.
struct Workers {
  explicit Workers(int count, const Rest& rest = {}) : spares(count) {
    for (Listeners::Spare& spare : spares)
      EXPECT_TRUE(listeners.add(spare, device.get(), rest).ok());
  }
  void send_message() {
    uint64_t one = 1;
    EXPECT_EQ(::write(device.get(), &one, sizeof one), ssize_t{sizeof one});
  }
  UniqueFd device{::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)};
  std::vector<Listeners::Spare> spares;
  Listeners listeners;
};

TEST(Listeners, TheOnlyOneIsNotSpare) {
  Workers workers(2);
  Listeners& listeners = workers.listeners;
  listeners.join();
  EXPECT_FALSE(listeners.sleep_if_spare(workers.spares[0]));
  EXPECT_EQ(listeners.leave(true), nullptr);  // nobody sleeps
  listeners.come_back(nullptr);
  EXPECT_FALSE(listeners.sleep_if_spare(workers.spares[0]));
}

TEST(Listeners, ASpareOneSleepsUntilItIsCalledAndAMessageComes) {
  Workers workers(2);
  Listeners& listeners = workers.listeners;
  listeners.join();
  listeners.join();
  std::atomic<bool> awake = false;
  std::thread spare([&] {
    EXPECT_TRUE(listeners.sleep_if_spare(workers.spares[0]));
    awake = true;
  });
  while (listeners.listening() == 2) std::this_thread::yield();
  EXPECT_EQ(listeners.leave(false), nullptr);  // a short message: calls nobody
  EXPECT_EQ(listeners.listening(), 0);
  listeners.come_back(nullptr);

  Listeners::Spare* called = listeners.leave(true);
  EXPECT_EQ(called, &workers.spares[0]);
  listeners.come_back(called);  // no message meanwhile: it may go on sleeping
  workers.send_message();
  std::this_thread::sleep_for(std::chrono::milliseconds(20));
  EXPECT_FALSE(awake);

  called = listeners.leave(true);  // the message is there
  spare.join();
  EXPECT_EQ(listeners.listening(), 1);
  listeners.come_back(called);
  EXPECT_EQ(listeners.listening(), 2);
}

TEST(Listeners, WhoSleepsLongRestsOnce) {
  std::atomic<int> rested = 0;
  Workers workers(2, {5, [&] { ++rested; }});
  Listeners& listeners = workers.listeners;
  listeners.join();
  listeners.join();
  std::thread spare([&] { EXPECT_TRUE(listeners.sleep_if_spare(workers.spares[0])); });
  while (rested == 0) std::this_thread::yield();
  std::this_thread::sleep_for(std::chrono::milliseconds(50));
  EXPECT_EQ(rested, 1);
  Listeners::Spare* called = listeners.leave(true);  // it can still be called
  EXPECT_EQ(called, &workers.spares[0]);
  workers.send_message();
  spare.join();
  listeners.come_back(called);
}

TEST(Listeners, TheEndWakesAll) {
  Workers workers(4);
  Listeners& listeners = workers.listeners;
  for (int i = 0; i < 4; ++i) listeners.join();
  std::vector<std::thread> spare;
  for (int i = 0; i < 3; ++i)
    spare.emplace_back([&, i] { listeners.sleep_if_spare(workers.spares[i]); });
  while (listeners.listening() > 1) std::this_thread::yield();
  listeners.end();
  for (std::thread& thread : spare) thread.join();
  EXPECT_EQ(listeners.listening(), 4);
}

// However workers come and go, every message is taken: also one that comes while all who listen
// work on something that lasts until it is answered.
TEST(Listeners, NobodyIsForgotten) {
  constexpr uint64_t kMessages = 20000;
  Workers workers(3);
  Listeners& listeners = workers.listeners;
  std::atomic<uint64_t> taken = 0;
  std::vector<std::thread> threads;
  for (Listeners::Spare& self : workers.spares)
    threads.emplace_back([&] {
      listeners.join();
      while (taken < kMessages) {
        uint64_t count = 0;
        bool got = ::read(workers.device.get(), &count, sizeof count) > 0;
        if (!got) {
          listeners.sleep_if_spare(self);
          continue;
        }
        uint64_t number = taken.fetch_add(count) + count;
        Listeners::Spare* called = listeners.leave(number % 3 == 0);
        if (number < kMessages) workers.send_message();
        // Every ninth lasts until another worker has taken the message that was just sent.
        while (called != nullptr && number % 9 == 0 && taken == number && number < kMessages)
          std::this_thread::yield();
        listeners.come_back(called);
      }
      listeners.end();
    });
  workers.send_message();
  for (std::thread& thread : threads) thread.join();
  EXPECT_GE(taken, kMessages);
}

TEST(Polling, PaysOnlyAfterQuickMessages) {
  Polling polling(Polling::kPatience);
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

TEST(Polling, NeverWithoutPatience) {
  Polling polling(Polling::Clock::duration::zero());
  Polling::Clock::time_point now{};
  for (int i = 0; i < 20; ++i) {
    polling.received(now += Polling::kPatience / 2);
    polling.replied(now);
    EXPECT_FALSE(polling.goes_on(now));
  }
}

TEST(Polling, AWorkerThatSleptWasNotPolling) {
  Polling polling(Polling::kPatience);
  Polling::Clock::time_point now{};
  auto message_after = [&](Polling::Clock::duration pause) {
    polling.received(now += pause);
    polling.replied(now);
  };
  message_after(Polling::kWorthwhile * 2);
  message_after(Polling::kPatience / 2);
  EXPECT_TRUE(polling.goes_on(now));
  polling.slept();  // as a spare
  EXPECT_FALSE(polling.goes_on(now));
}

}  // namespace
}  // namespace layerfs
