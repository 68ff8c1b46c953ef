// SPDX-License-Identifier: Apache-2.0
#include "layerdb/upper/transaction.h"

#include <algorithm>

namespace layerfs {

namespace key = upper_key;

namespace {

rocksdb::Slice slice(std::string_view bytes) { return {bytes.data(), bytes.size()}; }

// Repeats a batch's changes in another one.
class Repeat : public rocksdb::WriteBatch::Handler {
 public:
  explicit Repeat(rocksdb::WriteBatchWithIndex& into) : into_(into) {}
  rocksdb::Status PutCF(uint32_t, const rocksdb::Slice& key, const rocksdb::Slice& value) override {
    return into_.Put(key, value);
  }
  rocksdb::Status DeleteCF(uint32_t, const rocksdb::Slice& key) override {
    return into_.Delete(key);
  }

 private:
  rocksdb::WriteBatchWithIndex& into_;
};

}  // namespace

void UpperTransaction::keep_error(Status status) {
  if (status_.ok()) status_ = std::move(status);
}

void UpperTransaction::note_key(const std::string& record_key) {
  Ino number = key::ino(record_key);
  if (numbers_.empty() || numbers_.back() != number) numbers_.push_back(number);
}

rocksdb::WriteBatchWithIndex* UpperTransaction::batch_for(const std::string& record_key) {
  constexpr size_t kFew = 64;  // worth looking through
  if (numbers_.size() < kFew && std::ranges::count(numbers_, key::ino(record_key)) == 0)
    return nullptr;
  if (!indexed_) {
    indexed_ = std::make_unique<rocksdb::WriteBatchWithIndex>(rocksdb::BytewiseComparator(), 0,
                                                              /*overwrite_key=*/true);
    Repeat repeat(*indexed_);
    rocksdb::Status status = plain_.Iterate(&repeat);
    if (!status.ok()) keep_error(from_rocksdb(status, "build a transaction"));
  }
  return indexed_.get();
}

void UpperTransaction::put(const std::string& record_key, std::string_view value) {
  note_key(record_key);
  rocksdb::Status status =
      indexed_ ? indexed_->Put(record_key, slice(value)) : plain_.Put(record_key, slice(value));
  if (!status.ok()) keep_error(from_rocksdb(status, "build a transaction"));
}

void UpperTransaction::erase(const std::string& record_key) {
  note_key(record_key);
  rocksdb::Status status = indexed_ ? indexed_->Delete(record_key) : plain_.Delete(record_key);
  if (!status.ok()) keep_error(from_rocksdb(status, "build a transaction"));
}

void UpperTransaction::erase_all(const std::string& prefix) {
  std::vector<std::string> keys;
  keep_error(upper_.scan(
      prefix, "",
      [&](std::string_view found, std::string_view) -> Result<bool> {
        keys.emplace_back(found);
        return true;
      },
      batch_for(prefix)));
  for (const std::string& found : keys) erase(found);
}

void UpperTransaction::put_inode(Ino ino, const InodeRecord& record) {
  put(key::of(key::kInode, ino), key::encode_inode(record));
  inode_changes_.push_back({ino, record});
  if (record.body == Body::file) with_body_.push_back(ino);
}

void UpperTransaction::delete_inode(Ino ino) {
  frees_ = true;
  std::string record_key = key::of(key::kInode, ino);
  Result<std::optional<std::string>> bytes = upper_.get(record_key, batch_for(record_key));
  if (!bytes.ok()) return keep_error(std::move(bytes).error());
  if (!bytes->has_value()) return;
  Result<InodeRecord> record = key::decode_inode(**bytes);
  if (!record.ok()) return keep_error(std::move(record).error());
  erase(record_key);
  inode_changes_.push_back({ino, std::nullopt});
  if (record->own_xattrs) erase_all(key::of(key::kXattr, ino));
  if (record->body == Body::small) erase(key::of(key::kSmallBody, ino));
  if (record->body != Body::file) return;
  erase_all(key::of(key::kRange, ino));
  without_ranges_.push_back(ino);
  drop_body(ino);
}

void UpperTransaction::put_name(Ino directory, std::string_view name, UpperName target) {
  frees_ |= target.whiteout();
  put(key::name(directory, name), key::encode_name(target));
  directories_.push_back(directory);
}

void UpperTransaction::delete_name(Ino directory, std::string_view name) {
  frees_ = true;
  erase(key::name(directory, name));
}

void UpperTransaction::delete_names(Ino directory) {
  frees_ = true;
  if (upper_.may_have_names(directory) || !directories_.empty())
    erase_all(key::of(key::kName, directory));
}

void UpperTransaction::put_xattr(Ino ino, std::string_view name, std::string_view value) {
  put(key::of(key::kXattr, ino, name), value);
}

void UpperTransaction::delete_xattr(Ino ino, std::string_view name) {
  erase(key::of(key::kXattr, ino, name));
}

void UpperTransaction::put_small_body(Ino ino, std::string_view bytes) {
  put(key::of(key::kSmallBody, ino), bytes);
}

void UpperTransaction::delete_small_body(Ino ino) {
  std::string record_key = key::of(key::kSmallBody, ino);
  Result<std::optional<std::string>> bytes = upper_.get(record_key, batch_for(record_key));
  if (!bytes.ok()) return keep_error(std::move(bytes).error());
  if (bytes->has_value() && !(*bytes)->empty()) moved_to_body_.push_back(ino);
  erase(record_key);
}

void UpperTransaction::add_range(Ino ino, Range range) {
  if (range.length == 0) return;
  uint64_t start = range.offset;
  uint64_t end = range.offset + range.length;
  std::vector<uint64_t> merged;  // ends of the ranges that become part of this one
  bool covered = false;
  keep_error(upper_.scan_ranges(
      ino, start,
      [&](const Range& old) {
        uint64_t old_end = old.offset + old.length;
        if (old.offset > end) return false;
        covered = old.offset <= start && old_end >= end;
        if (covered) return false;
        start = std::min(start, old.offset);
        end = std::max(end, old_end);
        merged.push_back(old_end);
        return true;
      },
      batch_for_ranges(ino)));
  if (covered) return;
  for (uint64_t old_end : merged)
    if (old_end != end) erase_range(ino, old_end);
  put_range(ino, start, end);
}

void UpperTransaction::put_range(Ino ino, uint64_t start, uint64_t end) {
  put(key::range(ino, end), key::encode_number(start));
  range_changes_.push_back({ino, end, start, false});
}

void UpperTransaction::erase_range(Ino ino, uint64_t end) {
  erase(key::range(ino, end));
  range_changes_.push_back({ino, end, 0, true});
}

rocksdb::WriteBatchWithIndex* UpperTransaction::batch_for_ranges(Ino ino) {
  bool changed = std::ranges::count(without_ranges_, ino) > 0 ||
                 std::ranges::count(range_changes_, ino, &RangeChange::ino) > 0;
  return changed ? batch_for(key::of(key::kRange, ino)) : nullptr;
}

void UpperTransaction::clear_ranges(Ino ino, uint64_t from_offset) {
  std::vector<Range> found;
  keep_error(upper_.scan_ranges(
      ino, from_offset,
      [&](const Range& old) {
        found.push_back(old);
        return true;
      },
      batch_for_ranges(ino)));
  for (const Range& old : found) {
    if (old.offset + old.length == from_offset) continue;
    erase_range(ino, old.offset + old.length);
    if (old.offset < from_offset) put_range(ino, old.offset, from_offset);
  }
}

void UpperTransaction::drop_body(Ino ino) {
  frees_ = true;
  std::erase(with_body_, ino);
  put(key::of(key::kStaleBody, ino), "");
}

void UpperTransaction::put_orphan(Ino ino) { put(key::of(key::kOrphan, ino), ""); }
void UpperTransaction::delete_orphan(Ino ino) { erase(key::of(key::kOrphan, ino)); }

}  // namespace layerfs
