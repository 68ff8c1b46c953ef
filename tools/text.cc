// SPDX-License-Identifier: Apache-2.0
#include "tools/text.h"

#include <fmt/format.h>

#include <algorithm>
#include <cctype>
#include <ctime>

namespace layerfs {
namespace {

size_t display_width(std::string_view text) {
  return static_cast<size_t>(std::count_if(
      text.begin(), text.end(), [](char c) { return (static_cast<uint8_t>(c) & 0xc0) != 0x80; }));
}

// The length of the UTF-8 sequence at the start of `text`; 0 when there is none.
size_t utf8_length(std::string_view text) {
  uint8_t first = static_cast<uint8_t>(text[0]);
  size_t length = first < 0x80                    ? 1
                  : first >= 0xc2 && first < 0xe0 ? 2
                  : (first & 0xf0) == 0xe0        ? 3
                  : first >= 0xf0 && first < 0xf5 ? 4
                                                  : 0;
  if (length == 0 || length > text.size()) return 0;
  for (size_t i = 1; i < length; ++i)
    if ((static_cast<uint8_t>(text[i]) & 0xc0) != 0x80) return 0;
  return length;
}

// A fixed count of decimal digits at `at`, which moves on; -1 when they are not digits.
int digits(std::string_view text, size_t& at, size_t count) {
  int value = 0;
  for (size_t end = at + count; at < end; ++at) {
    if (at >= text.size() || text[at] < '0' || text[at] > '9') return -1;
    value = value * 10 + (text[at] - '0');
  }
  return value;
}

bool skip(std::string_view text, size_t& at, char expected) {
  if (at >= text.size() || std::tolower(text[at]) != expected) return false;
  ++at;
  return true;
}

}  // namespace

std::string Table::to_string() const {
  static constexpr size_t kGap = 3;
  std::vector<size_t> widths;
  for (const auto& row : rows_) {
    widths.resize(std::max(widths.size(), row.size()));
    for (size_t i = 0; i < row.size(); ++i)
      widths[i] = std::max(widths[i], display_width(row[i]) + kGap);
  }
  std::string out;
  for (const auto& row : rows_) {
    for (size_t i = 0; i < row.size(); ++i) {
      out += row[i];
      if (i + 1 < row.size()) out.append(widths[i] - display_width(row[i]), ' ');
    }
    out.push_back('\n');
  }
  return out;
}

std::string human_size(uint64_t size_bytes) {
  static constexpr const char* kUnits[] = {"B", "kB", "MB", "GB", "TB", "PB", "EB"};
  double value = static_cast<double>(size_bytes);
  size_t unit = 0;
  while (value >= 1000 && unit + 1 < std::size(kUnits)) {
    value /= 1000;
    ++unit;
  }
  // %.3g of 999.6 is "1e+03": such a value is one of the next unit.
  if (value >= 999.5 && unit + 1 < std::size(kUnits)) {
    value = 1;
    ++unit;
  }
  return fmt::format("{:.3g}{}", value, kUnits[unit]);
}

std::string human_age(int64_t seconds) {
  int64_t minutes = seconds / 60, hours = (seconds + 1800) / 3600;
  if (seconds < 1) return "Less than a second";
  if (seconds == 1) return "1 second";
  if (seconds < 60) return fmt::format("{} seconds", seconds);
  if (minutes == 1) return "About a minute";
  if (minutes < 60) return fmt::format("{} minutes", minutes);
  if (hours == 1) return "About an hour";
  if (hours < 48) return fmt::format("{} hours", hours);
  if (hours < 24 * 7 * 2) return fmt::format("{} days", hours / 24);
  if (hours < 24 * 30 * 2) return fmt::format("{} weeks", hours / 24 / 7);
  if (hours < 24 * 365 * 2) return fmt::format("{} months", hours / 24 / 30);
  return fmt::format("{} years", hours / 24 / 365);
}

std::string time_ago(int64_t unix_seconds) {
  return human_age(static_cast<int64_t>(::time(nullptr)) - unix_seconds) + " ago";
}

std::string short_id(const Digest& digest) { return digest.hex().substr(0, 12); }

Result<int64_t> parse_rfc3339(std::string_view text) {
  Error bad{EINVAL, "'" + printable(text) + "' is not an RFC 3339 time"};
  std::tm tm{};
  size_t at = 0;
  tm.tm_year = digits(text, at, 4);
  if (tm.tm_year < 0 || !skip(text, at, '-')) return bad;
  tm.tm_year -= 1900;
  if ((tm.tm_mon = digits(text, at, 2)) < 1 || tm.tm_mon > 12 || !skip(text, at, '-')) return bad;
  tm.tm_mon -= 1;
  if ((tm.tm_mday = digits(text, at, 2)) < 1 || !(skip(text, at, 't') || skip(text, at, ' ')))
    return bad;
  if ((tm.tm_hour = digits(text, at, 2)) < 0 || !skip(text, at, ':')) return bad;
  if ((tm.tm_min = digits(text, at, 2)) < 0 || !skip(text, at, ':')) return bad;
  if ((tm.tm_sec = digits(text, at, 2)) < 0) return bad;
  if (skip(text, at, '.'))
    while (at < text.size() && text[at] >= '0' && text[at] <= '9') ++at;
  int64_t offset = 0;
  if (!skip(text, at, 'z')) {
    int64_t sign = skip(text, at, '+') ? 1 : skip(text, at, '-') ? -1 : 0;
    int hours = digits(text, at, 2);
    if (sign == 0 || hours < 0 || !skip(text, at, ':')) return bad;
    int minutes = digits(text, at, 2);
    if (minutes < 0) return bad;
    offset = sign * (hours * 3600 + minutes * 60);
  }
  if (at != text.size()) return bad;
  return static_cast<int64_t>(::timegm(&tm)) - offset;
}

std::string format_rfc3339(int64_t unix_seconds) {
  time_t seconds = unix_seconds;
  std::tm tm{};
  ::gmtime_r(&seconds, &tm);
  return fmt::format("{:04}-{:02}-{:02}T{:02}:{:02}:{:02}Z", tm.tm_year + 1900, tm.tm_mon + 1,
                     tm.tm_mday, tm.tm_hour, tm.tm_min, tm.tm_sec);
}

std::string printable(std::string_view bytes) {
  std::string out;
  while (!bytes.empty()) {
    uint8_t first = static_cast<uint8_t>(bytes[0]);
    size_t length = first < 0x20 || first == 0x7f ? 0 : utf8_length(bytes);
    if (length == 2 && first == 0xc2 && static_cast<uint8_t>(bytes[1]) < 0xa0) length = 0;  // C1
    if (length == 0) {
      out += fmt::format("\\x{:02x}", first);
      length = 1;
    } else {
      out += bytes.substr(0, length);
    }
    bytes.remove_prefix(length);
  }
  return out;
}

}  // namespace layerfs
