// SPDX-License-Identifier: Apache-2.0
#include "layerdb/store/similarity.h"

#include <algorithm>
#include <array>

#include "layerdb/base/coding.h"
#include "layerdb/base/gear.h"
#include "layerdb/store/chunk_store.h"
#include "layerdb/store/group_codec.h"

namespace layerfs {
namespace {

// Groups that are not in the database yet are known from here only, and a table file (with what is
// queued behind it) has never more than this.
constexpr size_t kMaxRemembered = kTableChunks + 4096;
constexpr size_t kKeyBytes = 6;
constexpr int kDroppedBits = 64 - 8 * kKeyBytes;  // of a feature in its key
constexpr size_t kMaxHints = 131'072;             // 8 MB

constexpr std::array<uint64_t, 256> kFeatureTable = make_gear(0x73696d696c617221);  // "similar!"
constexpr uint64_t kFeatureLimit = UINT64_MAX / kFeatureSpacing;
constexpr size_t kParts = 4, kHashedBytes = 64;
using PartHashes = std::array<uint64_t, kParts>;

inline uint64_t step(uint64_t hash, char byte) {
  return (hash << 1) + kFeatureTable[static_cast<unsigned char>(byte)];
}

inline bool any_feature(const PartHashes& hashes) {
  return hashes[0] <= kFeatureLimit || hashes[1] <= kFeatureLimit || hashes[2] <= kFeatureLimit ||
         hashes[3] <= kFeatureLimit;
}

// Steps through the parts from `i` until a hash is a feature, or to their end; returns where. In a
// function of its own, and two bytes a turn, all it needs stays in registers (one byte a turn GCC
// makes vectors of it, at half the speed).
[[gnu::noinline]] size_t hash_parts(const char* bytes, size_t part_bytes, size_t i,
                                    PartHashes& hashes) {
  auto [a, b, c, d] = hashes;
  const char *of_b = bytes + part_bytes, *of_c = of_b + part_bytes, *of_d = of_c + part_bytes;
  for (; i + 1 < part_bytes; i += 2) {
    PartHashes first = {step(a, bytes[i]), step(b, of_b[i]), step(c, of_c[i]), step(d, of_d[i])};
    if (any_feature(first)) {
      hashes = first;
      return i + 1;
    }
    a = step(first[0], bytes[i + 1]);
    b = step(first[1], of_b[i + 1]);
    c = step(first[2], of_c[i + 1]);
    d = step(first[3], of_d[i + 1]);
    if (any_feature({a, b, c, d})) {
      hashes = {a, b, c, d};
      return i + 2;
    }
  }
  if (i < part_bytes) {
    a = step(a, bytes[i]);
    b = step(b, of_b[i]);
    c = step(c, of_c[i]);
    d = step(d, of_d[i]);
    ++i;
  }
  hashes = {a, b, c, d};
  return i;
}

}  // namespace

// Four parts at a time, since each step waits for the one before it; a part begins with the 64
// bytes before it, which are all that a hash depends on.
std::vector<uint64_t> group_features(std::string_view raw) {
  std::vector<uint64_t> features;
  auto take = [&](uint64_t hash) {
    if (hash <= kFeatureLimit) features.push_back(splitmix64_finish(hash));
  };
  size_t part_bytes = raw.size() / kParts;
  if (part_bytes < kHashedBytes) part_bytes = 0;
  PartHashes hashes = {};
  for (size_t part = 1; part < kParts && part_bytes > 0; ++part)
    for (char byte : raw.substr(part * part_bytes - kHashedBytes, kHashedBytes))
      hashes[part] = step(hashes[part], byte);
  for (size_t i = 0; i < part_bytes;) {
    i = hash_parts(raw.data(), part_bytes, i, hashes);
    for (uint64_t hash : hashes) take(hash);
  }
  uint64_t hash = hashes[kParts - 1];
  for (char byte : raw.substr(kParts * part_bytes)) take(hash = step(hash, byte));
  std::sort(features.begin(), features.end());
  features.erase(std::unique(features.begin(), features.end()), features.end());
  if (features.size() > kMaxFeatures) features.resize(kMaxFeatures);
  return features;
}

std::string similar_key(uint64_t feature) {
  std::string key = be64(feature);
  key.resize(kKeyBytes);
  return key;
}

std::string similar_record(GroupId group) {
  std::string record;
  put_varint(record, group);
  return record;
}

Result<GroupId> decode_similar(std::string_view record) {
  Reader in(record);
  GroupId group = in.varint();
  if (!in.done() || group == 0) return Error{EUCLEAN, "a record of similar is damaged"};
  return group;
}

Result<std::vector<GroupId>> SimilarityIndex::choose(GroupId number, size_t raw_bytes,
                                                     const std::vector<uint64_t>& features) {
  Hits hits = TRY(look_up(number, features));
  std::vector<GroupId> bases;
  Closure closure;
  size_t covered = 0;
  for (const Candidate& candidate : hits.candidates) {
    if (bases.size() == limits_.max_bases) break;
    if (bases.size() >= kEasyBases && candidate.votes * kMinVotesDivisor < features.size()) break;
    if (!TRY(add(candidate.group, raw_bytes, closure))) continue;
    bases.push_back(candidate.group);
    covered += candidate.votes;
  }
  if (covered * kMinCoveredDivisor < features.size() || bases.empty()) {
    closure.clear();
    bases = TRY(previous_groups(number, raw_bytes, closure));
  }
  closure.emplace_back(number, static_cast<uint32_t>(raw_bytes));
  remember(number, std::move(closure));
  // What a base has already is left to the base, of which later groups can build, too.
  if (bases.empty() && !again_) hits.found.assign(features.size(), false);
  for (size_t i = 0; i < features.size(); ++i)
    if (!hits.found[i]) hints_[features[i] >> kDroppedBits] = number;
  if (hints_.size() >= kMaxHints) TRY(write_hints());
  std::reverse(bases.begin(), bases.end());
  return bases;
}

Result<bool> SimilarityIndex::settle(GroupId number, size_t raw_bytes,
                                     const std::vector<GroupId>& bases) {
  Closure closure;
  if (!TRY(add_all(bases, raw_bytes, closure))) return false;
  closure.emplace_back(number, static_cast<uint32_t>(raw_bytes));
  remember(number, std::move(closure));
  return true;
}

void SimilarityIndex::clear() {
  closures_.clear();
  remembered_.clear();
  hints_.clear();
}

Result<SimilarityIndex::Hits> SimilarityIndex::look_up(GroupId number,
                                                       const std::vector<uint64_t>& features) {
  Hits hits;
  rocksdb::PinnableSlice value;
  for (uint64_t feature : features) {
    GroupId group = 0;
    if (auto it = hints_.find(feature >> kDroppedBits); it != hints_.end()) {
      group = it->second;
    } else {
      value.Reset();
      Result<bool> found = database_.get(Family::similar, similar_key(feature), value);
      if (!found.ok() && found.error().code != EUCLEAN) return found.error();
      if (found.ok() && *found) group = decode_similar({value.data(), value.size()}).value_or(0);
    }
    if (group >= number) group = 0;  // left by a crash, or not yet recompressed
    hits.found.push_back(group != 0);
    if (group == 0) continue;
    auto same = [&](const Candidate& candidate) { return candidate.group == group; };
    auto it = std::find_if(hits.candidates.begin(), hits.candidates.end(), same);
    if (it == hits.candidates.end()) it = hits.candidates.insert(it, {group, 0});
    ++it->votes;
  }
  std::sort(hits.candidates.begin(), hits.candidates.end(),
            [](const Candidate& a, const Candidate& b) {
              return a.votes != b.votes ? a.votes > b.votes : a.group > b.group;
            });
  return hits;
}

Result<const SimilarityIndex::Closure*> SimilarityIndex::closure_of(GroupId group, size_t depth) {
  if (auto it = closures_.find(group); it != closures_.end()) return &it->second;
  const Closure* none = nullptr;
  rocksdb::PinnableSlice stored;
  if (depth > kMaxBaseDepth) return none;
  Result<bool> found = database_.get(Family::groups, be64(group), stored);
  if (!found.ok() && found.error().code != EUCLEAN) return found.error();
  if (!found.ok() || !*found) return none;
  Result<GroupRecord> record = parse_group(group, {stored.data(), stored.size()});
  if (!record.ok()) return none;
  Closure closure;
  if (!TRY(add_all(record->bases, record->raw_bytes, closure, depth + 1))) return none;
  closure.emplace_back(group, record->raw_bytes);
  return remember(group, std::move(closure));
}

size_t SimilarityIndex::bytes_of(const Closure& closure) {
  size_t bytes = 0;
  for (const auto& member : closure) bytes += member.second;
  return bytes;
}

// Adds a base and all it builds on; false, and nothing is added: that is more than may be read.
Result<bool> SimilarityIndex::add(GroupId base, size_t raw_bytes, Closure& closure, size_t depth) {
  const Closure* more = TRY(closure_of(base, depth));
  if (more == nullptr) return false;
  Closure joined = closure;
  for (const auto& member : *more)
    if (std::find(joined.begin(), joined.end(), member) == joined.end()) joined.push_back(member);
  bool optimized = std::max(bytes_of(closure), bytes_of(*more)) > limits_.max_closure_bytes;
  size_t limit = optimized ? kOptimizedClosureBytes : limits_.max_closure_bytes;
  if (raw_bytes + bytes_of(joined) > limit || joined.size() > kMaxBaseDepth) return false;
  closure = std::move(joined);
  return true;
}

// In the order in which choose() took them, the best one first: the limit depends on it.
Result<bool> SimilarityIndex::add_all(const std::vector<GroupId>& bases, size_t raw_bytes,
                                      Closure& closure, size_t depth) {
  for (auto base = bases.rbegin(); base != bases.rend(); ++base)
    if (!TRY(add(*base, raw_bytes, closure, depth))) return false;
  return true;
}

Result<std::vector<GroupId>> SimilarityIndex::previous_groups(GroupId number, size_t raw_bytes,
                                                              Closure& closure) {
  std::vector<GroupId> bases;
  for (GroupId base = number; base-- > 1 && bases.size() < limits_.max_bases;) {
    Closure joined = closure;
    if (!TRY(add(base, raw_bytes, joined)) || joined.size() >= limits_.max_run) break;
    closure = std::move(joined);
    bases.push_back(base);
  }
  return bases;
}

const SimilarityIndex::Closure* SimilarityIndex::remember(GroupId group, Closure closure) {
  auto [it, added] = closures_.insert_or_assign(group, std::move(closure));
  if (added) remembered_.push_back(group);
  if (remembered_.size() > kMaxRemembered) {
    closures_.erase(remembered_.front());
    remembered_.pop_front();
  }
  return &it->second;
}

// Sorted: RocksDB goes on from the place of the one before (database.cc).
Status SimilarityIndex::write_hints() {
  std::vector<std::pair<uint64_t, GroupId>> hints(hints_.begin(), hints_.end());
  std::sort(hints.begin(), hints.end());
  rocksdb::WriteBatch batch;
  for (const auto& [key, group] : hints)
    batch.Put(database_.handle(Family::similar), similar_key(key << kDroppedBits),
              similar_record(group));
  TRY(database_.write(batch));
  hints_.clear();
  return {};
}

}  // namespace layerfs
