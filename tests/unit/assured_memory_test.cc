// SPDX-License-Identifier: Apache-2.0
#include "layerdb/base/assured_memory.h"

#include <gtest/gtest.h>

#include <new>

namespace layerfs {
namespace {

constexpr size_t kPieces = AssuredMemory::kBytes / AssuredMemory::kPieceBytes;

TEST(AssuredMemory, OnlyWhoIsInsideGetsIt) {
  EXPECT_THROW(AssuredMemory::give(), std::bad_alloc);
  {
    AssuredMemory memory;
    ASSERT_TRUE(memory.status().ok());
    for (size_t i = 0; i < kPieces; ++i) AssuredMemory::give();  // none throws or exits
  }
  EXPECT_THROW(AssuredMemory::give(), std::bad_alloc);
}

TEST(AssuredMemory, TheNextScopeHasAllOfItAgain) {
  for (int scope = 0; scope < 2; ++scope) {
    AssuredMemory memory;
    ASSERT_TRUE(memory.status().ok());
    for (size_t i = 0; i < kPieces; ++i) AssuredMemory::give();
  }
}

TEST(AssuredMemoryDeathTest, WhoNeedsMoreEndsWithASentence) {
  EXPECT_EXIT(
      {
        AssuredMemory memory;
        for (size_t i = 0; i <= kPieces; ++i) AssuredMemory::give();
      },
      testing::ExitedWithCode(1), "no memory is left amid a write");
}

}  // namespace
}  // namespace layerfs
