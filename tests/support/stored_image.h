// SPDX-License-Identifier: Apache-2.0
//
// Images put into a store by hand, record by record, for tests of what reads them: their layers'
// tars need not be tars, their merged trees need not come from layers.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "layerdb/ops/tree_builder.h"
#include "layerdb/store/catalog.h"
#include "layerdb/store/content.h"
#include "layerdb/store/store.h"
#include "tests/support/result_matchers.h"

namespace layerfs::test_support {

inline void require(Status status) {
  if (!status.ok()) throw std::runtime_error(status.error().message);
}

inline Content write_content(Store& store, std::string_view bytes) {
  ContentWriter writer(store.chunks(), store.objects());
  require(writer.append(bytes));
  return VALUE(writer.finish());
}

inline LayerRecord make_layer(Store& store, std::string_view tar) {
  return {.diff_id = sha256(tar), .tar = write_content(store, tar), .tar_bytes = tar.size()};
}

inline Entry make_entry(std::string name, FileType type, uint16_t mode = 0644) {
  Entry out;
  out.name = std::move(name);
  out.attributes.type = type;
  out.attributes.mode = mode;
  return out;
}

inline Entry make_file(Store& store, std::string name, std::string_view bytes) {
  Entry out = make_entry(std::move(name), FileType::regular);
  out.attributes.size_bytes = bytes.size();
  out.content = write_content(store, bytes);
  return out;
}

inline TreeRef make_tree(Store& store, const std::vector<Entry>& sorted) {
  DirectoryBuilder builder(store.objects());
  for (const Entry& entry : sorted) require(builder.add(entry));
  return VALUE(builder.finish());
}

// The records of a whole image on these layers, each with a chain; `root` is the tree of all of
// them, `links` its link table.
inline ImageRecord publish_image(Store& store, const std::vector<LayerRecord>& layers,
                                 const std::string& config,
                                 const std::vector<std::string>& references,
                                 ObjectId root = ObjectId::none, ObjectId links = ObjectId::none) {
  CatalogBatch batch;
  ImageRecord image{.id = sha256(config)};
  std::optional<Digest> parent;
  for (const LayerRecord& layer : layers) {
    batch.put_layer(layer);
    image.diff_ids.push_back(layer.diff_id);
    image.chain_id = chain_id_of(parent, layer.diff_id);
    batch.put_chain({.chain_id = image.chain_id,
                     .diff_id = layer.diff_id,
                     .parent = parent,
                     .root = root,
                     .links = links});
    parent = image.chain_id;
  }
  batch.put_image(image, config);
  for (const std::string& reference : references) batch.put_ref(reference, image.id);
  require(store.publish(std::move(batch)));
  return image;
}

}  // namespace layerfs::test_support
