// SPDX-License-Identifier: Apache-2.0
//
// Tars made by hand, one header at a time, so that tests can write what no archiver would.
#pragma once

#include <cstdint>
#include <cstdio>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace layerfs::test_support {

struct TarFields {
  std::string name;
  char type = '0';
  std::string body;
  std::string link;
  uint32_t mode = 0644;
  uint64_t uid = 0;
  uint64_t gid = 0;
  uint64_t mtime = 0;
  bool gnu = false;   // magic
  int64_t size = -1;  // written instead of the body's
  uint32_t major = 0;
  uint32_t minor = 0;
};

inline void put_octal(std::string& block, size_t offset, size_t size, uint64_t value) {
  char text[32];
  std::snprintf(text, sizeof text, "%0*llo", static_cast<int>(size - 1),
                static_cast<unsigned long long>(value));
  block.replace(offset, size - 1, text, size - 1);
}

inline void put_checksum(std::string& block) {
  block.replace(148, 8, 8, ' ');
  unsigned sum = 0;
  for (unsigned char c : block) sum += c;
  char text[8];
  std::snprintf(text, sizeof text, "%06o", sum);
  block.replace(148, 6, text, 6);
  block[154] = '\0';
}

inline std::string padded(std::string bytes) {
  bytes.resize((bytes.size() + 511) / 512 * 512, '\0');
  return bytes;
}

inline std::string tar_header(const TarFields& f) {
  std::string block(512, '\0');
  block.replace(0, f.name.size(), f.name);
  put_octal(block, 100, 8, f.mode);
  put_octal(block, 108, 8, f.uid);
  put_octal(block, 116, 8, f.gid);
  put_octal(block, 124, 12, f.size >= 0 ? static_cast<uint64_t>(f.size) : f.body.size());
  put_octal(block, 136, 12, f.mtime);
  block[156] = f.type;
  block.replace(157, f.link.size(), f.link);
  block.replace(257, 8, f.gnu ? std::string("ustar  \0", 8) : std::string("ustar\00000", 8));
  put_octal(block, 329, 8, f.major);
  put_octal(block, 337, 8, f.minor);
  put_checksum(block);
  return block;
}

inline std::string tar_entry(const TarFields& f) { return tar_header(f) + padded(f.body); }

inline std::string pax_record(const std::string& key, const std::string& value) {
  std::string rest = " " + key + "=" + value + "\n";
  size_t size = rest.size() + 1;
  while (std::to_string(size).size() + rest.size() != size) ++size;
  return std::to_string(size) + rest;
}

inline std::string pax_header(const std::vector<std::pair<std::string, std::string>>& records,
                              char type = 'x') {
  TarFields f;
  f.name = "pax";
  f.type = type;
  for (const auto& [key, value] : records) f.body += pax_record(key, value);
  return tar_entry(f);
}

inline std::string tar_end() { return std::string(1024, '\0'); }

}  // namespace layerfs::test_support
