// SPDX-License-Identifier: Apache-2.0
//
// POSIX ACLs as Linux keeps them in xattrs, and what they do to modes. The kernel (FUSE_POSIX_ACL)
// checks access with them; keeping mode and ACL in step and inheriting defaults is the
// filesystem's. Pure functions.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "layerdb/base/result.h"

namespace layerfs {

inline constexpr const char* kAclAccess = "system.posix_acl_access";
inline constexpr const char* kAclDefault = "system.posix_acl_default";

struct AclEntry {
  uint16_t tag = 0;   // ACL_USER_OBJ… of linux/posix_acl.h
  uint16_t perm = 0;  // rwx
  uint32_t id = 0;
  bool operator==(const AclEntry&) const = default;
};
using Acl = std::vector<AclEntry>;

Result<Acl> parse_acl(std::string_view bytes);  // EINVAL unless it is a valid ACL
std::string encode_acl(const Acl& acl);

// The 0777 bits that an access ACL stands for. `says_more`: it has entries that modes lack.
uint32_t acl_mode(const Acl& acl, bool& says_more);

// chmod: the entries that modes can express follow `mode`.
void apply_mode(Acl& acl, uint32_t mode);

// A new file's access ACL, made from the directory's default one and the mode asked for: both are
// reduced to what the other allows. False: `mode` alone says it all.
bool inherit_acl(Acl& acl, uint32_t& mode);

}  // namespace layerfs
