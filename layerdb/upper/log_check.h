// SPDX-License-Identifier: Apache-2.0
//
// Reads the logs of an upper's database as bytes, without RocksDB, to tell what its recovery does
// not tell: it goes up to the first record that is not whole and silently drops what comes after.
// That is right for the tail that a power failure leaves, and wrong for a damaged disk.
//
// A log is blocks of 32 KiB; a record is one or more fragments, each within a block: checksum (u32,
// CRC-32C, masked), length (u16), type (1 whole, 2 first, 3 middle, 4 last), then the payload. A
// record's payload is a write batch: sequence number (u64), count (u32), changes.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "layerdb/base/result.h"

namespace layerfs {

// The first place where changes are missing although later ones are there: sequence numbers leave
// none out, neither within a log nor from one log to the next. (A log's unreadable end is no gap.)
struct LogGap {
  std::string path;
  uint64_t offset = 0;             // where the last change before it ends; 0: in an earlier log
  uint64_t sequence = 0;           // the first one that is missing
  std::vector<std::string> later;  // logs after this one
  std::vector<std::string> after;  // write batches behind the gap
};

// Of the logs with this number or a higher one. `first_change`: one that must be in a log (or a
// later one is the first that is missing); 0: not known. None: nothing is missing.
Result<std::optional<LogGap>> find_log_gap(const std::string& database, uint64_t first_log,
                                           uint64_t first_change);

struct LogStart {
  uint64_t log = 0;                  // its number
  uint64_t sequence = 0;             // of its first change
  std::vector<std::string> batches;  // the first few
};
// Of the logs that have a change, in order.
Result<std::vector<LogStart>> read_log_starts(const std::string& database);

uint32_t crc32c(std::string_view bytes);

// Changes with every boot of the host; empty where it cannot be known.
std::string boot_id();

}  // namespace layerfs
