// SPDX-License-Identifier: Apache-2.0
//
// docker-archive, as `docker save` wrote it before it turned to OCI layouts: a directory a layer
// (its tar, uncompressed, and what image format 1 knew of it), the config, manifest.json and
// repositories. A layer's directory is named by its chainID, which is unique in the stack.
#include <map>
#include <nlohmann/json.hpp>

#include "layerdb/base/json.h"
#include "layerdb/ops/export_formats.h"
#include "layerdb/store/catalog.h"
#include "layerdb/store/reference.h"

namespace layerfs {
namespace {

using nlohmann::ordered_json;

struct StackedLayer {
  const LayerRecord* layer;
  std::string id;      // hex chainID
  std::string parent;  // that of the layer below; empty for the lowest
  std::string tar;     // path; of the first place where the same layer comes
};

std::vector<StackedLayer> stack(const ImageSource& image) {
  std::vector<StackedLayer> out;
  std::map<Digest, std::string> tars;
  std::optional<Digest> chain;
  for (const LayerRecord& layer : image.layers) {
    std::string parent = chain ? chain->hex() : "";
    chain = chain_id_of(chain, layer.diff_id);
    auto [tar, first] = tars.emplace(layer.diff_id, chain->hex() + "/layer.tar");
    out.push_back({&layer, chain->hex(), parent, tar->second});
  }
  return out;
}

Status add_layer(LayoutWriter& layout, ContentCopier& copier, const StackedLayer& stacked) {
  TRY(layout.add_directory(stacked.id));
  TRY(layout.add_file(stacked.id + "/VERSION", "1.0"));
  ordered_json legacy = {{"id", stacked.id}};
  if (!stacked.parent.empty()) legacy["parent"] = stacked.parent;
  TRY(layout.add_file(stacked.id + "/json", json_text(legacy)));
  if (stacked.tar != stacked.id + "/layer.tar") return {};  // written with a layer below
  return layout.add_stream(stacked.tar, stacked.layer->tar_bytes, [&](const ByteSink& sink) {
    return copier.copy_layer(*stacked.layer, sink);
  });
}

}  // namespace

Status export_docker(Store& store, const ImageSource& stored, const ExportOptions& options) {
  std::unique_ptr<LayoutWriter> layout = TRY(create_layout(options.output, spool_directory(store)));
  ImageSource image = TRY(without_provisional_ids(store, stored, options));
  std::vector<StackedLayer> layers = stack(image);
  uint64_t total_bytes = 0;
  ordered_json tars = ordered_json::array();
  for (const StackedLayer& stacked : layers) {
    total_bytes += stacked.layer->tar_bytes;
    tars.push_back(stacked.tar);
  }
  ContentCopier copier(store, options, total_bytes);
  for (const StackedLayer& stacked : layers) TRY(add_layer(*layout, copier, stacked));

  std::string config_name = sha256(image.config).hex() + ".json";
  TRY(layout->add_file(config_name, image.config));
  ordered_json manifest = {{"Config", config_name}, {"RepoTags", nullptr}, {"Layers", tars}};
  if (options.reference) {
    Reference reference = TRY(parse_reference(*options.reference));
    manifest["RepoTags"] = {reference.to_string()};
    ordered_json repositories = {{reference.repository, {{reference.tag, layers.back().id}}}};
    TRY(layout->add_file("repositories", json_text(repositories)));
  }
  TRY(layout->add_file("manifest.json", json_text(ordered_json::array({manifest}))));
  return layout->commit();
}

}  // namespace layerfs
