// SPDX-License-Identifier: Apache-2.0
//
// The bytes that benchmarks run over: the file named by LAYERFS_BENCH_FILE (a root filesystem's tar
// is best), up to `limit` bytes from its middle, or else text made up from a fixed seed.
#pragma once

#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <string>

#include "tests/support/random.h"

namespace layerfs::bench {

inline const std::string& corpus(size_t limit = 256 << 20) {
  static const std::string bytes = [&] {
    const char* path = std::getenv("LAYERFS_BENCH_FILE");
    if (path == nullptr) return testing::Random(1).text(limit / 4);
    std::ifstream in(path, std::ios::binary | std::ios::ate);
    size_t size = static_cast<size_t>(in.tellg());
    std::string out(std::min(size, limit), '\0');
    in.seekg(static_cast<std::streamoff>((size - out.size()) / 2));
    in.read(out.data(), static_cast<std::streamsize>(out.size()));
    return out;
  }();
  return bytes;
}

}  // namespace layerfs::bench
