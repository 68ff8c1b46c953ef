// SPDX-License-Identifier: Apache-2.0
#include "layerdb/ops/external_sort.h"

#include <gtest/gtest.h>

#include <map>

#include "tests/support/random.h"
#include "tests/support/result_matchers.h"
#include "tests/support/temp_dir.h"

namespace layerfs {
namespace {

class ExternalSortTest : public ::testing::TestWithParam<size_t> {};

TEST_P(ExternalSortTest, YieldsEveryRecordInOrderAsOftenAsAsked) {
  test_support::Random random;
  test_support::TempDir directory;
  ExternalSorter sorter(directory.path(), GetParam());
  std::map<std::string, std::string> expected;
  for (int i = 0; i < 5000; ++i) {
    std::string key(random.below(40), '\0');
    for (char& c : key) c = static_cast<char>(random.below(5));
    key += std::to_string(i);
    std::string value(i % 1000 == 0 ? 100'000 : random.below(100), static_cast<char>(i));
    ASSERT_OK(sorter.add(key, value));
    expected[key] = value;
  }
  ASSERT_OK(sorter.finish());
  EXPECT_EQ(sorter.size(), expected.size());
  for (int pass = 0; pass < 2; ++pass) {
    auto cursor = VALUE(sorter.scan());
    for (const auto& [key, value] : expected) {
      ASSERT_TRUE(cursor.valid());
      ASSERT_EQ(cursor.key(), key);
      ASSERT_EQ(cursor.value(), value);
      ASSERT_OK(cursor.next());
    }
    EXPECT_FALSE(cursor.valid());
  }
  EXPECT_TRUE(VALUE(list_directory(directory.path())).empty());
}

INSTANTIATE_TEST_SUITE_P(MemoryBytes, ExternalSortTest,
                         ::testing::Values(1, 20'000, 1 << 20, 64 << 20));

TEST(ExternalSort, NothingYieldsNothing) {
  ExternalSorter sorter("/nonexistent");
  ASSERT_OK(sorter.finish());
  EXPECT_FALSE(VALUE(sorter.scan()).valid());
}

}  // namespace
}  // namespace layerfs
