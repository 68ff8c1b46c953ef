// SPDX-License-Identifier: Apache-2.0
#include "fuse/overlay_acl.h"

#include <gtest/gtest.h>

#include "tests/support/memory_lower.h"
#include "tests/support/overlay_rig.h"

namespace layerfs {
namespace {

// u::rwx u:7:rw- g::r-x m::rwx o::r--
const Acl kAcl{{0x01, 7, 0}, {0x02, 6, 7}, {0x04, 5, 0}, {0x10, 7, 0}, {0x20, 4, 0}};

TEST(OverlayAclTest, ParsesWhatItEncodes) {
  Acl acl = parse_acl(encode_acl(kAcl)).value();
  ASSERT_EQ(acl.size(), 5u);
  EXPECT_EQ(acl[1], kAcl[1]);
  bool says_more = false;
  EXPECT_EQ(acl_mode(acl, says_more), 0774u);
  EXPECT_TRUE(says_more);
}

TEST(OverlayAclTest, RefusesWhatIsNone) {
  std::string bytes = encode_acl(kAcl);
  for (size_t size = 0; size < bytes.size(); ++size) {
    EXPECT_EQ(parse_acl(bytes.substr(0, size)).error().code, EINVAL) << size;
  }
  EXPECT_FALSE(parse_acl(encode_acl({{0x01, 7, 0}, {0x04, 7, 0}})).ok());
  EXPECT_FALSE(
      parse_acl(encode_acl({{0x01, 7, 0}, {0x02, 7, 1}, {0x04, 7, 0}, {0x20, 7, 0}})).ok());
  EXPECT_FALSE(parse_acl(encode_acl({{0x01, 9, 0}, {0x04, 7, 0}, {0x20, 7, 0}})).ok());
  EXPECT_FALSE(parse_acl(encode_acl({{0x04, 7, 0}, {0x01, 7, 0}, {0x20, 7, 0}})).ok());
}

TEST(OverlayAclTest, InheritanceReducesBoth) {
  Acl acl = kAcl;
  uint32_t mode = 02640;
  EXPECT_TRUE(inherit_acl(acl, mode));
  EXPECT_EQ(mode, 02640u);
  EXPECT_EQ(acl[0].perm, 6);
  EXPECT_EQ(acl[2].perm, 5);  // the mask limits it
  EXPECT_EQ(acl[3].perm, 4);
  EXPECT_EQ(acl[4].perm, 0);
  Acl plain{{0x01, 7, 0}, {0x04, 5, 0}, {0x20, 0, 0}};
  mode = 0666;
  EXPECT_FALSE(inherit_acl(plain, mode));
  EXPECT_EQ(mode, 0640u);
}

class AclInOverlayTest : public testing::Test {
 protected:
  void SetUp() override {
    lower_.add_directory("d");
    lower_.add_file("f", "x");
    lower_.seal();
    rig_ = std::make_unique<OverlayRig>(lower_);
    d_ = rig_->resolve("d").value();
    f_ = rig_->resolve("f").value();
  }
  Overlay& fs() { return rig_->overlay(); }
  Stat make(FileType type, const std::string& name, uint32_t mode) {
    NewNode node;
    node.type = type;
    node.mode = mode;
    return fs().make(d_, name, node, {0, 0, 077}).value();
  }

  MemoryLower lower_;
  std::unique_ptr<OverlayRig> rig_;
  Ino d_ = 0;
  Ino f_ = 0;
};

TEST_F(AclInOverlayTest, ModeAndAclFollowEachOther) {
  ASSERT_TRUE(fs().set_xattr(f_, kAclAccess, encode_acl(kAcl), 0).ok());
  EXPECT_EQ(fs().stat(f_).value().attributes.mode, 0774);
  SetAttributes change;
  change.mode = 0641;
  ASSERT_TRUE(fs().set_attributes(f_, change, {}).ok());
  Acl acl = parse_acl(fs().get_xattr(f_, kAclAccess).value()).value();
  EXPECT_EQ(acl[0].perm, 6);
  EXPECT_EQ(acl[3].perm, 4);
  EXPECT_EQ(acl[4].perm, 1);
  // An ACL that a mode can express is kept as the mode alone.
  Acl plain{{0x01, 7, 0}, {0x04, 5, 0}, {0x20, 1, 0}};
  ASSERT_TRUE(fs().set_xattr(f_, kAclAccess, encode_acl(plain), 0).ok());
  EXPECT_EQ(fs().stat(f_).value().attributes.mode, 0751);
  EXPECT_EQ(fs().get_xattr(f_, kAclAccess).error().code, ENODATA);
}

TEST_F(AclInOverlayTest, ANewAclMayClearTheSetgidBit) {
  SetAttributes change;
  change.mode = 02755;
  ASSERT_TRUE(fs().set_attributes(f_, change, {}).ok());
  ASSERT_TRUE(fs().set_xattr(f_, kAclAccess, encode_acl(kAcl), 0, false).ok());
  EXPECT_EQ(fs().stat(f_).value().attributes.mode, 02774);
  ASSERT_TRUE(fs().set_xattr(f_, kAclAccess, encode_acl(kAcl), 0, true).ok());
  EXPECT_EQ(fs().stat(f_).value().attributes.mode, 0774);
}

TEST_F(AclInOverlayTest, DefaultAclReplacesTheUmask) {
  EXPECT_EQ(make(FileType::regular, "before", 0666).attributes.mode, 0600);
  ASSERT_TRUE(fs().set_xattr(d_, kAclDefault, encode_acl(kAcl), 0).ok());
  Stat file = make(FileType::regular, "file", 0666);
  EXPECT_EQ(file.attributes.mode, 0664);
  EXPECT_TRUE(fs().get_xattr(file.ino, kAclAccess).ok());
  EXPECT_EQ(fs().get_xattr(file.ino, kAclDefault).error().code, ENODATA);
  Stat directory = make(FileType::directory, "directory", 0777);
  EXPECT_EQ(directory.attributes.mode, 0774);
  EXPECT_EQ(fs().get_xattr(directory.ino, kAclDefault).value(), encode_acl(kAcl));
  EXPECT_EQ(make(FileType::symlink, "symlink", 0).attributes.mode, 0777);
  EXPECT_EQ(fs().set_xattr(f_, kAclDefault, encode_acl(kAcl), 0).error().code, EACCES);
  EXPECT_EQ(fs().set_xattr(f_, kAclAccess, "junk", 0).error().code, EINVAL);
}

}  // namespace
}  // namespace layerfs
