// SPDX-License-Identifier: Apache-2.0
//
// A merged tree seen as a Lower: every number, name, listing and hard link agrees with a model.
#include "layerdb/view/store_lower.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <set>

#include "layerdb/ops/merge.h"
#include "tests/support/memory_chunks.h"
#include "tests/support/memory_objects.h"
#include "tests/support/model_tree.h"
#include "tests/support/random.h"

namespace layerfs {
namespace {

class LowerChecker {
 public:
  LowerChecker(Lower& lower, const ModelTree& model) : lower_(lower), model_(model) {}

  void check() {
    check_directory(kRootIno, model_.root);
    for (auto& [ino, names] : names_) check_names(ino, names);
    for (Ino ino = 0; ino < lower_.inode_limit() + 3; ++ino) {
      bool known = names_.contains(ino) || ino == kRootIno;
      auto node = lower_.get(ino);
      ASSERT_EQ(node.ok(), known) << ino;
      if (!known) {
        EXPECT_EQ(node.error().code, ENOENT);
      }
    }
  }

 private:
  using Names = std::set<std::pair<Ino, std::string>>;

  const Entry& inode(const Entry& entry) const {
    return entry.link_id == 0 ? entry : model_.links.at(entry.link_id);
  }

  void check_directory(Ino ino, const ModelNode& directory) {
    uint32_t subdirectories = 0;
    auto expected = directory.children.begin();
    uint64_t rank = 0;
    Status listed = lower_.list(ino, {}, [&](std::string_view name, const LowerNode& node) {
      EXPECT_NE(expected, directory.children.end());
      EXPECT_EQ(name, expected->first);
      check_node(ino, name, node, expected->second);
      subdirectories += node.attributes.type == FileType::directory;
      EXPECT_EQ(lower_
                    .list(ino, name,
                          [&](auto next, auto&) {
                            EXPECT_GT(next, name);
                            return false;
                          })
                    .ok(),
                true);
      EXPECT_TRUE(lower_
                      .list_from(ino, rank++,
                                 [&](auto same, auto& again) {
                                   EXPECT_EQ(same, name);
                                   EXPECT_EQ(again.ino, node.ino);
                                   return false;
                                 })
                      .ok());
      ++expected;
      return true;
    });
    ASSERT_TRUE(listed.ok()) << listed.error().message;
    EXPECT_EQ(expected, directory.children.end());
    EXPECT_TRUE(lower_
                    .list_from(ino, rank,
                               [&](auto, auto&) {
                                 ADD_FAILURE();
                                 return false;
                               })
                    .ok());
    EXPECT_EQ(lower_.get(ino)->attributes.nlink, 2 + subdirectories);
    EXPECT_EQ(lower_.lookup(ino, "no such name").error().code, ENOENT);
    EXPECT_EQ(lower_.open(ino).error().code, EISDIR);
  }

  void check_node(Ino directory, std::string_view name, const LowerNode& node,
                  const ModelNode& model) {
    const Entry& expected = inode(model.entry);
    auto found = lower_.lookup(directory, name);
    ASSERT_TRUE(found.ok());
    EXPECT_EQ(found->ino, node.ino);
    EXPECT_EQ(found->attributes, node.attributes);
    EXPECT_EQ(lower_.get(node.ino)->attributes, node.attributes);
    bool first = names_[node.ino].empty();
    names_[node.ino].emplace(directory, name);
    EXPECT_TRUE(first || model.entry.link_id != 0) << "number used twice";
    EXPECT_EQ(lower_.xattrs(node.ino).value(), expected.xattrs);
    if (node.attributes.type == FileType::directory) {
      check_directory(node.ino, model);
      return;
    }
    EXPECT_EQ(node.attributes, expected.attributes);
    EXPECT_EQ(lower_.lookup(node.ino, "x").error().code, ENOTDIR);
    EXPECT_EQ(lower_.entry(node.ino)->link_id, model.entry.link_id);
    if (node.attributes.type == FileType::symlink) {
      EXPECT_EQ(lower_.readlink(node.ino).value(), expected.symlink_target);
    } else {
      EXPECT_EQ(lower_.readlink(node.ino).error().code, EINVAL);
    }
    if (node.attributes.type == FileType::regular) {
      EXPECT_EQ(lower_.content(node.ino).value(), expected.content);
      EXPECT_EQ(lower_.open(node.ino).value()->size_bytes(), expected.attributes.size_bytes);
    }
  }

  void check_names(Ino ino, const Names& names) {
    Names found;
    auto locations = lower_.names_of(ino).value();
    for (auto& location : locations) found.emplace(location.parent, location.name);
    EXPECT_EQ(found, names);
    auto located = lower_.locate(ino);
    if (located.ok()) {
      EXPECT_EQ(names, (Names{{located->parent, located->name}}));
    } else {
      EXPECT_EQ(located.error().code, EMLINK);
      EXPECT_EQ(lower_.get(ino)->attributes.nlink, names.size());
    }
  }

  Lower& lower_;
  const ModelTree& model_;
  std::map<Ino, Names> names_;
};

TEST(StoreLower, AgreesWithModel) {
  std::mt19937_64 random(test_support::test_seed());
  for (int round = 0; round < 40 && !HasFailure(); ++round) {
    MemoryObjects objects;
    MemoryChunks chunks;
    ModelTree model = random_diff(objects, {}, random, 120);
    LayerRecord layer = store_model(objects, model);
    ModelTree base = empty_model();
    base.root.entry = model.root.entry;
    base.root.entry.opaque = base.root.entry.implicit = false;
    model = model_union(base, model);
    if (round % 20 == 0) {  // several pages, and hard links among them
      uint64_t id = objects.new_link_id().value();
      ModelNode& big = model.root.children["big"];
      big.entry.attributes = {.type = FileType::directory};
      uint32_t names = 0;
      for (int i = 0; i < 3000; ++i) {
        ModelNode& node = big.children[fmt::format("{:05}", i)];
        node.entry.attributes = {.type = i % 3 ? FileType::regular : FileType::directory};
        if (i % 99 == 1) {
          model.links[id] = node.entry;
          node.entry.link_id = id;
          ++names;
        }
      }
      model.links[id].attributes.nlink = names;
      layer = store_model(objects, model);
    }
    ChainRecord chain = merge_layer(objects, std::nullopt, layer).value();
    auto lower = open_store_lower(objects, chunks, chain);
    ASSERT_TRUE(lower.ok()) << lower.error().message;
    EXPECT_EQ((*lower)->content_bytes(), model_content_bytes(model));
    EXPECT_EQ((*lower)->locate(kRootIno).error().code, EINVAL);
    LowerChecker(**lower, model).check();
    // A search begins where the last one ended: in any order it must end at the same place.
    std::vector<Result<Lower::Location>> located;
    for (Ino ino = 2; ino < (*lower)->inode_limit(); ++ino)
      located.push_back((*lower)->locate(ino));
    for (int i = 0; i < 300 && !located.empty(); ++i) {
      size_t at = random() % located.size();
      auto again = (*lower)->locate(at + 2);
      ASSERT_EQ(again.ok(), located[at].ok());
      if (!again.ok()) continue;
      EXPECT_EQ(again->parent, located[at]->parent);
      EXPECT_EQ(again->name, located[at]->name);
    }
  }
}

TEST(StoreLower, ReadsFiles) {
  MemoryObjects objects;
  MemoryChunks chunks;
  ModelTree model = empty_model();
  ModelNode& file = model.root.children["file"];
  file.entry.attributes = {.type = FileType::regular, .size_bytes = 20};
  auto address = chunks.put("hello").value();
  file.entry.content.extents = {{4, address.group, address.offset, 5}};
  ChainRecord chain = merge_layer(objects, std::nullopt, store_model(objects, model)).value();
  auto lower = open_store_lower(objects, chunks, chain).value();
  auto opened = lower->open(2).value();
  std::string out(30, 'x');
  EXPECT_EQ(opened->read(0, out).value(), 20u);
  EXPECT_EQ(out.substr(0, 20), std::string(4, '\0') + "hello" + std::string(11, '\0'));
  EXPECT_EQ(opened->seek_data(0).value(), 4u);
  EXPECT_EQ(opened->seek_hole(4).value(), 9u);
}

TEST(StoreLower, DamageIsAnErrorNeverAWrongAnswer) {
  MemoryObjects objects;
  MemoryChunks chunks;
  std::mt19937_64 random(3);
  ModelTree model = random_diff(objects, {}, random, 200);
  ChainRecord chain = merge_layer(objects, std::nullopt, store_model(objects, model)).value();
  MemoryObjects whole = objects;
  auto good = open_store_lower(whole, chunks, chain).value();
  for (const auto& [id, bytes] : whole.contents()) {
    objects = whole;
    objects.contents().erase(id);
    auto lower = open_store_lower(objects, chunks, chain);
    if (!lower.ok()) {
      EXPECT_EQ(lower.error().code, EUCLEAN);
      continue;
    }
    for (Ino ino = 1; ino < (*lower)->inode_limit(); ++ino) {
      auto expected = good->get(ino);
      auto got = (*lower)->get(ino);
      if (got.ok()) {
        EXPECT_EQ(got->attributes, expected->attributes);
      } else {
        EXPECT_TRUE(got.error().code == EUCLEAN || !expected.ok());
      }
    }
  }
}

}  // namespace
}  // namespace layerfs
