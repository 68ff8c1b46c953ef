// SPDX-License-Identifier: Apache-2.0
#include "layerdb/upper/body_files.h"

#include <gtest/gtest.h>

#include <atomic>
#include <filesystem>
#include <string>
#include <thread>
#include <vector>

#include "tests/support/result_matchers.h"
#include "tests/support/temp_dir.h"

namespace layerfs {
namespace {

// What asks for a body's blocks takes no lock of its inode (stat).
TEST(BodyFiles, ABodyMadeAnewIsNotTheOneThatWasRemoved) {
  test_support::TempDir dir;
  std::filesystem::create_directory(dir / "data");
  constexpr Ino kIno = 11;
  BodyFiles bodies(dir / "data", false);
  std::atomic<bool> done = false;
  std::vector<std::jthread> lookers;
  for (int i = 0; i < 3; ++i)
    lookers.emplace_back([&] {
      while (!done) (void)bodies.blocks(kIno);
    });
  int lost = 0;
  for (int round = 0; round < 20000 && lost == 0; ++round) {
    ASSERT_OK(bodies.create(kIno));
    ASSERT_OK(bodies.write(kIno, 0, "content"));
    BodyFiles others(dir / "data", true);  // sees what has the name
    std::string found(7, '.');
    Result<size_t> got = others.read(kIno, 0, found);
    lost += !got.ok() || found != "content";
    ASSERT_OK(bodies.remove(kIno));
  }
  done = true;
  EXPECT_EQ(lost, 0);
}

}  // namespace
}  // namespace layerfs
