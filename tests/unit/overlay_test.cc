// SPDX-License-Identifier: Apache-2.0
#include "fuse/overlay.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <linux/falloc.h>
#include <linux/fs.h>
#include <sys/xattr.h>

#include <algorithm>
#include <map>
#include <set>
#include <thread>

#include "layerdb/base/sys.h"
#include "tests/support/memory_lower.h"
#include "tests/support/overlay_rig.h"

namespace layerfs {
namespace {

constexpr Caller kRoot{0, 0, 022};

class OverlayTest : public testing::Test {
 protected:
  void SetUp() override {
    lower_.add_directory("d");
    lower_.add_directory("d/sub");
    lower_.add_file("d/a", "alpha");
    lower_.add_file("d/b", "beta", 06755);
    lower_.add_file("d/sub/deep", "deep");
    lower_.add_file("big", std::string(1 << 20, 'L'));
    lower_.add_link("link", "d/a");
    lower_.add_symlink("sym", "d/a");
    lower_.seal();
    rig_ = std::make_unique<OverlayRig>(lower_);
  }
  Overlay& fs() { return rig_->overlay(); }

  Ino ino(const std::string& path) { return rig_->resolve(path).value(); }
  Stat stat(const std::string& path) { return fs().stat(ino(path)).value(); }
  std::string read(const std::string& path) { return rig_->read_all(ino(path)).value(); }
  int code(const Status& status) { return status.ok() ? 0 : status.error().code; }
  Ino create(Ino directory, const std::string& name, uint32_t mode = 0644) {
    NewNode node;
    node.mode = mode;
    return fs().make(directory, name, node, kRoot).value().ino;
  }
  std::vector<std::string> names(Ino directory) {
    std::vector<std::string> out;
    EXPECT_TRUE(fs().list(directory, 0,
                          [&](const DirectoryEntry& entry) {
                            out.emplace_back(entry.name);
                            return true;
                          })
                    .ok());
    std::sort(out.begin(), out.end());
    return out;
  }

  MemoryLower lower_;
  std::unique_ptr<OverlayRig> rig_;
};

using Names = std::vector<std::string>;

TEST_F(OverlayTest, ShowsTheLower) {
  EXPECT_EQ(names(kRootIno), (Names{"big", "d", "link", "sym"}));
  EXPECT_EQ(read("d/a"), "alpha");
  EXPECT_EQ(stat("d/a").attributes.nlink, 2u);
  EXPECT_EQ(ino("link"), ino("d/a"));
  EXPECT_EQ(fs().readlink(ino("sym")).value(), "d/a");
  EXPECT_EQ(fs().lookup(kRootIno, "none").error().code, ENOENT);
  EXPECT_EQ(fs().lookup(kRootIno, std::string(256, 'x')).error().code, ENAMETOOLONG);
}

TEST_F(OverlayTest, HardLinksOfTheLowerStayLinksWhenWritten) {
  Ino link = ino("link");
  ASSERT_TRUE(fs().write(link, 0, "ALPHA").ok());
  EXPECT_EQ(read("d/a"), "ALPHA");
  rig_->remount();
  EXPECT_EQ(read("d/a"), "ALPHA");
  EXPECT_EQ(read("link"), "ALPHA");
  EXPECT_EQ(ino("link"), link);
  ASSERT_TRUE(fs().unlink(kRootIno, "link").ok());
  EXPECT_EQ(stat("d/a").attributes.nlink, 1u);
}

TEST_F(OverlayTest, WritesOnlyTheRangeTouched) {
  Ino big = ino("big");
  ASSERT_TRUE(fs().write(big, 500000, "x").ok());
  std::string want(1 << 20, 'L');
  want[500000] = 'x';
  EXPECT_EQ(read("big"), want);
  EXPECT_LT(rig_->upper().body_blocks(big).value(), 64u);
  rig_->remount();
  EXPECT_EQ(read("big"), want);
}

TEST_F(OverlayTest, BytesCutOffDoNotComeBack) {
  for (const char* path : {"big", "d/a"}) {
    SetAttributes cut;
    cut.size_bytes = 3;
    ASSERT_TRUE(fs().set_attributes(ino(path), cut, kRoot).ok());
    cut.size_bytes = 40000;
    ASSERT_TRUE(fs().set_attributes(ino(path), cut, kRoot).ok());
    std::string want = read(path).substr(0, 3) + std::string(40000 - 3, '\0');
    EXPECT_EQ(read(path), want);
    rig_->remount();
    EXPECT_EQ(read(path), want);
  }
}

TEST_F(OverlayTest, DirectoriesOfTheLowerMoveWithEverythingInThem) {
  Ino sub = ino("d/sub");
  ASSERT_TRUE(fs().rename(ino("d"), "sub", kRootIno, "moved", 0).ok());
  EXPECT_EQ(read("moved/deep"), "deep");
  EXPECT_EQ(fs().lookup(ino("d"), "sub").error().code, ENOENT);
  EXPECT_EQ(stat("d").attributes.nlink, 2u);
  EXPECT_EQ(stat("").attributes.nlink, 4u);
  EXPECT_EQ(ino("moved"), sub);
  EXPECT_EQ(fs().parent(sub).value(), kRootIno);
  rig_->remount();
  EXPECT_EQ(ino("moved"), sub);
  EXPECT_EQ(names(sub), (Names{"deep"}));
  EXPECT_EQ(code(fs().rename(kRootIno, "moved", sub, "x", 0)), EINVAL);
}

TEST_F(OverlayTest, ADeletedFileLivesUntilForgotten) {
  Ino a = create(kRootIno, "f");
  ASSERT_TRUE(fs().write(a, 0, std::string(50000, 'z')).ok());
  ASSERT_TRUE(fs().unlink(kRootIno, "f").ok());
  EXPECT_EQ(fs().stat(a).value().attributes.nlink, 0u);
  EXPECT_EQ(rig_->read_all(a).value(), std::string(50000, 'z'));
  EXPECT_EQ(fs().link(a, kRootIno, "again").error().code, ENOENT);
  EXPECT_EQ(fs().lookup(a, ".").error().code, ENOENT);  // by file handle: no way back
  fs().forget(a, 1);
  EXPECT_EQ(fs().stat(a).error().code, ENOENT);
  EXPECT_TRUE(rig_->upper().orphans().value().empty());
}

TEST_F(OverlayTest, UnnamedFilesGetANameByLink) {
  Stat file = fs().make_unnamed(kRootIno, 0600, true, kRoot).value();
  EXPECT_EQ(file.attributes.nlink, 0u);
  ASSERT_TRUE(fs().write(file.ino, 0, "tmp").ok());
  EXPECT_EQ(fs().link(file.ino, kRootIno, "named").value().attributes.nlink, 1u);
  fs().forget(file.ino, 2);
  rig_->remount();
  EXPECT_EQ(read("named"), "tmp");
  Stat secret = fs().make_unnamed(kRootIno, 0600, false, kRoot).value();
  EXPECT_EQ(fs().link(secret.ino, kRootIno, "x").error().code, ENOENT);
}

TEST_F(OverlayTest, WritingClearsPrivileges) {
  int asked = 0;  // only about files that have something to lose
  WriterOf member = [&](const Attributes&) {
    ++asked;
    return Writer::member;
  };
  Ino b = ino("d/b");
  ASSERT_TRUE(fs().set_xattr(b, "security.capability", "cap", 0).ok());
  ASSERT_TRUE(fs().write(b, 0, "x").ok());
  EXPECT_EQ(stat("d/b").attributes.mode, 06755);
  EXPECT_EQ(fs().get_xattr(b, "security.capability").error().code, ENODATA);
  ASSERT_TRUE(fs().write(b, 0, "x", member).ok());
  EXPECT_EQ(stat("d/b").attributes.mode, 0755);
  ASSERT_TRUE(fs().write(b, 0, "x", member).ok());
  EXPECT_EQ(asked, 1);
  SetAttributes change;
  change.mode = 02744;
  ASSERT_TRUE(fs().set_attributes(b, change, kRoot).ok());
  ASSERT_TRUE(fs().write(b, 0, "x", member).ok());
  EXPECT_EQ(stat("d/b").attributes.mode, 02744);  // mandatory locking, not set-gid
}

TEST_F(OverlayTest, WritingBackKeepsTheTimes) {
  Ino b = ino("d/b");
  Stat before = stat("d/b");
  ASSERT_TRUE(fs().write(b, 0, "x", {}, Overlay::Times::keep).ok());
  EXPECT_EQ(stat("d/b").attributes.mtime, before.attributes.mtime);
  EXPECT_EQ(stat("d/b").ctime, before.ctime);
  ASSERT_TRUE(fs().write(b, 0, "y").ok());
  EXPECT_NE(stat("d/b").attributes.mtime, before.attributes.mtime);
}

TEST_F(OverlayTest, SetGidDirectoriesPassOnTheirGroup) {
  SetAttributes change;
  change.gid = 77;
  change.mode = 02775;
  ASSERT_TRUE(fs().set_attributes(ino("d"), change, kRoot).ok());
  create(ino("d"), "f");
  NewNode directory;
  directory.type = FileType::directory;
  directory.mode = 0755;
  ASSERT_TRUE(fs().make(ino("d"), "e", directory, kRoot).ok());
  EXPECT_EQ(stat("d/f").attributes.gid, 77u);
  EXPECT_EQ(stat("d/e").attributes.gid, 77u);
  EXPECT_EQ(stat("d/e").attributes.mode, 02755);
}

TEST_F(OverlayTest, SmallFilesTakeTheBlocksTheyWouldOnADisk) {
  Ino f = fs().make(kRootIno, "small", {.mode = 0644}, {}).value().ino;
  auto blocks = [&] { return fs().stat(f).value().blocks; };
  auto resize = [&](uint64_t size) {
    SetAttributes changes;
    changes.size_bytes = size;
    ASSERT_TRUE(fs().set_attributes(f, changes, {}).ok());
  };
  EXPECT_EQ(blocks(), 0u);
  resize(10000);
  EXPECT_EQ(blocks(), 0u);
  ASSERT_TRUE(fs().write(f, 5000, "x").ok());
  EXPECT_EQ(blocks(), 8u);
  ASSERT_TRUE(fs().write(f, 12288, "y").ok());
  EXPECT_EQ(blocks(), 16u);
  ASSERT_TRUE(fs().allocate(f, 0, 100, 1).ok());
  EXPECT_EQ(blocks(), 24u);
  constexpr int kPunch = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE;
  ASSERT_TRUE(fs().allocate(f, kPunch, 4095, 4097).ok());  // the second block whole, not the first
  EXPECT_EQ(blocks(), 16u);
  ASSERT_TRUE(fs().allocate(f, kPunch, 12288, 1 << 20).ok());  // the last one as far as it goes
  EXPECT_EQ(blocks(), 8u);
  rig_->remount();
  EXPECT_EQ(blocks(), 8u);
  resize(16384);
  ASSERT_TRUE(fs().allocate(f, FALLOC_FL_ZERO_RANGE, 8192, 8192).ok());
  EXPECT_EQ(blocks(), 24u);
  resize(1 << 20);  // a body file, in which the holes stay
  EXPECT_EQ(blocks(), 24u);
  resize(0);
  ASSERT_TRUE(fs().allocate(f, FALLOC_FL_KEEP_SIZE, 0, 40960).ok());
  EXPECT_EQ(blocks(), 80u);
}

TEST_F(OverlayTest, SeesHoles) {
  Ino big = ino("big");
  ASSERT_TRUE(fs().allocate(big, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 65536, 65536).ok());
  EXPECT_EQ(fs().seek(big, 0, SEEK_HOLE).value(), 65536u);
  EXPECT_EQ(fs().seek(big, 65536, SEEK_DATA).value(), 131072u);
  EXPECT_EQ(fs().seek(big, 131072, SEEK_HOLE).value(), 1u << 20);
  EXPECT_EQ(fs().seek(big, 1 << 20, SEEK_DATA).error().code, ENXIO);
  EXPECT_EQ(read("big").substr(65536, 65536), std::string(65536, '\0'));
  EXPECT_EQ(stat("big").attributes.size_bytes, 1u << 20);
}

// Each search in the lower goes on to the end of the data there.
TEST_F(OverlayTest, FilesInManyPiecesAreNotSearchedOncePerPiece) {
  Ino big = ino("big");
  for (uint64_t at = 0; at < 1 << 20; at += 8192) ASSERT_TRUE(fs().write(big, at, "x").ok());
  uint64_t before = lower_.seeks();
  EXPECT_GE(fs().stat(big).value().blocks, 2048u);
  EXPECT_EQ(fs().seek(big, 1, SEEK_HOLE).value(), 1u << 20);
  EXPECT_EQ(fs().seek(big, 4097, SEEK_DATA).value(), 4097u);
  EXPECT_LE(lower_.seeks() - before, 8u);
  before = lower_.seeks();
  ASSERT_TRUE(fs().write(big, 4096, "x").ok());
  EXPECT_GE(fs().stat(big).value().blocks, 2048u);
  EXPECT_EQ(lower_.seeks(), before);
}

TEST_F(OverlayTest, SeesHolesOfSmallFiles) {
  Ino file = create(ino("d"), "sparse");
  ASSERT_TRUE(fs().write(file, 9000, "x").ok());
  EXPECT_EQ(fs().seek(file, 0, SEEK_DATA).value(), 8192u);
  EXPECT_EQ(fs().seek(file, 8500, SEEK_DATA).value(), 8500u);
  EXPECT_EQ(fs().seek(file, 100, SEEK_HOLE).value(), 100u);
  EXPECT_EQ(fs().seek(file, 8192, SEEK_HOLE).value(), 9001u);
  ASSERT_TRUE(fs().set_attributes(file, {.size_bytes = 5000}, kRoot).ok());
  EXPECT_EQ(fs().seek(file, 0, SEEK_DATA).error().code, ENXIO);
  // Zeros that were written, or set aside, are data, until they are punched out.
  ASSERT_TRUE(fs().write(file, 0, std::string(12288, '\0')).ok());
  EXPECT_EQ(fs().seek(file, 0, SEEK_HOLE).value(), 12288u);
  ASSERT_TRUE(fs().allocate(file, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 4096, 4096).ok());
  EXPECT_EQ(fs().seek(file, 0, SEEK_HOLE).value(), 4096u);
  EXPECT_EQ(fs().seek(file, 4096, SEEK_DATA).value(), 8192u);
  EXPECT_EQ(fs().seek(file, 5000, SEEK_HOLE).value(), 5000u);
  rig_->remount();
  EXPECT_EQ(fs().seek(file, 4096, SEEK_DATA).value(), 8192u);
  ASSERT_TRUE(fs().allocate(file, FALLOC_FL_ZERO_RANGE, 0, 8192).ok());
  EXPECT_EQ(fs().seek(file, 0, SEEK_HOLE).value(), 12288u);
}

TEST_F(OverlayTest, DeviceZeroZeroIsADeviceLikeAnyOther) {
  NewNode node;
  node.type = FileType::char_device;
  node.mode = 0600;
  ASSERT_TRUE(fs().make(ino("d"), "c", node, kRoot).ok());
  EXPECT_EQ(names(ino("d")), (Names{"a", "b", "c", "sub"}));
  rig_->remount();
  EXPECT_EQ(stat("d/c").attributes.type, FileType::char_device);
}

TEST_F(OverlayTest, CopiesRanges) {
  Ino f = create(kRootIno, "copy");
  EXPECT_EQ(fs().copy_range(ino("big"), 10, f, 5, 1 << 20).value(), (1u << 20) - 10);
  EXPECT_EQ(read("copy"), std::string(5, '\0') + std::string((1 << 20) - 10, 'L'));
}

// Lists one entry at a time while names come, go and are replaced between the calls.
TEST_F(OverlayTest, ListingSeesEachLastingEntryOnce) {
  Ino d = ino("d");
  std::set<std::string> lasting{"a", "b", "sub"};
  for (int i = 0; i < 50; ++i) {
    create(d, "keep" + std::to_string(i));
    lasting.insert("keep" + std::to_string(i));
    create(d, "gone" + std::to_string(i));
  }
  std::map<std::string, int> seen;
  uint64_t cookie = 0;
  for (int step = 0;; ++step) {
    std::string name;
    ASSERT_TRUE(fs().list(d, cookie,
                          [&](const DirectoryEntry& entry) {
                            if (!name.empty()) return false;
                            name = entry.name;
                            cookie = entry.cookie;
                            return true;
                          })
                    .ok());
    if (name.empty()) break;
    ++seen[name];
    ASSERT_LT(step, 1000);
    (void)fs().unlink(d, "gone" + std::to_string(step % 50));
    create(d, "new" + std::to_string(step));
    // The name that was just seen is replaced, as programs that rewrite files do.
    ASSERT_TRUE(fs().rename(d, "new" + std::to_string(step), d, "b", 0).ok());
  }
  for (const std::string& name : lasting) EXPECT_EQ(seen[name], 1) << name;
}

TEST_F(OverlayTest, FreezeHoldsMutationsBack) {
  fs().freeze();
  EXPECT_EQ(read("d/a"), "alpha");
  std::thread writer([&] { create(kRootIno, "late"); });
  EXPECT_EQ(fs().lookup(kRootIno, "late").error().code, ENOENT);
  fs().thaw();
  writer.join();
  EXPECT_TRUE(fs().lookup(kRootIno, "late").ok());
}

TEST_F(OverlayTest, ReadOnlyNeedsNoUpper) {
  Overlay::Options options;
  options.read_only = true;
  auto overlay = Overlay::create(lower_, nullptr, options).value();
  EXPECT_TRUE(overlay->lookup(kRootIno, "d").ok());
  EXPECT_EQ(overlay->unlink(kRootIno, "big").error().code, EROFS);
  EXPECT_EQ(overlay->statfs().value().f_namemax, 255u);
}

}  // namespace
}  // namespace layerfs
