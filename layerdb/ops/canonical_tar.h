// SPDX-License-Identifier: Apache-2.0
//
// The canonical tar of layers that layerfs makes (commit, directory import, flattened export): pax,
// entries in preorder with names ascending, "./" omitted, numeric owners, nanosecond mtimes, xattrs
// as SCHILY.xattr, whiteouts as OCI's `.wh.` files. The same tree always yields the same bytes with
// one version of libarchive, which writes the headers.
#pragma once

#include <cstdint>
#include <string>

#include "layerdb/base/result.h"
#include "layerdb/object/types.h"

namespace layerfs {

// Header blocks of one entry (pax extensions included). `hard_link_target` not empty: a link.
// Bodies follow in the tar, padded to 512 bytes; tar_padding says with how many zeros.
Result<std::string> encode_tar_header(const std::string& path, const Entry& entry,
                                      const std::string& hard_link_target);
uint64_t tar_padding(uint64_t size_bytes);
std::string tar_trailer();  // two zero blocks

}  // namespace layerfs
