// SPDX-License-Identifier: Apache-2.0
#include "fuse/credentials.h"

#include <gtest/gtest.h>

#include <fstream>
#include <iterator>

namespace layerfs {
namespace {

TEST(CredentialsTest, ReadsGroupsAndCapability) {
  auto found = parse_credentials("Name:\tx\nGroups:\t4 100 65537 \nCapEff:\t0000000000000010\n");
  ASSERT_TRUE(found);
  EXPECT_EQ(found->groups, (std::vector<uint32_t>{4, 100, 65537}));
  EXPECT_TRUE(found->fsetid);
  found = parse_credentials("Name:\tx\nGroups:\t \nCapEff:\t00000000ffffffef\n");
  ASSERT_TRUE(found);
  EXPECT_TRUE(found->groups.empty());
  EXPECT_FALSE(found->fsetid);
}

TEST(CredentialsTest, RefusesWhatIsNoStatus) {
  EXPECT_FALSE(parse_credentials(""));
  EXPECT_FALSE(parse_credentials("Name:\tx\nGroups:\t4\n"));
  EXPECT_FALSE(parse_credentials("Name:\tx\nGroups:\tfour\nCapEff:\t0\n"));
  EXPECT_FALSE(parse_credentials("Name:\tx\nGroups:\t4\nCapEff:\n"));
}

TEST(CredentialsTest, ReadsTheKernelsOwnText) {
  std::ifstream file("/proc/self/status");
  EXPECT_TRUE(parse_credentials(std::string(std::istreambuf_iterator<char>(file), {})));
}

}  // namespace
}  // namespace layerfs
