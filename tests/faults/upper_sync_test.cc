// SPDX-License-Identifier: Apache-2.0
//
// How much the first sync of a process asks of the host: syncfs(2) waits for what everybody wrote.
#include <gtest/gtest.h>

#include <algorithm>

#include "tests/faults/host_calls.h"
#include "tests/support/temp_dir.h"
#include "tests/support/upper_fixture.h"

namespace layerfs {
namespace {

using test_support::HostCall;
using test_support::HostCalls;

class UpperSync : public ::testing::Test {
 protected:
  UpperSync() : host_(dir_.path()) { HostCalls::pretend_boot(1); }
  ~UpperSync() override { HostCalls::pretend_boot(0); }

  void change() {
    EXPECT_TRUE(apply(*upper_, [&](Upper::Transaction& t) {
                  t.put_inode(kFirst, regular(Body::none));
                }).ok());
  }
  // Whether the first sync was one of the whole host's filesystem.
  bool first_sync_is_of_everything() {
    upper_ = open_upper(dir_.path());
    change();
    size_t before = host_.count();
    EXPECT_TRUE(upper_->sync(0).ok());
    std::vector<HostCall> calls = host_.calls();
    auto is = [](HostCall::Kind kind) {
      return [kind](const HostCall& call) { return call.kind == kind; };
    };
    EXPECT_TRUE(std::any_of(calls.begin() + before, calls.end(), is(HostCall::Kind::sync)));
    return std::any_of(calls.begin() + before, calls.end(), is(HostCall::Kind::sync_everything));
  }

  test_support::TempDir dir_;
  HostCalls host_;
  std::unique_ptr<Upper> upper_;
};

TEST_F(UpperSync, IsOfTheWholeHostOnlyAfterAnEndThatLeftSomethingUnsynced) {
  EXPECT_FALSE(first_sync_is_of_everything()) << "a new container";
  upper_.reset();
  EXPECT_FALSE(first_sync_is_of_everything()) << "one that ended synced";
  change();
  upper_.reset();
  EXPECT_TRUE(first_sync_is_of_everything()) << "one that ended with a change that was not";
  ASSERT_TRUE(upper_->write_body(kFirst + 1, 0, "bytes").ok());
  upper_.reset();
  EXPECT_TRUE(first_sync_is_of_everything()) << "one that ended with a body that was not";
  change();
  upper_.reset();
  HostCalls::pretend_boot(2);
  EXPECT_FALSE(first_sync_is_of_everything()) << "what a new boot finds is on the disk";
}

// What a database does for each of its commits.
TEST_F(UpperSync, OfDataAsksForTheLogOnlyWhenMoreThanTimesChanged) {
  upper_ = open_upper(dir_.path());
  InodeRecord record = regular(Body::file, 100'000);
  auto put = [&](auto&& change) {
    change();
    ASSERT_TRUE(apply(*upper_, [&](Upper::Transaction& t) { t.put_inode(kFirst, record); }).ok());
  };
  auto files_synced = [&](Sync what) {
    size_t before = host_.count();
    EXPECT_TRUE(upper_->sync(kFirst, what).ok());
    std::vector<HostCall> calls = host_.calls();
    return std::count_if(calls.begin() + before, calls.end(),
                         [](const HostCall& call) { return call.kind == HostCall::Kind::sync; });
  };
  ASSERT_TRUE(upper_->write_body(kFirst, 0, std::string(100'000, 'a')).ok());
  put([] {});
  files_synced(Sync::all);  // its first one syncs more
  auto write_in_place = [&] {
    ASSERT_TRUE(upper_->write_body(kFirst, 5'000, "b").ok());
    put([&] { record.attributes.mtime.seconds++; });
  };
  write_in_place();
  EXPECT_EQ(files_synced(Sync::data), 1) << "the body";
  write_in_place();
  EXPECT_EQ(files_synced(Sync::all), 2) << "the body and the log";
  write_in_place();
  put([&] { record.attributes.size_bytes++; });
  EXPECT_EQ(files_synced(Sync::data), 2) << "a new size";
  write_in_place();
  put([&] { record.attributes.mode = 0600; });
  EXPECT_EQ(files_synced(Sync::data), 2) << "a new mode";
  write_in_place();
  ASSERT_TRUE(apply(*upper_, [&](Upper::Transaction& t) {
                t.put_inode(kFirst, record);
                t.put_xattr(kFirst, "user.a", "1");
              }).ok());
  EXPECT_EQ(files_synced(Sync::data), 2) << "something beside the record";
  write_in_place();
  EXPECT_EQ(files_synced(Sync::data), 1);
}

}  // namespace
}  // namespace layerfs
