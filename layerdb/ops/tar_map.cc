// SPDX-License-Identifier: Apache-2.0
#include "layerdb/ops/tar_map.h"

#include <algorithm>
#include <array>
#include <utility>

#include "layerdb/object/chunker.h"

namespace layerfs {
namespace {

constexpr size_t kMaxPendingPieces = 4096;
// File maps are read back in parts, so that a huge body costs no memory.
constexpr uint64_t kBodyWindowBytes = 64 << 20;

}  // namespace

TarMapWriter::TarMapWriter(Store& store)
    : chunks_(store.chunks()), objects_(store.objects()), map_(chunks_, objects_) {}

Status TarMapWriter::literal(std::string_view bytes) {
  if (bytes.empty()) return {};
  size_bytes_ += bytes.size();
  if (pending_.empty() || !pending_.back().literal) pending_.push_back({0, true, 0, {}});
  pending_.back().size_bytes += bytes.size();
  while (literals_.size() + bytes.size() >= kMaxChunkBytes) {
    size_t part = kMaxChunkBytes - std::min(literals_.size(), kMaxChunkBytes);
    literals_.append(bytes.substr(0, part));
    bytes.remove_prefix(part);
    TRY(cut(next_chunk_size(std::string_view(literals_).substr(0, kMaxChunkBytes))));
  }
  literals_.append(bytes);
  return {};
}

Status TarMapWriter::body(const Content& content, uint64_t offset, uint64_t size_bytes) {
  if (size_bytes == 0) return {};
  size_bytes_ += size_bytes;
  pending_.push_back({size_bytes, false, offset, content});
  TRY(place_bodies());
  while (pending_.size() > kMaxPendingPieces) TRY(cut(next_chunk_size(literals_)));
  return {};
}

// Stores the first `chunk_bytes` literals and places every piece that has its bytes now.
Status TarMapWriter::cut(size_t chunk_bytes) {
  ChunkAddress address = TRY(chunks_.put(std::string_view(literals_).substr(0, chunk_bytes)));
  literals_.erase(0, chunk_bytes);
  uint64_t used = 0;
  while (used < chunk_bytes) {
    TRY(place_bodies());
    Piece& piece = pending_.front();
    uint64_t size = std::min<uint64_t>(piece.size_bytes, chunk_bytes - used);
    Extent extent{0, address.group, address.offset + static_cast<uint32_t>(used),
                  static_cast<uint32_t>(size)};
    TRY(map_.append_extents(std::array{extent}, 0, size));
    used += size;
    piece.size_bytes -= size;
    if (piece.size_bytes == 0) pending_.pop_front();
  }
  return place_bodies();
}

Status TarMapWriter::place_bodies() {
  while (!pending_.empty() && !pending_.front().literal) {
    TRY(place_body(pending_.front()));
    pending_.pop_front();
  }
  return {};
}

Status TarMapWriter::place_body(const Piece& piece) {
  if (piece.content.map == ObjectId::none) {
    return map_.append_extents(piece.content.extents, piece.offset, piece.size_bytes);
  }
  ContentReader reader(chunks_, objects_, piece.content, piece.offset + piece.size_bytes);
  for (uint64_t done = 0; done < piece.size_bytes;) {
    uint64_t size = std::min(piece.size_bytes - done, kBodyWindowBytes);
    std::vector<Extent> extents = TRY(reader.extents(piece.offset + done, size));
    TRY(map_.append_extents(extents, piece.offset + done, size));
    done += size;
  }
  return {};
}

Result<Content> TarMapWriter::finish() {
  while (!literals_.empty()) TRY(cut(next_chunk_size(literals_)));
  TRY(place_bodies());
  size_bytes_ = 0;
  return map_.finish();
}

}  // namespace layerfs
