// SPDX-License-Identifier: Apache-2.0
#include "fuse/sender.h"

#include <gtest/gtest.h>
#include <unistd.h>

namespace layerfs {
namespace {

std::string status(const std::string& groups, const std::string& pending,
                   const std::string& capabilities) {
  return "Name:\tx\nTgid:\t12\nPid:\t13\nGroups:\t" + groups + "\nSigPnd:\t" + pending +
         "\nShdPnd:\t0000000000000100\nCapEff:\t" + capabilities + "\n";
}

TEST(SenderTest, ReadsGroupsCapabilityAndSignals) {
  auto found = parse_sender(status("4 100 65537 ", "0000000000000000", "0000000000000010"));
  ASSERT_TRUE(found);
  EXPECT_EQ(found->process, 12);
  EXPECT_EQ(found->groups, (std::vector<uint32_t>{4, 100, 65537}));
  EXPECT_TRUE(found->fsetid);
  EXPECT_FALSE(found->dying);
  found = parse_sender(status(" ", "0000000000000102", "00000000ffffffef"));
  ASSERT_TRUE(found);
  EXPECT_TRUE(found->groups.empty());
  EXPECT_FALSE(found->fsetid);
  EXPECT_TRUE(found->dying);
}

TEST(SenderTest, RefusesWhatIsNoStatus) {
  EXPECT_FALSE(parse_sender(""));
  EXPECT_FALSE(parse_sender("Name:\tx\nTgid:\t1\nGroups:\t4\nSigPnd:\t0\n"));
  EXPECT_FALSE(parse_sender("Name:\tx\nTgid:\t1\nGroups:\t4\nCapEff:\t0\n"));
  EXPECT_FALSE(parse_sender(status("four", "0", "0")));
  EXPECT_FALSE(parse_sender(status("4", "0", "")));
}

TEST(SenderTest, ReadsTheKernelsOwnText) {
  auto own = sender_of(static_cast<uint32_t>(::gettid()));
  ASSERT_TRUE(own);
  EXPECT_EQ(own->process, ::getpid());
  EXPECT_FALSE(own->dying);
}

}  // namespace
}  // namespace layerfs
