// SPDX-License-Identifier: Apache-2.0
#include "layerdb/ops/external_sort.h"

#include <algorithm>
#include <utility>

#include "layerdb/base/coding.h"

namespace layerfs {
namespace {

constexpr size_t kHeaderBytes = 8;
constexpr size_t kMinRunBufferBytes = 16 << 10;

struct Record {
  std::string_view key;
  std::string_view value;
  size_t size_bytes() const { return kHeaderBytes + key.size() + value.size(); }
};

Record record_at(const char* p) {
  uint32_t key_size = load_fixed<uint32_t>(p);
  uint32_t value_size = load_fixed<uint32_t>(p + 4);
  return {{p + kHeaderBytes, key_size}, {p + kHeaderBytes + key_size, value_size}};
}

}  // namespace

ExternalSorter::ExternalSorter(std::string directory, size_t memory_bytes)
    : directory_(std::move(directory)), memory_bytes_(memory_bytes) {}

Status ExternalSorter::add(std::string_view key, std::string_view value) {
  size_t record_bytes = kHeaderBytes + key.size() + value.size() + sizeof(size_t);
  size_t used_bytes = arena_.size() + offsets_.size() * sizeof(size_t);
  if (!offsets_.empty() && used_bytes + record_bytes > memory_bytes_) TRY(spill());
  offsets_.push_back(arena_.size());
  put_u32(arena_, static_cast<uint32_t>(key.size()));
  put_u32(arena_, static_cast<uint32_t>(value.size()));
  arena_.append(key);
  arena_.append(value);
  ++size_;
  return {};
}

std::string_view ExternalSorter::key_at(size_t offset) const {
  return record_at(arena_.data() + offset).key;
}

void ExternalSorter::sort_memory() {
  auto less = [this](size_t a, size_t b) { return key_at(a) < key_at(b); };
  if (!std::is_sorted(offsets_.begin(), offsets_.end(), less)) {
    std::sort(offsets_.begin(), offsets_.end(), less);
  }
}

Status ExternalSorter::spill() {
  if (!file_.valid()) file_ = TRY(open_unnamed_file(directory_));
  sort_memory();
  uint64_t start = file_bytes_;
  std::string buffer;
  auto write_out = [&]() -> Status {
    TRY(pwrite_full(file_.get(), buffer, file_bytes_));
    file_bytes_ += buffer.size();
    buffer.clear();
    return {};
  };
  for (size_t offset : offsets_) {
    const char* p = arena_.data() + offset;
    buffer.append(p, record_at(p).size_bytes());
    if (buffer.size() >= 1 << 20) TRY(write_out());
  }
  TRY(write_out());
  extents_.push_back({start, file_bytes_ - start});
  offsets_.clear();
  arena_.clear();
  return {};
}

Status ExternalSorter::finish() {
  if (extents_.empty()) {
    sort_memory();
    return {};
  }
  if (!offsets_.empty()) TRY(spill());
  arena_ = {};
  offsets_ = {};
  return {};
}

// One run's read position: a window of the file that holds the current record whole.
struct ExternalSorter::Cursor::Run {
  int fd = -1;
  uint64_t offset = 0;  // of the first byte after the window
  uint64_t end = 0;
  size_t buffer_bytes = 0;
  std::string window;
  size_t position = 0;
  Record record;
  bool valid = false;

  Status fill(size_t need) {
    if (window.size() - position >= need) return {};
    window.erase(0, position);
    position = 0;
    size_t have = window.size();
    size_t want = std::min<uint64_t>(std::max(buffer_bytes, need) - have, end - offset);
    window.resize(have + want);
    size_t got = TRY(pread_full(fd, {window.data() + have, want}, offset));
    if (have + got < need) return Error{EIO, "a temporary file of the sort is cut short"};
    offset += got;
    window.resize(have + got);
    return {};
  }

  Status next() {
    if (valid) position += record.size_bytes();
    valid = false;
    if (position == window.size() && offset == end) return {};
    TRY(fill(kHeaderBytes));
    TRY(fill(record_at(window.data() + position).size_bytes()));
    record = record_at(window.data() + position);
    valid = true;
    return {};
  }
};

namespace {
constexpr auto kLaterKey = [](const auto& a, const auto& b) {
  return a->record.key > b->record.key;
};
}  // namespace

ExternalSorter::Cursor::Cursor(const ExternalSorter& sorter) : sorter_(&sorter) {}
ExternalSorter::Cursor::Cursor(Cursor&&) noexcept = default;
ExternalSorter::Cursor::~Cursor() = default;

Result<ExternalSorter::Cursor> ExternalSorter::scan() const {
  Cursor cursor(*this);
  for (const RunExtent& extent : extents_) {
    auto run = std::make_unique<Cursor::Run>();
    run->fd = file_.get();
    run->offset = extent.offset;
    run->end = extent.offset + extent.length;
    run->buffer_bytes = std::max(kMinRunBufferBytes, memory_bytes_ / 2 / extents_.size());
    TRY(run->next());
    if (run->valid) cursor.runs_.push_back(std::move(run));
  }
  std::make_heap(cursor.runs_.begin(), cursor.runs_.end(), kLaterKey);
  if (!cursor.runs_.empty()) {
    cursor.key_ = cursor.runs_.front()->record.key;
    cursor.value_ = cursor.runs_.front()->record.value;
    cursor.valid_ = true;
  } else if (!offsets_.empty()) {
    Record record = record_at(arena_.data() + offsets_[0]);
    cursor.key_ = record.key;
    cursor.value_ = record.value;
    cursor.valid_ = true;
  }
  return cursor;
}

Status ExternalSorter::Cursor::next() {
  if (runs_.empty()) {
    valid_ = ++position_ < sorter_->offsets_.size();
    if (!valid_) return {};
    Record record = record_at(sorter_->arena_.data() + sorter_->offsets_[position_]);
    key_ = record.key;
    value_ = record.value;
    return {};
  }
  std::pop_heap(runs_.begin(), runs_.end(), kLaterKey);
  TRY(runs_.back()->next());
  if (runs_.back()->valid) {
    std::push_heap(runs_.begin(), runs_.end(), kLaterKey);
  } else {
    runs_.pop_back();
  }
  valid_ = !runs_.empty();
  if (!valid_) return {};
  key_ = runs_.front()->record.key;
  value_ = runs_.front()->record.value;
  return {};
}

}  // namespace layerfs
