// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <map>
#include <nlohmann/json.hpp>

#include "layerdb/store/catalog.h"
#include "tools/cli.h"
#include "tools/text.h"

namespace layerfs {
namespace {

nlohmann::json to_json(const LayerRecord& layer, const std::vector<Digest>& images) {
  nlohmann::json ids = nlohmann::json::array();
  for (const Digest& image : images) ids.push_back(image.to_string());
  return {{"DiffId", layer.diff_id.to_string()},
          {"Entries", layer.entry_count},
          {"Size", layer.content_bytes},
          {"TarSize", layer.tar_bytes},
          {"Provisional", layer.provisional},
          {"Images", ids}};
}

Status list_layers(const Globals& globals) {
  std::unique_ptr<Store> store = TRY(open_store_if_any(globals));
  std::vector<LayerRecord> layers;
  std::map<Digest, std::vector<Digest>> users;
  if (store != nullptr) {
    layers = TRY(store->catalog().layers());
    for (const ImageRecord& image : TRY(store->catalog().images()))
      for (const Digest& diff_id : image.diff_ids) {
        std::vector<Digest>& of_layer = users[diff_id];  // a layer may be in an image twice
        if (of_layer.empty() || of_layer.back() != image.id) of_layer.push_back(image.id);
      }
  }
  if (globals.json) {
    nlohmann::json list = nlohmann::json::array();
    for (const LayerRecord& layer : layers) list.push_back(to_json(layer, users[layer.diff_id]));
    print_json(list);
  } else if (globals.quiet) {
    for (const LayerRecord& layer : layers) print_line(layer.diff_id.to_string());
  } else {
    Table table({"DIFF ID", "ENTRIES", "SIZE", "TAR SIZE", "IMAGES"});
    for (const LayerRecord& layer : layers)
      table.add({short_id(layer.diff_id), std::to_string(layer.entry_count),
                 human_size(layer.content_bytes), human_size(layer.tar_bytes),
                 std::to_string(users[layer.diff_id].size())});
    print_line(table.to_string());
  }
  return {};
}

}  // namespace

void add_layers(CommandLine& line) {
  line.add("Images", "layers", "List layers and how many images use each",
           {"layerfs layers", "layerfs layers --json"}, list_layers);
}

}  // namespace layerfs
