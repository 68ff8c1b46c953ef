// SPDX-License-Identifier: Apache-2.0
#include "layerdb/ops/tar_header.h"

#include <algorithm>
#include <charconv>
#include <limits>

namespace layerfs {
namespace {

constexpr int64_t kMax = std::numeric_limits<int64_t>::max();

// GNU's base-256: two's complement, big-endian, the top bit of the first byte set as the mark.
std::optional<int64_t> parse_base256(std::string_view field) {
  auto at = [&](size_t i) { return static_cast<uint8_t>(field[i]); };
  bool negative = at(0) == 0xff;
  uint64_t value = negative ? ~uint64_t{0} : at(0) & 0x7f;
  for (size_t i = 1; i < field.size(); ++i) {
    uint8_t top = static_cast<uint8_t>(value >> 56);
    if (top != (negative ? 0xff : 0)) return std::nullopt;  // over 64 bits
    value = value << 8 | at(i);
  }
  int64_t result = static_cast<int64_t>(value);
  if ((result < 0) != negative) return std::nullopt;
  return result;
}

std::optional<int64_t> parse_octal(std::string_view field) {
  size_t i = 0;
  while (i < field.size() && field[i] == ' ') ++i;
  int64_t value = 0;
  for (; i < field.size() && field[i] >= '0' && field[i] <= '7'; ++i) {
    if (value > kMax >> 3) return std::nullopt;
    value = value << 3 | (field[i] - '0');
  }
  if (i < field.size() && field[i] != ' ' && field[i] != '\0') return std::nullopt;
  return value;
}

int hex_digit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

}  // namespace

bool TarHeader::all_zero() const {
  return std::all_of(block_.begin(), block_.end(), [](char c) { return c == 0; });
}

bool TarHeader::checksum_ok() const {
  int64_t as_unsigned = 8 * ' ';
  int64_t as_signed = 8 * ' ';
  for (size_t i = 0; i < block_.size(); ++i) {
    if (i >= 148 && i < 156) continue;
    as_unsigned += static_cast<unsigned char>(block_[i]);
    as_signed += static_cast<signed char>(block_[i]);
  }
  std::optional<int64_t> stored = parse_octal(block_.substr(148, 8));
  return stored && (*stored == as_unsigned || *stored == as_signed);
}

std::optional<int64_t> TarHeader::number(size_t offset, size_t size) const {
  std::string_view field = block_.substr(offset, size);
  if (static_cast<uint8_t>(field[0]) & 0x80) return parse_base256(field);
  return parse_octal(field);
}

std::string TarHeader::text(size_t offset, size_t size) const {
  std::string_view field = block_.substr(offset, size);
  return std::string(field.substr(0, std::min(field.find('\0'), size)));
}

std::string TarHeader::path() const {
  std::string name = text(0, 100);
  if (!is_ustar()) return name;
  bool star = block_.substr(508, 4) == std::string_view("tar\0", 4);
  std::string prefix = text(345, star ? 131 : 155);
  if (prefix.empty()) return name;
  return prefix + "/" + name;
}

std::optional<int64_t> parse_decimal(std::string_view text) {
  int64_t value = 0;
  auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return value;
}

std::optional<Timestamp> parse_pax_time(std::string_view text) {
  size_t dot = std::min(text.find('.'), text.size());
  bool negative = text.starts_with('-');
  std::string_view whole = text.substr(0, dot);
  Timestamp time;
  if (!whole.empty() && whole != "-") {
    std::optional<int64_t> seconds = parse_decimal(whole);
    if (!seconds) return std::nullopt;
    time.seconds = *seconds;
  } else if (dot == text.size()) {
    return std::nullopt;
  }
  uint32_t unit = 100'000'000;
  bool beyond = false;  // digits after the ninth
  for (size_t i = dot + 1; i < text.size(); ++i) {
    if (text[i] < '0' || text[i] > '9') return std::nullopt;
    time.nanoseconds += static_cast<uint32_t>(text[i] - '0') * unit;
    if (unit == 0 && text[i] != '0') beyond = true;
    unit /= 10;
  }
  if (!negative) return time;
  if (beyond) ++time.nanoseconds;  // rounded down, as GNU tar does
  if (time.nanoseconds > 0) {
    if (time.seconds == std::numeric_limits<int64_t>::min()) return std::nullopt;
    --time.seconds;
    time.nanoseconds = 1'000'000'000 - time.nanoseconds;
  }
  return time;
}

std::string decode_url(std::string_view text) {
  std::string out;
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '%' && i + 2 < text.size()) {
      int high = hex_digit(text[i + 1]), low = hex_digit(text[i + 2]);
      if (high >= 0 && low >= 0) {
        out.push_back(static_cast<char>(high << 4 | low));
        i += 2;
        continue;
      }
    }
    out.push_back(text[i]);
  }
  return out;
}

std::optional<std::string> decode_base64(std::string_view text) {
  while (text.ends_with('=')) text.remove_suffix(1);
  constexpr std::string_view kDigits =
      "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::string out;
  uint32_t bits = 0;
  int count = 0;
  for (char c : text) {
    size_t digit = kDigits.find(c);
    if (digit == std::string_view::npos) return std::nullopt;
    bits = bits << 6 | static_cast<uint32_t>(digit);
    count += 6;
    if (count >= 8) {
      count -= 8;
      out.push_back(static_cast<char>(bits >> count));
    }
  }
  return out;
}

}  // namespace layerfs
