// SPDX-License-Identifier: Apache-2.0
//
// Which numbers were seen lately: the last one in each of kPlaces places. Forgetful; 8 bytes a
// place; thread-safe.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>

namespace layerfs {

template <size_t kPlaces>
class RecentNumbers {
 public:
  // True: it was there already. `number` is not 0.
  bool add(uint64_t number) {
    return places_[number % kPlaces].exchange(number, std::memory_order_relaxed) == number;
  }
  void clear() {
    for (std::atomic<uint64_t>& place : places_) place.store(0, std::memory_order_relaxed);
  }

 private:
  std::array<std::atomic<uint64_t>, kPlaces> places_ = {};
};

}  // namespace layerfs
