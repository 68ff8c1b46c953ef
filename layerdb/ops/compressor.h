// SPDX-License-Identifier: Apache-2.0
//
// Compressing a stream for an exported layer: gzip, zstd or nothing. Deterministic: the same bytes
// in give the same bytes out, whatever the number of processors and the sizes of the pieces written
// (with one version of zlib or zstd). Gzip is cut into blocks that are compressed in parallel, each
// with the window of the one before it, and joined into one member: any gunzip reads it.
// Used from one thread; the sink is called from that thread. Memory: a few MiB.
#pragma once

#include <functional>
#include <memory>
#include <string_view>

#include "layerdb/base/result.h"

namespace layerfs {

using ByteSink = std::function<Status(std::string_view)>;

enum class LayerCompression { none, gzip, zstd };

class Compressor {
 public:
  virtual ~Compressor() = default;
  virtual Status write(std::string_view bytes) = 0;
  virtual Status finish() = 0;  // the rest; nothing may be written afterwards
};

Result<std::unique_ptr<Compressor>> make_compressor(LayerCompression compression, ByteSink sink);

}  // namespace layerfs
