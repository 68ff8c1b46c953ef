// SPDX-License-Identifier: Apache-2.0
//
// The catalog: what the store holds, by name. Records are JSON values under text keys (few and
// small; format.md lists every field):
//   ref/<repository:tag>   -> image id
//   image/<image id>       -> ImageRecord      config/<image id> -> the config's exact bytes
//   layer/<diffID>         -> LayerRecord      one layer as it came (a diff)
//   chain/<chainID>        -> ChainRecord      a stack of layers, merged (OCI chainID)
// An image id is the SHA-256 of its config, as docker's. Reading: any thread. Writing: through a
// CatalogBatch given to Store::publish only.
//
// A root page is a tree page with the one entry "root": the metadata, xattrs and tree of "/".
// Numbered from 0, it makes "/" inode 1 and everything below it as object/tree.h says.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "layerdb/base/hash.h"
#include "layerdb/base/result.h"
#include "layerdb/object/types.h"

namespace layerfs {

struct LayerRecord {
  Digest diff_id;              // SHA-256 of the uncompressed tar, unless `provisional`
  ObjectId root = ObjectId::none;   // root page (below) of the diff: whiteouts, opaque, implicit
  ObjectId links = ObjectId::none;  // link table of the diff (object/tree.h)
  Content tar;                 // the uncompressed tar, byte for byte
  uint64_t tar_bytes = 0;
  uint64_t entry_count = 0;
  uint64_t content_bytes = 0;  // sum of regular file sizes, hard links once
  // Has hard links to names of the layers below: `root` and `links` were made for the stack it
  // first came on and mean nothing on another one (ops/image_import.h reads the tar again).
  bool links_below = false;
  // The tar was not hashed: diff_id is the SHA-256 of what the layer changes and of where the rest
  // of the tar comes from (format.md). Export computes the tar's own.
  bool provisional = false;
};

struct ChainRecord {
  Digest chain_id;
  Digest diff_id;              // the top layer
  std::optional<Digest> parent;  // chainID below; none for the first layer
  ObjectId root = ObjectId::none;   // root page (below) of the merged tree: no whiteouts
  ObjectId links = ObjectId::none;  // root of the link table, none when there are no hard links
  uint64_t content_bytes = 0;  // what the merged tree's regular files add up to
};

struct ImageRecord {
  Digest id;
  std::vector<Digest> diff_ids;  // bottom first; at least one
  Digest chain_id;               // of the whole stack
  int64_t imported_at = 0;       // seconds since the epoch
};

class CatalogBatch {
 public:
  void put_ref(const std::string& reference, const Digest& image);
  void delete_ref(const std::string& reference);
  void put_image(const ImageRecord& image, std::string config);
  void delete_image(const Digest& image);  // record and config
  void put_layer(const LayerRecord& layer);
  void delete_layer(const Digest& diff_id);
  void put_chain(const ChainRecord& chain);
  void delete_chain(const Digest& chain_id);

  // (key, value); no value: delete. Later operations win.
  const std::vector<std::pair<std::string, std::optional<std::string>>>& operations() const {
    return operations_;
  }

 private:
  std::vector<std::pair<std::string, std::optional<std::string>>> operations_;
};

class Catalog {
 public:
  virtual ~Catalog() = default;
  // ENOENT when there is none; EUCLEAN when the record does not parse.
  virtual Result<Digest> ref(const std::string& reference) = 0;
  virtual Result<std::vector<std::pair<std::string, Digest>>> refs() = 0;  // sorted
  virtual Result<ImageRecord> image(const Digest& id) = 0;
  virtual Result<std::string> config(const Digest& id) = 0;
  virtual Result<std::vector<ImageRecord>> images() = 0;
  virtual Result<LayerRecord> layer(const Digest& diff_id) = 0;
  virtual Result<std::vector<LayerRecord>> layers() = 0;
  virtual Result<ChainRecord> chain(const Digest& chain_id) = 0;
  virtual Result<std::vector<ChainRecord>> chains() = 0;
};

Digest chain_id_of(const std::optional<Digest>& parent, const Digest& diff_id);

}  // namespace layerfs
