// SPDX-License-Identifier: Apache-2.0
//
// What gc, fsck, dump and df need of the store below its everyday interface: walking every group,
// index entry and object, and deleting them. All of it works on the database directly, so nothing
// may be half imported: publish or discard first. Deleting needs a store open for writing and is
// durable on return. Deleted numbers are never given again.
//
// Order is free: an index entry whose group or object is gone is no match for anybody, and what has
// no index entry is only not found for sharing. Readers that are open keep what they see.
// Errors: EUCLEAN a record that does not parse; EROFS; ENOSPC; EIO.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "layerdb/base/hash.h"
#include "layerdb/base/result.h"
#include "layerdb/object/types.h"
#include "layerdb/store/chunk_store.h"
#include "layerdb/store/database.h"

namespace layerfs {

struct GroupInfo {
  GroupId number = 0;
  uint64_t stored_bytes = 0;  // the record
  uint32_t raw_bytes = 0;
  std::vector<GroupId> bases;
  std::string_view record;  // for decode_group; valid during the visit
};
struct GroupRange {
  GroupId first = 0;
  GroupId last = 0;  // inclusive
};

// Visits return false to stop. A damaged record ends the walk with EUCLEAN, so fsck uses
// for_each_record and parses itself (parse_group, decode_group in group_codec.h).
Status for_each_group(Database& database, const std::function<bool(const GroupInfo&)>& visit);
Status for_each_chunk(
    Database& database,
    const std::function<bool(const Fingerprint&, const std::vector<ChunkAddress>&)>& visit);
Status for_each_object(Database& database,
                       const std::function<bool(ObjectId, std::string_view bytes)>& visit);
Status for_each_object_index(
    Database& database,
    const std::function<bool(const Fingerprint&, const std::vector<ObjectId>&)>& visit);
Status for_each_record(
    Database& database, Family family,
    const std::function<bool(std::string_view key, std::string_view value)>& visit);

// Deletes dead groups where that gives space back: table files with nothing but dead groups are
// dropped, those at least a quarter dead are rewritten. Returns the ranges that are deleted now;
// the other dead groups stay, whole and usable. `dead` is sorted and does not overlap.
Result<std::vector<GroupRange>> delete_groups(Database& database,
                                              const std::vector<GroupRange>& dead);
// Brings records of these groups that are written over, or deleted, out of the table files.
Status compact_groups(Database& database, const GroupRange& range);
// Drops all groups from `first` on: what an import that was given up had stored.
Status delete_groups_from(Database& database, GroupId first);

// Removes what names groups for which `is_dead` holds from the chunk index and from `similar`.
Status delete_index_entries(Database& database, const std::function<bool(GroupId)>& is_dead);
// Deletes objects for which `is_dead` holds, with their index entries.
Status delete_objects(Database& database, const std::function<bool(ObjectId)>& is_dead);

struct FamilySize {
  Family family;
  uint64_t file_bytes = 0;  // table files on disk
  uint64_t file_count = 0;
};
std::vector<FamilySize> family_sizes(Database& database);
uint64_t group_file_bytes(Database& database);

}  // namespace layerfs
