// SPDX-License-Identifier: Apache-2.0
#include "layerdb/store/chunk_store.h"

#include <fmt/format.h>
#include <malloc.h>

#include <chrono>
#include <cstring>

#include "layerdb/base/coding.h"
#include "layerdb/object/chunker.h"
#include "layerdb/store/chunk_store_impl.h"
#include "layerdb/store/fingerprint_key.h"
#include "layerdb/store/maintenance.h"

namespace layerfs {

StoredChunks::StoredChunks(Database& database, size_t cache_bytes, FingerprintFunction hash)
    : database_(database),
      hash_(hash),
      cache_(cache_bytes),
      writer_(database, 1, [this](GroupId g) { return read_group(g); }) {}

Result<ChunkAddress> StoredChunks::put(std::string_view chunk) {
  if (database_.read_only()) return Error{EROFS, "the store is open for reading only"};
  if (chunk.empty() || chunk.size() > kMaxChunkBytes)
    return Error{EINVAL, fmt::format("a chunk cannot have {} bytes", chunk.size())};
  counters_.chunks_put++;
  counters_.put_bytes += chunk.size();
  Fingerprint fingerprint = hash_(chunk);
  Found found = TRY(find(fingerprint, chunk));
  if (found.address) {
    counters_.chunks_shared++;
    return *found.address;
  }
  if (open_group_.size() >= kGroupFillBytes || open_group_.size() + chunk.size() > kGroupLimitBytes)
    TRY(seal());
  ChunkAddress address{open_number(), static_cast<uint32_t>(open_group_.size())};
  if (open_group_.empty()) open_group_.reserve(kGroupLimitBytes);
  open_group_.append(chunk);
  open_entries_.push_back({fingerprint, address.offset, found.collision});
  pending_.emplace(fingerprint, address);
  counters_.new_bytes += chunk.size();
  return address;
}

Result<StoredChunks::Found> StoredChunks::find(const Fingerprint& fingerprint,
                                               std::string_view chunk) {
  Found found;
  auto [it, end] = pending_.equal_range(fingerprint);
  for (; it != end && !found.address; ++it) TRY(compare(it->second, chunk, found));
  if (found.address) return found;

  rocksdb::PinnableSlice record;
  if (!TRY(database_.get(Family::chunk_index, fingerprint_key(fingerprint), record))) return found;
  for (ChunkAddress candidate : TRY(decode_addresses({record.data(), record.size()}))) {
    TRY(compare(candidate, chunk, found));
    if (found.address) break;
  }
  return found;
}

// Only equal bytes make a match. A candidate that is gone (its import was discarded, and its number
// may have been given again) or damaged is none: the chunk is then stored afresh.
Status StoredChunks::compare(ChunkAddress candidate, std::string_view chunk, Found& found) {
  std::string_view group = open_group_;
  Bytes stored;
  if (candidate.group != open_number()) {
    Result<Bytes> read = read_group(candidate.group);
    if (!read.ok() && read.error().code == EUCLEAN) return {};
    stored = TRY(std::move(read));
    group = *stored;
  }
  if (candidate.offset < group.size() && group.substr(candidate.offset, chunk.size()) == chunk)
    found.address = candidate;
  else
    found.collision = true;
  return {};
}

Status StoredChunks::seal() {
  if (open_group_.empty()) return {};
  std::vector<Fingerprint> fingerprints;
  for (const IndexEntry& entry : open_entries_) fingerprints.push_back(entry.fingerprint);
  auto raw = std::make_shared<const std::string>(std::move(open_group_));
  open_group_ = {};
  GroupId number = open_number();
  TRY(writer_.submit(raw, std::exchange(open_entries_, {})));
  cache_.insert(number, {raw, raw->capacity()});
  pending_groups_.emplace_back(number, std::move(fingerprints));
  forget_indexed();
  return {};
}

void StoredChunks::forget_indexed() {
  GroupId indexed = writer_.indexed_through();
  for (; !pending_groups_.empty() && pending_groups_.front().first <= indexed;
       pending_groups_.pop_front()) {
    auto& [number, fingerprints] = pending_groups_.front();
    for (const Fingerprint& fingerprint : fingerprints) {
      auto [it, end] = pending_.equal_range(fingerprint);
      while (it != end) it = it->second.group == number ? pending_.erase(it) : std::next(it);
    }
  }
}

Status StoredChunks::start_flush() {
  TRY(seal());
  writer_.start_flush();
  return {};
}

Status StoredChunks::flush() {
  TRY(seal());
  TRY(writer_.flush());
  forget_indexed();
  return {};
}

void StoredChunks::discard(GroupId next) {
  writer_.discard(next);
  open_group_.clear();
  open_entries_.clear();
  pending_.clear();
  pending_groups_.clear();
  cache_.clear();
}

namespace {

Status copy_part(GroupId group, std::string_view raw, uint64_t offset, std::span<char> out) {
  if (offset > raw.size() || out.size() > raw.size() - offset)
    return Error{EUCLEAN, fmt::format("group {} is shorter than a file that lies in it", group)};
  std::memcpy(out.data(), raw.data() + offset, out.size());
  return {};
}

}  // namespace

Status ChunkStore::read(GroupId group, uint64_t offset, std::span<char> out, ReadHint) {
  return copy_part(group, *TRY(read_group(group)), offset, out);
}

// What others decoded is copied once, and no more of it than is asked for.
Status StoredChunks::read(GroupId group, uint64_t offset, std::span<char> out, ReadHint hint) {
  if (read_ahead_ && hint.reuse == Reuse::unlikely) read_ahead_->asked(group, hint.goes_on);
  if (pool_ && !cache_.contains(group) && pool_->read(group, offset, out)) return {};
  return copy_part(group, *TRY(read_group(group, {hint.reuse})), offset, out);
}

Result<std::shared_ptr<const std::string>> StoredChunks::read_group(GroupId group) {
  return read_group(group, Purpose());
}

// Waiting for another thread's loading in the cache cannot go in circles: numbers only descend.
Result<StoredChunks::Bytes> StoredChunks::read_group(GroupId group, Purpose purpose) {
  if (purpose.depth > kMaxReadDepth)
    return Error{EUCLEAN, fmt::format("group {} is damaged: too many build on each other", group)};
  return cache_.get(group, [&] { return load_group(group, purpose); });
}

Result<LruCache<std::string>::Loaded> StoredChunks::load_group(GroupId group, Purpose purpose) {
  GroupWriter::Pending pending = writer_.find(group);
  if (pending.raw) return LruCache<std::string>::Loaded{pending.raw, pending.raw->capacity()};
  std::string raw;
  if (pending.record) {
    raw = TRY(decode(group, *pending.record, purpose));
  } else if (!pool_ || !pool_->get(group, raw)) {
    raw = TRY(load_stored(group, purpose));
    if (pool_) offer(group, raw, purpose.reuse);
  }
  size_t bytes = raw.capacity();
  return LruCache<std::string>::Loaded{std::make_shared<const std::string>(std::move(raw)), bytes};
}

void StoredChunks::share(std::unique_ptr<GroupPool> pool) {
  pool_ = std::move(pool);
  cache_.set_capacity(kCacheBytesAlone);
}

void StoredChunks::foretell(ReadHistory history, GroupId end) {
  foretold_end_ = end;
  ReadAhead::Actions actions = {[this](GroupId group, bool in_order) { prepare(group, in_order); },
                                [this](GroupId group) { fetch(group); }};
  if (copies_ && copies_->may_add())
    actions.copy = [this](std::span<const GroupId> groups) { return copy(groups); };
  read_ahead_ = std::make_unique<ReadAhead>(std::move(history), std::move(actions));
}

bool StoredChunks::is_at_hand(GroupId group) {
  return cache_.contains(group) || (pool_ && pool_->may_have(group));
}

void StoredChunks::prepare(GroupId group, bool in_order) {
  if (group >= foretold_end_ || is_at_hand(group)) return;
  if (copies_ && copies_->begin_to_read(group)) return;
  if (!in_order) database_.begin_to_read(Family::groups, be64(group));
}

void StoredChunks::fetch(GroupId group) {
  if (group >= foretold_end_ || is_at_hand(group)) return;
  (void)read_group(group);  // who asks for it says what is wrong
}

// Past all caches: what is copied comes from the disk, and a daemon at rest stays so.
std::vector<GroupId> StoredChunks::copy(std::span<const GroupId> groups) {
  struct Rest {
    Database& database;
    ~Rest() {
      database.drop_cache();
      release_decode_contexts();
      ::malloc_trim(0);
    }
  } rest{database_};
  constexpr std::chrono::seconds kMost(1);  // the others the next time: an unmount waits for this
  auto until = std::chrono::steady_clock::now() + kMost;
  StoredChunks own(database_, kCacheBytesAlone);
  GroupEncoder encoder;
  auto make_record = [&](GroupId group) -> Result<std::string> {
    if (std::chrono::steady_clock::now() > until) return Error{ETIMEDOUT, "later"};
    return encoder.encode(group, *TRY(own.read_group(group)), {});
  };
  uint64_t limit_bytes = group_file_bytes(database_) / GroupCopies::kShare;
  return copies_->add(groups, limit_bytes, make_record);
}

// A copy for others takes a third of the time of decoding, and memory. While there are no others it
// is for what this reader itself decodes again, or will.
void StoredChunks::offer(GroupId group, std::string_view raw, Reuse reuse) {
  bool again = decoded_.add(group), others = pool_->has_others();
  cache_.set_capacity(others ? kCacheBytesAmongOthers : kCacheBytesAlone);
  if (again || others || reuse == Reuse::likely) pool_->put(group, raw);
}

// Nothing where the copy is not what it should be: the group itself will be.
std::optional<std::string> StoredChunks::load_copy(GroupId group, Purpose purpose) {
  std::optional<std::string> record;
  if (copies_) record = copies_->find(group);
  if (!record) return std::nullopt;
  Result<std::string> raw = decode(group, *record, purpose);
  if (!raw.ok()) return std::nullopt;
  counters_.groups_read++;
  counters_.compressed_bytes_read += record->size();
  return std::move(*raw);
}

Result<std::string> StoredChunks::load_stored(GroupId group, Purpose purpose) {
  if (std::optional<std::string> raw = load_copy(group, purpose)) return *std::move(raw);
  rocksdb::PinnableSlice record;
  if (!TRY(database_.get(Family::groups, be64(group), record)))
    return Error{EUCLEAN, fmt::format("group {} is missing from the store", group)};
  counters_.groups_read++;
  counters_.compressed_bytes_read += record.size();
  return decode(group, {record.data(), record.size()}, purpose);
}

Result<std::string> StoredChunks::decode(GroupId group, std::string_view record, Purpose purpose) {
  std::string raw = TRY(decode_group(group, record, [&](GroupId base) {
    if (read_ahead_ && purpose.reuse == Reuse::unlikely) read_ahead_->needed(group, base);
    return read_group(base, purpose.base());
  }));
  counters_.decoded_bytes += raw.size();
  return raw;
}

void StoredChunks::drop_cache() {
  constexpr double kUnusedSeconds = 0.9;
  if (read_ahead_) read_ahead_->pause();
  if (copies_) copies_->forget_slots();
  cache_.clear();
  decoded_.clear();
  release_decode_contexts();
  if (pool_) pool_->release(kUnusedSeconds);
}

ChunkStoreCounters StoredChunks::counters() const {
  ChunkStoreCounters out;
  out.groups_read = counters_.groups_read;
  out.compressed_bytes_read = counters_.compressed_bytes_read;
  out.decoded_bytes = counters_.decoded_bytes;
  out.chunks_put = counters_.chunks_put;
  out.chunks_shared = counters_.chunks_shared;
  out.put_bytes = counters_.put_bytes;
  out.new_bytes = counters_.new_bytes;
  out.stored_bytes = writer_.stored_bytes();
  return out;
}

}  // namespace layerfs
