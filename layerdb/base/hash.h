// SPDX-License-Identifier: Apache-2.0
//
// The two hashes of layerfs.
// Fingerprint: XXH3-128. Fast and *not* collision-resistant: it only finds candidates, and every
//   use compares bytes before it believes a match (format.md, threat model).
// Sha256: OCI digests; protects against strangers.
#pragma once

#include <array>
#include <compare>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "layerdb/base/result.h"

namespace layerfs {

struct Fingerprint {
  uint64_t high = 0;
  uint64_t low = 0;
  auto operator<=>(const Fingerprint&) const = default;
};

Fingerprint fingerprint(std::string_view bytes);
uint64_t checksum64(std::string_view bytes);  // XXH3-64, for detecting damage

// A SHA-256 value. Text form is OCI's "sha256:<64 hex>"; hex() is without the prefix.
struct Digest {
  std::array<uint8_t, 32> bytes{};
  auto operator<=>(const Digest&) const = default;

  std::string hex() const;
  std::string to_string() const;  // "sha256:…"
  // Accepts "sha256:<64 hex>" or bare 64 hex; EINVAL otherwise.
  static Result<Digest> parse(std::string_view text);
};

// Incremental SHA-256 (nettle: a tenth slower than OpenSSL, whose libcrypto takes 1.4 ms of every
// command to load and 400 KB of every mount). Not thread-safe.
class Sha256 {
 public:
  Sha256();
  ~Sha256();
  Sha256(Sha256&&) noexcept;
  Sha256& operator=(Sha256&&) noexcept;
  void update(std::string_view bytes);
  Digest finish();  // the object is spent afterwards

 private:
  struct State;
  std::unique_ptr<State> state_;
};

Digest sha256(std::string_view bytes);

}  // namespace layerfs

template <>
struct std::hash<layerfs::Fingerprint> {
  size_t operator()(const layerfs::Fingerprint& f) const noexcept { return f.low; }
};
