// SPDX-License-Identifier: Apache-2.0
//
// Bytes of files <-> chunks.
// ContentWriter cuts a stream of bytes into chunks, stores them and collects the extents; adjacent
// addresses merge into one extent. Other content can be appended by reference: the bytes are not
// read. ContentReader reads ranges of a Content; holes read as zeros.
// A layer's tar is kept the same way: as a Content that names headers and padding (stored as
// chunks of their own stream) and the file bodies where they already are (format.md, tar map).
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string_view>
#include <vector>

#include "layerdb/base/result.h"
#include "layerdb/object/types.h"
#include "layerdb/store/chunk_store.h"
#include "layerdb/store/object_store.h"

namespace layerfs {

// One content at a time; not thread-safe.
class ContentWriter {
 public:
  ContentWriter(ChunkStore& chunks, ObjectStore& objects);
  ~ContentWriter();

  Status append(std::string_view bytes);
  Status append_hole(uint64_t size_bytes);
  // Appends `extents` (their file_offset is relative to the content they come from, starting at
  // `source_offset`, for `size_bytes`); gaps become holes.
  Status append_extents(std::span<const Extent> extents, uint64_t source_offset,
                        uint64_t size_bytes);
  uint64_t size_bytes() const;  // appended so far, holes included

  // Writes the file map when there are many extents. The writer is empty again afterwards.
  Result<Content> finish();

 private:
  struct State;
  std::unique_ptr<State> state_;
};

// Stores a sorted list of extents as a Content (inline, or a file map).
Result<Content> put_content(ObjectStore& objects, const std::vector<Extent>& extents);

// Thread-safe, cheap to copy around by shared_ptr; holds no decoded data itself.
class ContentReader {
 public:
  ContentReader(ChunkStore& chunks, ObjectStore& objects, Content content, uint64_t size_bytes);

  uint64_t size_bytes() const { return size_bytes_; }
  // Fills `out` from `offset`; the count is short only at the end of the content. EUCLEAN: damage.
  Result<size_t> read(uint64_t offset, std::span<char> out) const;
  // Extents that overlap [offset, offset + size_bytes), whole (not clipped), in order.
  Result<std::vector<Extent>> extents(uint64_t offset, uint64_t size_bytes) const;
  // SEEK_DATA / SEEK_HOLE; ENXIO past the end, as lseek(2).
  Result<uint64_t> seek_data(uint64_t offset) const;
  Result<uint64_t> seek_hole(uint64_t offset) const;

 private:
  ChunkStore& chunks_;
  ObjectStore& objects_;
  Content content_;
  uint64_t size_bytes_;
};

}  // namespace layerfs
