// SPDX-License-Identifier: Apache-2.0
//
// Uppers that other versions of the program made.
#include <gtest/gtest.h>
#include <rocksdb/db.h>

#include "layerdb/upper/records.h"
#include "tests/support/memory_lower.h"
#include "tests/support/overlay_rig.h"
#include "tests/support/result_matchers.h"
#include "tests/support/temp_dir.h"
#include "tests/support/upper_fixture.h"

namespace layerfs {
namespace {

using test_support::TempDir;

// The upper's database itself, closed again with the object.
class RawUpper {
 public:
  explicit RawUpper(const std::string& container) {
    rocksdb::DB* db = nullptr;
    EXPECT_TRUE(rocksdb::DB::Open({}, container + "/upper", &db).ok());
    db_.reset(db);
  }
  void put(const std::string& key, const std::string& value) {
    ASSERT_TRUE(db_->Put({}, key, value).ok());
  }
  void set_version(uint64_t version) {
    put(upper_key::version(), upper_key::encode_number(version));
  }
  uint64_t version() {
    std::string value;
    EXPECT_TRUE(db_->Get({}, upper_key::version(), &value).ok());
    return upper_key::decode_number(value).value();
  }

 private:
  std::unique_ptr<rocksdb::DB> db_;
};

// An inode record as version 1 wrote it, byte by byte: in its flags there was own_xattrs only.
std::string version_1_record(uint8_t body, uint8_t flags, uint64_t size_bytes) {
  std::string out;
  put_u8(out, 1);  // a regular file
  put_u8(out, body);
  put_u8(out, flags);
  put_u16(out, 0644);
  for (uint64_t field : {uint64_t{7}, uint64_t{8}, uint64_t{1}, uint64_t{0}, uint64_t{0},
                         size_bytes, uint64_t{0}, uint64_t{0}})
    put_varint(out, field);  // uid, gid, nlink, device, size, lower size, parent
  for (uint64_t seconds = 1; seconds <= 4; ++seconds) {
    put_u64(out, seconds);
    put_u32(out, 5);
  }
  put_varint(out, 0);  // no symlink target
  return out;
}

// Version 1 as a process leaves it: a root with two names, a small file with a block of zeros in it
// and a large one.
constexpr Ino kSmallFile = 1001, kLargeFile = 1002;
void make_version_1(const std::string& container) {
  {
    auto upper = open_upper(container);
    InodeRecord root;
    root.attributes.type = FileType::directory;
    root.attributes.mode = 0755;
    root.attributes.nlink = 2;
    root.parent = kRootIno;
    for (Ino ino : {kFirst, kSmallFile, kLargeFile}) ASSERT_EQ(upper->allocate_ino(), ino);
    ASSERT_OK(upper->write_body(kLargeFile, 0, std::string(20000, 'L')));
    ASSERT_OK(apply(*upper, [&](Upper::Transaction& t) {
      t.put_inode(kRootIno, root);
      t.put_inode(kLargeFile, regular(Body::file, 20000));
      t.put_name(kRootIno, "small", {kSmallFile, FileType::regular, false});
      t.put_name(kRootIno, "large", {kLargeFile, FileType::regular, false});
      t.put_xattr(kSmallFile, "user.a", "1");
    }));
  }
  RawUpper raw(container);
  std::string small = std::string(4096, 's') + std::string(4096, '\0') + "end";
  raw.put(upper_key::of(upper_key::kInode, kSmallFile), version_1_record(2, 1, small.size()));
  raw.put(upper_key::of(upper_key::kSmallBody, kSmallFile), small);
  raw.put(upper_key::of(upper_key::kInode, kLargeFile), version_1_record(3, 0, 20000));
  raw.set_version(1);
}

TEST(UpperVersion, OneIsReadAsItIsAndRaisedByWriting) {
  TempDir dir;
  make_version_1(dir.path());
  {
    // diff and commit read it, beside whoever may be writing: nothing is raised.
    auto upper = open_upper(dir.path(), {.read_only = true});
    InodeRecord record = **upper->inode(kSmallFile);
    EXPECT_EQ(record.small_holes, 0);
    EXPECT_TRUE(record.own_xattrs);
    EXPECT_EQ(record.attributes.size_bytes, 8195u);
    EXPECT_EQ(upper->small_body(kSmallFile)->substr(8192), "end");
    EXPECT_EQ(**upper->xattr(kSmallFile, "user.a"), "1");
    EXPECT_EQ((**upper->inode(kLargeFile)).body, Body::file);
    EXPECT_EQ(names(*upper, kRootIno), (std::vector<std::string>{"large", "small"}));
  }
  EXPECT_EQ(RawUpper(dir.path()).version(), 1u);
  open_upper(dir.path());
  EXPECT_EQ(RawUpper(dir.path()).version(), upper_key::kFormatVersion);
}

TEST(UpperVersion, AnOverlayGoesOnWithVersionOne) {
  TempDir dir;
  make_version_1(dir.path());
  MemoryLower lower;
  lower.seal();
  const Caller root;
  for (int mounts = 0; mounts < 3; ++mounts) {
    auto upper = open_upper(dir.path());
    auto fs = VALUE(Overlay::create(lower, upper.get(), {.host_directory = dir.path()}));
    Ino file = VALUE(fs->lookup(kRootIno, "small")).ino;
    ASSERT_EQ(file, kSmallFile);
    std::string bytes(20000, '\0');
    bytes.resize(VALUE(fs->read(file, 0, bytes)));
    if (mounts == 0) {
      // Which blocks are holes was not written down: all are data.
      EXPECT_EQ(bytes, std::string(4096, 's') + std::string(4096, '\0') + "end");
      EXPECT_EQ(VALUE(fs->stat(file)).blocks, 24u);
      EXPECT_EQ(VALUE(fs->seek(file, 0, SEEK_HOLE)), 8195u);
      ASSERT_OK(fs->write(file, 8195, "+"));
      ASSERT_OK(fs->set_attributes(file, {.size_bytes = 16384}, root));
      EXPECT_EQ(VALUE(fs->get_xattr(file, "user.a")), "1");
    } else {
      EXPECT_EQ(bytes.substr(0, 8196), std::string(4096, 's') + std::string(4096, '\0') + "end+");
      EXPECT_EQ(VALUE(fs->stat(file)).blocks, 24u);  // the fourth block is one of version 2's holes
      EXPECT_EQ(VALUE(fs->seek(file, 0, SEEK_HOLE)), 12288u);
    }
    Ino large = VALUE(fs->lookup(kRootIno, "large")).ino;
    std::string byte(1, '\0');
    EXPECT_EQ(VALUE(fs->read(large, 19999, byte)), 1u);
    EXPECT_EQ(byte, "L");
    if (mounts == 1) ASSERT_OK(fs->make(kRootIno, "new", {.mode = 0600}, root));
    if (mounts == 2) {
      EXPECT_GT(VALUE(fs->lookup(kRootIno, "new")).ino, kLargeFile);
    }
  }
}

TEST(UpperVersion, OneOfTheFutureIsRefusedAndLeftAlone) {
  TempDir dir;
  make_version_1(dir.path());
  const uint64_t future = upper_key::kFormatVersion + 1;
  RawUpper(dir.path()).set_version(future);
  for (bool read_only : {false, true}) {
    auto upper = Upper::open(dir.path(), kFirst, {.read_only = read_only});
    ASSERT_FALSE(upper.ok());
    EXPECT_EQ(upper.error().code, EPROTO);
    EXPECT_NE(upper.error().message.find(dir / "upper"), std::string::npos);
    EXPECT_NE(upper.error().message.find("has format " + std::to_string(future) +
                                         ", made by a newer version of layerfs"),
              std::string::npos)
        << upper.error().message;
  }
  EXPECT_EQ(RawUpper(dir.path()).version(), future);
  RawUpper(dir.path()).set_version(1);
  EXPECT_EQ(names(*open_upper(dir.path()), kRootIno), (std::vector<std::string>{"large", "small"}));
}

}  // namespace
}  // namespace layerfs
