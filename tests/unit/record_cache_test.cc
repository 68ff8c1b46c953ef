// SPDX-License-Identifier: Apache-2.0
#include "layerdb/upper/record_cache.h"

#include <gtest/gtest.h>

#include <memory>

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
