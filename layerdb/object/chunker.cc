// SPDX-License-Identifier: Apache-2.0
#include "layerdb/object/chunker.h"

#include <algorithm>
#include <array>
#include <bit>

#include "layerdb/base/gear.h"

namespace layerfs {
namespace {

constexpr std::array<uint64_t, 256> shifted(std::array<uint64_t, 256> gear) {
  for (uint64_t& entry : gear) entry <<= 1;
  return gear;
}
constexpr std::array<uint64_t, 256> kGear = make_gear(0x6c61796572667331);  // "layerfs1"
constexpr std::array<uint64_t, 256> kGearShifted = shifted(kGear);

// Bits that must be zero at a cut; bit k sees the last k + 1 bytes, and bit 63 is lost to the two
// byte step. Normalised chunking: harder (17 bits) before the target, easier (13) after.
constexpr uint64_t kMaskHard = 0x0003'590d'5353'0000;
constexpr uint64_t kMaskEasy = 0x0001'5909'0353'0000;
static_assert(std::popcount(kMaskHard) == 17 && std::popcount(kMaskEasy) == 13);

// The first cut in [from, to), or `to`. Two bytes a step (FastCDC 2020): the hash is shifted twice
// at once, so the test after the first byte sees it, and therefore its mask, shifted by one.
template <uint64_t kMask>
inline size_t find_cut(const uint8_t* bytes, size_t from, size_t to, uint64_t& hash) {
  uint64_t h = hash;
  size_t i = from;
  for (; i + 1 < to; i += 2) {
    h = (h << 2) + kGearShifted[bytes[i]];
    if ((h & (kMask << 1)) == 0) return i;
    h += kGear[bytes[i + 1]];
    if ((h & kMask) == 0) return i + 1;
  }
  hash = h;
  return to;
}

template <size_t kTarget, uint64_t kHard, uint64_t kEasy>
size_t cut_chunk(std::string_view bytes) {
  constexpr size_t kMin = kTarget / 4, kMax = kTarget * 2;
  if (bytes.size() <= kMin) return bytes.size();
  const uint8_t* data = reinterpret_cast<const uint8_t*>(bytes.data());
  size_t end = std::min(bytes.size(), kMax);
  size_t target = std::min(end, kTarget);
  uint64_t hash = 0;
  size_t cut = find_cut<kHard>(data, kMin, target, hash);
  if (cut == target) cut = find_cut<kEasy>(data, target, end, hash);
  return cut;
}

constexpr uint64_t without_lowest(uint64_t mask) { return mask & (mask - 1); }
constexpr uint64_t kOneMore = 0x8000;  // below the lowest bit of both
static_assert(kMinChunkBytes == kTargetChunkBytes / 4 && kMaxChunkBytes == kTargetChunkBytes * 2);

}  // namespace

template <>
size_t next_chunk_size_of<16 * 1024>(std::string_view bytes) {
  return cut_chunk<16 * 1024, without_lowest(kMaskHard), without_lowest(kMaskEasy)>(bytes);
}
template <>
size_t next_chunk_size_of<32 * 1024>(std::string_view bytes) {
  return cut_chunk<32 * 1024, kMaskHard, kMaskEasy>(bytes);
}
template <>
size_t next_chunk_size_of<64 * 1024>(std::string_view bytes) {
  return cut_chunk<64 * 1024, kMaskHard | kOneMore, kMaskEasy | kOneMore>(bytes);
}

size_t next_chunk_size(std::string_view bytes) {
  return next_chunk_size_of<kTargetChunkBytes>(bytes);
}

}  // namespace layerfs
