// SPDX-License-Identifier: Apache-2.0
#include "fuse/mount_options.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>

namespace layerfs {
namespace {

bool passes_on(const MountOptions& options, const std::string& option) {
  const auto& list = options.for_libfuse;
  return std::count(list.begin(), list.end(), option) == 1;
}

TEST(MountOptionsTest, ListsAreTakenApartAndTheUnknownIsLeftOut) {
  MountOptions options = choose_mount_options(
      {"noatime,,rw", "", "defaults", "lowerdir=/x,nodev", "noatime"}, false, "s");
  EXPECT_TRUE(passes_on(options, "noatime"));
  EXPECT_TRUE(passes_on(options, "nodev"));
  EXPECT_FALSE(passes_on(options, "dev"));
  EXPECT_FALSE(passes_on(options, "rw"));
  EXPECT_FALSE(passes_on(options, "lowerdir=/x"));
  EXPECT_FALSE(options.read_only);
  EXPECT_TRUE(passes_on(options, "subtype=layerfs"));
}

TEST(MountOptionsTest, ReadOnlyByOptionOrByCommand) {
  EXPECT_TRUE(choose_mount_options({"ro"}, false, "s").read_only);
  MountOptions options = choose_mount_options({}, true, "s");
  EXPECT_TRUE(options.read_only);
  EXPECT_TRUE(passes_on(options, "ro"));
}

TEST(MountOptionsTest, TheSourceMayHoldCommas) {
  EXPECT_TRUE(passes_on(choose_mount_options({}, false, "/a,b\\c"), "fsname=/a\\,b\\\\c"));
}

TEST(MountOptionsTest, WhoMayEnterAndWhoChecks) {
  MountOptions mine = choose_mount_options({}, false, "s");
  MountOptions shared = choose_mount_options({"allow_other"}, false, "s");
  EXPECT_TRUE(passes_on(shared, "allow_other"));
  EXPECT_TRUE(shared.kernel_checks);
  bool root = ::geteuid() == 0;
  EXPECT_EQ(passes_on(mine, "allow_other"), root);
  EXPECT_EQ(mine.kernel_checks, root);
  EXPECT_EQ(mine.ids.map_uid(0), ::geteuid());
}

TEST(IdentityMapTest, ChangesPlacesAndNothingElse) {
  constexpr IdentityMap kMap{1000, 50};
  EXPECT_EQ(kMap.map_uid(0), 1000u);
  EXPECT_EQ(kMap.map_uid(1000), 0u);
  EXPECT_EQ(kMap.map_gid(0), 50u);
  EXPECT_EQ(kMap.map_gid(1000), 1000u);
  constexpr IdentityMap kRoot;
  for (uint32_t id : {0u, 1u, 1000u, ~0u}) {
    EXPECT_EQ(kMap.map_uid(kMap.map_uid(id)), id);
    EXPECT_EQ(kMap.map_gid(kMap.map_gid(id)), id);
    EXPECT_EQ(kRoot.map_uid(id), id);
  }
}

}  // namespace
}  // namespace layerfs
