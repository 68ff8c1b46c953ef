// SPDX-License-Identifier: Apache-2.0
#include "layerdb/ops/canonical_tar.h"

#include <archive.h>
#include <archive_entry.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <memory>

#include "layerdb/base/hash.h"

namespace layerfs {
namespace {

Entry make(FileType type, uint16_t mode) {
  Entry entry;
  entry.attributes.type = type;
  entry.attributes.mode = mode;
  entry.attributes.mtime = {1700000000, 123456789};
  return entry;
}

// The value of a pax record in a header, found by hand: independent of any tar reader.
std::string record(const std::string& header, const std::string& key) {
  size_t at = header.find(" " + key + "=");
  if (at == std::string::npos) return "<none>";
  size_t digits = header.find_last_not_of("0123456789", at - 1) + 1;
  size_t length = std::stoul(header.substr(digits, at - digits));
  size_t value = at + key.size() + 2;
  EXPECT_EQ(header[digits + length - 1], '\n');
  return header.substr(value, digits + length - 1 - value);
}

// Reads one header back with libarchive.
struct ReadBack {
  explicit ReadBack(std::string header)
      : tar(header + tar_trailer()), reader(archive_read_new(), archive_read_free) {
    archive_read_support_format_tar(reader.get());
    archive_read_open_memory(reader.get(), tar.data(), tar.size());
    status = archive_read_next_header(reader.get(), &entry);
  }
  std::string tar;
  std::unique_ptr<archive, decltype(&archive_read_free)> reader;
  archive_entry* entry = nullptr;
  int status = ARCHIVE_FATAL;
};

TEST(CanonicalTar, RegularFileWithEverything) {
  Entry entry = make(FileType::regular, 04755);
  entry.attributes.uid = 3000000000u;
  entry.attributes.gid = 4294967294u;
  std::string capability("\1\0\0\2\0\4\0\0\0\0\0\0\0\0\0\0\0\0\0\n", 20);
  entry.xattrs = {{"security.capability", capability}, {"user.empty", ""}};
  std::string header = *encode_tar_header("a/b", entry, "");
  EXPECT_EQ(header.size() % 512, 0u);
  EXPECT_EQ(record(header, "SCHILY.xattr.security.capability"), capability);
  EXPECT_EQ(record(header, "SCHILY.xattr.user.empty"), "");
  EXPECT_EQ(record(header, "mtime"), "1700000000.123456789");
  ReadBack back(header);
  ASSERT_EQ(back.status, ARCHIVE_OK);
  EXPECT_STREQ(archive_entry_pathname(back.entry), "a/b");
  EXPECT_EQ(archive_entry_mode(back.entry), S_IFREG | 04755u);
  EXPECT_EQ(archive_entry_uid(back.entry), 3000000000);
  EXPECT_EQ(archive_entry_gid(back.entry), 4294967294);
  EXPECT_EQ(archive_entry_mtime(back.entry), 1700000000);
  EXPECT_EQ(archive_entry_mtime_nsec(back.entry), 123456789);
}

TEST(CanonicalTar, TypesAndRoot) {
  ReadBack root(*encode_tar_header("", make(FileType::directory, 0755), ""));
  EXPECT_STREQ(archive_entry_pathname(root.entry), "./");
  Entry device = make(FileType::block_device, 0660);
  device.attributes.rdev_major = 4095;
  device.attributes.rdev_minor = 1048575;
  ReadBack block(*encode_tar_header("dev/b", device, ""));
  EXPECT_EQ(archive_entry_filetype(block.entry), static_cast<mode_t>(S_IFBLK));
  EXPECT_EQ(archive_entry_rdevmajor(block.entry), 4095u);
  EXPECT_EQ(archive_entry_rdevminor(block.entry), 1048575u);
  ReadBack fifo(*encode_tar_header("f", make(FileType::fifo, 0600), ""));
  EXPECT_EQ(archive_entry_filetype(fifo.entry), static_cast<mode_t>(S_IFIFO));
  ReadBack link(*encode_tar_header("l", make(FileType::regular, 0600), "a/b"));
  EXPECT_STREQ(archive_entry_hardlink(link.entry), "a/b");
  EXPECT_EQ(encode_tar_header("s", make(FileType::socket, 0600), "").error().code, ENOTSUP);
}

TEST(CanonicalTar, NamesAreRawBytesOfAnyLength) {
  std::string raw = "d/\xff\xfe " + std::string(90, 'x');  // 95 bytes: in the ustar field
  EXPECT_EQ((*encode_tar_header(raw, make(FileType::regular, 0644), "")).find(raw), 1024u);
  std::string path = std::string(250, 'l') + "/\xff" + std::string(250, 'm');
  Entry link = make(FileType::symlink, 0777);
  link.symlink_target = "\xfe/" + std::string(4000, 't');
  std::string header = *encode_tar_header(path, link, "");
  EXPECT_EQ(record(header, "path"), path);
  EXPECT_EQ(record(header, "linkpath"), link.symlink_target);
  std::string hundred(100, 'h');
  header = *encode_tar_header(hundred, make(FileType::regular, 0644), "");
  EXPECT_EQ(record(header, "path"), "<none>");
  EXPECT_EQ(header.substr(1024, 100), hundred);
}

TEST(CanonicalTar, RecordLengthsThatCountTheirOwnDigits) {
  for (size_t size = 0; size < 1100; ++size) {
    Entry entry = make(FileType::regular, 0644);
    entry.xattrs = {{"user.x", std::string(size, 'v')}};
    std::string header = *encode_tar_header("f", entry, "");
    ASSERT_EQ(record(header, "SCHILY.xattr.user.x"), entry.xattrs[0].second) << size;
  }
}

TEST(CanonicalTar, SizesAndTimesBeyondOctal) {
  Entry entry = make(FileType::regular, 0644);
  entry.attributes.size_bytes = uint64_t{9} << 30;
  entry.attributes.mtime = {-5, 500000000};
  std::string header = *encode_tar_header("big", entry, "");
  EXPECT_EQ(record(header, "size"), "9663676416");
  EXPECT_EQ(record(header, "mtime"), "-4.5");
  entry.attributes.mtime = {-5, 0};
  EXPECT_EQ(record(*encode_tar_header("big", entry, ""), "mtime"), "-5");
  entry.attributes.mtime = {int64_t{1} << 40, 0};
  EXPECT_EQ(record(*encode_tar_header("big", entry, ""), "mtime"), "1099511627776");
  entry.attributes.mtime = {-1, 999999999};
  EXPECT_EQ(record(*encode_tar_header("big", entry, ""), "mtime"), "-0.000000001");
}

TEST(CanonicalTar, Whiteouts) {
  Entry gone;
  gone.attributes.type = FileType::whiteout;
  ReadBack whiteout(*encode_tar_header("a/b/c", gone, ""));
  EXPECT_STREQ(archive_entry_pathname(whiteout.entry), "a/b/.wh.c");
  EXPECT_EQ(archive_entry_filetype(whiteout.entry), static_cast<mode_t>(S_IFREG));
  EXPECT_EQ(archive_entry_size(whiteout.entry), 0);
  EXPECT_STREQ(archive_entry_pathname(ReadBack(*encode_tar_header("c", gone, "")).entry), ".wh.c");
  EXPECT_STREQ(archive_entry_pathname(ReadBack(*encode_opaque_header("a")).entry),
               "a/.wh..wh..opq");
}

TEST(CanonicalTar, SparseFile) {
  Entry entry = make(FileType::regular, 0640);
  entry.attributes.size_bytes = 10000;
  entry.xattrs = {{"user.a", "b"}};
  std::string header = *encode_sparse_header("d/f", entry, {{4096, 5}, {8192, 700}});
  EXPECT_EQ(header.size() % 512, 0u);
  EXPECT_EQ(record(header, "GNU.sparse.realsize"), "10000");
  EXPECT_EQ(header.substr(header.size() - 512, 26), "3\n4096\n5\n8192\n700\n10000\n0\n");
  std::string body = std::string(705, 'x') + std::string(tar_padding(705), '\0');
  ReadBack back(header + body);
  ASSERT_EQ(back.status, ARCHIVE_OK) << archive_error_string(back.reader.get());
  EXPECT_STREQ(archive_entry_pathname(back.entry), "d/f");
  EXPECT_EQ(archive_entry_size(back.entry), 10000);
  EXPECT_EQ(archive_entry_perm(back.entry), 0640u);
  std::string content(10000, '\0');
  const void* piece = nullptr;
  size_t size = 0;
  la_int64_t offset = 0;
  while (archive_read_data_block(back.reader.get(), &piece, &size, &offset) == ARCHIVE_OK)
    content.replace(offset, size, static_cast<const char*>(piece), size);
  std::string expected(10000, '\0');
  expected.replace(4096, 5, 5, 'x').replace(8192, 700, 700, 'x');
  EXPECT_EQ(content, expected);
}

TEST(CanonicalTar, XattrKeywords) {
  for (const char* name : {"user.a", "user.a=b", "user.%", "user.%3D", "user.%25=", "user.100%="})
    EXPECT_EQ(decode_xattr_keyword(encode_xattr_keyword(name)), name);
  EXPECT_EQ(encode_xattr_keyword("user.a=%b"), "user.a%3D%b");
}

// The bytes are a promise: a layer committed twice, by any version, has one diffID.
TEST(CanonicalTar, GoldenBytes) {
  Entry entry = make(FileType::regular, 0644);
  entry.attributes.uid = 1000;
  entry.attributes.size_bytes = 5;
  entry.xattrs = {{"user.a", "b"}};
  EXPECT_EQ(sha256(*encode_tar_header("dir/file", entry, "")).hex(),
            "77c26053699b5367b6f5265f7d0b3cbe9c0b210d8ed2ab7a3c52bbabd93b1cc1");
}

}  // namespace
}  // namespace layerfs
