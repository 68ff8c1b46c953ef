// SPDX-License-Identifier: Apache-2.0
//
// Gzip streams, checked: libarchive decompresses gzip without looking at its checksums, so a
// flipped bit would pass as data. Everything that is not gzip goes through as it is.
#pragma once

#include <string>

#include "layerdb/ops/import.h"

namespace layerfs {

// Errors: EINVAL for damaged or truncated gzip data, with `name`; the source's own.
ByteSource gunzip_source(ByteSource source, const std::string& name);

}  // namespace layerfs
