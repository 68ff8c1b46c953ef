// SPDX-License-Identifier: Apache-2.0
//
// The fields of one 512 byte tar header block and of pax records. Pure: bytes to values.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "layerdb/object/types.h"

namespace layerfs {

// A header block (512 bytes) and where its fields are.
class TarHeader {
 public:
  explicit TarHeader(std::string_view block) : block_(block) {}

  bool all_zero() const;
  bool checksum_ok() const;  // as unsigned bytes, or signed as some old tars summed
  char type() const { return block_[156]; }
  bool is_gnu() const { return block_.substr(257, 8) == std::string_view("ustar  \0", 8); }
  bool is_ustar() const { return block_.substr(257, 5) == "ustar" && !is_gnu(); }

  std::string path() const;  // name and prefix
  std::string link_target() const { return text(157, 100); }
  // nullopt: no number.
  std::optional<int64_t> mode() const { return number(100, 8); }
  std::optional<int64_t> uid() const { return number(108, 8); }
  std::optional<int64_t> gid() const { return number(116, 8); }
  std::optional<int64_t> size_bytes() const { return number(124, 12); }
  std::optional<int64_t> mtime() const { return number(136, 12); }
  std::optional<int64_t> device_major() const { return number(329, 8); }
  std::optional<int64_t> device_minor() const { return number(337, 8); }
  // Old GNU sparse headers: pairs of (offset, length) from a position on.
  std::optional<int64_t> number(size_t offset, size_t size) const;
  uint8_t byte(size_t offset) const { return static_cast<uint8_t>(block_[offset]); }

 private:
  std::string text(size_t offset, size_t size) const;
  std::string_view block_;
};

// pax values.
std::optional<int64_t> parse_decimal(std::string_view text);
std::optional<Timestamp> parse_pax_time(std::string_view text);  // "-1.5" is 1.5 s before the epoch

// "%41" -> "A", as libarchive encodes xattr names; base64 as it encodes their values.
std::string decode_url(std::string_view text);
std::optional<std::string> decode_base64(std::string_view text);

}  // namespace layerfs
