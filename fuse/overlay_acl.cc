// SPDX-License-Identifier: Apache-2.0
#include "fuse/overlay_acl.h"

#include "layerdb/base/coding.h"

namespace layerfs {
namespace {

constexpr uint32_t kVersion = 2;
enum Tag : uint16_t {
  kUserObj = 0x01,
  kUser = 0x02,
  kGroupObj = 0x04,
  kGroup = 0x08,
  kMask = 0x10,
  kOther = 0x20,
};
constexpr uint32_t kNoId = ~0u;

AclEntry* find(Acl& acl, Tag tag) {
  for (AclEntry& entry : acl) {
    if (entry.tag == tag) return &entry;
  }
  return nullptr;
}

// Which entries may follow each other: USER_OBJ USER* GROUP_OBJ GROUP* [MASK] OTHER, and a mask
// wherever there is a USER or GROUP.
bool valid(const Acl& acl) {
  uint16_t last = 0;
  uint32_t seen = 0;
  for (const AclEntry& entry : acl) {
    if (entry.perm > 7 || entry.tag < last) return false;
    bool repeats = entry.tag == kUser || entry.tag == kGroup;
    if (entry.tag == last && !repeats) return false;
    switch (entry.tag) {
      case kUserObj:
      case kUser:
      case kGroupObj:
      case kGroup:
      case kMask:
      case kOther:
        break;
      default:
        return false;
    }
    seen |= entry.tag;
    last = entry.tag;
  }
  constexpr uint32_t kRequired = kUserObj | kGroupObj | kOther;
  if ((seen & kRequired) != kRequired) return false;
  return (seen & (kUser | kGroup)) == 0 || (seen & kMask) != 0;
}

}  // namespace

Result<Acl> parse_acl(std::string_view bytes) {
  Reader reader(bytes);
  Acl acl;
  if (reader.u32() != kVersion) return Error{EINVAL, "not a version 2 ACL"};
  while (!reader.failed() && reader.remaining() != 0) {
    AclEntry entry;
    entry.tag = reader.u16();
    entry.perm = reader.u16();
    entry.id = reader.u32();
    acl.push_back(entry);
  }
  if (reader.failed() || !valid(acl)) return Error{EINVAL, "not a valid ACL"};
  return acl;
}

std::string encode_acl(const Acl& acl) {
  std::string out;
  put_u32(out, kVersion);
  for (const AclEntry& entry : acl) {
    put_u16(out, entry.tag);
    put_u16(out, entry.perm);
    bool named = entry.tag == kUser || entry.tag == kGroup;
    put_u32(out, named ? entry.id : kNoId);
  }
  return out;
}

uint32_t acl_mode(const Acl& acl, bool& says_more) {
  uint32_t mode = 0;
  says_more = false;
  for (const AclEntry& entry : acl) {
    switch (entry.tag) {
      case kUserObj:
        mode |= entry.perm << 6;
        break;
      case kGroupObj:
        mode |= entry.perm << 3;
        break;
      case kOther:
        mode |= entry.perm;
        break;
      case kMask:
        mode = (mode & ~070u) | entry.perm << 3;
        [[fallthrough]];
      default:
        says_more = true;
    }
  }
  return mode;
}

void apply_mode(Acl& acl, uint32_t mode) {
  if (AclEntry* owner = find(acl, kUserObj)) owner->perm = mode >> 6 & 7;
  AclEntry* mask = find(acl, kMask);
  if (AclEntry* group = mask != nullptr ? mask : find(acl, kGroupObj)) group->perm = mode >> 3 & 7;
  if (AclEntry* other = find(acl, kOther)) other->perm = mode & 7;
}

bool inherit_acl(Acl& acl, uint32_t& mode) {
  AclEntry* mask = find(acl, kMask);
  AclEntry* group = mask != nullptr ? mask : find(acl, kGroupObj);
  const AclEntry* classes[] = {find(acl, kUserObj), group, find(acl, kOther)};
  uint32_t allowed = 0;
  for (const AclEntry* entry : classes) allowed = allowed << 3 | entry->perm;
  mode = (mode & ~0777u) | (mode & allowed & 0777u);
  apply_mode(acl, mode);
  bool says_more = false;
  acl_mode(acl, says_more);
  return says_more;
}

}  // namespace layerfs
