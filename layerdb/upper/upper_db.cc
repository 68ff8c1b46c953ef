// SPDX-License-Identifier: Apache-2.0
#include "layerdb/upper/upper_db.h"

#include <fcntl.h>
#include <fmt/format.h>
#if __has_include(<rocksdb/advanced_cache.h>)
#include <rocksdb/advanced_cache.h>  // where RocksDB 8 and later say what a cache can do
#endif
#include <rocksdb/cache.h>
#include <unistd.h>

#include <algorithm>
#include <limits>

#include "layerdb/base/assured_memory.h"
#include "layerdb/upper/bounded_read.h"
#include "layerdb/upper/transaction.h"

namespace layerfs {

namespace key = upper_key;

namespace {

// Records visited with one hold of the database; the visitor runs between such batches.
constexpr size_t kScanBatch = 256;
// Numbers set aside by one record.
constexpr Ino kReservedNumbers = 1024;

std::string_view view(const rocksdb::Slice& slice) { return {slice.data(), slice.size()}; }

bool has_prefix(std::string_view text, std::string_view prefix) {
  return text.substr(0, prefix.size()) == prefix;
}

}  // namespace

std::unique_ptr<Upper::Transaction> UpperDb::begin() {
  return std::make_unique<UpperTransaction>(*this);
}

Status UpperDb::apply(std::unique_ptr<Transaction> transaction) {
  auto& t = static_cast<UpperTransaction&>(*transaction);
  TRY(std::move(t.status_));
  if (options_.read_only) return Error{EROFS, "the upper of '" + directory_ + "' is read-only"};
  if (!t.frees_ && !(t.replaces_ && !t.marks_range())) TRY(check_space(t.batch()->GetDataSize()));
  TRY(reserve_numbers());
  // A log that says where the bytes went may reach the disk before the bytes do.
  for (Ino ino : t.moved_to_body_)
    if (may_be_durable(ino)) TRY(bodies_.sync(ino));
  const Matters matter = matters(t);
  std::vector<Ino> removed;
  {
    std::lock_guard lock(body_mutex_);
    removed.swap(removed_);
    for (Ino ino : t.with_body_)
      if (fresh_.contains(ino)) t.erase(key::of(key::kStaleBody, ino));
    for (const UpperTransaction::RangeChange& change : t.range_changes_)
      if (!change.erased) over_lower_.insert(change.ino);
  }
  for (Ino ino : removed) t.erase(key::of(key::kStaleBody, ino));
  // The filters first: a reader that sees the record must not be told that there is none.
  for (const UpperTransaction::InodeChange& change : t.inode_changes_)
    if (change.record && change.ino < first_ino_) overridden_.insert(change.ino);
  for (Ino directory : t.directories_) directories_.insert(directory);
  Status status = write(t.batch(), matter);
  if (!status.ok() && status.error().code == ENOSPC && t.frees_ && reserve_.give_back())
    status = write(t.batch(), matter);
  std::lock_guard lock(body_mutex_);
  if (!status.ok()) {
    removed_.insert(removed_.end(), removed.begin(), removed.end());
    return status;
  }
  for (Ino ino : t.with_body_) fresh_.erase(ino);
  if (t.frees_) freed_since_compaction_ = true;
  change_cached_ranges(t);
  for (const UpperTransaction::InodeChange& change : t.inode_changes_) {
    if (change.record)
      record_cache_.put(change.ino, *change.record);
    else
      record_cache_.erase(change.ino);
  }
  return {};
}

void UpperDb::change_cached_ranges(const UpperTransaction& t) {
  if (!t.range_changes_.empty() || !t.without_ranges_.empty()) range_cache_.advance();
  for (Ino ino : t.without_ranges_) range_cache_.erase(ino);
  try {
    for (const UpperTransaction::RangeChange& change : t.range_changes_) {
      std::shared_ptr<RangeCache::Ranges> ranges = range_cache_.find(change.ino);
      if (ranges == nullptr) continue;
      std::unique_lock range_lock(ranges->mutex);
      if (change.erased)
        ranges->erase(change.end);
      else
        ranges->set(change.start, change.end);
    }
  } catch (const std::bad_alloc&) {  // then they are not in memory, but right in the database
    for (const UpperTransaction::RangeChange& change : t.range_changes_)
      range_cache_.erase(change.ino);
  }
}

// Only what is surely one inode's times need not be in the log for fdatasync(2): databases write in
// the place of other bytes, and would wait for a second file.
UpperDb::Matters UpperDb::matters(UpperTransaction& t) {
  bool one_record = t.inode_changes_.size() == 1 && t.inode_changes_[0].record.has_value() &&
                    t.batch()->Count() == 1;
  if (!one_record) return Matters::to_data_sync;
  std::optional<InodeRecord> before = record_cache_.find(t.inode_changes_[0].ino);
  if (!before) return Matters::to_data_sync;
  const InodeRecord& now = *t.inode_changes_[0].record;
  before->attributes.mtime = now.attributes.mtime;
  before->atime = now.atime;
  before->ctime = now.ctime;
  return *before == now ? Matters::to_full_sync : Matters::to_data_sync;
}

Status UpperDb::write(rocksdb::WriteBatch* batch, Matters matters) {
  TRY(reopen_if_broken());
  std::shared_lock lock(db_mutex_);
  if (db_ == nullptr) return Error{EIO, "the database '" + database_ + "' is not open"};
  size_t size_bytes = batch->GetDataSize();
  AssuredMemory memory;
  TRY(memory.status());
  note_progress(*batch);
  rocksdb::Status status = db_->Write(rocksdb::WriteOptions(), batch);
  if (!status.ok()) {
    forget_progress();
    broken_ = true;
    return from_rocksdb(status, "write to '" + database_ + "'");
  }
  written_bytes_ += size_bytes;
  if (matters == Matters::to_data_sync) raise(data_sequence_, db_->GetLatestSequenceNumber());
  return {};
}

Status UpperDb::reserve_numbers() {
  if (next_ino_ <= reserved_ino_) return {};
  Ino reserve;
  {
    std::lock_guard lock(write_mutex_);
    reserve = next_ino_ + kReservedNumbers;
  }
  rocksdb::WriteBatch batch;
  batch.Put(key::next_ino(), key::encode_number(reserve));
  TRY(write(&batch));
  raise(reserved_ino_, reserve);
  return {};
}

Result<std::optional<std::string>> UpperDb::get(const std::string& record_key,
                                                rocksdb::WriteBatchWithIndex* batch) {
  TRY(reopen_if_lost());
  std::shared_lock lock(db_mutex_);
  if (db_ == nullptr) return Error{EIO, "the database '" + database_ + "' is not open"};
  rocksdb::ReadOptions options;
  rocksdb::Status status;
  std::string value;
  if (batch != nullptr)
    status = batch->GetFromBatchAndDB(db_.get(), options, record_key, &value);
  else
    status = db_->Get(options, record_key, &value);
  if (status.IsNotFound()) return std::optional<std::string>();
  if (!status.ok()) return from_rocksdb(status, "read '" + database_ + "'");
  return std::optional(std::move(value));
}

Status UpperDb::scan(const std::string& prefix, const std::string& after,
                     const RecordVisitor& visit, rocksdb::WriteBatchWithIndex* batch) {
  TRY(reopen_if_lost());
  std::string start = prefix + after;
  bool skip_equal = !after.empty();
  BoundedRead bound(end_of_prefix(prefix));
  for (;;) {
    std::vector<std::pair<std::string, std::string>> found;
    {
      std::shared_lock lock(db_mutex_);
      if (db_ == nullptr) return Error{EIO, "the database '" + database_ + "' is not open"};
      std::unique_ptr<rocksdb::Iterator> it(db_->NewIterator(bound.options()));
      if (batch != nullptr) it.reset(batch->NewIteratorWithBase(it.release()));
      for (it->Seek(start); it->Valid() && found.size() < kScanBatch; it->Next()) {
        std::string_view record_key = view(it->key());
        if (!has_prefix(record_key, prefix)) break;
        if (skip_equal && record_key == start) continue;
        found.emplace_back(record_key, view(it->value()));
      }
      if (!it->status().ok()) return from_rocksdb(it->status(), "read '" + database_ + "'");
    }
    for (const auto& [record_key, value] : found)
      if (!TRY(visit(record_key, value))) return {};
    if (found.size() < kScanBatch) return {};
    start = std::move(found.back().first);
    skip_equal = true;
  }
}

Result<std::shared_ptr<RangeCache::Ranges>> UpperDb::cached_ranges(Ino ino) {
  std::shared_ptr<RangeCache::Ranges> ranges = range_cache_.find(ino);
  if (ranges != nullptr) return ranges;
  uint64_t generation = range_cache_.generation();
  ranges = std::make_shared<RangeCache::Ranges>();
  TRY(scan(key::of(key::kRange, ino), "",
           [&](std::string_view record_key, std::string_view value) -> Result<bool> {
             Range range = TRY(key::decode_range(record_key, value));
             ranges->set(range.offset, range.offset + range.length);
             return true;
           }));
  range_cache_.insert(ino, ranges);
  if (range_cache_.generation() != generation) range_cache_.erase(ino);
  return ranges;
}

Status UpperDb::scan_ranges(Ino ino, uint64_t offset,
                            const std::function<bool(const Range&)>& visit,
                            rocksdb::WriteBatchWithIndex* batch) {
  if (batch == nullptr) {
    std::shared_ptr<RangeCache::Ranges> ranges = TRY(cached_ranges(ino));
    std::shared_lock lock(ranges->mutex);
    for (auto it = ranges->by_end.lower_bound(offset); it != ranges->by_end.end(); ++it)
      if (!visit({it->second, it->first - it->second})) break;
    return {};
  }
  std::string prefix = key::of(key::kRange, ino);
  BoundedRead bound(end_of_prefix(prefix));
  std::shared_lock lock(db_mutex_);
  if (db_ == nullptr) return Error{EIO, "the database '" + database_ + "' is not open"};
  std::unique_ptr<rocksdb::Iterator> it(
      batch->NewIteratorWithBase(db_->NewIterator(bound.options())));
  for (it->Seek(key::range(ino, offset)); it->Valid() && has_prefix(view(it->key()), prefix);
       it->Next())
    if (!visit(TRY(key::decode_range(view(it->key()), view(it->value()))))) return {};
  if (!it->status().ok()) return from_rocksdb(it->status(), "read '" + database_ + "'");
  return {};
}

void UpperDb::drop_caches() {
  record_cache_.clear();
  block_cache_->EraseUnRefEntries();
}

Result<std::optional<InodeRecord>> UpperDb::inode(Ino ino) {
  if (ino < first_ino_ && !overridden_.contains(ino)) return std::optional<InodeRecord>();
  if (std::optional<InodeRecord> cached = record_cache_.find(ino)) return cached;
  uint64_t version = record_cache_.version(ino);
  std::optional<std::string> bytes = TRY(get(key::of(key::kInode, ino)));
  if (!bytes.has_value()) return std::optional<InodeRecord>();
  InodeRecord record = TRY(key::decode_inode(*bytes));
  record_cache_.insert(ino, record, version);
  return std::optional(std::move(record));
}

Result<std::optional<UpperName>> UpperDb::name(Ino directory, std::string_view name) {
  if (!may_have_names(directory)) return std::optional<UpperName>();
  std::optional<std::string> bytes = TRY(get(key::name(directory, name)));
  if (!bytes.has_value()) return std::optional<UpperName>();
  return std::optional(TRY(key::decode_name(*bytes)));
}

Status UpperDb::list_by_position(Ino directory, uint64_t after_position, const NameVisitor& visit) {
  if (!may_have_names(directory)) return {};
  // No name has the position 0, so the first key that may count is (position + 1, "").
  std::string after = after_position == 0 ? "" : be64(after_position + 1);
  return scan(key::of(key::kName, directory), after,
              [&](std::string_view record_key, std::string_view value) -> Result<bool> {
                return visit(key::name_of(record_key), TRY(key::decode_name(value)));
              });
}

Status UpperDb::list_names(Ino directory, std::string_view after, const NameVisitor& visit) {
  std::vector<std::pair<std::string, UpperName>> names;
  TRY(list_by_position(directory, 0, [&](std::string_view name, const UpperName& target) {
    if (name > after) names.emplace_back(name, target);
    return true;
  }));
  std::sort(names.begin(), names.end(),
            [](const auto& a, const auto& b) { return a.first < b.first; });
  for (const auto& [name, target] : names)
    if (!visit(name, target)) return {};
  return {};
}

Result<std::optional<std::string>> UpperDb::xattr(Ino ino, std::string_view name) {
  return get(key::of(key::kXattr, ino, name));
}

Result<Xattrs> UpperDb::xattrs(Ino ino) {
  Xattrs out;
  TRY(scan(key::of(key::kXattr, ino), "",
           [&](std::string_view record_key, std::string_view value) -> Result<bool> {
             out.emplace_back(key::rest(record_key), value);
             return true;
           }));
  return out;
}

Result<std::string> UpperDb::small_body(Ino ino) {
  std::optional<std::string> body = TRY(get(key::of(key::kSmallBody, ino)));
  if (!body.has_value())
    return Error{EUCLEAN, fmt::format("inode {} of '{}' has lost its body", ino, directory_)};
  return std::move(*body);
}

Result<std::vector<Range>> UpperDb::ranges(Ino ino, uint64_t offset, uint64_t length) {
  std::vector<Range> out;
  uint64_t end = length > std::numeric_limits<uint64_t>::max() - offset
                     ? std::numeric_limits<uint64_t>::max()
                     : offset + length;
  TRY(scan_ranges(ino, offset, [&](const Range& range) {
    uint64_t from = std::max(range.offset, offset);
    uint64_t to = std::min(range.offset + range.length, end);
    if (from < to) out.push_back({from, to - from});
    return range.offset < end;
  }));
  return out;
}

Result<uint64_t> UpperDb::range_bytes(Ino ino) {
  std::shared_ptr<RangeCache::Ranges> ranges = TRY(cached_ranges(ino));
  std::shared_lock lock(ranges->mutex);
  return ranges->covered_bytes;
}

Status UpperDb::for_each_inode(const std::function<bool(Ino, const InodeRecord&)>& visit) {
  return scan(std::string(1, key::kInode), "",
              [&](std::string_view record_key, std::string_view value) -> Result<bool> {
                return visit(key::ino(record_key), TRY(key::decode_inode(value)));
              });
}

Status UpperDb::for_each_name(
    const std::function<bool(Ino, std::string_view, const UpperName&)>& visit) {
  return scan(std::string(1, key::kName), "",
              [&](std::string_view record_key, std::string_view value) -> Result<bool> {
                return visit(key::ino(record_key), key::name_of(record_key),
                             TRY(key::decode_name(value)));
              });
}

Result<std::vector<Ino>> UpperDb::orphans() {
  std::vector<Ino> out;
  TRY(scan(std::string(1, key::kOrphan), "",
           [&](std::string_view record_key, std::string_view) -> Result<bool> {
             out.push_back(key::ino(record_key));
             return true;
           }));
  return out;
}

}  // namespace layerfs
