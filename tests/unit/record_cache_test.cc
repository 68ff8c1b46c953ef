// SPDX-License-Identifier: Apache-2.0
#include "layerdb/upper/record_cache.h"

#include <gtest/gtest.h>
#include <sys/resource.h>
#include <unistd.h>

#include <fstream>
#include <memory>
#include <string>

namespace layerfs {
namespace {

InodeRecord of_size(uint64_t size_bytes) {
  InodeRecord record;
  record.attributes.size_bytes = size_bytes;
  return record;
}

TEST(RecordCache, KeepsWhatWasPutUntilAnotherNeedsThePlace) {
  auto cache = std::make_unique<RecordCache>();
  EXPECT_FALSE(cache->find(7));
  cache->put(7, of_size(1));
  EXPECT_EQ(cache->find(7), of_size(1));
  EXPECT_FALSE(cache->find(7 + RecordCache::kSlots));
  cache->put(7 + RecordCache::kSlots, of_size(2));
  EXPECT_FALSE(cache->find(7));
  EXPECT_EQ(cache->find(7 + RecordCache::kSlots), of_size(2));
  cache->erase(7);  // another one has its place
  EXPECT_TRUE(cache->find(7 + RecordCache::kSlots));
  cache->erase(7 + RecordCache::kSlots);
  EXPECT_FALSE(cache->find(7 + RecordCache::kSlots));
}

TEST(RecordCache, IsEmptyOnceCleared) {
  RecordCache cache;
  for (Ino ino = 1; ino < 2 * RecordCache::kSlots; ++ino) cache.put(ino, of_size(ino));
  cache.clear();
  for (Ino ino = 1; ino < 2 * RecordCache::kSlots; ++ino) EXPECT_FALSE(cache.find(ino));
  cache.put(7, of_size(2));
  EXPECT_EQ(cache.find(7), of_size(2));
}

TEST(RecordCache, HasNoRecordOfNothing) {
  RecordCache cache;
  EXPECT_FALSE(cache.find(0));
}

// In a process of its own, whose memory ends where it begins.
void put_without_memory() {
  RecordCache cache;
  cache.put(7, of_size(1));
  InodeRecord large = of_size(2);
  large.symlink_target = std::string(64 << 20, 'x');
  uint64_t pages = 0;
  std::ifstream("/proc/self/statm") >> pages;
  rlim_t limit = pages * static_cast<uint64_t>(::sysconf(_SC_PAGESIZE));
  rlimit no_more = {limit, limit};
  ::setrlimit(RLIMIT_AS, &no_more);
  cache.put(7 + RecordCache::kSlots, large);
  bool empty = !cache.find(7) && !cache.find(7 + RecordCache::kSlots);
  ::_exit(empty ? 0 : 1);
}

TEST(RecordCacheDeathTest, AChangeThatFindsNoMemoryLeavesNoOldRecord) {
#ifdef __SANITIZE_ADDRESS__
  GTEST_SKIP() << "AddressSanitizer itself ends a process without memory";
#endif
  EXPECT_EXIT(put_without_memory(), ::testing::ExitedWithCode(0), "");
}

// A reader that took an old record from the database comes after the one who changed it.
TEST(RecordCache, WhatWasReadBeforeAChangeIsNotKept) {
  auto cache = std::make_unique<RecordCache>();
  uint64_t version = cache->version(7);
  cache->insert(7, of_size(1), version);
  EXPECT_EQ(cache->find(7), of_size(1));
  cache->put(7, of_size(2));
  cache->insert(7, of_size(1), version);
  EXPECT_EQ(cache->find(7), of_size(2));
  version = cache->version(7);
  cache->erase(7);
  cache->insert(7, of_size(2), version);
  EXPECT_FALSE(cache->find(7));
  version = cache->version(7);
  cache->clear();
  cache->insert(7, of_size(2), version);
  EXPECT_FALSE(cache->find(7));
}

}  // namespace
}  // namespace layerfs
