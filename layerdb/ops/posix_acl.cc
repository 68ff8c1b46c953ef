// SPDX-License-Identifier: Apache-2.0
#include "layerdb/ops/posix_acl.h"

#include <archive.h>
#include <archive_entry.h>
#include <grp.h>
#include <pwd.h>

#include <algorithm>
#include <memory>
#include <tuple>
#include <vector>

#include "layerdb/base/coding.h"
#include "layerdb/ops/tar_header.h"

namespace layerfs {
namespace {

constexpr uint32_t kAclVersion = 2;
constexpr uint32_t kNoId = ~uint32_t{0};

struct AclEntry {
  uint16_t tag = 0;
  uint16_t permissions = 0;
  uint32_t id = kNoId;
  bool operator<(const AclEntry& other) const {
    return std::tie(tag, id) < std::tie(other.tag, other.id);
  }
};

uint16_t linux_tag(int tag) {
  switch (tag) {
    case ARCHIVE_ENTRY_ACL_USER_OBJ:
      return 0x01;
    case ARCHIVE_ENTRY_ACL_USER:
      return 0x02;
    case ARCHIVE_ENTRY_ACL_GROUP_OBJ:
      return 0x04;
    case ARCHIVE_ENTRY_ACL_GROUP:
      return 0x08;
    case ARCHIVE_ENTRY_ACL_MASK:
      return 0x10;
    case ARCHIVE_ENTRY_ACL_OTHER:
      return 0x20;
    default:
      return 0;
  }
}

Result<uint32_t> resolve(bool group, int id, const char* name) {
  if (id >= 0) return static_cast<uint32_t>(id);
  std::string text = name ? name : "";
  if (auto number = parse_decimal(text); number && *number >= 0 && *number < kNoId) {
    return static_cast<uint32_t>(*number);
  }
  if (group) {
    if (const struct group* g = ::getgrnam(text.c_str())) return g->gr_gid;
  } else {
    if (const struct passwd* p = ::getpwnam(text.c_str())) return p->pw_uid;
  }
  return Error{EINVAL, std::string("its ACL names the ") + (group ? "group" : "user") + " '" +
                           text +
                           "', which this machine does not know; make the archive with "
                           "--numeric-owner"};
}

}  // namespace

Result<std::string> encode_posix_acl(const std::string& text) {
  std::unique_ptr<struct archive_entry, decltype(&archive_entry_free)> entry(archive_entry_new(),
                                                                             archive_entry_free);
  if (!entry) return Error{ENOMEM, "out of memory"};
  // An access ACL's three base entries would become the mode; a default ACL keeps all of them.
  constexpr int kType = ARCHIVE_ENTRY_ACL_TYPE_DEFAULT;
  if (archive_entry_acl_from_text(entry.get(), text.c_str(), kType) != ARCHIVE_OK ||
      archive_entry_acl_reset(entry.get(), kType) == 0) {
    return Error{EINVAL, "'" + text + "' is not an ACL"};
  }
  std::vector<AclEntry> entries;
  int type, permissions, tag, id;
  const char* name;
  while (archive_entry_acl_next(entry.get(), kType, &type, &permissions, &tag, &id, &name) ==
         ARCHIVE_OK) {
    AclEntry e{linux_tag(tag), static_cast<uint16_t>(permissions & 7), kNoId};
    if (e.tag == 0) return Error{EINVAL, "'" + text + "' is not a POSIX ACL"};
    bool group = tag == ARCHIVE_ENTRY_ACL_GROUP;
    if (group || tag == ARCHIVE_ENTRY_ACL_USER) e.id = TRY(resolve(group, id, name));
    entries.push_back(e);
  }
  std::sort(entries.begin(), entries.end());
  std::string out;
  put_u32(out, kAclVersion);
  for (const AclEntry& e : entries) {
    put_u16(out, e.tag);
    put_u16(out, e.permissions);
    put_u32(out, e.id);
  }
  return out;
}

}  // namespace layerfs
