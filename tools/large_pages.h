// SPDX-License-Identifier: Apache-2.0
//
// For commands that fill a large cache once and end: the first `bytes` of the heap come in large
// pages (transparent ones, where the host has them; glibc only). Page by page they would cost a
// quarter of the processor time that an export takes. To be called before much is allocated.
#pragma once

#include <cstddef>

namespace layerfs {

void begin_heap_in_large_pages(size_t bytes);

}  // namespace layerfs
