// SPDX-License-Identifier: Apache-2.0
#include "layerdb/store/group_copies.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
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

size_t first_slot(GroupId group) { return hash_of(group) % kSlotSets * kSlotsOfSet; }

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

// The set of slots where this group's may be, the mutex being held.
std::span<GroupCopies::Slot> GroupCopies::set_of(GroupId group) const {
  static_assert(sizeof(Slot) == kSlotBytes);
  std::vector<Slot>& all = slots_->all;
  if (all.empty()) {
    all.resize(kSlots);
    std::span<char> bytes = bytes_of(std::span(all));
    size_t got = pread_full(fd_.get(), bytes, kSlotsOffset).value_or(0);
    std::ranges::fill(bytes.subspan(got), '\0');
  }
  return std::span(all).subspan(first_slot(group), kSlotsOfSet);
}

// Of no bytes: there is none.
GroupCopies::Slot GroupCopies::find_slot(GroupId group) const {
  std::lock_guard lock(slots_->mutex);
  for (const Slot& slot : set_of(group))
    if (slot.group == group && slot.bytes > kCopyHeadBytes && slot.bytes <= kMostCopyBytes)
      return slot;
  return {};
}

void GroupCopies::forget_slots() const {
  std::lock_guard lock(slots_->mutex);
  slots_->all = {};
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
  forget_slots();  // others may have added some
  uint64_t end = std::max<uint64_t>(static_cast<uint64_t>(status.st_size), kCopiesOffset);
  uint64_t limit = kCopiesOffset + limit_bytes;
  for (GroupId group : groups) {
    if (end >= limit) break;
    if (group > std::numeric_limits<uint32_t>::max() || find(group) || !has_place_for(group))
      continue;
    Result<std::string> record = make(group);
    if (!record.ok()) continue;  // who asks for it says what is wrong
    std::string copy = pack(group, *record);
    if (end + copy.size() > limit) break;
    Slot slot = {static_cast<uint32_t>(group), static_cast<uint32_t>(copy.size()), end};
    bool written = pwrite_full(fd_.get(), copy, slot.offset).ok() &&  // before what names it
                   put_slot(slot).ok();
    if (!written) {
      (void)::ftruncate(fd_.get(), static_cast<off_t>(end));
      break;
    }
    end += copy.size();
    added.push_back(group);
  }
  return added;
}

// A full set takes no more.
bool GroupCopies::has_place_for(GroupId group) const {
  std::lock_guard lock(slots_->mutex);
  return std::ranges::any_of(set_of(group), [&](const Slot& slot) { return slot.is_for(group); });
}

// In the file first.
Status GroupCopies::put_slot(const Slot& slot) {
  std::lock_guard lock(slots_->mutex);
  std::span<Slot> set = set_of(slot.group);
  auto place = std::ranges::find_if(set, [&](const Slot& old) { return old.is_for(slot.group); });
  uint64_t index = static_cast<uint64_t>(&*place - slots_->all.data());
  TRY(write_numbers(fd_, std::span<const Slot>(&slot, 1), kSlotsOffset + kSlotBytes * index));
  *place = slot;
  return {};
}

Status GroupCopies::for_each(
    const std::function<void(GroupId, uint64_t offset, uint32_t bytes)>& visit) const {
  std::string slots = TRY(read_part(fd_, kSlotsOffset, kSlots * kSlotBytes));
  for (size_t at = 0; at + sizeof(Slot) <= slots.size(); at += sizeof(Slot)) {
    Slot slot = load_fixed<Slot>(slots.data() + at);
    if (slot.bytes != 0) visit(slot.group, slot.offset, slot.bytes);
  }
  return {};
}

}  // namespace layerfs
