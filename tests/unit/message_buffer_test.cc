// SPDX-License-Identifier: Apache-2.0
#include "fuse/message_buffer.h"

#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <vector>

namespace layerfs {
namespace {

// Whole pages of the buffer that are in memory.
size_t resident_pages(char* begin, size_t size_bytes) {
  const auto page = static_cast<size_t>(::sysconf(_SC_PAGESIZE));
  void* first = begin;
  if (std::align(page, page, first, size_bytes) == nullptr) return 0;
  std::vector<unsigned char> state(size_bytes / page);
  EXPECT_EQ(::mincore(first, state.size() * page, state.data()), 0);
  return static_cast<size_t>(
      std::count_if(state.begin(), state.end(), [](int s) { return s & 1; }));
}

TEST(MessageBuffer, GivesBackWhatALargeMessageTouched) {
  constexpr size_t kBytes = 1 << 20;
  MessageBuffer buffer(kBytes);
  std::memset(buffer.data(), 1, kBytes);
  EXPECT_GE(resident_pages(buffer.data(), kBytes), 250u);
  buffer.release();
  EXPECT_EQ(resident_pages(buffer.data(), kBytes), 0u);
  std::memset(buffer.data(), 2, kBytes);
  EXPECT_EQ(buffer.data()[kBytes / 2], 2);
}

TEST(MessageBuffer, ASmallOneIsLeftAsItIs) {
  MessageBuffer buffer(100);
  buffer.data()[99] = 1;
  buffer.release();
  EXPECT_EQ(buffer.data()[99], 1);
}

}  // namespace
}  // namespace layerfs
