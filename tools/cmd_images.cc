// SPDX-License-Identifier: Apache-2.0
#include <nlohmann/json.hpp>

#include "layerdb/store/catalog.h"
#include "layerdb/store/reference.h"
#include "tools/cli.h"
#include "tools/image_info.h"
#include "tools/text.h"

namespace layerfs {
namespace {

nlohmann::json to_json(const ImageInfo& image) {
  nlohmann::json layers = nlohmann::json::array();
  for (const LayerRecord& layer : image.layers) layers.push_back(layer.diff_id.to_string());
  return {{"Id", image.record.id.to_string()},
          {"RepoTags", image.references},
          {"Created", image.created},
          {"ImportedAt", format_rfc3339(image.record.imported_at)},
          {"Size", image.size_bytes},
          {"ChainId", image.record.chain_id.to_string()},
          {"Layers", layers}};
}

void add_rows(Table& table, const ImageInfo& image) {
  auto row = [&](const std::string& repository, const std::string& tag) {
    table.add({repository, tag, short_id(image.record.id), created_ago(image.created),
               human_size(image.size_bytes)});
  };
  for (const std::string& text : image.references) {
    Result<Reference> reference = parse_reference(text);
    if (reference.ok())
      row(reference->repository, reference->digest ? "<none>" : reference->tag);
    else
      row(printable(text), "<none>");
  }
  if (image.references.empty()) row("<none>", "<none>");
}

Status list_images(const Globals& globals) {
  std::unique_ptr<Store> store = TRY(open_store_if_any(globals));
  std::vector<ImageInfo> images;
  if (store != nullptr) images = TRY(describe_images(store->catalog()));
  if (globals.json) {
    nlohmann::json list = nlohmann::json::array();
    for (const ImageInfo& image : images) list.push_back(to_json(image));
    print_json(list);
  } else if (globals.quiet) {
    for (const ImageInfo& image : images) print_line(short_id(image.record.id));
  } else {
    Table table({"REPOSITORY", "TAG", "IMAGE ID", "CREATED", "SIZE"});
    for (const ImageInfo& image : images) add_rows(table, image);
    print_line(table.to_string());
  }
  return {};
}

}  // namespace

void add_images(CommandLine& line) {
  line.add("Images", "images", "List images",
           {"layerfs images", "layerfs images -q", "layerfs images --json"}, list_images);
}

}  // namespace layerfs
