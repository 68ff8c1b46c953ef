// SPDX-License-Identifier: Apache-2.0
//
// A container's filesystem on a disk that is full, or fails, now and then: what fails changes
// nothing, what was there stays, deleting works on a full disk, and it all goes on, without being
// opened again, once the disk works.
#include <gtest/gtest.h>

#include <filesystem>

#include "layerdb/ops/upper_check.h"
#include "tests/faults/recorded_run.h"
#include "tests/support/result_matchers.h"
#include "tests/support/temp_dir.h"

namespace layerfs {
namespace {

using test_support::HostCalls;
using test_support::Random;
using test_support::SeenTree;
using test_support::TempDir;

class FaultyHost : public ::testing::Test {
 protected:
  FaultyHost() : lower_(test_support::crash_lower()), host_(dir_.path()) { open(); }
  ~FaultyHost() override {
    Status checked = check_upper(*lower_, *fs_.upper,
                                 [](const std::string& problem) { ADD_FAILURE() << problem; });
    EXPECT_TRUE(checked.ok()) << checked.error().message;
  }

  void open() {
    fs_.overlay.reset();
    fs_.upper.reset();
    auto opened = test_support::open_container(*lower_, dir_.path(), &clock_);
    ASSERT_TRUE(opened.ok()) << opened.error().message;
    fs_ = std::move(*opened);
  }
  SeenTree look() { return test_support::look_at(*fs_.overlay); }

  Result<Ino> add_file(const std::string& name, size_t size_bytes) {
    NewNode node{.type = FileType::regular, .mode = 0644};
    Ino ino = TRY(fs_.overlay->make(kRootIno, name, node, {})).ino;
    Result<size_t> written = fs_.overlay->write(ino, 0, std::string(size_bytes, name[0]));
    fs_.overlay->forget(ino, 1);
    if (!written.ok()) return std::move(written).error();
    return ino;
  }

  // Nothing else is allowed to differ than what `except` names.
  static std::string difference(const SeenTree& before, const SeenTree& after) {
    for (const auto& [path, seen] : before) {
      auto it = after.find(path);
      if (it == after.end()) return path + " is gone";
      if (it->second.attributes != seen.attributes)
        return path + ": " + it->second.attributes + ", was " + seen.attributes;
      if (seen.content && *seen.content != *it->second.content) return path + ": other content";
    }
    for (const auto& [path, seen] : after)
      if (!before.contains(path)) return path + " is new";
    return "";
  }

  TempDir dir_;
  Random random_;
  std::unique_ptr<MemoryLower> lower_;
  HostCalls host_;
  int64_t clock_ = 1000;
  test_support::Opened fs_;
};

TEST_F(FaultyHost, AFullDiskTakesDeletionsAndGoesOn) {
  for (int round = 0; round < 3; ++round) {
    host_.limit_space(host_.used_bytes() + (6 << 20));
    std::vector<std::string> made;
    Error error;
    for (int i = 0; i < 2000; ++i) {
      std::string name = "big" + std::to_string(i);
      Result<Ino> added = add_file(name, i % 3 == 0 ? 100000 : 3000);
      if (!added.ok()) {
        error = added.error();
        (void)fs_.overlay->unlink(kRootIno, name);  // made, but not written
        break;
      }
      made.push_back(name);
    }
    ASSERT_EQ(error.code, ENOSPC) << error.message;
    ASSERT_GT(made.size(), 20u);
    SeenTree full = look();
    for (const std::string& name : made)
      EXPECT_EQ(*full.at(name).content, std::string(full.at(name).content->size(), name[0]));
    // Not a byte is left but the reserve; now everything goes, the big ones last.
    host_.limit_space(host_.used_bytes());
    EXPECT_ERRNO(add_file("another", 100000), ENOSPC);
    (void)fs_.overlay->unlink(kRootIno, "another");
    for (size_t kind : {1, 2, 0})
      for (size_t i = kind; i < made.size(); i += 3) {
        Status removed = fs_.overlay->unlink(kRootIno, made[i]);
        ASSERT_TRUE(removed.ok()) << made[i] << ": " << removed.error().message;
      }
    ASSERT_TRUE(fs_.overlay->sync(0).ok());
    host_.limit_space(host_.used_bytes() + (8 << 20));
    Result<Ino> after = add_file("zafter" + std::to_string(round), 200000);
    EXPECT_TRUE(after.ok()) << after.error().message;
  }
  SeenTree before = look();
  open();
  EXPECT_EQ(difference(before, look()), "");
}

// Each step with its first, second, … call to the host failing: until it gets through.
class FaultySteps : public FaultyHost,
                    public ::testing::WithParamInterface<std::pair<int, unsigned>> {};

TEST_P(FaultySteps, WhatFailsChangesNothingAndAllGoesOn) {
  auto [code, which] = GetParam();
  ScriptRunner runner;
  std::vector<Command> script = test_support::crash_script(random_, 120);
  size_t failures = 0;
  for (const Command& command : script) {
    bool sync = command.words[0] == "sync";
    if (command.words[0] == "remount") continue;
    for (uint64_t n = 0;; ++n) {
      SeenTree before = look();
      host_.fail_after(n, code, which);
      Status synced;
      std::string result = "ok";
      if (sync)
        synced = fs_.overlay->sync(0);
      else
        result = runner.run(*fs_.overlay, command);
      bool failed = host_.failed();
      host_.work_again();
      bool refused = !synced.ok() || result == "EIO" || result == "ENOSPC" || result == "EMFILE";
      if (!failed || !refused) break;  // it got through, or what failed did not matter
      ++failures;
      SeenTree after = look();
      std::string changed = difference(before, after);
      // A write over what was there may be half done, as anywhere.
      bool content_only = changed.ends_with("other content");
      ASSERT_TRUE(changed.empty() || (content_only && !sync))
          << script_text({command}) << " failed after " << n << " calls: " << changed;
      ASSERT_LT(n, 300u) << script_text({command});
    }
  }
  EXPECT_GT(failures, 0u);
  std::printf("%zu failed calls\n", failures);
  ASSERT_TRUE(fs_.overlay->sync(0).ok());
  SeenTree before = look();
  open();
  EXPECT_EQ(difference(before, look()), "");
}

INSTANTIATE_TEST_SUITE_P(All, FaultySteps,
                         ::testing::Values(std::pair(ENOSPC, unsigned{HostCalls::kGrowing}),
                                           std::pair(EIO, unsigned{HostCalls::kChanging}),
                                           std::pair(EIO, unsigned{HostCalls::kSyncing}),
                                           std::pair(EMFILE, unsigned{HostCalls::kOpening})));

}  // namespace
}  // namespace layerfs
