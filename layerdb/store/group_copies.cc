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
constexpr size_t kCopiesKindBytes = kCopiesMagic.size() + 1;  // the head without the identity
constexpr uint64_t kSlotSetsOffset = 4096, kSlotSets = 4096, kSlotSetBytes = 64;
constexpr uint64_t kCopiesOffset = kSlotSetsOffset + kSlotSets * kSlotSetBytes;
constexpr size_t kCopyHeadBytes = 16;
constexpr uint32_t kMostCopyBytes = kCopyHeadBytes + kMaxGroupBytes + 64;

std::string copies_kind() {
  std::string out(kCopiesMagic);
  put_u8(out, kCopiesVersion);
  return out;
}

uint64_t set_offset(GroupId group) {
  uint64_t hash = checksum64({reinterpret_cast<const char*>(&group), sizeof group});
  return kSlotSetsOffset + kSlotSetBytes * (hash % kSlotSets);
}

// As it lies in the file: its checksum, its number, its record.
std::string pack_copy(GroupId group, const std::string& record) {
  std::string number, out;
  put_u64(number, group);
  put_u64(out, checksum64(number + record));
  return out + number + record;
}

Result<std::string> read_part(const UniqueFd& fd, uint64_t offset, size_t bytes) {
  std::string out(bytes, '\0');
  out.resize(TRY(pread_full(fd.get(), out, offset)));
  return out;
}

Error not_ours(const std::string& path) {
  return {EPROTO, "'" + path + "' is of another version of layerfs; without it one is made"};
}

}  // namespace

Result<GroupCopies> GroupCopies::open(const std::string& path, uint64_t identity) {
  std::string head = copies_kind();
  put_u64(head, identity);
  Result<UniqueFd> fd = open_file(path, O_RDWR | O_CREAT | kHintFileFlags, 0600);
  bool may_write = fd.ok() || (fd.error().code != EACCES && fd.error().code != EROFS);
  if (!may_write) fd = open_file(path, O_RDONLY | kHintFileFlags);
  GroupCopies copies(TRY(std::move(fd)));
  if (TRY(read_part(copies.fd_, 0, head.size())) == head) return copies;
  if (!may_write) return not_ours(path);
  TRY(copies.prepare(path, head));
  return copies;
}

Result<GroupCopies> GroupCopies::open_to_read(const std::string& path) {
  GroupCopies copies(TRY(open_file(path, O_RDONLY | kHintFileFlags)));
  if (TRY(read_part(copies.fd_, 0, kCopiesKindBytes)) != copies_kind()) return not_ours(path);
  return copies;
}

Status GroupCopies::remove_if_newer(const std::string& path, GroupId next) {
  Result<GroupCopies> copies = open_to_read(path);
  if (!copies.ok() && copies.error().code == ENOENT) return {};
  bool newer = !copies.ok();  // who knows
  if (copies.ok())
    copies->for_each([&](GroupId group, uint64_t, uint32_t) { newer |= group >= next; });
  return newer ? remove(path) : Status();
}

Status GroupCopies::remove(const std::string& path) {
  if (::unlink(path.c_str()) == 0 || errno == ENOENT) return {};
  if (errno == EISDIR) return {};  // nobody's copies
  return errno_error("remove '" + path + "'");
}

// A new file, another database's, or one whose maker was killed.
Status GroupCopies::prepare(const std::string& path, const std::string& head) const {
  WriterTurn turn(fd_);
  if (!turn.mine()) return Error{EAGAIN, "'" + path + "' is being made"};
  std::string found = TRY(read_part(fd_, 0, head.size()));
  if (found == head) return {};
  if (!head.starts_with(found) && !found.starts_with(copies_kind())) return not_ours(path);
  if (::ftruncate(fd_.get(), 0) != 0) return errno_error("empty '" + path + "'");
  return pwrite_full(fd_.get(), head, 0);
}

GroupCopies::Set GroupCopies::read_set(uint64_t offset) const {
  static_assert(sizeof(Set) == kSlotSetBytes);
  Set set = {};
  Result<size_t> got = pread_full(fd_.get(), bytes_of(std::span<Slot>(set)), offset);
  if (!got.ok() || *got != sizeof set) return {};
  return set;
}

// Of no bytes: there is none.
GroupCopies::Slot GroupCopies::find_slot(GroupId group) const {
  for (const Slot& slot : read_set(set_offset(group)))
    if (slot.group == group && slot.bytes > kCopyHeadBytes && slot.bytes <= kMostCopyBytes)
      return slot;
  return {};
}

std::optional<std::string> GroupCopies::find(GroupId group) const {
  Slot slot = find_slot(group);
  if (slot.bytes == 0) return std::nullopt;
  Result<std::string> copy = read_part(fd_, slot.offset, slot.bytes);
  if (!copy.ok() || copy->size() != slot.bytes) return std::nullopt;
  Reader in(*copy);
  bool right = in.u64() == checksum64(std::string_view(*copy).substr(sizeof(uint64_t)));
  if (!right || in.u64() != group) return std::nullopt;
  return copy->substr(kCopyHeadBytes);
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
  struct stat status = {};
  if (!turn.mine() || ::fstat(fd_.get(), &status) != 0 || status.st_nlink == 0) return added;
  uint64_t end = std::max<uint64_t>(static_cast<uint64_t>(status.st_size), kCopiesOffset);
  uint64_t limit = kCopiesOffset + limit_bytes;
  for (GroupId group : groups) {
    if (end >= limit) break;
    if (group > std::numeric_limits<uint32_t>::max() || find(group)) continue;
    std::optional<uint64_t> place = place_for(group);
    if (!place) continue;
    Result<std::string> record = make(group);
    if (!record.ok()) continue;  // who asks for it says what is wrong
    std::string copy = pack_copy(group, *record);
    Slot slot = {static_cast<uint32_t>(group), static_cast<uint32_t>(copy.size()), end};
    end += copy.size();
    if (end > limit) break;
    if (!pwrite_full(fd_.get(), copy, slot.offset).ok()) break;  // before the slot that names it
    if (!write_numbers(fd_, std::span<const Slot>(&slot, 1), *place).ok()) break;
    added.push_back(group);
  }
  return added;
}

// The place of a slot. A full set takes no more.
std::optional<uint64_t> GroupCopies::place_for(GroupId group) const {
  uint64_t place = set_offset(group);
  for (const Slot& slot : read_set(place)) {
    if (slot.bytes == 0 || slot.group == group) return place;
    place += sizeof slot;
  }
  return std::nullopt;
}

void GroupCopies::for_each(
    const std::function<void(GroupId, uint64_t offset, uint32_t bytes)>& visit) const {
  Result<std::string> slots = read_part(fd_, kSlotSetsOffset, kSlotSets * kSlotSetBytes);
  if (!slots.ok()) return;
  for (size_t at = 0; at + sizeof(Slot) <= slots->size(); at += sizeof(Slot)) {
    Slot slot = load_fixed<Slot>(slots->data() + at);
    if (slot.bytes != 0) visit(slot.group, slot.offset, slot.bytes);
  }
}

}  // namespace layerfs
