// SPDX-License-Identifier: Apache-2.0
//
// Byte encoding shared by every on-disk record. Values are little-endian; *keys* that must sort by
// number are big-endian. Reader never reads past its input: after an overrun it is failed() and
// every further read yields zero or empty, so decoders check once at the end.
#pragma once

#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>

namespace layerfs {

inline void put_u8(std::string& out, uint8_t v) { out.push_back(static_cast<char>(v)); }
template <typename T>
inline void put_fixed(std::string& out, T v) {  // little-endian hosts only (x86-64, arm64)
  out.append(reinterpret_cast<const char*>(&v), sizeof v);
}
inline void put_u16(std::string& out, uint16_t v) { put_fixed(out, v); }
inline void put_u32(std::string& out, uint32_t v) { put_fixed(out, v); }
inline void put_u64(std::string& out, uint64_t v) { put_fixed(out, v); }
inline void put_varint(std::string& out, uint64_t v) {
  while (v >= 0x80) {
    out.push_back(static_cast<char>(v | 0x80));
    v >>= 7;
  }
  out.push_back(static_cast<char>(v));
}
inline void put_bytes(std::string& out, std::string_view bytes) {  // length-prefixed
  put_varint(out, bytes.size());
  out.append(bytes);
}
inline void put_be64(std::string& out, uint64_t v) {
  for (int shift = 56; shift >= 0; shift -= 8) out.push_back(static_cast<char>(v >> shift));
}
inline std::string be64(uint64_t v) {
  std::string out;
  put_be64(out, v);
  return out;
}
inline uint64_t decode_be64(const char* p) {
  uint64_t v = 0;
  for (int i = 0; i < 8; ++i) v = v << 8 | static_cast<uint8_t>(p[i]);
  return v;
}
template <typename T>
inline T load_fixed(const char* p) {
  T v;
  std::memcpy(&v, p, sizeof v);
  return v;
}

class Reader {
 public:
  explicit Reader(std::string_view input) : input_(input) {}

  uint8_t u8() { return fixed<uint8_t>(); }
  uint16_t u16() { return fixed<uint16_t>(); }
  uint32_t u32() { return fixed<uint32_t>(); }
  uint64_t u64() { return fixed<uint64_t>(); }
  uint64_t varint() {
    uint64_t v = 0;
    for (int shift = 0; shift < 64; shift += 7) {
      uint8_t b = u8();
      v |= static_cast<uint64_t>(b & 0x7f) << shift;
      if (!(b & 0x80)) return v;
    }
    failed_ = true;
    return 0;
  }
  std::string_view take(uint64_t size) {
    if (size > input_.size()) {
      failed_ = true;
      input_ = {};
      return {};
    }
    std::string_view out = input_.substr(0, size);
    input_.remove_prefix(size);
    return out;
  }
  std::string_view bytes() { return take(varint()); }
  uint64_t be64() {
    std::string_view raw = take(8);
    return raw.size() == 8 ? decode_be64(raw.data()) : 0;
  }

  bool failed() const { return failed_; }
  bool done() const { return input_.empty() && !failed_; }  // everything read, no overrun
  size_t remaining() const { return input_.size(); }

 private:
  template <typename T>
  T fixed() {
    std::string_view raw = take(sizeof(T));
    return raw.size() == sizeof(T) ? load_fixed<T>(raw.data()) : T{};
  }

  std::string_view input_;
  bool failed_ = false;
};

}  // namespace layerfs
