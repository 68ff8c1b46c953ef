// SPDX-License-Identifier: Apache-2.0
#include "layerdb/store/held_tables.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <rocksdb/write_batch.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <thread>

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
constexpr uint64_t kValues = 80;

// As many tables with kValues together, under the numbers from 1 on.
void make_tables(const std::string& path, uint64_t tables, Random& random) {
  auto database = VALUE(Database::open(path, {}));
  for (uint64_t i = 0; i < tables; ++i) {
    rocksdb::WriteBatch batch;
    for (uint64_t number = i * kValues / tables + 1; number <= (i + 1) * kValues / tables; ++number)
      batch.Put(database->handle(Family::groups), be64(number), random.bytes(kValueBytes));
    ASSERT_TRUE(database->write(batch).ok());
    ASSERT_TRUE(database->flush({Family::groups}).ok());
  }
}

std::string largest_table(const std::string& path) {
  std::filesystem::directory_entry largest;
  for (const auto& entry : std::filesystem::directory_iterator(path))
    if (entry.path().extension() == ".sst" &&
        (largest.path().empty() || entry.file_size() > largest.file_size()))
      largest = entry;
  return largest.path();
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

void evict(const std::string& path) {
  UniqueFd fd = VALUE(open_file(path, O_RDONLY));
  EXPECT_EQ(::fsync(fd.get()), 0);
  EXPECT_EQ(::posix_fadvise(fd.get(), 0, 0, POSIX_FADV_DONTNEED), 0);
}

// What is wanted later is in the host's memory by then, and nothing else.
TEST(HeldTables, TheDiskBegins) {
  TempDir dir;
  Random random;
  std::string store = dir.path() + "/store";
  make_tables(store, 1, random);
  auto database = VALUE(Database::open(store, {.read_only = true, .create = false}));
  ASSERT_TRUE(VALUE(database->get(Family::groups, be64(1))));  // now the index is in memory
  std::string table = largest_table(store);
  evict(table);
  uint64_t resident = resident_bytes(table);
  if (resident != 0) GTEST_SKIP() << "files in '" << store << "' are always in memory";
  database->begin_to_read(Family::groups, be64(40));
  for (int i = 0; i < 5000 && resident < kValueBytes; ++i) {
    ::usleep(1000);
    resident = resident_bytes(table);
  }
  EXPECT_GE(resident, kValueBytes);
  EXPECT_LE(resident, kValueBytes + 2 * static_cast<size_t>(::getpagesize()));
  EXPECT_EQ(VALUE(database->get(Family::groups, be64(40)))->size(), kValueBytes);
}

// Of most tables not even the index is in memory, and of the last ones nothing but that they exist.
TEST(HeldTables, WhatCannotBeginHarmsNothing) {
  TempDir dir;
  Random random;
  std::string store = dir.path() + "/store";
  make_tables(store, 40, random);
  auto reader = VALUE(Database::open(store, {.read_only = true, .create = false}));
  reader->drop_cache();
  for (uint64_t number = 1; number <= kValues + 1; ++number)
    reader->begin_to_read(Family::groups, be64(number));
  reader->begin_to_read(Family::objects, be64(1));
  std::jthread meanwhile([&] {
    for (uint64_t number = kValues; number >= 1; --number)
      reader->begin_to_read(Family::groups, be64(number));
  });
  for (uint64_t number = 1; number <= kValues; ++number)
    EXPECT_EQ(VALUE(reader->get(Family::groups, be64(number)))->size(), kValueBytes) << number;
  auto writer = VALUE(Database::open(store, {.create = false}));
  writer->begin_to_read(Family::groups, be64(1));
  EXPECT_TRUE(VALUE(writer->get(Family::groups, be64(1))));
}

}  // namespace
}  // namespace layerfs
