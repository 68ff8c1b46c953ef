// SPDX-License-Identifier: Apache-2.0
//
// Threads run random scripts on one overlay. Nothing predicts the results, but the tree must be
// sound afterwards and the same after a remount. LAYERFS_TEST_SEED repeats the scripts (not their
// interleaving); made for ThreadSanitizer.
#include <gtest/gtest.h>

#include <cstdlib>
#include <iostream>
#include <thread>

#include "tests/model/generator.h"
#include "tests/model/overlay_subject.h"
#include "tests/model/script_runner.h"
#include "tests/support/random.h"

namespace layerfs {
namespace {

// Link counts against the names there are.
void check_links(Overlay& fs, const std::map<std::string, Ino>& inos) {
  std::map<Ino, uint32_t> names;
  std::map<Ino, uint32_t> subdirectories;
  std::map<Ino, std::string> path_of;
  for (const auto& [path, ino] : inos) {
    ++names[ino];
    path_of[ino] = path;
    if (fs.stat(ino).value().attributes.type != FileType::directory) continue;
    size_t slash = path.rfind('/');
    ++subdirectories[slash == std::string::npos ? kRootIno : inos.at(path.substr(0, slash))];
  }
  for (const auto& [ino, path] : path_of) {
    Attributes attributes = fs.stat(ino).value().attributes;
    bool is_directory = attributes.type == FileType::directory;
    EXPECT_EQ(attributes.nlink, is_directory ? 2 + subdirectories[ino] : names[ino]) << path;
  }
}

TEST(StressTest, ThreadsLeaveASoundTree) {
  uint64_t seed = test_support::test_seed();
  OverlaySubject subject;
  OverlayRig& rig = subject.rig();
  constexpr int kThreads = 4;
  constexpr size_t kSteps = 5000;
  std::vector<std::thread> threads;
  for (int i = 0; i < kThreads; ++i) {
    threads.emplace_back([&, i] {
      std::mt19937_64 random(seed + i);
      ScriptRunner runner;
      for (const Command& command : random_script(random, kSteps, {})) {
        if (command.words[0] == "remount") {
          rig.overlay().freeze();
          rig.tick();
          rig.overlay().thaw();
        } else {
          runner.run(rig.overlay(), command);
        }
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  std::map<std::string, Ino> inos;
  auto before = snapshot(rig.overlay(), true, &inos);
  check_links(rig.overlay(), inos);
  rig.remount();
  EXPECT_TRUE(rig.upper().orphans().value().empty());
  EXPECT_EQ(snapshot(rig.overlay(), true), before);
  EXPECT_GT(before.size(), 10u);
}

}  // namespace
}  // namespace layerfs
