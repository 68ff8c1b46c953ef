// SPDX-License-Identifier: Apache-2.0
//
// Whose files are whose. Mounted by root (also of a user namespace), ids pass unchanged and the
// kernel checks permissions. Mounted by an ordinary user, who alone may enter, the image's root is
// shown as that user: 0 and the user's own id change places, in both directions and for uid and gid
// alike. Changing places loses nothing: what was owned by 0 stays so in the upper and in a commit.
#pragma once

#include <cstdint>

namespace layerfs {

struct IdentityMap {
  uint32_t uid = 0;  // the mounting user; 0: ids pass unchanged
  uint32_t gid = 0;

  // Each is its own inverse.
  uint32_t map_uid(uint32_t id) const { return swap_with_zero(id, uid); }
  uint32_t map_gid(uint32_t id) const { return swap_with_zero(id, gid); }

 private:
  static uint32_t swap_with_zero(uint32_t id, uint32_t own) {
    if (id == 0) return own;
    return id == own ? 0 : id;
  }
};

}  // namespace layerfs
