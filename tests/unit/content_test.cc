// SPDX-License-Identifier: Apache-2.0
#include "layerdb/store/content.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <functional>
#include <iterator>

#include "layerdb/object/chunker.h"
#include "layerdb/store/store.h"
#include "tests/support/random.h"
#include "tests/support/result_matchers.h"
#include "tests/support/temp_dir.h"

namespace layerfs {
namespace {

using test_support::Random;
using test_support::TempDir;

class ContentTest : public ::testing::Test {
 protected:
  // Appends in pieces of random sizes up to `max_piece`.
  Content write(const std::string& bytes, size_t max_piece) {
    ContentWriter writer(store_->chunks(), store_->objects());
    for (size_t i = 0; i < bytes.size();) {
      size_t n = std::min(bytes.size() - i, random_.between(1, max_piece));
      EXPECT_TRUE(writer.append(std::string_view(bytes).substr(i, n)).ok());
      EXPECT_EQ(writer.size_bytes(), i += n);
    }
    Content content = VALUE(writer.finish());
    EXPECT_EQ(writer.size_bytes(), 0u);
    EXPECT_TRUE(store_->chunks().flush().ok());
    return content;
  }
  ContentReader reader(const Content& content, uint64_t size) {
    return {store_->chunks(), store_->objects(), content, size};
  }
  std::string read(const ContentReader& reader, uint64_t offset, size_t size) {
    std::string out(size, '?');
    out.resize(VALUE(reader.read(offset, out)));
    return out;
  }

  TempDir dir_;
  Random random_;
  std::unique_ptr<Store> store_ = VALUE(Store::open(dir_.path()));
};

TEST_F(ContentTest, AReadOfManyGroupsDecodesEachOnce) {
  std::string bytes = random_.bytes(3'000'000);
  Content content = write(bytes, bytes.size());
  for (size_t size : {bytes.size(), size_t{300'000}}) {
    store_->chunks().drop_cache();
    uint64_t before = store_->chunks().counters().decoded_bytes;
    for (size_t at = 0; at < bytes.size(); at += size)
      EXPECT_EQ(read(reader(content, bytes.size()), at, size), bytes.substr(at, size));
    EXPECT_EQ(store_->chunks().counters().decoded_bytes - before, bytes.size());
  }
}

TEST_F(ContentTest, PiecesDoNotChangeTheChunks) {
  std::string bytes = random_.bytes(3'000'000);
  Content content = write(bytes, bytes.size());
  for (size_t max_piece : {size_t{700}, size_t{70'000}, size_t{1'000'000}})
    EXPECT_EQ(write(bytes, max_piece), content);  // all shared, so the same addresses
  ContentReader in = reader(content, bytes.size());
  for (int i = 0; i < 200; ++i) {
    size_t offset = random_.below(bytes.size() + 10), size = random_.between(0, 400'000);
    EXPECT_EQ(read(in, offset, size), offset < bytes.size() ? bytes.substr(offset, size) : "");
  }
}

TEST_F(ContentTest, AdjacentChunksMakeOneExtent) {
  Content small = write("hello", 5);
  EXPECT_EQ(small.extents.size(), 1u);
  EXPECT_EQ(small.map, ObjectId::none);
  Content one_group = write(random_.bytes(40'000), 1000);  // chunks, all in the first group
  EXPECT_EQ(one_group.extents.size(), 1u);
  Content many = write(random_.bytes(2 << 20), 100'000);
  EXPECT_TRUE(many.extents.empty());
  EXPECT_NE(many.map, ObjectId::none);
  EXPECT_EQ(write("", 1), Content{});
}

TEST_F(ContentTest, HolesReadAsZeros) {
  std::string a = random_.bytes(50'000), b = random_.bytes(20'000);
  ContentWriter writer(store_->chunks(), store_->objects());
  ASSERT_OK(writer.append_hole(10'000));
  ASSERT_OK(writer.append(a));
  ASSERT_OK(writer.append_hole(1 << 20));
  ASSERT_OK(writer.append(b));
  ASSERT_OK(writer.append_hole(5'000));
  uint64_t size = writer.size_bytes();
  Content content = VALUE(writer.finish());
  ASSERT_OK(store_->chunks().flush());
  std::string expected =
      std::string(10'000, '\0') + a + std::string(1 << 20, '\0') + b + std::string(5'000, '\0');
  ASSERT_EQ(size, expected.size());
  ContentReader in = reader(content, size);
  EXPECT_EQ(read(in, 0, size + 10), expected);
  EXPECT_EQ(VALUE(in.seek_data(0)), 10'000u);
  EXPECT_EQ(VALUE(in.seek_data(10'001)), 10'001u);
  EXPECT_EQ(VALUE(in.seek_data(60'000)), 60'000u + (1 << 20));
  EXPECT_EQ(VALUE(in.seek_hole(0)), 0u);
  EXPECT_EQ(VALUE(in.seek_hole(10'000)), 60'000u);
  EXPECT_EQ(VALUE(in.seek_hole(size - 1)), size - 1);
  EXPECT_EQ(VALUE(in.seek_hole(size - 5'001)), size - 5'000);
  EXPECT_ERRNO(in.seek_data(size - 1), ENXIO);
  EXPECT_ERRNO(in.seek_hole(size), ENXIO);
}

TEST_F(ContentTest, ContentMadeOfOthersExtentsSharesTheirBytes) {
  std::string bytes = random_.bytes(600'000);
  Content source = write(bytes, 100'000);
  std::vector<Extent> extents = VALUE(reader(source, bytes.size()).extents(0, bytes.size()));
  uint64_t put_before = store_->chunks().counters().chunks_put;
  ContentWriter writer(store_->chunks(), store_->objects());
  ASSERT_OK(writer.append_extents(extents, 123'456, 400'000));
  ASSERT_OK(writer.append("tail"));
  Content content = VALUE(writer.finish());
  EXPECT_EQ(store_->chunks().counters().chunks_put, put_before + 1);
  ASSERT_OK(store_->chunks().flush());
  EXPECT_EQ(read(reader(content, 400'004), 0, 400'004), bytes.substr(123'456, 400'000) + "tail");
}

TEST_F(ContentTest, AFileOfManyExtentsHasAnIndexPage) {
  std::string bytes = random_.bytes(100'000);
  ChunkAddress address = VALUE(store_->chunks().put(bytes.substr(0, kMaxChunkBytes)));
  ASSERT_OK(store_->chunks().flush());
  std::vector<Extent> extents;  // every other 8 bytes are a hole
  for (uint32_t i = 0; i < 3 * kMaxMapExtents + 7; ++i)
    extents.push_back({i * 16, address.group, i % 1000, 8});
  Content content = VALUE(put_content(store_->objects(), extents));
  EXPECT_EQ(VALUE(store_->objects().map_page(content.map))->children.size(), 4u);
  ContentReader in = reader(content, extents.size() * 16);
  EXPECT_EQ(VALUE(in.extents(0, UINT64_MAX)), extents);
  for (int i = 0; i < 100; ++i) {
    uint64_t k = random_.below(extents.size());
    EXPECT_EQ(read(in, k * 16, 16), bytes.substr(k % 1000, 8) + std::string(8, '\0'));
    EXPECT_EQ(VALUE(in.seek_hole(k * 16)), k * 16 + 8);
  }
  EXPECT_EQ(read(in, 0, extents.size() * 16).size(), extents.size() * 16);
}

TEST_F(ContentTest, DamagedAddressesAreErrors) {
  std::string first_bytes(10, ' ');
  Content beyond{.extents = {{0, 1, 50, 100}}};
  write("hello", 5);
  EXPECT_ERRNO(reader(beyond, 100).read(0, first_bytes), EUCLEAN);
  Content missing{.extents = {{0, 99, 0, 5}}};
  std::string out(5, ' ');
  EXPECT_ERRNO(reader(missing, 5).read(0, out), EUCLEAN);
  Content no_map{.map = ObjectId{999}};
  EXPECT_ERRNO(reader(no_map, 5).read(0, out), EUCLEAN);
}

TEST(Chunker, CutsWhereTheContentSaysSo) {
  Random random;
  std::string bytes = random.bytes(4 << 20), moved = random.bytes(777) + bytes;
  auto cuts = [](std::string_view all) {
    std::vector<size_t> out;  // distance from the end, so that both lists can be compared
    for (std::string_view rest = all; !rest.empty();) {
      size_t size = next_chunk_size(rest.substr(0, kMaxChunkBytes));
      EXPECT_LE(size, kMaxChunkBytes);
      if (size < rest.size()) {
        EXPECT_GE(size, kMinChunkBytes);
      }
      rest.remove_prefix(size);
      out.push_back(rest.size());
    }
    return out;
  };
  std::vector<size_t> a = cuts(bytes), b = cuts(moved), common;
  std::set_intersection(a.begin(), a.end(), b.begin(), b.end(), std::back_inserter(common),
                        std::greater<>());
  EXPECT_GT(common.size() * 10, a.size() * 8);
  size_t mean = bytes.size() / a.size();
  EXPECT_GT(mean, kTargetChunkBytes / 2);
  EXPECT_LT(mean, kTargetChunkBytes * 3 / 2);
}

TEST(Chunker, SmallContentIsOneChunk) {
  EXPECT_EQ(next_chunk_size(""), 0u);
  EXPECT_EQ(next_chunk_size("x"), 1u);
  EXPECT_EQ(next_chunk_size(std::string(kMinChunkBytes, 'x')), kMinChunkBytes);
  EXPECT_EQ(next_chunk_size(std::string(kMaxChunkBytes, '\0')), kMaxChunkBytes);
}

}  // namespace
}  // namespace layerfs
