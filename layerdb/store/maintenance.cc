// SPDX-License-Identifier: Apache-2.0
#include "layerdb/store/maintenance.h"

#include <fmt/format.h>
#include <rocksdb/convenience.h>
#include <rocksdb/metadata.h>

#include <algorithm>

#include "layerdb/base/coding.h"
#include "layerdb/store/fingerprint_key.h"
#include "layerdb/store/group_codec.h"
#include "layerdb/store/group_writer.h"
#include "layerdb/store/similarity.h"

namespace layerfs {
namespace {

constexpr size_t kBatchBytes = 256 << 10;
constexpr uint64_t kRewriteDeadDivisor = 4;  // rewrite a table file when 1/4 of it is dead

Error damaged_key(Family family) {
  return {EUCLEAN, fmt::format("{} has a key of the wrong length", family_name(family))};
}

// for_each with a visit that may fail.
Status walk(
    Database& database, Family family,
    const std::function<Result<bool>(std::string_view key, std::string_view value)>& visit) {
  Status failure;
  TRY(database.for_each(family, "", [&](std::string_view key, std::string_view value) {
    Result<bool> more = visit(key, value);
    if (!more.ok()) failure = more.error();
    return more.ok() && *more;
  }));
  return failure;
}

Result<std::vector<ObjectId>> decode_ids(std::string_view record) {
  std::vector<ObjectId> out;
  Reader in(record);
  while (in.remaining() > 0) out.push_back(ObjectId{in.varint()});
  if (in.failed()) return Error{EUCLEAN, "a record of object_index is damaged"};
  return out;
}

Result<Fingerprint> decode_fingerprint(Family family, std::string_view key) {
  if (key.size() != 16) return damaged_key(family);
  return Fingerprint{decode_be64(key.data()), decode_be64(key.data() + 8)};
}

rocksdb::Status delete_files(Database& database, const std::vector<GroupRange>& ranges) {
  std::vector<std::string> keys;
  keys.reserve(ranges.size() * 2);
  for (const GroupRange& range : ranges) {
    keys.push_back(be64(range.first));
    keys.push_back(be64(range.last));
  }
  std::vector<rocksdb::Slice> slices(keys.begin(), keys.end());
  std::vector<rocksdb::RangePtr> pointers;
  for (size_t i = 0; i < slices.size(); i += 2) pointers.emplace_back(&slices[i], &slices[i + 1]);
  return rocksdb::DeleteFilesInRanges(&database.db(), database.handle(Family::groups),
                                      pointers.data(), pointers.size(), /*include_end=*/true);
}

// The table files' key ranges, in order.
std::vector<GroupRange> group_tables(Database& database) {
  rocksdb::ColumnFamilyMetaData meta;
  database.db().GetColumnFamilyMetaData(database.handle(Family::groups), &meta);
  std::vector<GroupRange> out;
  for (const auto& level : meta.levels)
    for (const auto& file : level.files)
      if (file.smallestkey.size() == 8 && file.largestkey.size() == 8)
        out.push_back({decode_be64(file.smallestkey.data()), decode_be64(file.largestkey.data())});
  std::sort(out.begin(), out.end(),
            [](const GroupRange& a, const GroupRange& b) { return a.first < b.first; });
  return out;
}

// The parts of `dead` inside `table`.
std::vector<GroupRange> clip(const std::vector<GroupRange>& dead, const GroupRange& table) {
  std::vector<GroupRange> out;
  auto it = std::lower_bound(dead.begin(), dead.end(), table.first,
                             [](const GroupRange& r, GroupId n) { return r.last < n; });
  for (; it != dead.end() && it->first <= table.last; ++it)
    out.push_back({std::max(it->first, table.first), std::min(it->last, table.last)});
  return out;
}

uint64_t count(const std::vector<GroupRange>& ranges) {
  uint64_t n = 0;
  for (const GroupRange& range : ranges) n += range.last - range.first + 1;
  return n;
}

// Rewrites one table file without the groups in `dead`.
Status rewrite(Database& database, const GroupRange& table, const std::vector<GroupRange>& dead) {
  rocksdb::WriteBatch batch;
  for (const GroupRange& range : dead)
    batch.DeleteRange(database.handle(Family::groups), be64(range.first), be64(range.last + 1));
  TRY(database.write(batch));
  TRY(database.flush({Family::groups}));
  rocksdb::CompactRangeOptions options;
  options.bottommost_level_compaction = rocksdb::BottommostLevelCompaction::kForce;
  std::string first = be64(table.first), last = be64(table.last);
  rocksdb::Slice from = first, to = last;
  rocksdb::Status s =
      database.db().CompactRange(options, database.handle(Family::groups), &from, &to);
  if (!s.ok()) return rocksdb_error(s, "rewrite groups");
  return {};
}

Status compact(Database& database, Family family) {
  TRY(database.flush({family}));
  rocksdb::Status s = database.db().CompactRange(rocksdb::CompactRangeOptions(),
                                                 database.handle(family), nullptr, nullptr);
  if (!s.ok()) return rocksdb_error(s, std::string("compact ") + family_name(family));
  return {};
}

// Collects changes of one family and writes them in batches.
class Changes {
 public:
  Changes(Database& database, Family family) : database_(database), family_(family) {}
  Status set(std::string_view key, const std::string& value) {  // empty: delete
    any_ = true;
    rocksdb::Slice slice(key.data(), key.size());
    if (value.empty())
      batch_.Delete(database_.handle(family_), slice);
    else
      batch_.Put(database_.handle(family_), slice, value);
    if (batch_.GetDataSize() >= kBatchBytes) TRY(write());
    return {};
  }
  Status finish() {
    TRY(write());
    if (!any_) return {};
    return compact(database_, family_);
  }

 private:
  Status write() {
    TRY(database_.write(batch_));
    batch_.Clear();
    return {};
  }
  Database& database_;
  Family family_;
  rocksdb::WriteBatch batch_;
  bool any_ = false;
};

Status delete_similar_entries(Database& database, const std::function<bool(GroupId)>& is_dead) {
  Changes changes(database, Family::similar);
  TRY(walk(database, Family::similar,
           [&](std::string_view key, std::string_view value) -> Result<bool> {
             Result<GroupId> group = decode_similar(value);
             if (!group.ok() || is_dead(*group)) TRY(changes.set(key, ""));
             return true;
           }));
  return changes.finish();
}

}  // namespace

Status for_each_record(
    Database& database, Family family,
    const std::function<bool(std::string_view key, std::string_view value)>& visit) {
  return database.for_each(family, "", visit);
}

Status for_each_group(Database& database, const std::function<bool(const GroupInfo&)>& visit) {
  return walk(database, Family::groups,
              [&](std::string_view key, std::string_view value) -> Result<bool> {
                if (key.size() != 8) return damaged_key(Family::groups);
                GroupInfo info;
                info.number = decode_be64(key.data());
                GroupRecord record = TRY(parse_group(info.number, value));
                info.stored_bytes = value.size();
                info.raw_bytes = record.raw_bytes;
                info.bases = std::move(record.bases);
                info.record = value;
                return visit(info);
              });
}

Status for_each_chunk(
    Database& database,
    const std::function<bool(const Fingerprint&, const std::vector<ChunkAddress>&)>& visit) {
  return walk(database, Family::chunk_index,
              [&](std::string_view key, std::string_view value) -> Result<bool> {
                Fingerprint fingerprint = TRY(decode_fingerprint(Family::chunk_index, key));
                return visit(fingerprint, TRY(decode_addresses(value)));
              });
}

Status for_each_object(Database& database,
                       const std::function<bool(ObjectId, std::string_view bytes)>& visit) {
  return walk(database, Family::objects,
              [&](std::string_view key, std::string_view value) -> Result<bool> {
                if (key.size() != 8) return damaged_key(Family::objects);
                return visit(ObjectId{decode_be64(key.data())}, value);
              });
}

Status for_each_object_index(
    Database& database,
    const std::function<bool(const Fingerprint&, const std::vector<ObjectId>&)>& visit) {
  return walk(database, Family::object_index,
              [&](std::string_view key, std::string_view value) -> Result<bool> {
                Fingerprint fingerprint = TRY(decode_fingerprint(Family::object_index, key));
                return visit(fingerprint, TRY(decode_ids(value)));
              });
}

Result<std::vector<GroupRange>> delete_groups(Database& database,
                                              const std::vector<GroupRange>& dead) {
  if (database.read_only()) return Error{EROFS, "the store is open for reading only"};
  TRY(database.usable());
  std::vector<GroupRange> whole, deleted;
  for (const GroupRange& table : group_tables(database)) {
    std::vector<GroupRange> inside = clip(dead, table);
    uint64_t dead_count = count(inside), all = table.last - table.first + 1;
    if (dead_count == 0 || dead_count * kRewriteDeadDivisor < all) continue;
    if (dead_count == all)
      whole.push_back(table);
    else
      TRY(rewrite(database, table, inside));
    deleted.insert(deleted.end(), inside.begin(), inside.end());
  }
  if (!whole.empty()) {
    rocksdb::Status s = delete_files(database, whole);
    if (!s.ok()) return rocksdb_error(s, "delete groups");
  }
  return deleted;
}

Status compact_groups(Database& database, const GroupRange& range) {
  std::string first = be64(range.first), last = be64(range.last);
  rocksdb::Slice from = first, to = last;
  rocksdb::Status s = database.db().CompactRange(rocksdb::CompactRangeOptions(),
                                                 database.handle(Family::groups), &from, &to);
  if (!s.ok()) return rocksdb_error(s, "compact groups");
  return {};
}

Status delete_groups_from(Database& database, GroupId first) {
  if (TRY(database.last_number(Family::groups)) < first) return {};
  rocksdb::Status s = delete_files(database, {{first, UINT64_MAX}});
  if (!s.ok()) return rocksdb_error(s, "delete groups");
  return {};
}

Status delete_index_entries(Database& database, const std::function<bool(GroupId)>& is_dead) {
  TRY(delete_similar_entries(database, is_dead));
  Changes changes(database, Family::chunk_index);
  TRY(walk(database, Family::chunk_index,
           [&](std::string_view key, std::string_view value) -> Result<bool> {
             std::vector<ChunkAddress> addresses = TRY(decode_addresses(value));
             std::string live;
             for (ChunkAddress address : addresses)
               if (!is_dead(address.group)) append_address(live, address);
             if (live.size() != value.size()) TRY(changes.set(key, live));
             return true;
           }));
  return changes.finish();
}

Status delete_objects(Database& database, const std::function<bool(ObjectId)>& is_dead) {
  Changes objects(database, Family::objects), index(database, Family::object_index);
  TRY(walk(database, Family::objects, [&](std::string_view key, std::string_view) -> Result<bool> {
    if (key.size() != 8) return damaged_key(Family::objects);
    if (is_dead(ObjectId{decode_be64(key.data())})) TRY(objects.set(key, ""));
    return true;
  }));
  TRY(walk(database, Family::object_index,
           [&](std::string_view key, std::string_view value) -> Result<bool> {
             std::string live;
             for (ObjectId id : TRY(decode_ids(value)))
               if (!is_dead(id)) put_varint(live, raw(id));
             if (live.size() != value.size()) TRY(index.set(key, live));
             return true;
           }));
  TRY(objects.finish());
  return index.finish();
}

std::vector<FamilySize> family_sizes(Database& database) {
  std::vector<FamilySize> out;
  if (!database.usable().ok()) return out;
  for (Family family : kAllFamilies) {
    if (!database.has(family)) continue;
    rocksdb::ColumnFamilyMetaData meta;
    database.db().GetColumnFamilyMetaData(database.handle(family), &meta);
    out.push_back({family, meta.size, meta.file_count});
  }
  return out;
}

uint64_t group_file_bytes(Database& database) {
  for (const FamilySize& size : family_sizes(database))
    if (size.family == Family::groups) return size.file_bytes;
  return 0;
}

}  // namespace layerfs
