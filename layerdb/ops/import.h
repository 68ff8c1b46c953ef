// SPDX-License-Identifier: Apache-2.0
//
// Bringing images in: a rootfs tar, a directory, an OCI layout (directory or tar) or a
// docker-archive. What the source is, is found by looking at it. Nothing becomes visible unless
// everything succeeded (one Store::publish). Layers the store already has are recognised by diffID
// and not read again.
#pragma once

#include <atomic>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "layerdb/base/result.h"
#include "layerdb/store/catalog.h"
#include "layerdb/store/store.h"

namespace layerfs {

// Bytes done of total (0: unknown), and what is being done. Called a few times a second, from any
// thread but never from two at once.
using Progress = std::function<void(uint64_t done, uint64_t total, const std::string& what)>;

struct ImportOptions {
  std::optional<std::string> reference;  // tag for the image; archives may bring their own
  Progress progress;
  const std::atomic<bool>* cancelled = nullptr;  // Ctrl-C: stop with EINTR, store as it was
};

struct ImportResult {
  std::vector<Digest> images;  // one, unless an archive holds several
  std::vector<std::string> references;
  uint64_t layers_new = 0;
  uint64_t layers_known = 0;
};

Result<ImportResult> import_image(Store& store, const std::string& source,
                                  const ImportOptions& options);

// `read` fills a buffer and returns 0 at the end. It is called from another thread than the
// import's, one call at a time.
using ByteSource = std::function<Result<size_t>(char* buffer, size_t size)>;

// One layer from a tar, uncompressed or compressed (ops/import_tar.cc). The digest of the
// uncompressed stream is the record's diff_id; when `expected` is given, it must be that one. A
// tar whose end marker is missing is then accepted: its digest vouches for it. Errors: EINVAL with
// a sentence naming `source_name` and the entry; EINTR; the store's own. Nothing is published.
Result<LayerRecord> import_layer_tar(Store& store, const std::optional<ChainRecord>& parent,
                                     const ByteSource& read, const std::string& source_name,
                                     const std::optional<Digest>& expected,
                                     const std::atomic<bool>* cancelled);

}  // namespace layerfs
