// SPDX-License-Identifier: Apache-2.0
#include "tools/large_pages.h"

#include <malloc.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstdint>
#include <cstdlib>

namespace layerfs {

void begin_heap_in_large_pages(size_t bytes) {
  constexpr uintptr_t kLargePage = 2 << 20;
  ::mallopt(M_ARENA_MAX, 1);  // all of it in the heap that follows
  ::mallopt(M_MMAP_THRESHOLD, kLargePage);
  ::mallopt(M_TRIM_THRESHOLD, static_cast<int>(2 * bytes));
  ::mallopt(M_TOP_PAD, static_cast<int>(bytes));
  auto before = reinterpret_cast<uintptr_t>(::sbrk(0));
  void* volatile first = std::malloc(kLargePage / 2);  // volatile: it is not optimised away
  std::free(first);
  ::mallopt(M_TOP_PAD, 1 << 17);  // as it was
  auto end = reinterpret_cast<uintptr_t>(::sbrk(0));
  if (end < before + bytes) return;  // the host refused
  uintptr_t begin = (end - bytes + kLargePage - 1) / kLargePage * kLargePage;
  ::madvise(reinterpret_cast<void*>(begin), end - begin, MADV_HUGEPAGE);  // a wish
}

}  // namespace layerfs
