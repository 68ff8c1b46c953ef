// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <algorithm>
#include <optional>
#include <set>

#include "layerdb/base/coding.h"
#include "layerdb/object/chunker.h"
#include "layerdb/ops/fsck_state.h"
#include "layerdb/store/group_codec.h"
#include "layerdb/store/group_copies.h"
#include "layerdb/store/maintenance.h"

namespace layerfs {
namespace {

constexpr size_t kMaxBadEntries = 16;  // finding out about one takes long

struct IndexedChunk {
  GroupId group;
  uint32_t offset;
  Fingerprint fingerprint;
};

class GroupCheck {
 public:
  GroupCheck(FsckState& state, const FsckProgress& progress) : state_(state), progress_(progress) {}

  Status run() {
    load_index();
    Database& database = state_.store.database();
    auto last = database.last_number(Family::groups);
    last_ = last.ok() ? *last : 0;
    // A damaged block stops the walk; what lies behind it is then fetched one by one.
    GroupId next = 1;
    Status walked = for_each_record(database, Family::groups, [&](auto key, auto value) {
      if (key.size() != 8) {
        state_.report(FindingKind::bad_record, "store", "",
                      "a group has a key of the wrong length");
        return true;
      }
      GroupId number = decode_be64(key.data());
      check(number, value);
      next = number + 1;
      return true;
    });
    if (!walked.ok()) {
      state_.report(FindingKind::bad_record, "store", "", walked.error().message);
      for (; next <= last_; ++next) {
        auto record = database.get(Family::groups, be64(next));
        if (!record.ok()) {
          state_.groups[next].problem = record.error().message;
        } else if (*record) {
          check(next, **record);
        }
      }
    }
    for (; at_ < index_.size(); ++at_) ++state_.result.stale_index_entries;
    return {};
  }

 private:
  void load_index() {
    Status walked = for_each_chunk(
        state_.store.database(),
        [&](const Fingerprint& fingerprint, const std::vector<ChunkAddress>& addresses) {
          for (const ChunkAddress& a : addresses)
            index_.push_back({a.group, a.offset, fingerprint});
          return true;
        });
    if (!walked.ok()) {
      state_.report(FindingKind::bad_record, "store", "", walked.error().message);
      index_.clear();
    }
    std::sort(index_.begin(), index_.end(), [](const IndexedChunk& a, const IndexedChunk& b) {
      return a.group != b.group ? a.group < b.group : a.offset < b.offset;
    });
  }

  void check(GroupId number, std::string_view record) {
    FsckState::Group& group = state_.groups[number];
    group.stored_bytes = record.size();
    auto parsed = parse_group(number, record);
    auto raw = decode_group(number, record,
                            [&](GroupId base) { return state_.store.chunks().read_group(base); });
    if (!parsed.ok() || !raw.ok()) {
      group.problem = (parsed.ok() ? raw.error() : parsed.error()).message;
    } else if (raw->size() != parsed->raw_bytes) {
      group.problem = fmt::format("group {} decodes to a wrong length", number);
    } else {
      group.raw_bytes = parsed->raw_bytes;
      check_index(number, *raw);
    }
    ++state_.result.groups;
    state_.result.decoded_bytes += group.raw_bytes;
    if (progress_ && number % 64 == 0) progress_(number, last_, "groups");
  }

  void check_index(GroupId number, const std::string& raw) {
    for (; at_ < index_.size() && index_[at_].group < number; ++at_) {
      ++state_.result.stale_index_entries;
    }
    for (; at_ < index_.size() && index_[at_].group == number; ++at_) {
      if (bad_entries_ == kMaxBadEntries || names_chunk(raw)) continue;
      state_.report(
          FindingKind::bad_index, "store", "",
          fmt::format("the chunk index names other bytes at {} of group {}{}", index_[at_].offset,
                      number, ++bad_entries_ == kMaxBadEntries ? "; the rest is not checked" : ""));
    }
  }

  // An entry does not say how long its chunk is. Chunks follow each other, so it ends where the
  // next one begins, unless a crash kept that one's entry from the index: then any length may be
  // it.
  bool names_chunk(const std::string& raw) const {
    const IndexedChunk& chunk = index_[at_];
    if (chunk.offset >= raw.size()) return false;
    std::string_view bytes = std::string_view(raw).substr(chunk.offset, kMaxChunkBytes);
    bool last = at_ + 1 == index_.size() || index_[at_ + 1].group != chunk.group;
    size_t likely = last ? bytes.size() : index_[at_ + 1].offset - chunk.offset;
    if (fingerprint(bytes.substr(0, likely)) == chunk.fingerprint) return true;
    for (size_t length = bytes.size(); length > 0; --length) {
      if (fingerprint(bytes.substr(0, length)) == chunk.fingerprint) return true;
    }
    return false;
  }

  FsckState& state_;
  const FsckProgress& progress_;
  std::vector<IndexedChunk> index_;
  size_t at_ = 0;
  size_t bad_entries_ = 0;
  GroupId last_ = 0;
};

}  // namespace

Status check_groups(FsckState& state, const FsckProgress& progress) {
  return GroupCheck(state, progress).run();
}

void check_copies(FsckState& state) {
  std::string path = GroupCopies::path_in(state.store.root());
  Result<GroupCopies> copies = GroupCopies::open_to_read(path);
  Result<uint64_t> identity = Store::identify(state.store.root());
  if (!copies.ok()) state.leave_unchecked("copies of groups", copies.error());
  // No mount believes it either.
  if (!copies.ok() || !identity.ok() || copies->identity() != *identity) return;
  std::set<GroupId> numbers;
  (void)copies->for_each([&](GroupId number, uint64_t, uint32_t) { numbers.insert(number); });
  ReadBase read = [&](GroupId group) { return state.store.chunks().read_group(group); };
  for (GroupId number : numbers) {
    auto group = state.groups.find(number);
    std::optional<std::string> record = copies->find(number);
    if (!record || group == state.groups.end() || !group->second.problem.empty()) continue;
    auto copy = decode_group(number, *record, read);
    auto raw = read(number);
    if (copy.ok() && raw.ok() && *copy == **raw) continue;
    state.report(FindingKind::wrong_copy, "store", "",
                 fmt::format("the copy of group {} has other bytes; remove '{}'", number, path));
  }
}

}  // namespace layerfs
