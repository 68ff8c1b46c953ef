// SPDX-License-Identifier: Apache-2.0
//
// Copies of groups on a disk that is full now and then: what could not be written is not there,
// takes no room, and is added another time.
#include <gtest/gtest.h>

#include <filesystem>
#include <map>

#include "layerdb/store/group_copies.h"
#include "tests/faults/host_calls.h"
#include "tests/support/random.h"
#include "tests/support/result_matchers.h"
#include "tests/support/temp_dir.h"

namespace layerfs {
namespace {

using test_support::HostCalls;

TEST(GroupCopiesOnAFullDisk, WhatIsNotWrittenTakesNoRoom) {
  constexpr size_t kHeadBytes = 24, kBegin = 4096 + (256 << 10);
  test_support::Random random;
  const std::vector<GroupId> groups = {3, 1, 2};
  std::map<GroupId, std::string> records;
  for (GroupId group : groups) records[group] = random.bytes(1 + random.below(5000));
  auto make = [&](GroupId group) -> Result<std::string> { return records[group]; };
  for (uint64_t before = 0; before < 2 * groups.size(); ++before) {
    test_support::TempDir dir;
    std::string path = GroupCopies::path_in(dir.path());
    HostCalls host(dir.path());
    GroupCopies copies = VALUE(GroupCopies::open(path, 1, 10));
    host.fail_after(before, ENOSPC, HostCalls::kGrowing, 1);
    std::vector<GroupId> added = copies.add(groups, 1 << 20, make);
    EXPECT_TRUE(host.failed());
    EXPECT_EQ(added, std::vector<GroupId>(groups.begin(), groups.begin() + long(before / 2)));
    size_t bytes = 0;
    for (GroupId group : groups) {
      bool there = std::find(added.begin(), added.end(), group) != added.end();
      EXPECT_EQ(copies.find(group).value_or(""), there ? records[group] : "") << before;
      bytes += there ? kHeadBytes + records[group].size() : 0;
    }
    EXPECT_EQ(std::filesystem::file_size(path), kBegin + bytes) << before;
    EXPECT_EQ(copies.add(groups, 1 << 20, make).size(), groups.size() - added.size());
    for (GroupId group : groups) EXPECT_EQ(copies.find(group), records[group]);
  }
}

}  // namespace
}  // namespace layerfs
