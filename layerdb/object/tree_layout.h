// SPDX-License-Identifier: Apache-2.0
//
// Where things are in a tree page: shared by what reads (tree.cc) and what writes (tree_encode.cc).
// The byte tables are in layerdb/format.md.
#pragma once

#include <cstddef>
#include <cstdint>

#include "layerdb/object/types.h"

namespace layerfs::tree_layout {

inline constexpr char kPageMagic = 'T';
inline constexpr uint8_t kPageVersion = 1;
inline constexpr size_t kHeaderBytes = 24;

// Leaf record fields.
inline constexpr size_t kLeafRecordBytes = 48;
inline constexpr size_t kHeapOffset = 0;  // the same in index records
inline constexpr size_t kNameBytes = 4;   // the same in index records
inline constexpr size_t kType = 5;
inline constexpr size_t kModeFlags = 6;
inline constexpr size_t kDelta = 8;  // the same in index records
inline constexpr size_t kUid = 16;
inline constexpr size_t kGid = 20;
inline constexpr size_t kSize = 24;
inline constexpr size_t kMtimeSeconds = 32;
inline constexpr size_t kMtimeNanoseconds = 40;
inline constexpr size_t kNlink = 44;

// Index record fields.
inline constexpr size_t kIndexRecordBytes = 72;
inline constexpr size_t kEntriesBefore = 16;
inline constexpr size_t kChildTree = 24;

inline constexpr size_t kTreeRefBytes = 48;

// Flags, in the upper four bits of the mode.
inline constexpr uint8_t kHasXattrs = 1;
inline constexpr uint8_t kOpaque = 2;
inline constexpr uint8_t kImplicit = 4;
inline constexpr uint8_t kLinked = 8;

inline constexpr uint64_t kMapInsteadOfExtents = 255;
inline constexpr uint64_t kDirectorySizeBytes = 4096;

inline bool is_device(FileType type) {
  return type == FileType::char_device || type == FileType::block_device;
}

}  // namespace layerfs::tree_layout
