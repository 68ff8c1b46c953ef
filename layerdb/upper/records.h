// SPDX-License-Identifier: Apache-2.0
//
// Keys and values of the upper's database (format.md, "Upper"). Pure: bytes <-> values; whatever
// comes from disk is validated (EUCLEAN). A key is a tag byte, a big-endian number and, where there
// there are several, the rest: all names of one directory are contiguous, in readdir's order.
#pragma once

#include <string>
#include <string_view>

#include "layerdb/base/coding.h"
#include "layerdb/base/result.h"
#include "layerdb/upper/upper.h"

namespace layerfs::upper_key {

inline constexpr uint32_t kFormatVersion = 2;  // 1 has no small holes; writing raises it

enum Tag : char {
  kInode = 'I',
  kName = 'D',
  kXattr = 'X',
  kRange = 'E',
  kSmallBody = 'B',
  kOrphan = 'O',
  kStaleBody = 'R',  // data/<ino> is to be removed unless the inode's record says Body::file
  kMeta = 'M',
};

inline std::string of(Tag tag, Ino ino) {
  std::string key(1, static_cast<char>(tag));
  put_be64(key, ino);
  return key;
}
inline std::string of(Tag tag, Ino ino, std::string_view rest) { return of(tag, ino).append(rest); }
// A name's key holds its position before it (upper.h, name_position).
inline std::string name(Ino directory, std::string_view name) {
  return of(kName, directory, be64(name_position(name))).append(name);
}
inline std::string_view name_of(std::string_view key) {
  return key.size() < 17 ? std::string_view() : key.substr(17);
}
// Ranges are keyed by where they end: the first one that matters at an offset is a forward seek,
// and a file written from front to back leaves its outdated records behind that position.
inline std::string range(Ino ino, uint64_t end) { return of(kRange, ino, be64(end)); }
inline std::string version() { return "Mversion"; }
inline std::string first_ino() { return "Mfirst_ino"; }
inline std::string next_ino() { return "Mnext_ino"; }
// What is known of the log itself, for telling a damaged one from one that power loss cut off: all
// changes up to this sequence number of RocksDB were synced; the host's boot that wrote what
// follows; the first change that was in a log, not a table, when what follows was begun.
inline std::string synced() { return "Msynced"; }
inline std::string boot() { return "Mboot"; }
inline std::string logged() { return "Mlogged"; }

// The number in any key made by of(); 0 when it is too short to hold one.
inline Ino ino(std::string_view key) { return key.size() < 9 ? 0 : decode_be64(key.data() + 1); }
inline std::string_view rest(std::string_view key) {
  return key.size() < 9 ? std::string_view() : key.substr(9);
}

struct LoggedFrom {
  uint64_t log = 0;  // its number
  uint64_t sequence = 0;
};

std::string encode_inode(const InodeRecord& record);
Result<InodeRecord> decode_inode(std::string_view bytes);
std::string encode_name(const UpperName& name);
Result<UpperName> decode_name(std::string_view bytes);
std::string encode_number(uint64_t value);
Result<uint64_t> decode_number(std::string_view bytes);
std::string encode_logged_from(const LoggedFrom& from);
Result<LoggedFrom> decode_logged_from(std::string_view bytes);
// From a range's key (its end) and value (its start); checks that it is not empty.
Result<Range> decode_range(std::string_view key, std::string_view value);

}  // namespace layerfs::upper_key
