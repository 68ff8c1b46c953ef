// SPDX-License-Identifier: Apache-2.0
//
// A container's filesystem when its daemon is killed at any call to the host, and when the power
// fails at any sync.
#include <gtest/gtest.h>

#include "layerdb/ops/upper_check.h"
#include "tests/faults/recorded_run.h"
#include "tests/support/temp_dir.h"

namespace layerfs {
namespace {

using test_support::CrashingDisk;
using test_support::HostCalls;
using test_support::Loss;
using test_support::Opened;
using test_support::Random;
using test_support::RecordedRun;
using test_support::TempDir;

constexpr size_t kCrashSteps = 400;

void expect_sound(Lower& lower, Upper& upper) {
  Status checked =
      check_upper(lower, upper, [](const std::string& problem) { ADD_FAILURE() << problem; });
  EXPECT_TRUE(checked.ok()) << checked.error().message;
}

// The filesystem goes on: what is written now is there, and what is removed is not.
void expect_usable(Overlay& overlay) {
  NewNode node{.type = FileType::regular, .mode = 0644};
  Result<Stat> made = overlay.make(kRootIno, "afterwards", node, {});
  ASSERT_TRUE(made.ok()) << made.error().message;
  std::string bytes(50000, 'n'), back(50000, '?');
  ASSERT_TRUE(overlay.write(made->ino, 0, bytes).ok());
  ASSERT_TRUE(overlay.sync(made->ino).ok());
  ASSERT_TRUE(overlay.read(made->ino, 0, back).ok());
  EXPECT_EQ(back, bytes);
  ASSERT_TRUE(overlay.unlink(kRootIno, "afterwards").ok());
  overlay.forget(made->ino, 1);
}

class UpperCrash : public ::testing::Test {
 protected:
  UpperCrash() : lower_(test_support::crash_lower()) { HostCalls::pretend_boot(1); }
  ~UpperCrash() override { HostCalls::pretend_boot(0); }

  // Opens what a crash before the call `at` left and judges it. False: enough was said.
  bool check(const RecordedRun& run, const CrashingDisk& disk, size_t at, Loss loss) {
    std::string directory = dir_ / "crashed";
    disk.leave(directory, loss, random_);
    bool good = check_directory(run, directory, at, loss);
    HostCalls::pretend_boot(1);
    std::filesystem::remove_all(directory);
    ++checks_;
    return good;
  }

  bool check_directory(const RecordedRun& run, const std::string& directory, size_t at, Loss loss) {
    HostCalls host(directory);  // nothing is really synced
    HostCalls::pretend_boot(loss == Loss::nothing ? 1 : 2);
    int64_t clock = 1'000'000;
    auto opened = test_support::open_container(*lower_, directory, &clock);
    EXPECT_TRUE(opened.ok()) << opened.error().message;
    if (opened.ok()) {
      std::string wrong =
          run.judge(test_support::look_at(*opened->overlay), at, loss != Loss::nothing);
      EXPECT_EQ(wrong, "");
      expect_usable(*opened->overlay);
      expect_sound(*lower_, *opened->upper);
    }
    if (!HasFailure()) return true;
    ADD_FAILURE() << "crash before call " << at << ", loss " << static_cast<int>(loss);
    return false;
  }

  TempDir dir_;
  Random random_;
  std::unique_ptr<MemoryLower> lower_;
  size_t checks_ = 0;
};

TEST_F(UpperCrash, KilledBeforeEveryCall) {
  std::filesystem::create_directory(dir_ / "live");
  RecordedRun run(*lower_, dir_ / "live", test_support::crash_script(random_, kCrashSteps));
  std::filesystem::create_directory(dir_ / "empty");
  CrashingDisk disk(dir_ / "empty", CrashingDisk::Names::journalled);
  for (size_t at = 0; at < run.calls().size(); ++at) {
    if (!check(run, disk, at, Loss::nothing)) return;
    disk.apply(run.calls()[at]);
  }
  std::printf("killed at %zu moments\n", checks_);
}

class UpperPower : public UpperCrash, public ::testing::WithParamInterface<CrashingDisk::Names> {};

TEST_P(UpperPower, FailsAroundEverySync) {
  std::filesystem::create_directory(dir_ / "live");
  RecordedRun run(*lower_, dir_ / "live", test_support::crash_script(random_, kCrashSteps));
  std::filesystem::create_directory(dir_ / "empty");
  CrashingDisk disk(dir_ / "empty", GetParam());
  const auto& calls = run.calls();
  for (size_t at = 0; at < calls.size(); ++at) {
    bool before = calls[at].syncs(), after = at > 0 && calls[at - 1].syncs();
    if (before || after || random_.one_in(8)) {
      for (Loss loss : {Loss::unsynced, Loss::contents, Loss::torn, Loss::torn})
        if (!check(run, disk, at, loss)) return;
    }
    disk.apply(calls[at]);
  }
  std::printf("power failed %zu times around %zu syncs\n", checks_, run.syncs());
}

// What was synced must outlive whatever destroys it before that is durable itself. Every call is
// tried, not only syncs.
TEST_P(UpperPower, NothingSyncedGoesBeforeWhatReplacesIt) {
  const char* const scripts[] = {
      // cut to nothing and written again
      "create f 644\n write f 0 50000 1\n sync f\n truncate f 0\n write f 0 30000 2\n create g 644",
      // cut, and grown again
      "create f 644\n write f 0 50000 1\n sync f\n truncate f 100\n truncate f 60000\n create g "
      "644",
      // a small body that moves into a file
      "create f 644\n write f 0 9000 1\n sync f\n write f 9000 20000 2\n create g 644\n sync a/a",
      // replaced by another file; removed
      "create f 644\n write f 0 50000 1\n create g 644\n write g 0 40000 2\n sync\n"
      "rename g f\n create h 644\n unlink f\n create i 644",
      // after a remount, when nobody remembers what was synced
      "create f 644\n write f 0 50000 1\n sync f\n remount\n unlink f\n remount\n create g 644",
      // synced by another process than the one that wrote it
      "create f 644\n write f 0 50000 1\n remount\n sync f\n create g 644",
      // over the lower
      "write a/b/d 20000 300 1\n sync a/b/d\n write a/b/d 20100 30000 2\n truncate a/b/d 21000\n"
      "truncate a/b/d 90000\n create g 644",
  };
  int number = 0;
  for (const char* script : scripts) {
    std::string live = dir_ / ("live" + std::to_string(number)), empty = live + "-empty";
    std::filesystem::create_directory(live);
    std::filesystem::create_directory(empty);
    RecordedRun run(*lower_, live, parse_script(script));
    CrashingDisk disk(empty, GetParam());
    for (size_t at = 0; at <= run.calls().size(); ++at) {
      for (Loss loss : {Loss::unsynced, Loss::contents, Loss::torn})
        if (!check(run, disk, at, loss)) {
          ADD_FAILURE() << "script " << number;
          return;
        }
      if (at < run.calls().size()) disk.apply(run.calls()[at]);
    }
    ++number;
  }
}

INSTANTIATE_TEST_SUITE_P(All, UpperPower,
                         ::testing::Values(CrashingDisk::Names::journalled,
                                           CrashingDisk::Names::by_directory));

}  // namespace
}  // namespace layerfs
