// SPDX-License-Identifier: Apache-2.0
//
// What the importers of every kind of source share: layers bottom first, the merged tree after each
// one, the image's records. Private to the import files (import*.cc).
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "layerdb/ops/import.h"
#include "layerdb/ops/input_stream.h"
#include "layerdb/ops/source_files.h"
#include "layerdb/store/catalog.h"
#include "layerdb/store/store.h"

namespace layerfs {

Result<LayerRecord> import_layer_stream(Store& store, const std::optional<ChainRecord>& parent,
                                        InputStream& input, const std::string& source_name,
                                        const std::optional<Digest>& expected);

// What an image's config says that importing needs.
struct ImageConfig {
  std::string bytes;
  Digest id;
  std::vector<Digest> diff_ids;
};
// EINVAL when it is no image's config; `name` is for the sentence.
Result<ImageConfig> parse_image_config(std::string bytes, const std::string& name);
// The config of an image that is one root filesystem: made now, on this machine.
std::string make_rootfs_config(const Digest& diff_id, const std::string& source_name);
std::string host_architecture();  // as OCI names it

// Records of one import; nothing is visible before publish().
class ImageImport {
 public:
  ImageImport(Store& store, const ImportOptions& options) : store_(store), options_(options) {}

  // Image by image: layers bottom first, then finish_image().
  // A layer whose digest is known is read only if the store does not have it.
  using OpenLayer = std::function<Result<ByteSource>()>;
  Status add_layer(const Digest& diff_id, const std::string& name, const OpenLayer& open);
  // A layer from a stream whose digest is found by reading.
  Result<Digest> add_layer(InputStream& input, const std::string& name);
  Status finish_image(const ImageConfig& config, const std::vector<std::string>& references);
  Result<ImportResult> publish();

  Store& store() { return store_; }
  const ImportOptions& options() const { return options_; }

 private:
  Result<std::optional<LayerRecord>> find_layer(const Digest& diff_id);
  Status stack(const LayerRecord& layer, bool read_here);
  Result<LayerRecord> read_again(const LayerRecord& layer);

  Store& store_;
  const ImportOptions& options_;
  ImportResult result_;
  CatalogBatch batch_;
  std::map<Digest, LayerRecord> new_layers_;
  std::map<Digest, ChainRecord> new_chains_;
  // Of the image being built.
  std::optional<ChainRecord> chain_;
  std::vector<Digest> diff_ids_;
};

// The importers. `files` is what the archive or directory `name` holds.
Status import_oci(ImageImport& import, SourceFiles& files, const std::string& name);
Status import_docker(ImageImport& import, SourceFiles& files, const std::string& name);
// `walk` yields the canonical tar of a directory.
Result<ByteSource> directory_tar_source(const std::string& directory);

}  // namespace layerfs
