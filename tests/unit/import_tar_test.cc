// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>
#include <zlib.h>

#include <algorithm>

#include "layerdb/ops/import.h"
#include "layerdb/store/chunk_store.h"
#include "tests/support/layer_listing.h"
#include "tests/support/random.h"
#include "tests/support/tar_bytes.h"
#include "tests/support/temp_dir.h"

namespace layerfs {
namespace {

using test_support::Listing;
using test_support::pax_header;
using test_support::Random;
using test_support::tar_end;
using test_support::tar_entry;
using test_support::tar_header;
using test_support::TarFields;

ByteSource source_of(std::string bytes, size_t step = 1 << 20) {
  return [bytes = std::move(bytes), step, at = size_t{0}](char* out,
                                                          size_t size) mutable -> Result<size_t> {
    size_t n = bytes.copy(out, std::min(size, step), at);
    at += n;
    return n;
  };
}

TarFields file(const std::string& name, const std::string& body) {
  TarFields f;
  f.name = name;
  f.body = body;
  return f;
}

TarFields node(const std::string& name, char type, const std::string& link = "") {
  TarFields f;
  f.name = name;
  f.type = type;
  f.link = link;
  return f;
}

class ImportTarTest : public ::testing::Test {
 protected:
  ImportTarTest() : store_(VALUE(Store::open(directory_.path()))) {}

  Result<LayerRecord> import(const std::string& tar) {
    LayerRecord layer = TRY(
        import_layer_tar(*store_, std::nullopt, source_of(tar), "x.tar", std::nullopt, nullptr));
    TRY(store_->chunks().flush());  // what is still in the open group cannot be read
    return layer;
  }
  // Imports and checks that the tar can be had back.
  LayerRecord import_exactly(const std::string& tar) {
    LayerRecord layer = VALUE(import(tar));
    EXPECT_EQ(layer.diff_id, sha256(tar));
    EXPECT_EQ(layer.tar_bytes, tar.size());
    EXPECT_TRUE(test_support::read_content(*store_, layer.tar, tar.size()) == tar);
    return layer;
  }
  Listing list(const LayerRecord& layer) {
    return test_support::list_tree(*store_, layer.root, layer.links);
  }
  std::string body(const Entry& entry) {
    return test_support::read_content(*store_, entry.content, entry.attributes.size_bytes);
  }
  void expect_refused(const std::string& tar, const std::string& sentence_part) {
    Result<LayerRecord> layer = import(tar);
    ASSERT_FALSE(layer.ok()) << sentence_part;
    EXPECT_EQ(layer.error().code, EINVAL) << layer.error().message;
    EXPECT_NE(layer.error().message.find("x.tar"), std::string::npos) << layer.error().message;
    EXPECT_NE(layer.error().message.find(sentence_part), std::string::npos)
        << layer.error().message;
  }

  test_support::TempDir directory_;
  std::unique_ptr<Store> store_;
};

TEST_F(ImportTarTest, KeepsMetadata) {
  std::string tar = tar_entry(node("./", '5'));
  tar += pax_header({{"mtime", "-1.5"},
                     {"uid", "3000000"},
                     {"gid", "4294967294"},
                     {"SCHILY.xattr.user.a", std::string("x\0\n=", 4)},
                     {"SCHILY.acl.access", "user::rw-,user:7:r--,group::r--,mask::r--,other::---"},
                     {"path", "./dir/\xff\xfe name"}});
  TarFields f = file("short", "hello");
  f.mode = 06755;
  tar += tar_entry(f);
  TarFields device = node("dir/null", '3');
  device.major = 1;
  device.minor = 3;
  tar += tar_entry(device) + tar_entry(node("dir/fifo", '6')) + tar_entry(node("ln", '2', "../x"));
  TarFields longname = file("././@LongLink", std::string(200, 'n') + std::string(1, '\0'));
  longname.type = 'L';
  longname.gnu = true;
  TarFields old = file("cut", "old");
  old.gnu = true;
  tar += tar_entry(longname) + tar_entry(old) + tar_end() + "what follows the end";
  Listing tree = list(import_exactly(tar));
  ASSERT_EQ(tree.size(), 7u);
  EXPECT_FALSE(tree[""].implicit);
  EXPECT_TRUE(tree["dir"].implicit);
  const Entry& entry = tree["dir/\xff\xfe name"];
  EXPECT_EQ(body(entry), "hello");
  EXPECT_EQ(entry.attributes.mode, 06755);
  EXPECT_EQ(entry.attributes.uid, 3000000u);
  EXPECT_EQ(entry.attributes.gid, 4294967294u);
  EXPECT_EQ(entry.attributes.mtime, (Timestamp{-2, 500'000'000}));
  ASSERT_EQ(entry.xattrs.size(), 2u);
  EXPECT_EQ(entry.xattrs[0].first, "system.posix_acl_access");
  std::string acl(
      "\2\0\0\0\1\0\6\0\xff\xff\xff\xff\2\0\4\0\7\0\0\0\4\0\4\0\xff\xff\xff\xff"
      "\x10\0\4\0\xff\xff\xff\xff\x20\0\0\0\xff\xff\xff\xff",
      44);
  EXPECT_EQ(entry.xattrs[0].second, acl);
  EXPECT_EQ(entry.xattrs[1].second, std::string("x\0\n=", 4));
  EXPECT_EQ(tree["dir/null"].attributes.type, FileType::char_device);
  EXPECT_EQ(tree["dir/null"].attributes.rdev_minor, 3u);
  EXPECT_EQ(tree["dir/fifo"].attributes.type, FileType::fifo);
  EXPECT_EQ(tree["ln"].symlink_target, "../x");
  EXPECT_EQ(body(tree[std::string(200, 'n')]), "old");
}

TEST_F(ImportTarTest, TarComesBackByteForByte) {
  Random random;
  std::string tar;
  for (int i = 0; i < 300; ++i) {
    size_t size = random.one_in(20) ? random.below(3'000'000) : random.below(5000);
    tar += tar_entry(file("d" + std::to_string(i % 7) + "/" + std::to_string(i),
                          random.one_in(2) ? random.text(size) : random.bytes(size)));
  }
  tar += tar_end() + std::string(9000, '\0') + random.bytes(random.below(2000));
  LayerRecord layer = import_exactly(tar);
  EXPECT_EQ(layer.entry_count, 307u);
  LayerRecord again = import_exactly(tar);
  EXPECT_EQ(again.tar, layer.tar);
  EXPECT_EQ(again.root, layer.root);
}

TEST_F(ImportTarTest, SparseFilesOfEveryFormat) {
  std::string data = std::string(1024, 'a') + std::string(100, 'b');
  std::string expected(1 << 20, '\0');
  expected.replace(4096, 1024, data, 0, 1024);
  expected.replace(65536, 100, data, 1024, 100);
  TarFields old = file("old", data);
  old.type = 'S';
  old.gnu = true;
  std::string header = tar_header(old);
  test_support::put_octal(header, 386, 12, 4096);
  test_support::put_octal(header, 398, 12, 1024);
  test_support::put_octal(header, 410, 12, 65536);
  test_support::put_octal(header, 422, 12, 100);
  test_support::put_octal(header, 483, 12, expected.size());
  test_support::put_checksum(header);
  std::string tar = header + test_support::padded(data);
  tar += pax_header({{"GNU.sparse.size", "1048576"},
                     {"GNU.sparse.numblocks", "2"},
                     {"GNU.sparse.offset", "4096"},
                     {"GNU.sparse.numbytes", "1024"},
                     {"GNU.sparse.offset", "65536"},
                     {"GNU.sparse.numbytes", "100"}}) +
         tar_entry(file("pax00", data));
  tar += pax_header({{"GNU.sparse.size", "1048576"},
                     {"GNU.sparse.numblocks", "2"},
                     {"GNU.sparse.map", "4096,1024,65536,100"},
                     {"GNU.sparse.name", "pax01"}}) +
         tar_entry(file("GNUSparseFile.1/pax01", data));
  std::string map = test_support::padded("2\n4096\n1024\n65536\n100\n");
  tar += pax_header({{"GNU.sparse.major", "1"},
                     {"GNU.sparse.minor", "0"},
                     {"GNU.sparse.realsize", "1048576"},
                     {"GNU.sparse.name", "pax10"}}) +
         tar_entry(file("GNUSparseFile.1/pax10", map + data));
  tar += tar_end();
  Listing tree = list(import_exactly(tar));
  for (const char* name : {"old", "pax00", "pax01", "pax10"}) {
    ASSERT_TRUE(tree.contains(name)) << name;
    EXPECT_TRUE(body(tree[name]) == expected) << name;
    EXPECT_EQ(tree[name].content.extents.size(), 2u) << name;
  }
}

// What a tar says of them (Python's writes 0644) no Linux filesystem keeps.
TEST_F(ImportTarTest, SymlinksHaveTheModeOfAllSymlinks) {
  TarFields link = node("s", '2', "x");
  link.mode = 04644;
  Listing tree = list(import_exactly(tar_entry(link) + tar_end()));
  EXPECT_EQ(tree["s"].attributes.mode, 0777);
}

TEST_F(ImportTarTest, HardLinks) {
  std::string tar = tar_entry(file("z/first", "one")) + tar_entry(node("a", '1', "./z/first")) +
                    tar_entry(node("b", '1', "a")) + tar_entry(file("z/first", "two")) +
                    tar_entry(node("c", '1', "z/first"));
  TarFields with_body = node("d", '1', "z/first");
  with_body.body = "two";
  tar += tar_entry(with_body) + tar_end();
  Listing tree = list(import_exactly(tar));
  EXPECT_EQ(body(tree["a"]), "one");
  EXPECT_EQ(body(tree["b"]), "one");
  EXPECT_EQ(tree["a"].link_id, tree["b"].link_id);
  EXPECT_EQ(body(tree["z/first"]), "two");
  EXPECT_EQ(tree["z/first"].link_id, tree["c"].link_id);
  EXPECT_EQ(tree["d"].link_id, tree["c"].link_id);
  EXPECT_NE(tree["a"].link_id, tree["c"].link_id);
  EXPECT_NE(tree["a"].link_id, 0u);
}

TEST_F(ImportTarTest, LaterEntriesReplaceEarlierOnes) {
  std::string tar = tar_entry(node("a", '5')) + tar_entry(file("a/x", "1")) +
                    tar_entry(file("a/x", "2")) + tar_entry(node("a", '5')) +    // keeps a/x
                    tar_entry(file("b/c/d", "3")) + tar_entry(file("b", "4")) +  // drops b/c
                    tar_entry(file("e", "5")) + tar_entry(node("e", '5')) +
                    tar_entry(file("e/f", "6")) + tar_end();
  Listing tree = list(import_exactly(tar));
  EXPECT_EQ(tree.size(), 6u);
  EXPECT_EQ(body(tree["a/x"]), "2");
  EXPECT_EQ(body(tree["b"]), "4");
  EXPECT_EQ(body(tree["e/f"]), "6");
  EXPECT_TRUE(tree["e"].opaque);
}

TEST_F(ImportTarTest, Whiteouts) {
  std::string tar = tar_entry(file("a/.wh.gone", "")) + tar_entry(file("b/.wh..wh..opq", "")) +
                    tar_entry(file(".wh.c", "")) + tar_entry(file("c/new", "1")) +
                    tar_entry(file(".wh..wh.plnk", "")) + tar_end();
  Listing tree = list(import_exactly(tar));
  EXPECT_EQ(tree.size(), 6u);
  EXPECT_EQ(tree["a/gone"].attributes.type, FileType::whiteout);
  EXPECT_TRUE(tree["a"].implicit);
  EXPECT_TRUE(tree["b"].opaque);
  EXPECT_TRUE(tree["b"].implicit);
  EXPECT_TRUE(tree["c"].opaque);
  EXPECT_FALSE(tree["c"].implicit);
  EXPECT_EQ(body(tree["c/new"]), "1");
}

TEST_F(ImportTarTest, AbsolutePathsLoseTheirSlash) {
  Listing tree = list(import_exactly(tar_entry(file("//etc/./passwd", "x")) + tar_end()));
  EXPECT_TRUE(tree.contains("etc/passwd"));
}

TEST_F(ImportTarTest, BadInputIsRefusedWithASentence) {
  std::string good = tar_entry(file("good", "1"));
  expect_refused("", "empty");
  expect_refused(std::string(4096, 'x'), "not a tar archive");
  expect_refused(good, "end marker is missing");
  expect_refused(good.substr(0, 700), "cut short");
  expect_refused(good + good.substr(0, 100), "cut short");
  expect_refused(good + std::string(512, 'x') + tar_end(), "damaged header");
  expect_refused(tar_entry(file("a/../../b", "")) + tar_end(), "'..'");
  expect_refused(tar_entry(node("a", '1', "../b")) + tar_end(), "'..'");
  expect_refused(tar_entry(node("a", '1', "b")) + tar_end(), "hard link 'a' to 'b'");
  expect_refused(tar_entry(node("a", '1', "a")) + tar_end(), "hard link 'a' to 'a'");
  expect_refused(tar_entry(node("d", '5')) + tar_entry(node("a", '1', "d")) + tar_end(),
                 "directory");
  expect_refused(tar_entry(node("a", '2', "/etc")) + tar_entry(file("a/b", "")) + tar_end(),
                 "'a/b' lies below 'a'");
  expect_refused(good + tar_entry(file("good/b", "")) + tar_end(), "'good/b' lies below 'good'");
  expect_refused(tar_entry(node("", '2', "x")) + tar_end(), "root must be a directory");
  expect_refused(tar_entry(node("a", 'M')) + tar_end(), "another volume");
  expect_refused(tar_entry(node("a", '2')) + tar_end(), "symbolic link");
  expect_refused(tar_entry(file(".wh.", "")) + tar_end(), "whiteout of no name");
  expect_refused(tar_entry(file("d/.wh...", "")) + tar_end(), "whiteout of no name");
  expect_refused(pax_header({{"path", std::string(256, 'n')}}) + good + tar_end(), "255 bytes");
  expect_refused(pax_header({{"path", std::string("a\0b", 3)}}) + good + tar_end(), "NUL");
  expect_refused(pax_header({{"uid", "-1"}}) + good + tar_end(), "not a number");
  expect_refused(pax_header({{"size", "9223372036854775807"}}) + good + tar_end(), "cut short");
  expect_refused(pax_header({{"size", "99999999999999999999"}}) + good, "not a number");
  TarFields huge = file("huge", "");
  huge.size = 0777777777777;
  expect_refused(tar_entry(huge) + tar_end(), "cut short");
  huge.type = 'x';
  expect_refused(tar_entry(huge) + tar_end(), "too long");
  TarFields broken = file("pax", "12 path=");
  broken.type = 'x';
  expect_refused(tar_entry(broken) + good + tar_end(), "damaged pax header");
  std::string gzip("\x1f\x8b\x08\0\0\0\0\0\0\3garbage garbage", 25);
  expect_refused(gzip, "decompress");
}

TEST_F(ImportTarTest, ADigestThatDoesNotMatchIsRefused) {
  std::string tar = tar_entry(file("a", "1")) + tar_end();
  EXPECT_ERRNO(import_layer_tar(*store_, std::nullopt, source_of(tar), "x", sha256("y"), nullptr),
               EINVAL);
  // Without an end marker, but vouched for by its digest.
  std::string cut = tar_entry(file("a", "1"));
  ASSERT_OK(import_layer_tar(*store_, std::nullopt, source_of(cut), "x", sha256(cut), nullptr));
}

TEST_F(ImportTarTest, FlippedBitsInGzipAreFound) {
  Random random;
  std::string tar = tar_entry(file("a", random.text(200'000))) + tar_end();
  uLongf size = compressBound(tar.size()) + 64;
  std::string gzip(size, '\0');
  z_stream stream = {};
  ASSERT_EQ(deflateInit2(&stream, 0, Z_DEFLATED, 16 + MAX_WBITS, 8, Z_DEFAULT_STRATEGY), Z_OK);
  stream.next_in = reinterpret_cast<Bytef*>(tar.data());
  stream.avail_in = static_cast<uInt>(tar.size());
  stream.next_out = reinterpret_cast<Bytef*>(gzip.data());
  stream.avail_out = static_cast<uInt>(gzip.size());
  ASSERT_EQ(deflate(&stream, Z_FINISH), Z_STREAM_END);
  gzip.resize(stream.total_out);
  deflateEnd(&stream);
  EXPECT_EQ(VALUE(import(gzip)).diff_id, sha256(tar));
  size_t half = tar.size() / 2;
  expect_refused(gzip.substr(0, half), "cut short");
  gzip[half] =
      static_cast<char>(gzip[half] ^ 1);  // stored, not compressed: only the checksum tells
  expect_refused(gzip, "decompress");
}

TEST_F(ImportTarTest, InterruptionAndReadErrorsComeThrough) {
  std::atomic<bool> cancelled = true;
  std::string tar = tar_entry(file("a", "1")) + tar_end();
  EXPECT_ERRNO(
      import_layer_tar(*store_, std::nullopt, source_of(tar), "x", std::nullopt, &cancelled),
      EINTR);
  ByteSource failing = [](char*, size_t) -> Result<size_t> { return Error{EIO, "broken disk"}; };
  EXPECT_ERRNO(import_layer_tar(*store_, std::nullopt, failing, "x", std::nullopt, nullptr), EIO);
}

TEST_F(ImportTarTest, FlippedBitsNeverCrashAndNeverLie) {
  Random random;
  std::string tar = tar_entry(node("./", '5')) + tar_entry(file("a", random.text(700))) +
                    pax_header({{"mtime", "1.5"},
                                {"SCHILY.xattr.user.x", "y"},
                                {"GNU.sparse.major", "1"},
                                {"GNU.sparse.minor", "0"},
                                {"GNU.sparse.realsize", "10000"},
                                {"GNU.sparse.name", "s"}}) +
                    tar_entry(file("x", test_support::padded("1\n4096\n600\n") + random.text(600))) +
                    tar_entry(node("l", '1', "a")) + tar_entry(node("d", '5')) + tar_end();
  int imported = 0;
  for (int i = 0; i < 400; ++i) {
    std::string flipped = tar;
    for (uint64_t n = random.between(1, 3); n > 0; --n) {
      size_t at = random.below(flipped.size());
      flipped[at] = static_cast<char>(flipped[at] ^ 1 << random.below(8));
      if (random.one_in(3)) {  // with a checksum that fits, so that the fields are looked at
        std::string block = flipped.substr(at / 512 * 512, 512);
        test_support::put_checksum(block);
        flipped.replace(at / 512 * 512, 512, block);
      }
    }
    if (random.one_in(10)) flipped.resize(random.below(flipped.size()));
    Result<LayerRecord> layer = import(flipped);
    if (!layer.ok()) {
      EXPECT_EQ(layer.error().code, EINVAL) << layer.error().message;
      continue;
    }
    ++imported;
    EXPECT_TRUE(test_support::read_content(*store_, layer->tar, flipped.size()) == flipped);
    list(*layer);
  }
  EXPECT_GT(imported, 0);
}

}  // namespace
}  // namespace layerfs
