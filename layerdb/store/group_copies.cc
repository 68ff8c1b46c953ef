// SPDX-License-Identifier: Apache-2.0
#include "layerdb/store/group_copies.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <limits>

#include "layerdb/base/coding.h"
#include "layerdb/base/hash.h"
#include "layerdb/store/chunk_store.h"
#include "layerdb/store/hint_file.h"

namespace layerfs {
namespace {

constexpr std::string_view kCopiesMagic = "layerfs copies\n";
constexpr uint8_t kCopiesVersion = 1;
constexpr size_t kCopiesHeadBytes = 32;
constexpr uint64_t kSlotsOffset = 4096, kSlotBytes = 16;
constexpr size_t kSlotSets = 4096, kSlotsOfSet = 4, kSlots = kSlotSets * kSlotsOfSet;
constexpr uint64_t kCopiesOffset = kSlotsOffset + kSlots * kSlotBytes;
constexpr size_t kCopyHeadBytes = 24;
constexpr uint32_t kMostCopyBytes = kCopyHeadBytes + kMaxGroupBytes + 64;

std::string copies_kind() {
  std::string out(kCopiesMagic);
  put_u8(out, kCopiesVersion);
  return out;
}

uint64_t set_offset(GroupId group) {
  return kSlotsOffset + hash_of(group) % kSlotSets * kSlotsOfSet * kSlotBytes;
}

Result<std::string> read_part(const UniqueFd& fd, uint64_t offset, size_t bytes) {
  std::string out(bytes, '\0');
  out.resize(TRY(pread_full(fd.get(), out, offset)));
  return out;
}

struct stat stat_of(const UniqueFd& fd) {
  struct stat status = {};
  (void)::fstat(fd.get(), &status);
  return status;
}

}  // namespace

Result<GroupCopies> GroupCopies::open(const std::string& path, uint64_t identity, GroupId end) {
  constexpr int kTries = 3;  // one finds another database's file, or one that somebody removed
  for (int i = 0; i < kTries; ++i) {
    Result<UniqueFd> fd = open_file(path, O_RDWR | O_CREAT | kHintFileFlags, 0600);
    bool may_add = fd.ok() || (fd.error().code != EACCES && fd.error().code != EROFS);
    if (!may_add) fd = open_file(path, O_RDONLY | kHintFileFlags);
    GroupCopies copies(TRY(std::move(fd)), may_add);
    Status status = copies.read_head(path);
    bool ours = status.ok() && copies.head_.identity == identity;
    if (!may_add && !ours) return Error{EROFS, "'" + path + "' cannot be written"};
    if (may_add && (!ours || copies.head_.end < end)) {
      TRY(copies.make_ours(path, {identity, end}));
      ours = copies.head_.identity == identity;
    }
    if (ours) return copies;
  }
  return Error{EAGAIN, "'" + path + "' is being made"};
}

Result<GroupCopies> GroupCopies::open_to_read(const std::string& path) {
  GroupCopies copies(TRY(open_file(path, O_RDONLY | kHintFileFlags)), false);
  TRY(copies.read_head(path));
  return copies;
}

Status GroupCopies::remove_if_newer(const std::string& path, GroupId next) {
  Result<GroupCopies> copies = open_to_read(path);
  if (copies.ok() ? copies->head_.end <= next : copies.error().code == ENOENT) return {};
  return remove(path);
}

Status GroupCopies::remove(const std::string& path) {
  if (::unlink(path.c_str()) == 0 || errno == ENOENT) return {};
  if (errno == EISDIR) return {};  // nobody's copies
  return errno_error("remove '" + path + "'");
}

Status GroupCopies::read_head(const std::string& path) {
  std::string head = TRY(read_part(fd_, 0, kCopiesHeadBytes));
  Reader in(head);
  bool right = in.take(copies_kind().size()) == copies_kind();
  head_ = {in.u64(), in.u64()};
  if (right && !in.failed()) return {};
  return Error{EPROTO, "'" + path + "' is of another version of layerfs; without it one is made"};
}

// A new file, or one whose maker was killed; or one that knows lower numbers only. Another
// database's is removed: who still has it open must find nothing of this one there.
Status GroupCopies::make_ours(const std::string& path, const Head& ours) {
  constexpr int kMoreTries = 10;  // who adds copies takes longer
  WriterTurn turn(fd_, kMoreTries);
  if (!turn.mine()) return Error{EAGAIN, "'" + path + "' is being written"};
  std::string found = TRY(read_part(fd_, 0, kCopiesHeadBytes));
  bool is_new = found.size() < kCopiesHeadBytes &&
                (copies_kind().starts_with(found) || found.starts_with(copies_kind()));
  if (is_new) {
    if (::ftruncate(fd_.get(), 0) != 0) return errno_error("empty '" + path + "'");
    head_ = ours;
  } else {
    TRY(read_head(path));
    bool removed = stat_of(fd_).st_nlink == 0, foreign = head_.identity != ours.identity;
    if (removed || foreign) {
      head_ = {};  // not to be used
      return removed ? Status() : remove(path);
    }
    head_.end = std::max(head_.end, ours.end);
  }
  std::string head = copies_kind();
  put_u64(head, head_.identity);
  put_u64(head, head_.end);
  return pwrite_full(fd_.get(), head, 0);
}

// As it lies in the file.
std::string GroupCopies::pack(GroupId group, const std::string& record) const {
  std::string out, body;
  put_u64(body, head_.identity);
  put_u64(body, group);
  body += record;
  put_u64(out, checksum64(body));
  return out + body;
}

// Of no bytes: there is none.
GroupCopies::Slot GroupCopies::find_slot(GroupId group) const {
  std::lock_guard lock(slots_->mutex);
  if (!slots_->used) {
    std::vector<Slot> used;
    Status read = for_each([&](GroupId number, uint64_t offset, uint32_t bytes) {
      if (bytes > kCopyHeadBytes && bytes <= kMostCopyBytes)
        used.push_back({static_cast<uint32_t>(number), bytes, offset});
    });
    if (!read.ok()) return {};
    std::ranges::sort(used, {}, &Slot::group);
    slots_->used = std::move(used);
  }
  auto found = std::ranges::lower_bound(*slots_->used, group, {}, &Slot::group);
  return found != slots_->used->end() && found->group == group ? *found : Slot();
}

void GroupCopies::forget_slots() const {
  std::lock_guard lock(slots_->mutex);
  slots_->used.reset();
}

std::optional<std::string> GroupCopies::find(GroupId group) const {
  Slot slot = find_slot(group);
  if (slot.bytes == 0) return std::nullopt;
  Result<std::string> copy = read_part(fd_, slot.offset, slot.bytes);
  if (!copy.ok() || copy->size() != slot.bytes) return std::nullopt;
  Reader in(*copy);
  bool whole = in.u64() == checksum64(std::string_view(*copy).substr(sizeof(uint64_t)));
  if (!whole || in.u64() != head_.identity || in.u64() != group) return std::nullopt;
  copy->erase(0, kCopyHeadBytes);
  return *std::move(copy);
}

bool GroupCopies::begin_to_read(GroupId group) const {
  Slot slot = find_slot(group);
  if (slot.bytes == 0) return false;
  (void)::readahead(fd_.get(), static_cast<off64_t>(slot.offset), slot.bytes);
  return true;
}

std::vector<GroupId> GroupCopies::add(std::span<const GroupId> groups, uint64_t limit_bytes,
                                      const MakeRecord& make) {
  std::vector<GroupId> added;
  WriterTurn turn(fd_);
  struct stat status = stat_of(fd_);
  if (!turn.mine() || status.st_nlink == 0) return added;  // nobody would find them
  struct Forget {
    const GroupCopies& copies;
    explicit Forget(const GroupCopies& all) : copies(all) { copies.forget_slots(); }
    ~Forget() { copies.forget_slots(); }
  } forget(*this);  // others may have added some; and then there are these
  uint64_t end = std::max<uint64_t>(static_cast<uint64_t>(status.st_size), kCopiesOffset);
  uint64_t limit = kCopiesOffset + limit_bytes;
  for (GroupId group : groups) {
    if (end >= limit) break;
    if (group > std::numeric_limits<uint32_t>::max() || find(group)) continue;
    std::optional<uint64_t> place = place_for(group);
    if (!place) continue;
    Result<std::string> record = make(group);
    if (!record.ok()) continue;  // who asks for it says what is wrong
    std::string copy = pack(group, *record);
    if (end + copy.size() > limit) break;
    Slot slot = {static_cast<uint32_t>(group), static_cast<uint32_t>(copy.size()), end};
    bool written = pwrite_full(fd_.get(), copy, slot.offset).ok() &&  // before what names it
                   write_numbers(fd_, std::span<const Slot>(&slot, 1), *place).ok();
    if (!written) {
      (void)::ftruncate(fd_.get(), static_cast<off_t>(end));
      break;
    }
    end += copy.size();
    added.push_back(group);
  }
  return added;
}

// The place of a slot. A full set takes no more.
std::optional<uint64_t> GroupCopies::place_for(GroupId group) const {
  uint64_t place = set_offset(group);
  std::array<Slot, kSlotsOfSet> set;
  Result<size_t> got = pread_full(fd_.get(), bytes_of(std::span<Slot>(set)), place);
  if (!got.ok()) return std::nullopt;
  size_t there = *got / sizeof(Slot);
  for (size_t i = 0; i < set.size(); ++i, place += sizeof(Slot))
    if (i >= there || set[i].bytes == 0 || set[i].group == group) return place;
  return std::nullopt;
}

Status GroupCopies::for_each(
    const std::function<void(GroupId, uint64_t offset, uint32_t bytes)>& visit) const {
  std::array<Slot, 1024> part;
  static_assert(sizeof(Slot) == kSlotBytes && kSlots % part.size() == 0);
  for (uint64_t at = kSlotsOffset; at < kCopiesOffset; at += sizeof part) {
    size_t got = TRY(pread_full(fd_.get(), bytes_of(std::span<Slot>(part)), at));
    for (const Slot& slot : std::span(part).first(got / sizeof(Slot)))
      if (slot.bytes != 0) visit(slot.group, slot.offset, slot.bytes);
  }
  return {};
}

}  // namespace layerfs
