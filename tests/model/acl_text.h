// SPDX-License-Identifier: Apache-2.0
//
// POSIX ACLs of the tests, written from acl(5) and not from the filesystem's own code: as text
// (`u::7,u:5:6,g::5,m::7,o::4`, digits are rwx bits), as xattr bytes, and what Linux does with
// them.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <utility>

namespace layerfs {

// (tag, id) -> rwx; the order of tags is that of the kernel. Ids of tags without one are 0.
struct ModelAcl {
  enum Tag : uint16_t { owner = 1, user = 2, group = 4, named_group = 8, mask = 16, other = 32 };
  std::map<std::pair<uint16_t, uint32_t>, uint16_t> entries;

  bool has(Tag tag) const { return entries.count({tag, 0}) != 0; }
  bool minimal() const { return entries.size() == 3; }  // says no more than a mode
  // The 0777 bits that it stands for, and the other way.
  uint32_t mode() const;
  void set_mode(uint32_t mode);
};

std::string acl_bytes(const ModelAcl& acl);                        // an xattr's value
std::optional<ModelAcl> acl_from_bytes(const std::string& bytes);  // nullopt: not valid
std::string acl_bytes_of_text(const std::string& text);            // valid or not
std::string acl_text(const std::string& bytes);

inline const std::string kAccessAclName = "system.posix_acl_access";
inline const std::string kDefaultAclName = "system.posix_acl_default";

}  // namespace layerfs
