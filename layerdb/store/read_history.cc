// SPDX-License-Identifier: Apache-2.0
#include "layerdb/store/read_history.h"

#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <limits>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "layerdb/base/coding.h"
#include "layerdb/store/hint_file.h"

namespace layerfs {
namespace {

constexpr std::string_view kHistoryMagic = "layerfs reads\n";
constexpr uint16_t kHistoryVersion = 1;
constexpr uint64_t kNextOffset = 16, kEntriesOffset = 4096;
constexpr int kIndexBits = 18;
constexpr uint32_t kIndexSlots = 1 << kIndexBits;
static_assert(kIndexSlots == 2 * ReadHistory::kEntries);
using GroupEntry = uint32_t;  // a group's number; larger ones (after 290 TB) are not remembered
constexpr uint64_t kIndexOffset = kEntriesOffset + sizeof(GroupEntry) * ReadHistory::kEntries;
constexpr uint64_t kFileBytes = kIndexOffset + sizeof(ReadHistory::Place) * kIndexSlots;
constexpr GroupEntry kEnd = 0;  // of a run; no group has this number

std::string history_head() {
  std::string out(kHistoryMagic);
  put_u16(out, kHistoryVersion);
  return out;
}

uint64_t slot_offset(GroupId group) {
  return kIndexOffset + sizeof(ReadHistory::Place) * (hash_of(group) >> (64 - kIndexBits));
}
uint64_t entry_offset(ReadHistory::Place place) {
  return kEntriesOffset + sizeof(GroupEntry) * place;
}

}  // namespace

Result<ReadHistory> ReadHistory::open(const std::string& path) {
  Result<UniqueFd> fd = open_file(path, O_RDWR | O_CREAT | kHintFileFlags, 0600);
  if (!fd.ok() && (fd.error().code == EACCES || fd.error().code == EROFS))
    return open_to_read(path);
  ReadHistory history(TRY(std::move(fd)));
  TRY(history.prepare());
  TRY(history.check(path));
  return history;
}

Result<ReadHistory> ReadHistory::open_to_read(const std::string& path) {
  ReadHistory history(TRY(open_file(path, O_RDONLY | kHintFileFlags)));
  TRY(history.check(path));
  return history;
}

Status ReadHistory::check(const std::string& path) const {
  std::string found(history_head().size(), '\0');
  size_t got = TRY(pread_full(fd_.get(), found, 0));
  if (got == found.size() && found == history_head()) return {};
  return Error{EPROTO, "'" + path + "' is of another version of layerfs; without it one is made"};
}

// A new file, or one whose maker was killed. Others may do the same meanwhile.
Status ReadHistory::prepare() const {
  struct stat status = {};
  if (::fstat(fd_.get(), &status) != 0) return errno_error("look at the history of reads");
  if (!S_ISREG(status.st_mode) || status.st_size >= static_cast<off_t>(kFileBytes)) return {};
  std::string found(history_head().size(), '\0');
  found.resize(TRY(pread_full(fd_.get(), found, 0)));
  if (!history_head().starts_with(found)) return {};  // not ours
  TRY(pwrite_full(fd_.get(), history_head(), 0));
  if (::ftruncate(fd_.get(), kFileBytes) != 0) return errno_error("make the history of reads");
  return {};
}

std::optional<ReadHistory::Place> ReadHistory::after(GroupId group) const {
  std::optional<Place> place = read_number<Place>(fd_, slot_offset(group));
  if (!place || *place >= kEntries) return std::nullopt;
  if (read_number<GroupEntry>(fd_, entry_offset(*place)) != group) return std::nullopt;
  return (*place + 1) % kEntries;
}

std::span<GroupId> ReadHistory::read(Place& place, std::span<GroupId> out) const {
  std::array<GroupEntry, 64> buffer;
  size_t count = 0;
  while (count < out.size()) {
    auto part = std::span(buffer).first(
        std::min({buffer.size(), out.size() - count, size_t{kEntries} - place}));
    Result<size_t> got = pread_full(fd_.get(), bytes_of(part), entry_offset(place));
    if (!got.ok() || *got != part.size_bytes()) break;
    size_t run = static_cast<size_t>(std::find(part.begin(), part.end(), kEnd) - part.begin());
    std::copy_n(part.begin(), run, out.begin() + static_cast<ptrdiff_t>(count));
    count += run;
    place = static_cast<Place>(place + run) % kEntries;
    if (run < part.size()) break;
  }
  return out.first(count);
}

ReadHistory::Place ReadHistory::next_place() const {
  return read_number<Place>(fd_, kNextOffset).value_or(0) % kEntries;
}

// Whether most of it would be foretold for long: of 64 pairs of neighbours at most, those that the
// newer half has close to each other (what a group builds on, 32 at most, may be between).
bool ReadHistory::knows(std::span<const GroupId> run) const {
  constexpr size_t kSamples = 64, kNear = 40;
  Place now = next_place();
  size_t step = std::max<size_t>(1, run.size() / kSamples), asked = 0, known = 0;
  for (size_t i = 0; i + 1 < run.size(); i += step, ++asked) {
    std::optional<Place> place = after(run[i]);
    if (!place || (now - *place) % kEntries > kEntries / 2) continue;
    std::array<GroupId, kNear> next;
    std::span<GroupId> read_next = read(*place, next);
    known += std::find(read_next.begin(), read_next.end(), run[i + 1]) != read_next.end();
  }
  return known * 4 >= asked * 3;
}

namespace {

// What the groups of a run build on, as far as the run does not name it itself; each once, behind
// the first group that needs it.
std::vector<ReadHistory::Entry> with_bases(std::span<const GroupId> run,
                                           std::span<const ReadHistory::BuiltOn> built_on) {
  std::unordered_multimap<GroupId, GroupId> bases;
  for (const auto& [group, base] : built_on) bases.emplace(group, base);
  std::unordered_set<GroupId> named(run.begin(), run.end());
  std::vector<ReadHistory::Entry> out;
  for (GroupId group : run) {
    size_t next = out.size();
    out.push_back({group, true});
    for (; next < out.size(); ++next) {
      auto [it, end] = bases.equal_range(out[next].group);
      for (; it != end; ++it)
        if (named.insert(it->second).second) out.push_back({it->second, false});
    }
  }
  return out;
}

}  // namespace

bool ReadHistory::fits(std::span<const GroupId> run, std::span<const BuiltOn> built_on) {
  constexpr size_t kShortest = 4;
  return run.size() >= kShortest && run.size() + built_on.size() < kEntries &&
         std::ranges::max(run) <= std::numeric_limits<GroupEntry>::max();
}

bool ReadHistory::append(std::span<const GroupId> run, bool more_follows,
                         std::span<const BuiltOn> built_on) {
  WriterTurn turn(fd_);
  bool may = fits(run, built_on) && turn.mine(), known = may && knows(run);
  bool written = may && !known && write(with_bases(run, built_on)).ok();
  if (!written || !more_follows) end_.reset();
  return known;
}

bool ReadHistory::replace(std::span<const GroupId> run, std::span<const BuiltOn> built_on) {
  constexpr int kMoreTries = 100;  // others write for a millisecond or so
  WriterTurn turn(fd_, kMoreTries);
  end_.reset();  // a run of its own
  bool written = fits(run, built_on) && turn.mine() && write(with_bases(run, built_on)).ok();
  end_.reset();
  return written;
}

Status ReadHistory::write(const std::vector<Entry>& run) {
  Place place = next_place();
  // Over the mark of the end, if nobody wrote behind it.
  if (end_ && (*end_ + 1) % kEntries == place) place = *end_;
  std::vector<GroupEntry> entries;
  for (const Entry& entry : run) entries.push_back(static_cast<GroupEntry>(entry.group));
  entries.push_back(kEnd);
  size_t first = std::min<size_t>(entries.size(), kEntries - place);
  TRY(write_numbers(fd_, std::span<const GroupEntry>(entries).first(first), entry_offset(place)));
  TRY(write_numbers(fd_, std::span<const GroupEntry>(entries).subspan(first), entry_offset(0)));
  for (size_t i = 0; i < run.size(); ++i) {
    if (!run[i].asked) continue;  // what follows it here says nothing of who asks for it
    Place at = static_cast<Place>(place + i) % kEntries;
    TRY(write_numbers(fd_, std::span<const Place>(&at, 1), slot_offset(run[i].group)));
  }
  Place end = static_cast<Place>(place + run.size()) % kEntries;
  Place behind = (end + 1) % kEntries;
  TRY(write_numbers(fd_, std::span<const Place>(&behind, 1), kNextOffset));
  end_ = end;
  return {};
}

void ReadHistory::for_each_run(
    const std::function<void(Place, std::span<const GroupId>)>& visit) const {
  std::vector<GroupId> run;
  for (Place at = 0; at < kEntries; ++at) {
    GroupId group = read_number<GroupEntry>(fd_, entry_offset(at)).value_or(kEnd);
    if (group != kEnd) run.push_back(group);
    if (run.empty() || (group != kEnd && at + 1 < kEntries)) continue;
    Place after_run = group == kEnd ? at : at + 1;
    visit(after_run - static_cast<Place>(run.size()), run);
    run.clear();
  }
}

}  // namespace layerfs
