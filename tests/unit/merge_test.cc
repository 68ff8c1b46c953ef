// SPDX-License-Identifier: Apache-2.0
//
// Merging layers: equal to a naive union in memory over random stacks, and cheap when little
// changes.
#include "layerdb/ops/merge.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <functional>

#include "layerdb/view/tree_reader.h"
#include "tests/support/memory_objects.h"
#include "tests/support/model_tree.h"
#include "tests/support/random.h"

namespace layerfs {
namespace {

ModelNode file(uint64_t size = 0) {
  ModelNode node;
  node.entry.attributes = {.type = FileType::regular, .mode = 0644, .size_bytes = size};
  return node;
}

ModelNode directory() {
  ModelNode node;
  node.entry.attributes = {.type = FileType::directory, .mode = 0755};
  return node;
}

ModelNode whiteout() {
  ModelNode node;
  node.entry.attributes.type = FileType::whiteout;
  return node;
}

ModelNode linked(uint64_t id) {
  ModelNode node;
  node.entry.attributes.type = FileType::regular;
  node.entry.link_id = id;
  return node;
}

// The merged chain must be the very objects that the model makes when stored afresh: pages are
// canonical, so equal numbers mean equal trees, counts included.
void expect_equal(MemoryObjects& objects, const ChainRecord& chain, const ModelTree& model) {
  LayerRecord fresh = store_model(objects, model);
  EXPECT_EQ(chain.root, fresh.root);
  EXPECT_EQ(chain.links, fresh.links);
  EXPECT_EQ(chain.content_bytes, model_content_bytes(model));
}

TEST(Merge, EqualsNaiveUnionOverRandomStacks) {
  std::mt19937_64 random(test_support::test_seed());
  for (int round = 0; round < 400 && !HasFailure(); ++round) {
    MemoryObjects objects;
    ModelTree model;
    std::optional<ChainRecord> chain;
    size_t layers = random() % 8 + 1;
    for (size_t i = 0; i < layers; ++i) {
      ModelTree diff = random_diff(objects, model, random, i == 0 ? 60 : 15);
      LayerRecord layer = store_model(objects, diff);
      layer.diff_id.bytes[0] = static_cast<uint8_t>(i);
      auto merged = merge_layer(objects, chain, layer);
      ASSERT_TRUE(merged.ok()) << merged.error().message;
      if (i == 0) model = empty_model();
      if (i == 0) model.root.entry = diff.root.entry;
      model = model_union(model, diff);
      expect_equal(objects, *merged, model);
      EXPECT_EQ(merged->diff_id, layer.diff_id);
      EXPECT_EQ(merged->parent.has_value(), i > 0);
      if (i > 0) {
        EXPECT_EQ(*merged->parent, chain->chain_id);
      }
      chain = *merged;
    }
  }
}

TEST(Merge, RandomChangesInHugeDirectories) {
  std::mt19937_64 random(test_support::test_seed());
  for (size_t size : {1000, 5000, 120000}) {
    MemoryObjects objects;
    ModelTree model = empty_model();
    ModelNode& big = model.root.children["big"] = directory();
    for (size_t i = 0; i < size; ++i) big.children[fmt::format("{:07}", i * 10)] = file(i);
    ChainRecord chain = merge_layer(objects, std::nullopt, store_model(objects, model)).value();
    for (int layer = 0; layer < 4; ++layer) {
      ModelTree diff = empty_model();
      ModelNode& changed = diff.root.children["big"] = directory();
      for (int i = 0; i < 10; ++i) {
        size_t at = random() % size;
        switch (random() % 3) {
          case 0:
            changed.children[fmt::format("{:07}", at * 10)] = whiteout();
            break;
          case 1:
            changed.children[fmt::format("{:07}", at * 10)] = file(random() % 100);
            break;
          default:
            changed.children[fmt::format("{:07}", random() % (size * 12))] = file(1);
        }
      }
      LayerRecord stored = store_model(objects, diff);
      size_t before = objects.size();
      size_t read_before = objects.pages_read();
      chain = merge_layer(objects, chain, stored).value();
      EXPECT_LE(objects.size() - before, 10 * 3 + 5u);
      EXPECT_LE(objects.pages_read() - read_before, 10 * 6 + 30u);
      model = model_union(model, diff);
      expect_equal(objects, chain, model);
    }
  }
}

TEST(Merge, UnmentionedSubtreesAreNotRead) {
  MemoryObjects objects;
  ModelTree model = empty_model();
  for (int i = 0; i < 200; ++i) {
    ModelNode& d = model.root.children[fmt::format("d{:03}", i)] = directory();
    for (int j = 0; j < 20; ++j) {
      d.children[fmt::format("e{:03}", j)] = directory();
      d.children[fmt::format("e{:03}", j)].children["f"] = file(j);
    }
  }
  ChainRecord chain = merge_layer(objects, std::nullopt, store_model(objects, model)).value();
  ModelTree diff = empty_model();
  diff.root.children["d005"] = whiteout();
  diff.root.children["d010"] = directory();
  diff.root.children["d010"].entry.implicit = true;
  diff.root.children["d010"].children["new"] = file(7);
  LayerRecord layer = store_model(objects, diff);
  size_t before = objects.pages_read();
  chain = merge_layer(objects, chain, layer).value();
  EXPECT_LE(objects.pages_read() - before, 12u);
  expect_equal(objects, chain, model_union(model, diff));
}

TEST(Merge, HardLinksAcrossLayersKeepCounts) {
  MemoryObjects objects;
  ModelTree base = empty_model();
  uint64_t id = objects.new_link_id().value();
  base.links[id] = file(100).entry;
  base.links[id].attributes.nlink = 3;
  base.root.children["a"] = linked(id);
  base.root.children["dir"] = directory();
  base.root.children["dir"].children["b"] = linked(id);
  base.root.children["dir"].children["c"] = linked(id);
  ChainRecord chain = merge_layer(objects, std::nullopt, store_model(objects, base)).value();
  EXPECT_EQ(chain.content_bytes, 100u);
  auto nlink = [&] {
    auto found = find_name(objects, chain.links, link_name(id));
    return found.ok() ? found->page->attributes(found->index).nlink : 0;
  };
  EXPECT_EQ(nlink(), 3u);

  ModelTree more = empty_model();  // another name, with no table entry of its own
  more.root.children["z"] = linked(id);
  chain = merge_layer(objects, chain, store_model(objects, more)).value();
  EXPECT_EQ(nlink(), 4u);

  ModelTree fewer = empty_model();
  fewer.root.children["dir"] = file(1);
  fewer.root.children["z"] = whiteout();
  chain = merge_layer(objects, chain, store_model(objects, fewer)).value();
  EXPECT_EQ(nlink(), 1u);
  EXPECT_EQ(chain.content_bytes, 101u);

  ModelTree none = empty_model();
  none.root.entry.opaque = true;
  chain = merge_layer(objects, chain, store_model(objects, none)).value();
  EXPECT_EQ(chain.links, ObjectId::none);
  EXPECT_EQ(chain.content_bytes, 0u);
}

TEST(Merge, RefusesLinksToNothingAndAbsurdDepth) {
  MemoryObjects objects;
  ModelTree dangling = empty_model();
  dangling.root.children["a"] = linked(99);
  EXPECT_EQ(merge_layer(objects, std::nullopt, store_model(objects, dangling)).error().code,
            EUCLEAN);

  TreeRef tree;
  for (size_t i = 0; i < 3 * kMaxTreeDepth; ++i) {
    DirectoryBuilder builder(objects);
    Entry entry = directory().entry;
    entry.name = "d";
    entry.implicit = true;
    entry.tree = tree;
    ASSERT_TRUE(builder.add(entry).ok());
    tree = builder.finish().value();
  }
  LayerRecord deep;
  Entry root = directory().entry;
  root.tree = tree;
  deep.root = put_root_page(objects, root).value();
  EXPECT_EQ(merge_layer(objects, std::nullopt, deep).error().code, EINVAL);
}

TEST(Merge, DamageIsAnError) {
  MemoryObjects objects;
  std::mt19937_64 random(1);
  ModelTree base = random_diff(objects, {}, random, 60);
  LayerRecord layer = store_model(objects, base);
  ChainRecord chain = merge_layer(objects, std::nullopt, layer).value();
  LayerRecord top = store_model(objects, random_diff(objects, base, random, 60));
  MemoryObjects whole = objects;
  for (const auto& [id, bytes] : whole.contents()) {
    objects = whole;
    objects.contents().erase(id);
    auto merged = merge_layer(objects, chain, top);
    if (!merged.ok()) {
      EXPECT_EQ(merged.error().code, EUCLEAN);
    }
  }
}

}  // namespace
}  // namespace layerfs
