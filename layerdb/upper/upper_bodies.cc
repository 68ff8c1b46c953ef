// SPDX-License-Identifier: Apache-2.0
//
// The upper's bodies, what becomes durable in which order, and space.
#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>

#include "layerdb/base/assured_memory.h"
#include "layerdb/base/log.h"
#include "layerdb/upper/transaction.h"

namespace layerfs {

namespace key = upper_key;

namespace {

// The database's size is looked at again after so many bytes of transactions.
constexpr uint64_t kRecountBytes = 1 << 20;
// Deleted bodies wait for the log to become durable; with so many of them it is synced for them.
constexpr size_t kMaxDoomedBodies = 256;
constexpr uint64_t kMaxDoomedBytes = 64 << 20;

}  // namespace

Result<size_t> UpperDb::read_body(Ino ino, uint64_t offset, std::span<char> out) {
  Result<size_t> got = bodies_.read(ino, offset, out);
  if (!got.ok() && got.error().code == ENOENT) return size_t{0};
  return got;
}

// A body whose record does not say Body::file yet is noted as stale before it is made, so that a
// crash before the transaction leaves nothing that a later open does not remove.
Status UpperDb::ready_body(Ino ino) {
  if (is_doomed(ino)) TRY(sync_log());  // its durable content may still count: upper_db.h
  if (bodies_.is_open(ino)) return {};
  std::optional<InodeRecord> record = TRY(inode(ino));
  if (record.has_value() && record->body == Body::file) return bodies_.create(ino);
  {
    std::lock_guard lock(body_mutex_);
    if (fresh_.contains(ino)) return bodies_.create(ino);
    std::erase(removed_, ino);
  }
  rocksdb::WriteBatch batch;
  batch.Put(key::of(key::kStaleBody, ino), "");
  TRY(write(&batch));
  TRY(bodies_.remove(ino));
  TRY(bodies_.create(ino));
  std::lock_guard lock(body_mutex_);
  fresh_.insert(ino);
  return {};
}

// Bytes that take the place of others need no room below the limit.
Status UpperDb::check_body_space(Ino ino, uint64_t offset, uint64_t length) {
  TRY(reserve_.take());
  if (TRY(has_room(length))) return {};
  std::optional<InodeRecord> record = TRY(inode(ino));
  if (record.has_value() && record->body == Body::file && !is_doomed(ino)) {
    Result<bool> in_place = bodies_.is_allocated(ino, offset, length);
    if (in_place.ok() && *in_place) return {};
  }
  return check_space(length);
}

Status UpperDb::write_body(Ino ino, uint64_t offset, std::string_view bytes) {
  TRY(check_body_space(ino, offset, bytes.size()));
  TRY(ready_body(ino));
  return bodies_.write(ino, offset, bytes);
}

// Bytes that are cut off may belong to the content that a durable log still speaks of.
Status UpperDb::truncate_body(Ino ino, uint64_t size_bytes) {
  TRY(ready_body(ino));
  if (may_be_durable(ino) && TRY(bodies_.size_bytes(ino)) > size_bytes) TRY(sync_log());
  return bodies_.truncate(ino, size_bytes);
}

Status UpperDb::punch_body(Ino ino, uint64_t offset, uint64_t length) {
  TRY(ready_body(ino));
  return bodies_.punch(ino, offset, length);
}

Status UpperDb::allocate_body(Ino ino, uint64_t offset, uint64_t length) {
  TRY(check_body_space(ino, offset, length));
  TRY(ready_body(ino));
  return bodies_.allocate(ino, offset, length);
}

Result<uint64_t> UpperDb::seek_body(Ino ino, uint64_t offset, int whence) {
  Result<uint64_t> found = bodies_.seek(ino, offset, whence);
  if (!found.ok() && found.error().code == ENOENT) return errno_error("seek", ENXIO);
  return found;
}

Result<uint64_t> UpperDb::body_blocks(Ino ino) {
  Result<uint64_t> blocks = bodies_.blocks(ino);
  if (!blocks.ok() && blocks.error().code == ENOENT) return uint64_t{0};
  return blocks;
}

Status UpperDb::remove_body(Ino ino) {
  if (may_be_durable(ino)) {
    Result<uint64_t> blocks = bodies_.blocks(ino);
    if (!blocks.ok() && blocks.error().code != ENOENT) return std::move(blocks).error();
    bool many;
    {
      std::lock_guard lock(body_mutex_);
      fresh_.erase(ino);
      doomed_.insert(ino);
      doomed_bytes_ += blocks.ok() ? *blocks * 512 : 0;
      many = doomed_.size() > kMaxDoomedBodies || doomed_bytes_ > kMaxDoomedBytes;
    }
    return many ? sync_log() : Status();
  }
  TRY(bodies_.remove(ino));
  std::lock_guard lock(body_mutex_);
  fresh_.erase(ino);
  removed_.push_back(ino);
  return {};
}

bool UpperDb::is_doomed(Ino ino) {
  std::lock_guard lock(body_mutex_);
  return doomed_.contains(ino);
}

// From the first sync on the container counts as one that was synced (upper_open.cc, start_over).
Status UpperDb::sync_opened() {
  if (!unsynced_) return {};
  std::lock_guard lock(write_mutex_);  // others wait until it is done
  if (!unsynced_) return {};
  if (earlier_unsynced_) {
    UniqueFd fd = TRY(open_file(directory_, O_RDONLY | O_DIRECTORY));
    if (::syncfs(fd.get()) != 0) return errno_error("sync '" + directory_ + "'");
  } else {
    TRY(sync_database_files());
  }
  if (!path_exists(synced_mark())) {
    UniqueFd mark = TRY(open_file(synced_mark(), O_WRONLY | O_CREAT, 0600));
    TRY(sync_file(mark.get(), synced_mark()));
    TRY(sync_directory(directory_));
  }
  earlier_unsynced_ = unsynced_ = false;
  return {};
}

// All that opening made and did not sync, and logs of the last run.
Status UpperDb::sync_database_files() {
  for (const std::string& name : TRY(list_directory(database_))) {
    std::string path = database_ + "/" + name;
    Result<UniqueFd> fd = open_file(path, O_RDONLY);
    if (!fd.ok() && fd.error().code == ENOENT) continue;  // RocksDB removes old ones
    if (!fd.ok()) return std::move(fd).error();
    TRY(sync_file(fd->get(), path));
  }
  TRY(sync_directory(database_));
  return sync_directory(directory_);
}

Status UpperDb::sync_log() {
  if (options_.read_only) return {};
  TRY(reopen_if_broken());
  std::lock_guard syncing(sync_mutex_);
  Ino next_ino = next_ino_;
  std::unordered_set<Ino> doomed, over_lower;
  {
    std::lock_guard lock(body_mutex_);
    doomed = doomed_;
    over_lower.swap(over_lower_);
  }
  Status status = sync_opened();
  for (Ino ino : over_lower)
    if (status.ok()) status = bodies_.sync(ino);
  if (status.ok()) status = sync_database();
  std::lock_guard lock(body_mutex_);
  if (!status.ok()) {
    over_lower_.merge(over_lower);
    return status;
  }
  raise(durable_ino_, next_ino);
  remove_doomed(doomed);
  return {};
}

// The log no longer needs them on any disk (body_mutex_ held). What cannot be removed now stays
// noted in the database, for the next open.
void UpperDb::remove_doomed(const std::unordered_set<Ino>& doomed) {
  for (Ino ino : doomed) {
    if (doomed_.erase(ino) == 0) continue;  // another thread was here
    if (Status removed = bodies_.remove(ino); !removed.ok())
      log_warning("{}", removed.error().message);
    else
      removed_.push_back(ino);
  }
  if (doomed_.empty()) doomed_bytes_ = 0;
}

Status UpperDb::sync_database() {
  std::shared_lock lock(db_mutex_);
  if (db_ == nullptr) return Error{EIO, "the database '" + database_ + "' is not open"};
  uint64_t sequence = db_->GetLatestSequenceNumber();
  if (sequence == synced_sequence_) return {};
  rocksdb::Status status = files_->sync_logs();
  if (!status.ok()) {
    broken_ = sync_failed_ = true;
    return from_rocksdb(status, "sync '" + database_ + "'");
  }
  raise(synced_sequence_, sequence);
  return {};
}

bool UpperDb::is_synced() {
  if (options_.read_only || unsynced_ || broken_ || !bodies_.all_synced()) return false;
  return db_->GetLatestSequenceNumber() == synced_sequence_;
}

Status UpperDb::sync(Ino ino, Sync what) {
  if (options_.read_only) return {};
  TRY(reopen_if_broken());  // before anything of it is synced
  TRY(sync_opened());
  TRY(ino == 0 ? bodies_.sync_all() : bodies_.sync(ino));
  if (what == Sync::data && data_sequence_ <= synced_sequence_) return {};
  return sync_log();
}

Result<uint64_t> UpperDb::database_bytes() { return allocated_bytes_below(database_); }

Result<uint64_t> Upper::stored_bytes_in(const std::string& directory) {
  return TRY(allocated_bytes_below(directory + "/upper")) +
         TRY(allocated_bytes_below(directory + "/data"));
}

Status UpperDb::free_removed() {
  {
    std::lock_guard lock(body_mutex_);
    if (doomed_.empty()) return {};
  }
  return sync_log();
}

Result<uint64_t> UpperDb::stored_bytes() {
  TRY(free_removed());
  return TRY(database_bytes()) + TRY(bodies_.allocated_bytes());
}

// What a change that takes space needs first: the reserve, and room below the limit.
Status UpperDb::check_space(uint64_t more_bytes) {
  TRY(reserve_.take());
  if (TRY(has_room(more_bytes))) return {};
  TRY(reclaim());
  if (TRY(has_room(more_bytes))) return {};
  return Error{ENOSPC, fmt::format("'{}' has reached its size limit of {} bytes", directory_,
                                   options_.size_limit_bytes)};
}

Result<bool> UpperDb::has_room(uint64_t more_bytes) {
  if (options_.size_limit_bytes == 0) return true;
  if (counted_database_bytes_ == 0 || written_bytes_ > kRecountBytes) {
    counted_database_bytes_ = TRY(database_bytes());
    written_bytes_ = 0;
  }
  uint64_t used = counted_database_bytes_ + written_bytes_ + TRY(bodies_.allocated_bytes());
  return used + more_bytes <= options_.size_limit_bytes;
}

// Takes back what deleted files still hold: bodies that wait, and records in the database.
Status UpperDb::reclaim() {
  TRY(sync_log());
  AssuredMemory memory;
  TRY(memory.status());
  if (freed_since_compaction_.exchange(false)) {
    std::shared_lock lock(db_mutex_);
    if (db_ == nullptr) return Error{EIO, "the database '" + database_ + "' is not open"};
    rocksdb::Status status = db_->Flush(rocksdb::FlushOptions());
    if (status.ok()) status = db_->CompactRange(rocksdb::CompactRangeOptions(), nullptr, nullptr);
    if (!status.ok()) {
      broken_ = true;
      return from_rocksdb(status, "compact '" + database_ + "'");
    }
  }
  counted_database_bytes_ = 0;
  return {};
}

}  // namespace layerfs
