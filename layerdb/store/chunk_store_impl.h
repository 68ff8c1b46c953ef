// SPDX-License-Identifier: Apache-2.0
//
// The chunk store over the database's families groups and chunk_index. Private to layerdb/store and
// its tests.
#pragma once

#include <atomic>
#include <deque>
#include <memory>
#include <optional>
#include <unordered_map>

#include "layerdb/store/chunk_store.h"
#include "layerdb/store/group_copies.h"
#include "layerdb/store/group_pool.h"
#include "layerdb/store/group_writer.h"
#include "layerdb/store/lru_cache.h"
#include "layerdb/store/object_store_impl.h"
#include "layerdb/store/read_ahead.h"
#include "layerdb/store/recent_numbers.h"

namespace layerfs {

class StoredChunks : public ChunkStore {
 public:
  // Of a reader that shares.
  static constexpr size_t kCacheBytesAlone = 8 << 20, kCacheBytesAmongOthers = 1 << 20;

  // `hash` is another function only in tests of collisions.
  StoredChunks(Database& database, size_t cache_bytes, FingerprintFunction hash = &fingerprint);

  Result<ChunkAddress> put(std::string_view chunk) override;
  Status flush() override;
  Status start_flush() override;
  Result<std::shared_ptr<const std::string>> read_group(GroupId group) override;
  Status read(GroupId group, uint64_t offset, std::span<char> out, ReadHint hint) override;
  void drop_cache() override;
  ChunkStoreCounters counters() const override;

  // Groups decoded here and by others are shared from here on, and the own cache is small: what
  // neighbours ask for, and the bases that they have in common. Readers only, before any read.
  void share(std::unique_ptr<GroupPool> pool);
  // Reads ahead from here on what the history foretells, and adds to it; no groups from `end` on,
  // which in the database are others than the history means.
  void foretell(ReadHistory history, GroupId end);
  // Reads groups from these copies, and adds to them. Before foretell().
  void use_copies(GroupCopies copies) { copies_ = std::move(copies); }

  // The number of the next new group.
  GroupId next_group() const { return open_number(); }
  // Forgets chunks that are not in the database yet and starts anew with group number `next`.
  void discard(GroupId next);

 private:
  using Bytes = std::shared_ptr<const std::string>;

  GroupId open_number() const { return writer_.next_number(); }
  Status seal();
  void forget_indexed();
  struct Found {
    std::optional<ChunkAddress> address;
    bool collision = false;  // a different chunk with this fingerprint is stored
  };
  Result<Found> find(const Fingerprint& fingerprint, std::string_view chunk);
  Status compare(ChunkAddress candidate, std::string_view chunk, Found& found);
  struct Purpose {
    Reuse reuse = Reuse::unlikely;
    size_t depth = 0;  // of bases: so many groups build on this one
    Purpose base() const { return {reuse, depth + 1}; }
  };
  Result<Bytes> read_group(GroupId group, Purpose purpose);
  Result<LruCache<std::string>::Loaded> load_group(GroupId group, Purpose purpose);
  Result<std::string> load_stored(GroupId group, Purpose purpose);
  Result<std::string> decode(GroupId group, std::string_view record, Purpose purpose);
  void prepare(GroupId group, bool in_order);
  void fetch(GroupId group);
  std::vector<GroupId> copy(std::span<const GroupId> groups);
  std::optional<std::string> load_copy(GroupId group, Purpose purpose);
  bool is_at_hand(GroupId group);
  void offer(GroupId group, std::string_view raw, Reuse reuse);

  Database& database_;
  FingerprintFunction hash_;
  LruCache<std::string> cache_;
  std::unique_ptr<GroupPool> pool_;  // behind the cache, if any
  std::optional<GroupCopies> copies_;
  RecentNumbers<4096> decoded_;  // and therefore perhaps in the cache
  struct AtomicCounters {
    std::atomic<uint64_t> groups_read{0}, compressed_bytes_read{0}, decoded_bytes{0};
    std::atomic<uint64_t> chunks_put{0}, chunks_shared{0}, put_bytes{0}, new_bytes{0};
  } counters_;
  GroupWriter writer_;  // its threads use what is above

  // The group being filled, and the chunks whose index entries are not in the database yet.
  std::string open_group_;
  std::vector<IndexEntry> open_entries_;
  std::unordered_multimap<Fingerprint, ChunkAddress> pending_;
  std::deque<std::pair<GroupId, std::vector<Fingerprint>>> pending_groups_;

  GroupId foretold_end_ = 0;
  std::unique_ptr<ReadAhead> read_ahead_;  // its threads use what is above
};

}  // namespace layerfs
