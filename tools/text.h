// SPDX-License-Identifier: Apache-2.0
//
// How the tools show values to people, as docker does: columns, sizes in units of 1000, times as
// "3 hours ago", ids as 12 hex digits. Pure, except that ages are relative to the clock.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "layerdb/base/hash.h"
#include "layerdb/base/result.h"

namespace layerfs {

// Columns as wide as their widest cell, three spaces apart, the last one not padded.
class Table {
 public:
  explicit Table(std::vector<std::string> header) : rows_{std::move(header)} {}
  void add(std::vector<std::string> row) { rows_.push_back(std::move(row)); }
  std::string to_string() const;

 private:
  std::vector<std::vector<std::string>> rows_;
};

std::string human_size(uint64_t size_bytes);  // "0B", "77.8MB", "1.25GB"
std::string human_age(int64_t seconds);       // "Less than a second", "3 hours"
std::string time_ago(int64_t unix_seconds);   // "3 hours ago"
std::string short_id(const Digest& digest);   // 12 hex digits

// RFC 3339, as image configs have it ("2024-05-01T10:00:00.5Z", "…+02:00"); seconds since the
// epoch, fractions dropped. EINVAL.
Result<int64_t> parse_rfc3339(std::string_view text);
std::string format_rfc3339(int64_t unix_seconds);

// Bytes that are not UTF-8 or would move the cursor, as \xNN: safe to show on a terminal.
std::string printable(std::string_view bytes);

}  // namespace layerfs
