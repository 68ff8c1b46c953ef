// SPDX-License-Identifier: Apache-2.0
//
// Content-defined chunking: FastCDC (Xia et al., USENIX ATC 2016) with normalised chunking and the
// two-byte rolling step of its TPDS 2020 version. Deterministic: the gear table and masks are
// constants of the format (changing them changes no correctness, only what deduplicates).
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

namespace layerfs {

inline constexpr size_t kMinChunkBytes = 8 * 1024;
inline constexpr size_t kTargetChunkBytes = 32 * 1024;
inline constexpr size_t kMaxChunkBytes = 64 * 1024;

// The length of the first chunk of `bytes`: in [min, max], or all of it when shorter than min.
// `bytes` must hold kMaxChunkBytes or be the end of the content.
size_t next_chunk_size(std::string_view bytes);

// The same with another target (16, 32 or 64 KiB; from a quarter to twice of it), to measure what
// the target matters. With kTargetChunkBytes it is next_chunk_size.
template <size_t target_bytes>
size_t next_chunk_size_of(std::string_view bytes);
template <>
size_t next_chunk_size_of<16 * 1024>(std::string_view bytes);
template <>
size_t next_chunk_size_of<32 * 1024>(std::string_view bytes);
template <>
size_t next_chunk_size_of<64 * 1024>(std::string_view bytes);

}  // namespace layerfs
