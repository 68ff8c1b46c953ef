// SPDX-License-Identifier: Apache-2.0
//
// Writes the content that is a layer's whole uncompressed tar, byte for byte: bodies by reference
// to where the files' own chunks are, everything else (headers, padding, what follows the end) as
// literal bytes. Literals of many entries share chunks, cut from one stream of their own; until a
// chunk is cut, the pieces that need it wait here. Memory: one chunk of literals and at most
// kMaxPendingPieces pieces.
// One writing thread. Errors: the store's.
#pragma once

#include <cstdint>
#include <deque>
#include <string>
#include <string_view>

#include "layerdb/base/result.h"
#include "layerdb/store/content.h"
#include "layerdb/store/store.h"

namespace layerfs {

class TarMapWriter {
 public:
  explicit TarMapWriter(Store& store);

  Status literal(std::string_view bytes);
  // `size_bytes` of `content`, from `offset` on, are the next bytes of the tar.
  Status body(const Content& content, uint64_t offset, uint64_t size_bytes);
  uint64_t size_bytes() const { return size_bytes_; }
  Result<Content> finish();

 private:
  struct Piece {
    uint64_t size_bytes = 0;
    bool literal = false;
    uint64_t offset = 0;  // bodies
    Content content;
  };

  Status cut(size_t chunk_bytes);
  Status place_bodies();
  Status place_body(const Piece& piece);

  ChunkStore& chunks_;
  ObjectStore& objects_;
  ContentWriter map_;
  std::string literals_;
  std::deque<Piece> pending_;
  uint64_t size_bytes_ = 0;
};

}  // namespace layerfs
