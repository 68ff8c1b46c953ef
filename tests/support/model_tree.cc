// SPDX-License-Identifier: Apache-2.0
#include "tests/support/model_tree.h"

#include <gtest/gtest.h>

namespace layerfs {
namespace {

bool is_directory(const ModelNode& node) {
  return node.entry.attributes.type == FileType::directory;
}

void put_on_top(ModelNode& lower, const ModelNode& diff) {
  if (diff.entry.opaque) lower.children.clear();
  if (!diff.entry.implicit) lower.entry = diff.entry;
  lower.entry.opaque = lower.entry.implicit = false;
  for (const auto& [name, child] : diff.children) {
    auto below = lower.children.find(name);
    if (child.entry.attributes.type == FileType::whiteout) {
      lower.children.erase(name);
    } else if (is_directory(child)) {
      if (below == lower.children.end() || !is_directory(below->second)) {
        below = lower.children.insert_or_assign(name, ModelNode{child.entry, {}}).first;
      }
      put_on_top(below->second, child);
    } else {
      lower.children.insert_or_assign(name, child);
    }
  }
}

void count_names(const ModelNode& node, std::map<uint64_t, uint32_t>& counts) {
  if (node.entry.link_id != 0) ++counts[node.entry.link_id];
  for (const auto& [name, child] : node.children) count_names(child, counts);
}

uint64_t content_below(const ModelNode& node) {
  uint64_t sum = 0;
  if (node.entry.attributes.type == FileType::regular && node.entry.link_id == 0) {
    sum += node.entry.attributes.size_bytes;
  }
  for (const auto& [name, child] : node.children) sum += content_below(child);
  return sum;
}

TreeRef store_children(ObjectStore& objects, const ModelNode& node) {
  DirectoryBuilder builder(objects);
  for (const auto& [name, child] : node.children) {
    Entry entry = child.entry;
    entry.name = name;
    entry.tree = store_children(objects, child);
    Status added = builder.add(entry);
    EXPECT_TRUE(added.ok()) << added.error().message;
  }
  return builder.finish().value();
}

Entry random_inode(FileType type, std::mt19937_64& random) {
  Entry e;
  e.attributes.type = type;
  if (type == FileType::whiteout) return e;
  e.attributes.mode = random() % 010000;
  e.attributes.uid = random() % 3;
  e.attributes.mtime = {static_cast<int64_t>(random() % 1000),
                        static_cast<uint32_t>(random() % 1000)};
  if (type == FileType::regular && random() % 4 != 0) {
    e.attributes.size_bytes = random() % 5000 + 1;
    e.content.extents = {
        {0, random() % 100 + 1, 0, static_cast<uint32_t>(e.attributes.size_bytes)}};
  }
  if (type == FileType::symlink) {
    e.symlink_target = "to" + std::to_string(random() % 10);
    e.attributes.size_bytes = e.symlink_target.size();
  }
  if (type == FileType::char_device) e.attributes.rdev_minor = random() % 100;
  if (random() % 5 == 0) e.xattrs = {{"user.x", std::to_string(random() % 100)}};
  return e;
}

}  // namespace

ModelTree empty_model() {
  ModelTree tree;
  tree.root.entry.attributes = {.type = FileType::directory, .mode = 0755};
  return tree;
}

ModelTree model_union(const ModelTree& lower, const ModelTree& diff) {
  ModelTree merged = lower;
  put_on_top(merged.root, diff.root);
  for (const auto& [id, inode] : diff.links) merged.links[id] = inode;
  std::map<uint64_t, uint32_t> counts;
  count_names(merged.root, counts);
  std::erase_if(merged.links, [&](const auto& link) { return !counts.contains(link.first); });
  for (auto& [id, inode] : merged.links) inode.attributes.nlink = counts[id];
  return merged;
}

uint64_t model_content_bytes(const ModelTree& tree) {
  uint64_t sum = content_below(tree.root);
  for (const auto& [id, inode] : tree.links) {
    if (inode.attributes.type == FileType::regular) sum += inode.attributes.size_bytes;
  }
  return sum;
}

LayerRecord store_model(ObjectStore& objects, const ModelTree& tree) {
  LayerRecord layer;
  Entry root = tree.root.entry;
  root.tree = store_children(objects, tree.root);
  layer.root = put_root_page(objects, root).value();
  DirectoryBuilder links(objects);
  for (const auto& [id, inode] : tree.links) {
    Entry entry = inode;
    entry.name = link_name(id);
    EXPECT_TRUE(links.add(entry).ok());
  }
  layer.links = links.finish()->page;
  layer.content_bytes = model_content_bytes(tree);
  return layer;
}

ModelTree random_diff(ObjectStore& objects, const ModelTree& lower, std::mt19937_64& random,
                      size_t max_entries) {
  constexpr FileType kTypes[] = {FileType::regular,    FileType::regular,   FileType::regular,
                                 FileType::directory,  FileType::directory, FileType::directory,
                                 FileType::symlink,    FileType::whiteout,  FileType::whiteout,
                                 FileType::char_device};
  ModelTree diff = empty_model();
  diff.root.entry = random_inode(FileType::directory, random);
  diff.root.entry.implicit = random() % 2;
  diff.root.entry.opaque = random() % 20 == 0;
  std::vector<uint64_t> new_ids;
  for (uint64_t i = random() % 4; i > 0; --i) {
    new_ids.push_back(objects.new_link_id().value());
    diff.links[new_ids.back()] =
        random_inode(random() % 4 ? FileType::regular : FileType::symlink, random);
  }
  std::vector<uint64_t> old_ids;
  for (const auto& [id, inode] : lower.links) old_ids.push_back(id);

  for (size_t n = random() % max_entries + 1; n > 0; --n) {
    ModelNode* directory = &diff.root;
    std::string name(1, static_cast<char>('a' + random() % 5));
    for (size_t depth = random() % 4; depth > 0; --depth) {
      auto& child = directory->children[name];
      if (!is_directory(child)) {
        child = {random_inode(FileType::directory, random), {}};
        child.entry.implicit = true;
      }
      directory = &child;
      name = std::string(1, static_cast<char>('a' + random() % 5));
    }
    ModelNode node{random_inode(kTypes[random() % std::size(kTypes)], random), {}};
    if (is_directory(node)) node.entry.opaque = random() % 5 == 0;
    const auto& ids = random() % 2 ? new_ids : old_ids;
    if (node.entry.attributes.type == FileType::regular && random() % 2 && !ids.empty()) {
      uint64_t id = ids[random() % ids.size()];
      const Entry& inode = diff.links.contains(id) ? diff.links[id] : lower.links.at(id);
      // Sometimes the diff describes an inode of the lower anew (its metadata changed).
      if (random() % 4 == 0)
        diff.links.try_emplace(id, random_inode(inode.attributes.type, random));
      node.entry = Entry{};
      node.entry.attributes.type = inode.attributes.type;
      node.entry.link_id = id;
    }
    directory->children.insert_or_assign(name, std::move(node));
  }
  // A diff's link table holds only what the diff names.
  std::map<uint64_t, uint32_t> counts;
  count_names(diff.root, counts);
  std::erase_if(diff.links, [&](const auto& link) { return !counts.contains(link.first); });
  for (auto& [id, inode] : diff.links) inode.attributes.nlink = counts[id];
  return diff;
}

}  // namespace layerfs
