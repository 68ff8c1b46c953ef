// SPDX-License-Identifier: Apache-2.0
#include "layerdb/object/file_map.h"

#include <gtest/gtest.h>

#include <limits>

#include "layerdb/base/coding.h"
#include "tests/support/random.h"
#include "tests/support/result_matchers.h"

namespace layerfs {
namespace {

// One page with these fields behind its header: a leaf's are gap, length, group (zigzag) and offset
// in the group, an index's step and page (zigzag).
std::string map_page(uint8_t kind, uint64_t count, const std::vector<uint64_t>& fields) {
  std::string out = "M";
  put_u8(out, kind);
  put_varint(out, count);
  for (uint64_t field : fields) put_varint(out, field);
  return out;
}

TEST(FileMapTest, GoldenBytes) {
  EXPECT_EQ(encode_map_leaf({{0, 3, 7, 100}, {150, 2, 0, 5}}),
            map_page(1, 2, {0, 100, 6, 7, 50, 5, 1, 0}));
  EXPECT_EQ(encode_map_index({{0, ObjectId{9}}, {4096, ObjectId{8}}}),
            map_page(2, 2, {0, 18, 4096, 1}));
}

TEST(FileMapTest, RandomPagesComeBack) {
  test_support::Random random;
  for (int round = 0; round < 200; ++round) {
    std::vector<Extent> extents;
    std::vector<MapChild> children;
    uint64_t offset = random.below(1000);
    for (uint64_t n = random.between(1, round == 0 ? kMaxMapExtents : 50); n > 0; --n) {
      uint32_t length = static_cast<uint32_t>(random.between(1, 131072));
      extents.push_back({offset, random.between(1, uint64_t{1} << random.between(1, 62)),
                         static_cast<uint32_t>(random.below(131072)), length});
      children.push_back({offset, ObjectId{random.between(1, uint64_t{1} << 62)}});
      offset += length + (random.one_in(2) ? random.below(uint64_t{1} << 40) : 0);
    }
    MapPage leaf = VALUE(decode_map_page(encode_map_leaf(extents)));
    EXPECT_EQ(leaf.extents, extents);
    EXPECT_TRUE(leaf.children.empty());
    MapPage index = VALUE(decode_map_page(encode_map_index(children)));
    EXPECT_TRUE(index.extents.empty());
    ASSERT_EQ(index.children.size(), children.size());
    for (size_t i = 0; i < children.size(); ++i) {
      EXPECT_EQ(index.children[i].first_offset, children[i].first_offset);
      EXPECT_EQ(index.children[i].page, children[i].page);
    }
  }
}

TEST(FileMapTest, DamageIsFound) {
  constexpr uint64_t kMax = std::numeric_limits<uint64_t>::max();
  const std::string damaged[] = {
      "",
      "X",
      map_page(3, 1, {0, 1, 2, 0}),                  // an unknown kind
      map_page(1, 0, {}),                            // nothing
      map_page(1, kMaxMapExtents + 1, {}),           // too much
      map_page(1, 2, {0, 1, 2, 0}),                  // cut short
      map_page(1, 1, {0, 1, 2, 0, 0}),               // something follows
      map_page(1, 1, {0, 0, 2, 0}),                  // no length
      map_page(1, 1, {0, uint64_t{1} << 32, 2, 0}),  // more than 32 bits
      map_page(1, 1, {0, 2, 2, 0xffffffff}),         // past a group of 32 bits
      map_page(1, 1, {0, 1, 0, 0}),                  // group 0
      map_page(1, 1, {kMax, 1, 2, 0}),               // offsets overflow
      map_page(1, 2, {kMax - 9, 5, 2, 0, 1, 9, 0, 0}),
      map_page(2, 1, {0, 0}),        // page 0
      map_page(2, 2, {0, 2, 0, 2}),  // two children at one offset
      map_page(2, 2, {kMax, 2, 1, 2}),
  };
  for (const std::string& page : damaged) EXPECT_ERRNO(decode_map_page(page), EUCLEAN);
}

// Any bytes make an error or a page that says the same again.
TEST(FileMapTest, AnyBytesAreSafe) {
  test_support::Random random;
  std::string page = encode_map_leaf({{0, 3, 7, 100}, {150, 2, 0, 5}, {1000, 900, 65536, 65536}});
  for (int round = 0; round < 20000; ++round) {
    std::string bytes = page.substr(0, random.between(1, page.size()));
    bytes[random.below(bytes.size())] = static_cast<char>(random.below(256));
    Result<MapPage> decoded = decode_map_page(bytes);
    if (!decoded.ok()) {
      EXPECT_EQ(decoded.error().code, EUCLEAN);
    } else if (!decoded->extents.empty()) {
      EXPECT_EQ(VALUE(decode_map_page(encode_map_leaf(decoded->extents))).extents,
                decoded->extents);
    }
  }
}

}  // namespace
}  // namespace layerfs
