// SPDX-License-Identifier: Apache-2.0
#include "layerdb/store/group_writer.h"

#include <rocksdb/env.h>
#include <rocksdb/sst_file_writer.h>

#include <algorithm>

#include "layerdb/base/coding.h"
#include "layerdb/store/fingerprint_key.h"

namespace layerfs {
namespace {

constexpr int kCompressThreads = 2;
constexpr size_t kMaxQueuedGroups = 384;    // not compressed; mostly in the groups' cache, too
constexpr size_t kMaxQueuedRecords = 1024;  // not in the table file, about 20 MB; with those above

}  // namespace

void append_address(std::string& record, ChunkAddress address) {
  put_varint(record, address.group);
  put_varint(record, address.offset);
}

Result<std::vector<ChunkAddress>> decode_addresses(std::string_view record) {
  std::vector<ChunkAddress> out;
  Reader in(record);
  while (in.remaining() > 0) {
    uint64_t group = in.varint(), offset = in.varint();
    if (in.failed() || group == 0 || offset >= kMaxGroupBytes)
      return Error{EUCLEAN, "a record of chunk_index is damaged"};
    out.push_back({group, static_cast<uint32_t>(offset)});
  }
  return out;
}

GroupWriter::GroupWriter(Database& database, GroupId first, ReadBase read, GroupSettings settings)
    : database_(database),
      read_(std::move(read)),
      settings_(settings),
      similarity_(database, settings.limits, settings.recompress),
      table_path_(database.path() + ".ingest"),
      first_pending_(first),
      next_compress_(first),
      next_choose_(first),
      next_write_(first),
      next_submit_(first) {}

GroupWriter::~GroupWriter() { stop(); }

void GroupWriter::start() {
  for (int i = 0; i < kCompressThreads; ++i) threads_.emplace_back([this] { compress_loop(); });
  threads_.emplace_back([this] { table_loop(); });
}

void GroupWriter::stop() {
  {
    std::lock_guard lock(mutex_);
    stopping_ = true;
    wake_all();
  }
  for (std::thread& thread : threads_) thread.join();
  threads_.clear();
  if (table_) {
    table_.reset();
    (void)database_.env()->DeleteFile(table_path_);
  }
  stopping_ = false;
}

void GroupWriter::discard(GroupId next) {
  stop();
  jobs_.clear();
  first_pending_ = next_compress_ = next_choose_ = next_write_ = next_submit_ = next;
  similarity_.clear();
  flush_end_ = 0;
  table_bytes_ = table_chunks_ = 0;
  failure_ = {};
}

Status GroupWriter::submit(Bytes raw, std::vector<IndexEntry> entries) {
  if (database_.read_only()) return Error{EROFS, "the store is open for reading only"};
  if (threads_.empty()) start();
  std::unique_lock lock(mutex_);
  room_.wait(lock, [&] { return !failure_.ok() || !full(); });
  if (!failure_.ok()) return failure_;
  jobs_.push_back({std::move(raw), nullptr, std::move(entries)});
  ++next_submit_;
  submitted_.notify_one();
  return {};
}

void GroupWriter::start_flush() {
  std::lock_guard lock(mutex_);
  flush_end_ = next_submit_;
  recorded_.notify_one();
}

Status GroupWriter::flush() {
  start_flush();
  auto wait_until = [&](const GroupId& reached) -> Status {
    std::unique_lock lock(mutex_);
    room_.wait(lock, [&] { return !failure_.ok() || reached == next_submit_; });
    return failure_;
  };
  TRY(wait_until(next_choose_));
  TRY(similarity_.write_hints());  // while the table is synced
  return wait_until(first_pending_);
}

bool GroupWriter::full() const {
  return next_submit_ - next_compress_ >= kMaxQueuedGroups ||
         next_submit_ - next_write_ >= kMaxQueuedRecords;
}

// Who waits in submit() is woken once for many groups.
bool GroupWriter::half_empty() const {
  return next_submit_ - next_compress_ <= kMaxQueuedGroups / 2 &&
         next_submit_ - next_write_ <= kMaxQueuedRecords / 2;
}

void GroupWriter::wake_all() {
  for (std::condition_variable* waiting : {&submitted_, &turn_, &recorded_, &room_})
    waiting->notify_all();
}

GroupId GroupWriter::indexed_through() const {
  std::lock_guard lock(mutex_);
  return first_pending_ - 1;
}

uint64_t GroupWriter::stored_bytes() const {
  std::lock_guard lock(mutex_);
  return stored_bytes_;
}

GroupWriter::Pending GroupWriter::find(GroupId number) const {
  std::lock_guard lock(mutex_);
  if (number < first_pending_ || number >= next_submit_) return {};
  const Job& job = jobs_[number - first_pending_];
  return {job.raw, job.record};
}

void GroupWriter::fail(Error error) {
  std::lock_guard lock(mutex_);
  if (failure_.ok()) failure_ = std::move(error);
  wake_all();
}

void GroupWriter::compress_loop() {
  Encoders encoders{GroupEncoder(settings_.zstd_level), GroupEncoder(kImportLevel)};
  while (true) {
    {
      std::unique_lock lock(mutex_);
      submitted_.wait(lock,
                      [&] { return stopping_ || !failure_.ok() || next_compress_ < next_submit_; });
      if (stopping_ || !failure_.ok()) return;
    }
    Status status = compress_next(encoders);
    if (!status.ok()) return fail(status.error());
  }
}

// An empty record: there is no group.
Status GroupWriter::compress_next(Encoders& encoders) {
  GroupId number;
  Bytes raw;
  {
    std::lock_guard lock(mutex_);
    if (next_compress_ == next_submit_) return {};  // the other thread has it
    number = next_compress_++;
    if (half_empty()) room_.notify_all();
    raw = job(number).raw;
  }
  std::string made;
  if (raw == nullptr) {
    TRY(wait_to_choose(number));
    chosen();
  } else if (settings_.recompress) {
    made = TRY(make_smaller_record(encoders, number, *raw));
  } else {
    made = TRY(make_record(encoders, number, *raw));
  }
  auto record = std::make_shared<const std::string>(std::move(made));
  std::lock_guard lock(mutex_);
  Job& done = job(number);
  stored_bytes_ += record->size();
  done.record = std::move(record);
  done.raw = nullptr;
  if (number == next_write_) recorded_.notify_one();
  return {};
}

Result<std::string> GroupWriter::make_record(Encoders& encoders, GroupId number,
                                             const std::string& raw) {
  std::vector<uint64_t> features = group_features(raw);
  TRY(wait_to_choose(number));
  std::vector<GroupId> numbers = TRY(similarity_.choose(number, raw.size(), features));
  chosen();
  GroupBases bases = TRY(read_bases(numbers));
  return encoders.given.encode(number, raw, bases);
}

// The present record (also when nothing is smaller), the bytes alone, or with new bases. The quick
// level is tried, too: where matches are few and short, far ones only cost bits.
Result<std::string> GroupWriter::make_smaller_record(Encoders& encoders, GroupId number,
                                                     const std::string& raw) {
  std::vector<uint64_t> features = group_features(raw);
  std::string alone = TRY(encoders.given.encode(number, raw, {}));
  TRY(wait_to_choose(number));
  std::vector<std::string> records;
  std::vector<GroupId> present_bases;
  if (std::optional<std::string> present = TRY(present_record(number))) {
    present_bases = TRY(parse_group(number, *present)).bases;
    records.push_back(*std::move(present));
  }
  records.push_back(std::move(alone));
  GroupBases bases = TRY(read_bases(TRY(similarity_.choose(number, raw.size(), features))));
  if (!bases.numbers.empty()) {
    records.push_back(TRY(encoders.given.encode(number, raw, bases)));
    if (bases.numbers != present_bases)
      records.push_back(TRY(encoders.quick.encode(number, raw, bases)));
  }
  std::stable_sort(records.begin(), records.end(),
                   [](const std::string& a, const std::string& b) { return a.size() < b.size(); });
  // What the present record builds on may have got more bases itself, and cost too much now.
  auto record = records.begin();
  while (!TRY(similarity_.settle(number, raw.size(), TRY(parse_group(number, *record)).bases)))
    ++record;  // not past `alone`, which builds on nothing
  chosen();
  return std::move(*record);
}

// None: it is damaged; its bytes came from the cache.
Result<std::optional<std::string>> GroupWriter::present_record(GroupId number) {
  auto record = database_.get(Family::groups, be64(number));
  if (!record.ok() && record.error().code == EUCLEAN) return std::optional<std::string>();
  if (record.ok() && *record && !parse_group(number, **record).ok()) record->reset();
  return record;
}

Status GroupWriter::wait_to_choose(GroupId number) {
  std::unique_lock lock(mutex_);
  turn_.wait(lock, [&] { return stopping_ || !failure_.ok() || next_choose_ == number; });
  if (stopping_ || !failure_.ok()) return Error{ECANCELED, "the import was given up"};
  return {};
}

void GroupWriter::chosen() {
  std::lock_guard lock(mutex_);
  if (++next_choose_ == next_submit_) room_.notify_all();
  turn_.notify_all();
}

// A base that turns out to be damaged is none.
Result<GroupBases> GroupWriter::read_bases(const std::vector<GroupId>& numbers) {
  GroupBases bases;
  bases.bytes.reserve(numbers.size() * kGroupLimitBytes);
  for (GroupId number : numbers) {
    Result<Bytes> raw = read_(number);
    if (!raw.ok() && raw.error().code == EUCLEAN) continue;
    bases.add(number, *TRY(std::move(raw)));
  }
  return bases;
}

void GroupWriter::table_loop() {
  while (true) {
    Bytes record;
    GroupId number;
    bool finish;
    {
      std::unique_lock lock(mutex_);
      auto record_ready = [&] {
        return next_write_ < next_submit_ && job(next_write_).record != nullptr;
      };
      auto flush_due = [&] { return flush_end_ == next_write_ && first_pending_ < next_write_; };
      recorded_.wait(lock, [&] { return stopping_ || record_ready() || flush_due(); });
      if (stopping_) return;
      number = next_write_;
      if (record_ready()) {
        record = job(number).record;
        table_chunks_ += job(number).entries.size();
      }
      finish = record == nullptr;
    }
    Status status;
    if (record != nullptr) {
      if (!record->empty()) status = add_to_table(number, *record);
      finish = status.ok() && (table_bytes_ >= kTableBytes || table_chunks_ >= kTableChunks);
      ++number;
    }
    if (status.ok() && finish) status = finish_table(number);
    if (!status.ok()) return fail(status.error());
    std::lock_guard lock(mutex_);
    next_write_ = number;
    if (finish) {
      jobs_.erase(jobs_.begin(), jobs_.begin() + static_cast<ptrdiff_t>(number - first_pending_));
      first_pending_ = number;
    }
    if (finish || half_empty()) room_.notify_all();
  }
}

Status GroupWriter::add_to_table(GroupId number, const std::string& record) {
  if (!table_) {
    table_ = std::make_unique<rocksdb::SstFileWriter>(rocksdb::EnvOptions(),
                                                      database_.group_table_options());
    table_bytes_ = 0;
    rocksdb::Status s = table_->Open(table_path_);
    if (!s.ok()) return rocksdb_error(s, "make '" + table_path_ + "'");
  }
  rocksdb::Status s = table_->Put(be64(number), record);
  if (!s.ok()) return rocksdb_error(s, "write '" + table_path_ + "'");
  table_bytes_ += record.size();
  return {};
}

// The table holds the groups [first_pending_, end).
Status GroupWriter::finish_table(GroupId end) {
  if (!table_) return write_index(end);  // only numbers without groups
  rocksdb::Status s = table_->Finish();
  if (!s.ok()) return rocksdb_error(s, "write '" + table_path_ + "'");
  TRY(database_.ingest_groups(table_path_));
  table_.reset();
  table_chunks_ = 0;
  return write_index(end);
}

// Sorted: RocksDB goes on from the place of the one before (database.cc).
Status GroupWriter::write_index(GroupId end) {
  constexpr size_t kBatchBytes = 256 << 10;
  std::vector<std::pair<IndexEntry, GroupId>> entries;
  {
    std::lock_guard lock(mutex_);
    for (GroupId number = first_pending_; number < end; ++number)
      for (const IndexEntry& entry : std::exchange(job(number).entries, {}))
        entries.emplace_back(entry, number);
  }
  std::stable_sort(entries.begin(), entries.end(), [](const auto& a, const auto& b) {
    return a.first.fingerprint < b.first.fingerprint;
  });
  rocksdb::WriteBatch batch;
  for (const auto& [entry, number] : entries) {
    std::string key = fingerprint_key(entry.fingerprint);
    std::string record;
    if (entry.append || batch.GetDataSize() >= kBatchBytes) {
      TRY(database_.write(batch));  // the earlier address may be in this very batch
      batch.Clear();
    }
    if (entry.append) record = TRY(database_.get(Family::chunk_index, key)).value_or("");
    append_address(record, {number, entry.offset});
    batch.Put(database_.handle(Family::chunk_index), key, record);
  }
  return database_.write(batch);
}

}  // namespace layerfs
