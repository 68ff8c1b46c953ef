// SPDX-License-Identifier: Apache-2.0
#include "tools/text.h"

#include <gtest/gtest.h>

namespace layerfs {
namespace {

TEST(Text, SizesAreDockers) {
  EXPECT_EQ(human_size(0), "0B");
  EXPECT_EQ(human_size(999), "999B");
  EXPECT_EQ(human_size(1000), "1kB");
  EXPECT_EQ(human_size(77'830'000), "77.8MB");
  EXPECT_EQ(human_size(999'700'000), "1GB");
  EXPECT_EQ(human_size(1'250'000'000), "1.25GB");
  EXPECT_EQ(human_size(UINT64_MAX), "18.4EB");
}

TEST(Text, AgesAreDockers) {
  EXPECT_EQ(human_age(0), "Less than a second");
  EXPECT_EQ(human_age(1), "1 second");
  EXPECT_EQ(human_age(59), "59 seconds");
  EXPECT_EQ(human_age(60), "About a minute");
  EXPECT_EQ(human_age(59 * 60), "59 minutes");
  EXPECT_EQ(human_age(3600), "About an hour");
  EXPECT_EQ(human_age(47 * 3600), "47 hours");
  EXPECT_EQ(human_age(3 * 86400), "3 days");
  EXPECT_EQ(human_age(21 * 86400), "3 weeks");
  EXPECT_EQ(human_age(90 * 86400), "3 months");
  EXPECT_EQ(human_age(int64_t{3} * 365 * 86400), "3 years");
}

TEST(Text, TablePadsByCharactersAndNotTheLastColumn) {
  Table table({"NAME", "N"});
  table.add({"\xc3\xa4\xc3\xb6", "1"});
  table.add({"longer name", "2"});
  EXPECT_EQ(table.to_string(),
            "NAME          N\n"
            "\xc3\xa4\xc3\xb6            1\n"
            "longer name   2\n");
}

TEST(Text, Rfc3339) {
  EXPECT_EQ(*parse_rfc3339("1970-01-01T00:00:00Z"), 0);
  EXPECT_EQ(*parse_rfc3339("2024-05-01T10:00:00.123456789Z"), 1714557600);
  EXPECT_EQ(*parse_rfc3339("2024-05-01T12:00:00+02:00"), 1714557600);
  EXPECT_EQ(*parse_rfc3339("0001-01-01T00:00:00Z"), -62135596800);
  EXPECT_EQ(format_rfc3339(1714557600), "2024-05-01T10:00:00Z");
  for (const char* bad : {"", "2024", "2024-13-01T00:00:00Z", "2024-05-01T10:00:00",
                          "2024-05-01T10:00:00+0200", "2024-05-01T10:00:00Zx"})
    EXPECT_FALSE(parse_rfc3339(bad).ok()) << bad;
}

TEST(Text, PrintableLeavesUtf8AndEscapesTheRest) {
  EXPECT_EQ(printable("a\xc3\xa4\xe2\x82\xac\xf0\x9f\x98\x80"),
            "a\xc3\xa4\xe2\x82\xac\xf0\x9f\x98\x80");
  EXPECT_EQ(printable("a\x1b[2Jb"), "a\\x1b[2Jb");
  EXPECT_EQ(printable("\xff\xc3"), "\\xff\\xc3");
  EXPECT_EQ(printable("\xc2\x9b"), "\\xc2\\x9b");
}

}  // namespace
}  // namespace layerfs
