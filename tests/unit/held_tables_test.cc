// SPDX-License-Identifier: Apache-2.0
#include "layerdb/store/held_tables.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <linux/magic.h>
#include <rocksdb/write_batch.h>
#include <sys/mman.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>

#include "layerdb/base/coding.h"
#include "layerdb/base/sys.h"
#include "layerdb/store/database.h"
#include "tests/support/random.h"
#include "tests/support/result_matchers.h"
#include "tests/support/temp_dir.h"

namespace layerfs {
namespace {

using test_support::Random;
using test_support::TempDir;

constexpr size_t kValueBytes = 48 << 10;
constexpr int kValues = 80;

// The one table that has them, under the numbers 1 to kValues.
std::string make_table(const std::string& path, Random& random) {
  auto database = VALUE(Database::open(path, {}));
  rocksdb::WriteBatch batch;
  for (uint64_t i = 1; i <= kValues; ++i)
    batch.Put(database->handle(Family::groups), be64(i), random.bytes(kValueBytes));
  EXPECT_TRUE(database->write(batch).ok());
  EXPECT_TRUE(database->flush({Family::groups}).ok());
  for (const auto& entry : std::filesystem::directory_iterator(path))
    if (entry.path().extension() == ".sst" && entry.file_size() > kValues * kValueBytes)
      return entry.path();
  return "";
}

uint64_t resident_bytes(const std::string& path) {
  UniqueFd fd = VALUE(open_file(path, O_RDONLY));
  size_t size = std::filesystem::file_size(path), page = static_cast<size_t>(::getpagesize());
  void* at = ::mmap(nullptr, size, PROT_READ, MAP_SHARED, fd.get(), 0);
  std::vector<unsigned char> pages((size + page - 1) / page);
  EXPECT_EQ(::mincore(at, size, pages.data()), 0);
  ::munmap(at, size);
  return page * static_cast<size_t>(std::count_if(pages.begin(), pages.end(),
                                                  [](unsigned char c) { return (c & 1) != 0; }));
}

// False where files are in memory only.
bool evict(const std::string& path) {
  UniqueFd fd = VALUE(open_file(path, O_RDONLY));
  EXPECT_EQ(::fsync(fd.get()), 0);
  EXPECT_EQ(::posix_fadvise(fd.get(), 0, 0, POSIX_FADV_DONTNEED), 0);
  struct statfs host = {};
  EXPECT_EQ(::fstatfs(fd.get(), &host), 0);
  return host.f_type != TMPFS_MAGIC;
}

// What is wanted later is in the host's memory by then, and nothing else.
TEST(HeldTables, TheDiskBegins) {
  TempDir dir;
  Random random;
  std::string table = make_table(dir.path() + "/store", random);
  ASSERT_NE(table, "");
  auto database =
      VALUE(Database::open(dir.path() + "/store", {.read_only = true, .create = false}));
  ASSERT_TRUE(VALUE(database->get(Family::groups, be64(1))));  // now the index is in memory
  bool evicted = evict(table);
  uint64_t resident = resident_bytes(table);
  EXPECT_EQ(resident == 0, evicted);
  database->begin_to_read(Family::groups, be64(40));
  for (int i = 0; i < 5000 && resident < kValueBytes; ++i) {
    ::usleep(1000);
    resident = resident_bytes(table);
  }
  EXPECT_GE(resident, kValueBytes);
  EXPECT_LE(resident, evicted ? kValueBytes + (16 << 10) : resident);
  EXPECT_EQ(VALUE(database->get(Family::groups, be64(40)))->size(), kValueBytes);
}

TEST(HeldTables, WhatCannotBeginHarmsNothing) {
  TempDir dir;
  Random random;
  make_table(dir.path() + "/store", random);
  auto reader = VALUE(Database::open(dir.path() + "/store", {.read_only = true, .create = false}));
  reader->begin_to_read(Family::groups, be64(1));  // its table's index was not read yet
  reader->begin_to_read(Family::groups, be64(kValues + 1));
  reader->begin_to_read(Family::objects, be64(1));
  EXPECT_TRUE(VALUE(reader->get(Family::groups, be64(1))));
  auto writer = VALUE(Database::open(dir.path() + "/store", {.create = false}));
  writer->begin_to_read(Family::groups, be64(1));
  EXPECT_TRUE(VALUE(writer->get(Family::groups, be64(1))));
}

}  // namespace
}  // namespace layerfs
