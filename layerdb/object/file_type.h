// SPDX-License-Identifier: Apache-2.0
//
// File types as stat(2) has them. Pure.
#pragma once

#include <sys/stat.h>

#include "layerdb/object/types.h"

namespace layerfs {

FileType file_type_of(mode_t mode);    // by S_IFMT; none for what no POSIX system has
mode_t file_type_bits(FileType type);  // the other way; 0 for none and whiteout

}  // namespace layerfs
