// SPDX-License-Identifier: Apache-2.0
//
// Tables of 256 random-looking numbers for Gear, the rolling hash of FastCDC (Xia et al., ATC'16),
// by splitmix64 (Steele et al., OOPSLA'14). Any numbers do, as long as they stay the same: what is
// on disk depends on them.
#pragma once

#include <array>
#include <cstdint>

namespace layerfs {

constexpr uint64_t splitmix64_finish(uint64_t z) {
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
  z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
  return z ^ (z >> 31);
}

constexpr std::array<uint64_t, 256> make_gear(uint64_t seed) {
  std::array<uint64_t, 256> gear{};
  for (uint64_t& entry : gear) entry = splitmix64_finish(seed += 0x9e3779b97f4a7c15);
  return gear;
}

}  // namespace layerfs
