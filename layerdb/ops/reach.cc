// SPDX-License-Identifier: Apache-2.0
#include "layerdb/ops/reach.h"

namespace layerfs {

Status Reach::add_layer(const LayerRecord& layer) {
  TRY(add_tree(layer.root));
  TRY(add_tree(layer.links));
  return add_content(layer.tar);
}

Status Reach::add_chain(const ChainRecord& chain) {
  TRY(add_tree(chain.root));
  return add_tree(chain.links);
}

Status Reach::add_tree(ObjectId root) {
  std::vector<ObjectId> pending{root};
  while (!pending.empty()) {
    ObjectId id = pending.back();
    pending.pop_back();
    if (id == ObjectId::none || has(id)) continue;
    auto page = TRY(objects_.tree_page(id));
    mark(id);
    if (!page->is_index()) {
      TRY(add_leaf(*page, pending));
      continue;
    }
    for (size_t i = 0; i < page->size(); ++i) pending.push_back(page->child(i));
  }
  return {};
}

Status Reach::add_leaf(const TreePage& page, std::vector<ObjectId>& pending) {
  for (size_t i = 0; i < page.size(); ++i) {
    if (page.type(i) == FileType::directory) pending.push_back(page.tree(i).page);
    if (page.type(i) == FileType::regular && page.link_id(i) == 0) {
      TRY(add_content(TRY(page.entry(i)).content));
    }
  }
  return {};
}

Status Reach::add_content(const Content& content) {
  for (const Extent& extent : content.extents) visit_(extent);
  std::vector<ObjectId> pending{content.map};
  while (!pending.empty()) {
    ObjectId id = pending.back();
    pending.pop_back();
    if (id == ObjectId::none || has(id)) continue;
    auto page = TRY(objects_.map_page(id));
    mark(id);
    for (const Extent& extent : page->extents) visit_(extent);
    for (const MapChild& child : page->children) pending.push_back(child.page);
  }
  return {};
}

void Reach::mark(ObjectId id) {
  if (raw(id) >= seen_.size()) seen_.resize(raw(id) + raw(id) / 2 + 64);
  seen_[raw(id)] = true;
}

}  // namespace layerfs
