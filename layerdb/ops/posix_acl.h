// SPDX-License-Identifier: Apache-2.0
//
// ACLs as tar archives carry them (text) to what Linux keeps in system.posix_acl_access and
// system.posix_acl_default (version 2, little-endian).
#pragma once

#include <string>

#include "layerdb/base/result.h"

namespace layerfs {

// "user::rw-,user:1000:r--,group::r--,mask::r--,other::---", also with names and with libarchive's
// trailing ":id". A name without a number is looked up on this machine, as GNU tar does.
// EINVAL: no ACL, or a name this machine does not know.
Result<std::string> encode_posix_acl(const std::string& text);

}  // namespace layerfs
