// SPDX-License-Identifier: Apache-2.0
#include "tests/support/store_images.h"

#include <functional>

#include "layerdb/ops/merge.h"
#include "layerdb/store/content.h"
#include "tests/support/result_matchers.h"

namespace layerfs {
namespace {

void for_each_file(const ModelNode& node, const std::function<void(const Entry&)>& visit) {
  if (node.entry.attributes.type == FileType::regular) visit(node.entry);
  for (const auto& [name, child] : node.children) for_each_file(child, visit);
}

// A "tar": a header of its own, then every file's bytes by reference.
void put_tar(Store& store, const ModelTree& diff, const std::string& header, LayerRecord& layer) {
  ContentWriter writer(store.chunks(), store.objects());
  ASSERT_OK(writer.append(header));
  auto append = [&](const Entry& file) {
    ASSERT_OK(writer.append_extents(file.content.extents, 0, file.attributes.size_bytes));
  };
  for_each_file(diff.root, append);
  for (const auto& [id, inode] : diff.links) append(inode);
  layer.tar_bytes = writer.size_bytes();
  layer.tar = VALUE(writer.finish());
  ASSERT_OK(store.chunks().flush());
  ContentReader reader(store.chunks(), store.objects(), layer.tar, layer.tar_bytes);
  std::string tar(layer.tar_bytes, '\0');
  ASSERT_EQ(VALUE(reader.read(0, std::span<char>(tar))), tar.size());
  layer.diff_id = sha256(tar);
}

}  // namespace

ModelNode model_file(Store& store, const std::string& bytes) {
  ContentWriter writer(store.chunks(), store.objects());
  ModelNode node;
  node.entry.attributes = {.type = FileType::regular, .mode = 0644, .size_bytes = bytes.size()};
  EXPECT_TRUE(writer.append(bytes).ok());
  node.entry.content = VALUE(writer.finish());
  return node;
}

ModelNode model_directory() {
  ModelNode node;
  node.entry.attributes = {.type = FileType::directory, .mode = 0755};
  return node;
}

ImageRecord publish_image(Store& store, const ModelTree& diff, const std::string& reference,
                          const std::optional<ImageRecord>& parent) {
  LayerRecord layer = store_model(store.objects(), diff);
  put_tar(store, diff, "header of " + reference, layer);
  std::optional<ChainRecord> below;
  ImageRecord image;
  if (parent) {
    below = VALUE(store.catalog().chain(parent->chain_id));
    image.diff_ids = parent->diff_ids;
  }
  ChainRecord chain = VALUE(merge_layer(store, below, layer));
  image.diff_ids.push_back(layer.diff_id);
  image.chain_id = chain.chain_id;
  std::string config = "{\"name\":\"" + reference + "\"}";
  image.id = sha256(config);
  CatalogBatch batch;
  batch.put_layer(layer);
  batch.put_chain(chain);
  batch.put_image(image, config);
  batch.put_ref(reference, image.id);
  Status published = store.publish(std::move(batch));
  EXPECT_TRUE(published.ok());
  return image;
}

}  // namespace layerfs
