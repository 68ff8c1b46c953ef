// SPDX-License-Identifier: Apache-2.0
#include "fuse/message_buffer.h"

#include <sys/mman.h>
#include <unistd.h>

namespace layerfs {

// Whole pages in the midst of what malloc mapped for the buffer.
void MessageBuffer::release() noexcept {
  const auto page = static_cast<size_t>(::sysconf(_SC_PAGESIZE));
  void* begin = bytes_.get();
  size_t size = size_bytes_;
  if (std::align(page, page, begin, size) != nullptr)
    ::madvise(begin, size / page * page, MADV_DONTNEED);
}

}  // namespace layerfs
