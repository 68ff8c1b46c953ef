// SPDX-License-Identifier: Apache-2.0
//
// A set of inode numbers, exact and small: numbers are handed out densely, so a page of 4,096 bits
// covers many of them. Only grows. Thread-safe.
#pragma once

#include <array>
#include <cstdint>
#include <shared_mutex>
#include <unordered_map>

#include "layerdb/object/types.h"

namespace layerfs {

class InoSet {
 public:
  void insert(Ino ino) {
    if (contains(ino)) return;
    std::unique_lock lock(mutex_);
    pages_[ino / kPageBits][ino % kPageBits / 64] |= uint64_t{1} << ino % 64;
  }
  bool contains(Ino ino) const {
    std::shared_lock lock(mutex_);
    auto page = pages_.find(ino / kPageBits);
    return page != pages_.end() && page->second[ino % kPageBits / 64] >> ino % 64 & 1;
  }

 private:
  static constexpr uint64_t kPageBits = 4096;
  mutable std::shared_mutex mutex_;
  std::unordered_map<uint64_t, std::array<uint64_t, kPageBits / 64>> pages_;
};

}  // namespace layerfs
