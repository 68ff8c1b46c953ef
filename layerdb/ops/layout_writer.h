// SPDX-License-Identifier: Apache-2.0
//
// Image layouts as sets of files, written to a directory or as one tar stream. Files are 0644 and
// directories 0755, owned by root and without times in tars: equal images give equal archives.
// Used from one thread. Nothing is visible before commit() (ops/output.h).
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "layerdb/base/hash.h"
#include "layerdb/base/result.h"
#include "layerdb/ops/compressor.h"

namespace layerfs {

struct Blob {
  Digest digest;
  uint64_t size_bytes = 0;
};

class LayoutWriter {
 public:
  using Producer = std::function<Status(const ByteSink&)>;
  virtual ~LayoutWriter() = default;

  virtual Status add_directory(const std::string& path) = 0;
  // `produce` must yield exactly `size_bytes`.
  virtual Status add_stream(const std::string& path, uint64_t size_bytes,
                            const Producer& produce) = 0;
  // A file whose size, and whose name below `directory` (the SHA-256 of its bytes), are known only
  // once it was produced.
  virtual Result<Blob> add_blob(const std::string& directory, const Producer& produce) = 0;
  virtual Status commit() = 0;

  Status add_file(const std::string& path, std::string_view bytes);
};

// `path` ending in '/': a directory; "-": a tar to standard output; else a tar. Blobs that have to
// wait for their size lie beside the output meanwhile, or in `spool_directory` when the output is
// standard output or no regular file.
Result<std::unique_ptr<LayoutWriter>> create_layout(const std::string& path,
                                                    const std::string& spool_directory);

}  // namespace layerfs
