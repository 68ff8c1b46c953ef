// SPDX-License-Identifier: Apache-2.0
#include "fuse/overlay_access.h"

#include <gtest/gtest.h>

#include "tests/support/memory_lower.h"
#include "tests/support/overlay_rig.h"

namespace layerfs {
namespace {

class OverlayAccessTest : public testing::Test {
 protected:
  void SetUp() override {
    lower_.add_file("old", "text");
    lower_.seal();
    rig_ = std::make_unique<OverlayRig>(lower_);
  }
  Overlay& fs() { return rig_->overlay(); }
  Ino keep(const std::string& name) { return fs().lookup(kRootIno, name).value().ino; }
  Timestamp atime(Ino ino) { return fs().stat(ino).value().atime; }
  // What the upper has; the kernel knows nothing of it.
  Timestamp stored(Ino ino) { return rig_->upper().inode(ino).value().value().atime; }
  Ino create(const std::string& name) {
    return fs().make(kRootIno, name, {.mode = 0644, .symlink_target = {}}, {}).value().ino;
  }

  MemoryLower lower_;
  std::unique_ptr<OverlayRig> rig_;
};

TEST_F(OverlayAccessTest, FollowsRelatime) {
  Ino file = create("f");
  EXPECT_EQ(atime(file), rig_->now());
  rig_->tick();
  Timestamp first = rig_->now();
  fs().note_access(file);
  EXPECT_EQ(atime(file), first);  // not newer than the last change
  rig_->tick();
  fs().note_access(file);
  EXPECT_EQ(atime(file), first);  // newer than that: once is enough
  rig_->tick();
  ASSERT_TRUE(fs().write(file, 0, "x").ok());
  EXPECT_EQ(atime(file), first);
  rig_->tick();
  fs().note_access(file);
  EXPECT_EQ(atime(file), rig_->now());
  for (int i = 0; i < 24 * 60 * 60; ++i) rig_->tick();
  fs().note_access(file);
  EXPECT_EQ(atime(file), rig_->now());  // a day later
}

TEST_F(OverlayAccessTest, IsWrittenWithAChangeAndWhenForgotten) {
  Ino file = create("f");
  rig_->tick();
  Timestamp read = rig_->now();
  fs().note_access(file);
  EXPECT_NE(stored(file), read);
  rig_->tick();
  SetAttributes mode;
  mode.mode = 0600;
  ASSERT_TRUE(fs().set_attributes(file, mode, {}).ok());
  EXPECT_EQ(stored(file), read);
  rig_->tick();
  fs().note_access(file);
  Timestamp again = rig_->now();
  fs().forget(file, 1);
  EXPECT_EQ(stored(file), again);
  Ino other = create("g");
  rig_->tick();
  fs().note_access(other);
  again = rig_->now();
  rig_->remount();
  EXPECT_EQ(stored(other), again);
}

TEST_F(OverlayAccessTest, ExplicitTimesWin) {
  Ino file = create("f");
  rig_->tick();
  fs().note_access(file);
  SetAttributes past;
  past.atime = Timestamp{5, 6};
  ASSERT_TRUE(fs().set_attributes(file, past, {}).ok());
  EXPECT_EQ(atime(file), (Timestamp{5, 6}));
  EXPECT_EQ(stored(file), (Timestamp{5, 6}));
}

TEST_F(OverlayAccessTest, ReadingTheLowerWritesNothing) {
  Ino old = keep("old");
  fs().note_access(old);
  EXPECT_EQ(atime(old), rig_->now());
  fs().forget(old, 1);
  rig_->remount();
  EXPECT_FALSE(rig_->upper().inode(old).value().has_value());
  old = keep("old");
  fs().note_access(old);
  Timestamp read = rig_->now();
  rig_->tick();
  ASSERT_TRUE(fs().write(old, 0, "T").ok());
  EXPECT_EQ(stored(old), read);  // there is a record now anyway
}

}  // namespace
}  // namespace layerfs
