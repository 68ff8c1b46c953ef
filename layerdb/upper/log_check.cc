// SPDX-License-Identifier: Apache-2.0
#include "layerdb/upper/log_check.h"

#include <fcntl.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <cstring>
#include <memory>

#include "layerdb/base/coding.h"
#include "layerdb/base/sys.h"

namespace layerfs {
namespace {

constexpr size_t kBlockBytes = 32768;
constexpr size_t kWindowBytes = 8 * kBlockBytes;
constexpr size_t kHeaderBytes = 7;
constexpr size_t kBatchHeaderBytes = 12;
constexpr uint8_t kWhole = 1, kFirst = 2, kMiddle = 3, kLast = 4;

constexpr std::array<uint32_t, 256> make_crc_table() {
  std::array<uint32_t, 256> table{};
  for (uint32_t i = 0; i < 256; ++i) {
    uint32_t crc = i;
    for (int bit = 0; bit < 8; ++bit) crc = crc & 1 ? crc >> 1 ^ 0x82f63b78 : crc >> 1;
    table[i] = crc;
  }
  return table;
}
constexpr std::array<uint32_t, 256> kCrcTable = make_crc_table();

uint32_t crc_by_table(uint32_t crc, std::string_view bytes) {
  for (char c : bytes) crc = kCrcTable[(crc ^ static_cast<uint8_t>(c)) & 0xff] ^ crc >> 8;
  return crc;
}

#if defined(__x86_64__)
__attribute__((target("sse4.2"))) uint32_t crc_by_instruction(uint32_t crc,
                                                              std::string_view bytes) {
  uint64_t state = crc;
  for (; bytes.size() >= 8; bytes.remove_prefix(8)) {
    uint64_t word;
    std::memcpy(&word, bytes.data(), 8);
    state = __builtin_ia32_crc32di(state, word);
  }
  crc = static_cast<uint32_t>(state);
  for (char c : bytes) crc = __builtin_ia32_crc32qi(crc, static_cast<uint8_t>(c));
  return crc;
}
#endif

uint32_t unmask(uint32_t masked) {
  uint32_t rotated = masked - 0xa282ead8u;
  return rotated >> 17 | rotated << 15;
}

struct LogRecord {
  uint64_t first = 0;  // sequence numbers of its changes
  uint64_t next = 0;
  uint64_t end = 0;  // in the log
  std::string batch;
};

// One log's records, from front to back, past whatever cannot be read.
class LogReader {
 public:
  explicit LogReader(UniqueFd file) : file_(std::move(file)) {}

  bool next(LogRecord& out) {
    while (has_header()) {
      if (read_record(out)) return true;
      position_ = bad_ + 1;  // the next record may begin anywhere
    }
    return false;
  }
  // Of the host: what could be read of the log is not all of it.
  const Status& status() const { return status_; }

 private:
  // Fragments do not cross blocks, nor blocks windows.
  size_t window_left() {
    if (position_ < start_ || position_ - start_ >= kWindowBytes) {
      start_ = position_ / kWindowBytes * kWindowBytes;
      Result<size_t> size = pread_full(file_.get(), {window_.get(), kWindowBytes}, start_);
      size_ = size.ok() ? *size : 0;
      if (!size.ok()) status_ = size.error();
    }
    return size_ - std::min<uint64_t>(size_, position_ - start_);
  }
  bool has_header() {
    size_t left = window_left();
    return left >= kHeaderBytes || (left != 0 && size_ == kWindowBytes);
  }
  // The fragment at position_, which moves behind it; false: there is none (bad_).
  bool read_fragment(uint8_t& type, std::string_view& payload) {
    size_t block_left = kBlockBytes - position_ % kBlockBytes;
    if (block_left < kHeaderBytes) position_ += block_left;
    bad_ = position_;
    size_t left = window_left();
    if (left < kHeaderBytes) return false;
    const char* fragment = window_.get() + (position_ - start_);
    Reader header(std::string_view(fragment, kHeaderBytes));
    uint32_t checksum = unmask(header.u32());
    size_t low = header.u8(), length = low | static_cast<size_t>(header.u8()) << 8;
    type = header.u8();
    bool fits = position_ % kBlockBytes + kHeaderBytes + length <= kBlockBytes;
    if (!fits || kHeaderBytes + length > left || type == 0 || type > kLast) return false;
    std::string_view typed(fragment + kHeaderBytes - 1, length + 1);
    if (crc32c(typed) != checksum) return false;
    payload = typed.substr(1);
    position_ += kHeaderBytes + length;
    return true;
  }

  bool read_record(LogRecord& out) {
    uint8_t type = 0;
    std::string_view payload;
    if (!read_fragment(type, payload) || type == kMiddle || type == kLast) return false;
    out.batch = payload;
    for (bool whole = type == kWhole; !whole; whole = type == kLast) {
      if (!read_fragment(type, payload) || type == kWhole || type == kFirst) return false;
      out.batch.append(payload);
    }
    if (out.batch.size() < kBatchHeaderBytes) return false;
    Reader header(out.batch);
    out.first = header.u64();
    out.next = out.first + header.u32();
    out.end = position_;
    return true;
  }

  UniqueFd file_;
  std::unique_ptr<char[]> window_{new char[kWindowBytes]};
  uint64_t start_ = UINT64_MAX;  // of the window in the log
  size_t size_ = 0;              // of what it holds
  uint64_t position_ = 0;
  uint64_t bad_ = 0;  // where the fragment that could not be used begins
  Status status_;
};

struct FoundLog {
  uint64_t number = 0;
  std::string path;
};

// In order; numbers have six digits. None where there is no database yet.
std::vector<FoundLog> log_files(const std::string& database) {
  std::vector<FoundLog> out;
  Result<std::vector<std::string>> names = list_directory(database);
  if (!names.ok()) return out;
  for (const std::string& name : *names)
    if (name.ends_with(".log"))
      out.push_back({std::strtoull(name.c_str(), nullptr, 10), database + "/" + name});
  return out;
}

bool has_tables(const std::string& database) {
  Result<std::vector<std::string>> names = list_directory(database);
  return names.ok() && std::any_of(names->begin(), names->end(),
                                   [](const std::string& name) { return name.ends_with(".sst"); });
}

// None: its daemon has deleted it meanwhile.
Result<std::optional<LogReader>> open_log(const std::string& path) {
  Result<UniqueFd> file = open_file(path, O_RDONLY);
  if (!file.ok() && file.error().code == ENOENT) return std::optional<LogReader>();
  return std::optional<LogReader>(LogReader(TRY(std::move(file))));
}

}  // namespace

uint32_t crc32c(std::string_view bytes) {
#if defined(__x86_64__)
  if (__builtin_cpu_supports("sse4.2")) return ~crc_by_instruction(~0u, bytes);
#endif
  return ~crc_by_table(~0u, bytes);
}

Result<std::vector<LogStart>> read_log_starts(const std::string& database) {
  constexpr size_t kBatches = 16;  // more than threads that may be the first to write
  std::vector<LogStart> out;
  for (const FoundLog& log : log_files(database)) {
    std::optional<LogReader> reader = TRY(open_log(log.path));
    if (!reader) continue;
    LogStart start{log.number, 0, {}};
    for (LogRecord record; start.batches.size() < kBatches && reader->next(record);) {
      if (start.batches.empty()) start.sequence = record.first;
      start.batches.push_back(std::move(record.batch));
    }
    TRY(reader->status());
    if (!start.batches.empty()) out.push_back(std::move(start));
  }
  return out;
}

Result<std::optional<LogGap>> find_log_gap(const std::string& database, uint64_t first_log,
                                           uint64_t first_change) {
  std::optional<LogGap> gap;
  // Without tables the first change must be in a log.
  uint64_t expected = has_tables(database) ? first_change : 1;
  for (const FoundLog& log : log_files(database)) {
    if (log.number < first_log) continue;
    std::optional<LogReader> reader = TRY(open_log(log.path));
    if (!reader) continue;
    if (gap) gap->later.push_back(log.path);
    uint64_t end = 0;
    for (LogRecord record; reader->next(record);) {
      if (!gap && expected != 0 && record.first > expected)
        gap = LogGap{log.path, end, expected, {}, {}};
      if (gap)
        gap->after.push_back(std::move(record.batch));
      else if (record.next > expected)
        expected = record.next, end = record.end;
    }
    TRY(reader->status());
  }
  return gap;
}

}  // namespace layerfs
