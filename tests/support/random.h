// SPDX-License-Identifier: Apache-2.0
//
// Random input that can be had again: the seed is printed, and taken from LAYERFS_TEST_SEED.
#pragma once

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <random>
#include <string>

namespace layerfs::test_support {

// LAYERFS_TEST_SEED, or a fresh one; printed.
inline uint64_t test_seed() {
  const char* given = std::getenv("LAYERFS_TEST_SEED");
  uint64_t seed = given != nullptr ? std::strtoull(given, nullptr, 0) : std::random_device{}();
  std::printf("LAYERFS_TEST_SEED=%llu\n", static_cast<unsigned long long>(seed));
  std::fflush(stdout);  // also when the test aborts
  return seed;
}

class Random {
 public:
  Random() : Random(test_seed()) {}
  explicit Random(uint64_t seed) : engine_(seed) {}

  uint64_t below(uint64_t limit) { return engine_() % limit; }
  uint64_t between(uint64_t low, uint64_t high) { return low + below(high - low + 1); }
  bool one_in(uint64_t n) { return below(n) == 0; }

  std::string bytes(size_t size) {  // does not compress
    std::string out(size, '\0');
    for (size_t i = 0; i < size; i += 8) {
      uint64_t word = engine_();
      for (size_t k = 0; k < 8 && i + k < size; ++k) out[i + k] = static_cast<char>(word >> 8 * k);
    }
    return out;
  }
  std::string text(size_t size) {  // compresses about as source code does
    static constexpr const char* kWords[] = {"layer ", "chunk ", "group ", "store ", "tree ",
                                             "upper ", "lower ", "\n",     "0x",     "mount "};
    std::string out;
    while (out.size() < size)
      out += one_in(4) ? std::to_string(engine_() >> 40) : kWords[below(10)];
    out.resize(size);
    return out;
  }

 private:
  std::mt19937_64 engine_;
};

}  // namespace layerfs::test_support
