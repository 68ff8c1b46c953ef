// SPDX-License-Identifier: Apache-2.0
//
// Which earlier groups a new group resembles. Features are positions of a rolling hash (Gear, as in
// FastCDC) whose hash is among the smallest 1/kFeatureSpacing: equal content has equal features
// wherever it lies (min-wise sampling, Broder 1997; content-defined as in Odess, ACM TOS 2023).
// The family `similar` maps a feature to the group that had it: one record a feature, whatever the
// store's size nothing of it is kept in memory.
//
// choose() lets a group's features vote. Groups with the most votes become its bases when together
// they have at least 1/kMinCoveredDivisor of its features and decoding it stays within the limit:
// the group, its bases, theirs and so on (its closure) may have so many bytes. A group that
// resembles nothing may lean on those just before it, in runs of so many (1: on none). Only the
// votes decide, never the size compression reaches: so the choice is quick, and the same whatever
// threads do.
//
// A record is only a hint. It may name a group that is gone, or another that got its number after
// a crash: a closure is read from the groups themselves, and what cannot be read is no base.
// Thread-safety: group_features() is pure; a SimilarityIndex is for one thread at a time.
#pragma once

#include <cstdint>
#include <deque>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "layerdb/base/result.h"
#include "layerdb/object/types.h"
#include "layerdb/store/database.h"

namespace layerfs {

inline constexpr uint64_t kFeatureSpacing = 4096;  // bytes, on average
inline constexpr size_t kMaxFeatures = 32;         // of a group
inline constexpr size_t kMinCoveredDivisor = 7;
// After so many bases each further one must have 1/kMinVotesDivisor of the features by itself.
inline constexpr size_t kEasyBases = 2;
inline constexpr size_t kMinVotesDivisor = 10;

// Sorted, without duplicates, at most kMaxFeatures.
std::vector<uint64_t> group_features(std::string_view raw);

std::string similar_key(uint64_t feature);
std::string similar_record(GroupId group);
Result<GroupId> decode_similar(std::string_view record);

// Groups that were optimized cost more than an import may spend. What resembles them builds on them
// all the same, within this: their reader pays for optimizing already.
inline constexpr size_t kOptimizedClosureBytes = 1536 << 10;

// What may be spent on reading one group.
struct BaseLimits {
  size_t max_bases = 4;
  size_t max_closure_bytes = 512 << 10;  // decoded, the group itself included
  size_t max_run = 1;                    // groups that lean on each other only for being neighbours
};

class SimilarityIndex {
 public:
  // `again`: the groups have been through choose() before, and may come a third time when a run
  // does not get to its end. A group takes no features over then, so that the ones before it find
  // the same hints again.
  SimilarityIndex(Database& database, BaseLimits limits, bool again = false)
      : database_(database), limits_(limits), again_(again) {}

  // The bases for group `number`, the best one last; notes its features. Numbers ascend.
  Result<std::vector<GroupId>> choose(GroupId number, size_t raw_bytes,
                                      const std::vector<uint64_t>& features);
  // Group `number` has these bases after all, whatever choose() said. False, and nothing changes:
  // that is more than may be read.
  Result<bool> settle(GroupId number, size_t raw_bytes, const std::vector<GroupId>& bases);
  // Writes the hints that it keeps back, to write many at once. They are lost otherwise.
  Status write_hints();
  // Forgets what it knows of groups; choose() may begin with any number again.
  void clear();

 private:
  using Closure =
      std::vector<std::pair<GroupId, uint32_t>>;  // (number, decoded bytes), itself last
  struct Candidate {
    GroupId group = 0;
    size_t votes = 0;
  };
  struct Hits {
    std::vector<Candidate> candidates;  // most votes first
    std::vector<bool> found;            // for each feature
  };

  Result<Hits> look_up(GroupId number, const std::vector<uint64_t>& features);
  // Null: the group cannot be a base.
  Result<const Closure*> closure_of(GroupId group, size_t depth);
  static size_t bytes_of(const Closure& closure);
  Result<bool> add(GroupId base, size_t raw_bytes, Closure& closure, size_t depth = 0);
  Result<bool> add_all(const std::vector<GroupId>& bases, size_t raw_bytes, Closure& closure,
                       size_t depth = 0);
  Result<std::vector<GroupId>> previous_groups(GroupId number, size_t raw_bytes, Closure& closure);
  const Closure* remember(GroupId group, Closure closure);

  Database& database_;
  const BaseLimits limits_;
  const bool again_;
  std::unordered_map<GroupId, Closure> closures_;
  std::deque<GroupId> remembered_;               // in closures_, oldest first
  std::unordered_map<uint64_t, GroupId> hints_;  // by the number that their key is; not yet written
};

}  // namespace layerfs
