// SPDX-License-Identifier: Apache-2.0
//
// Tree pages, tree_builder and tree_reader: round trips, search, numbering, paging, damage.
#include "layerdb/object/tree.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <random>
#include <set>

#include "layerdb/ops/tree_builder.h"
#include "layerdb/view/tree_reader.h"
#include "tests/support/memory_objects.h"
#include "tests/support/random.h"

namespace layerfs {
namespace {

Entry file(std::string name, uint64_t size = 0) {
  Entry e;
  e.name = std::move(name);
  e.attributes = {.type = FileType::regular, .mode = 0644, .size_bytes = size};
  return e;
}

Entry directory(std::string name, TreeRef tree) {
  Entry e;
  e.name = std::move(name);
  e.attributes = {.type = FileType::directory, .mode = 0755, .size_bytes = 4096};
  e.attributes.nlink = 2 + tree.subdirectory_count;
  e.tree = tree;
  return e;
}

std::vector<Entry> entries_of_every_kind() {
  std::vector<Entry> entries;
  entries.push_back(directory("dir", {.page = ObjectId{7},
                                      .inode_count = 12,
                                      .entry_count = 3,
                                      .subdirectory_count = 2,
                                      .whiteout_count = 1,
                                      .linked_count = 4,
                                      .content_bytes = 99}));
  entries.back().opaque = true;
  entries.back().xattrs = {{"trusted.a", "1"}, {"user.b", std::string(70000, 'x')}};
  entries.push_back(directory("empty", {}));
  entries.back().implicit = true;
  entries.push_back(file("inline", 1000));
  entries.back().content.extents = {{0, 5, 100, 300}, {500, 1ull << 40, 0, 500}};
  entries.back().attributes.uid = 4'000'000'000;
  entries.back().attributes.mode = 07777;
  entries.back().attributes.mtime = {-5, 999'999'999};
  entries.push_back(file("linked"));
  entries.back().attributes = {.type = FileType::symlink};
  entries.back().link_id = 0x1234567890;
  entries.push_back(file("mapped", 1ull << 40));
  entries.back().content.map = ObjectId{77};
  entries.back().xattrs = {{"security.capability", std::string("\0\1", 2)}};
  entries.push_back(file("node"));
  entries.back().attributes = {
      .type = FileType::block_device, .rdev_major = 4095, .rdev_minor = 1 << 20};
  entries.push_back(file("symlink", 5));
  entries.back().attributes.type = FileType::symlink;
  entries.back().symlink_target = "to/it";
  entries.push_back(file("w"));
  entries.back().attributes = {.type = FileType::whiteout};
  entries.push_back(file(std::string(255, 'z')));
  entries.push_back(file(std::string(255, '\xff')));
  return entries;
}

TEST(TreePage, RoundTripsEveryKindOfEntry) {
  auto entries = entries_of_every_kind();
  LeafPageBuilder builder;
  for (const Entry& e : entries) builder.add(e);
  TreeRef counts = builder.counts();
  auto page = TreePage::parse(builder.finish());
  ASSERT_TRUE(page.ok()) << page.error().message;
  const TreePage& p = **page;
  ASSERT_EQ(p.size(), entries.size());
  EXPECT_FALSE(p.is_index());
  for (size_t i = 0; i < entries.size(); ++i) {
    auto e = p.entry(i);
    ASSERT_TRUE(e.ok()) << entries[i].name << ": " << e.error().message;
    EXPECT_TRUE(*e == entries[i]) << entries[i].name;
    EXPECT_EQ(p.lower_bound(entries[i].name), i);
    EXPECT_EQ(p.attributes(i), entries[i].attributes);
    EXPECT_EQ(p.symlink_target(i), entries[i].symlink_target);
    EXPECT_EQ(p.tree(i), entries[i].tree);
    EXPECT_EQ(p.link_id(i), entries[i].link_id);
    EXPECT_EQ(p.has_xattrs(i), !entries[i].xattrs.empty());
  }
  EXPECT_EQ(counts.inode_count, entries.size() + 12);
  EXPECT_EQ(counts.subdirectory_count, 2u);
  EXPECT_EQ(counts.whiteout_count, 1u + 1 + 1 + 1);  // below dir, opaque, implicit, w
  EXPECT_EQ(counts.linked_count, 4u + 1);
  EXPECT_EQ(counts.content_bytes, 99 + 1000 + (1ull << 40));
  EXPECT_EQ(p.find_delta(1), 0u);
  EXPECT_EQ(p.find_delta(13), 0u);  // the last inode below "dir"
  EXPECT_EQ(p.find_delta(14), 1u);
  EXPECT_EQ(p.find_delta(p.inode_count()), entries.size() - 1);
}

// Every byte changed, every truncation: parse and every accessor stay inside the page (ASan), and
// what parse accepts keeps its promises.
TEST(TreePage, DamageNeverEscapes) {
  LeafPageBuilder builder;
  for (Entry e : entries_of_every_kind()) {
    if (e.xattrs.size() == 2) e.xattrs[1].second.resize(10);
    builder.add(e);
  }
  std::string leaf = builder.finish();
  std::string index = encode_index_page(
      {{"a", {.page = ObjectId{1}, .inode_count = 5, .entry_count = 5}},
       {"m", {.page = ObjectId{2}, .inode_count = 9, .entry_count = 3, .subdirectory_count = 1}}},
      1);
  std::mt19937_64 random(test_support::test_seed());
  auto examine = [](std::string bytes) {
    auto page = TreePage::parse(std::move(bytes));
    if (!page.ok()) {
      EXPECT_EQ(page.error().code, EUCLEAN);
      return;
    }
    const TreePage& p = **page;
    for (size_t i = 0; i < p.size(); ++i) {
      EXPECT_TRUE(valid_name(p.name(i)));
      EXPECT_LT(p.lower_bound(p.name(i)), p.size());
      (void)p.tree(i);
      if (p.is_index()) {
        (void)p.entries_before(i);
        continue;
      }
      EXPECT_EQ(p.find_delta(p.delta(i)), i);
      (void)p.attributes(i);
      (void)p.symlink_target(i);
      auto e = p.entry(i);
      if (!e.ok()) {
        EXPECT_EQ(e.error().code, EUCLEAN);
      }
    }
  };
  for (const std::string& good : {leaf, index}) {
    for (size_t size = 0; size < good.size(); ++size) examine(good.substr(0, size));
    for (size_t at = 0; at < good.size(); ++at) {
      for (int round = 0; round < 8; ++round) {
        std::string bad = good;
        bad[at] = static_cast<char>(random());
        if (round > 4) bad[random() % bad.size()] = static_cast<char>(random());
        examine(std::move(bad));
      }
    }
  }
}

TEST(TreePage, RefusesWrongNamesAndOrder) {
  for (auto names : std::vector<std::vector<std::string>>{
           {"b", "a"}, {"a", "a"}, {""}, {"."}, {".."}, {"a/b"}, {std::string("a\0", 2)}}) {
    LeafPageBuilder builder;
    for (const auto& name : names) builder.add(file(name));
    EXPECT_FALSE(TreePage::parse(builder.finish()).ok());
    MemoryObjects objects;
    DirectoryBuilder directory_builder(objects);
    bool refused = false;
    for (const auto& name : names) refused |= !directory_builder.add(file(name)).ok();
    EXPECT_TRUE(refused);
  }
}

TEST(Tree, EmptyDirectoryHasNoPage) {
  MemoryObjects objects;
  auto tree = DirectoryBuilder(objects).finish();
  ASSERT_TRUE(tree.ok());
  EXPECT_EQ(*tree, TreeRef{});
  EXPECT_EQ(objects.size(), 0u);
  EXPECT_EQ(find_name(objects, ObjectId::none, "a").error().code, ENOENT);
  EXPECT_FALSE(TreeIterator::after(objects, ObjectId::none)->valid());
}

class BigTree : public ::testing::TestWithParam<size_t> {};

TEST_P(BigTree, SearchesByNameNumberAndRank) {
  MemoryObjects objects;
  DirectoryBuilder builder(objects);
  std::vector<Entry> entries;
  uint64_t delta = 0;
  std::vector<uint64_t> deltas;
  for (size_t i = 0; i < GetParam(); ++i) {
    Entry e = file(fmt::format("name{:07}", i * 2), i);
    if (i % 7 == 3) {
      e = directory(e.name, {.page = ObjectId{1}, .inode_count = i % 50 + 1, .entry_count = 1});
    }
    ASSERT_TRUE(builder.add(e).ok());
    deltas.push_back(delta + 1);
    delta += 1 + e.tree.inode_count;
    entries.push_back(e);
  }
  TreeRef tree = builder.finish().value();
  EXPECT_EQ(tree.inode_count, delta);
  EXPECT_EQ(tree.entry_count, GetParam());

  size_t step = GetParam() / 500 + 1;
  for (size_t i = 0; i < entries.size(); i += step) {
    auto by_name = find_name(objects, tree.page, entries[i].name);
    ASSERT_TRUE(by_name.ok());
    EXPECT_EQ(by_name->delta, deltas[i]);
    EXPECT_TRUE(*by_name->page->entry(by_name->index) == entries[i]);
    EXPECT_FALSE(find_name(objects, tree.page, fmt::format("name{:07}", i * 2 + 1)).ok());
    for (uint64_t within : {uint64_t{0}, entries[i].tree.inode_count}) {
      auto by_delta = find_delta(objects, tree.page, deltas[i] + within);
      ASSERT_TRUE(by_delta.ok());
      EXPECT_EQ(by_delta->delta, deltas[i]);
      EXPECT_EQ(by_delta->page->name(by_delta->index), entries[i].name);
    }
    auto by_rank = find_rank(objects, tree.page, i);
    ASSERT_TRUE(by_rank.ok());
    EXPECT_EQ(by_rank->page->name(by_rank->index), entries[i].name);
    EXPECT_EQ(rank_of(objects, tree.page, entries[i].name).value(), i);

    for (auto after : {entries[i].name, fmt::format("name{:07}", i * 2 + 1)}) {
      auto it = TreeIterator::after(objects, tree.page, after);
      ASSERT_TRUE(it.ok());
      ASSERT_EQ(it->valid(), i + 1 < entries.size());
      if (it->valid()) {
        EXPECT_EQ(it->name(), entries[i + 1].name);
        EXPECT_EQ(it->delta(), deltas[i + 1]);
      }
    }
  }
  for (uint64_t bad : {uint64_t{0}, delta + 1, UINT64_MAX}) {
    EXPECT_EQ(find_delta(objects, tree.page, bad).error().code, ENOENT);
  }
  EXPECT_EQ(find_rank(objects, tree.page, entries.size()).error().code, ENOENT);
  EXPECT_FALSE(find_name(objects, tree.page, "a").ok());
  EXPECT_FALSE(find_name(objects, tree.page, "z").ok());

  size_t i = 0;
  auto it = TreeIterator::after(objects, tree.page);
  ASSERT_TRUE(it.ok());
  for (; it->valid(); ++i) {
    ASSERT_LT(i, entries.size());
    ASSERT_EQ(it->name(), entries[i].name);
    ASSERT_EQ(it->delta(), deltas[i]);
    ASSERT_TRUE(it->next().ok());
  }
  EXPECT_EQ(i, entries.size());
}

INSTANTIATE_TEST_SUITE_P(Sizes, BigTree,
                         ::testing::Values(1, 2, 255, 256, 257, 1024, 5000, 120000, 400000));

TEST(Tree, OneChangeInAHugeDirectoryRewritesFewPages) {
  MemoryObjects objects;
  auto build = [&](int without) {
    DirectoryBuilder builder(objects);
    for (int i = 0; i < 200000; ++i) {
      if (i == without) continue;
      EXPECT_TRUE(builder.add(file(fmt::format("{:08}", i))).ok());
    }
    return builder.finish().value();
  };
  build(-1);
  size_t before = objects.size();
  for (int without : {0, 77777, 199999}) build(without);
  EXPECT_LE(objects.size() - before, 3 * 4u);
}

TEST(Tree, HugeEntriesMakeSmallPages) {
  MemoryObjects objects;
  DirectoryBuilder builder(objects);
  for (int i = 0; i < 40; ++i) {
    Entry e = file(fmt::format("{:02}", i));
    e.xattrs = {{"user.big", std::string(64 * 1024, static_cast<char>(i))}};
    ASSERT_TRUE(builder.add(e).ok());
  }
  TreeRef tree = builder.finish().value();
  for (auto& [id, bytes] : objects.contents()) EXPECT_LT(bytes.size(), 2 * kMaxPageBytes);
  auto found = find_name(objects, tree.page, "33");
  ASSERT_TRUE(found.ok());
  EXPECT_EQ(found->page->entry(found->index)->xattrs[0].second[0], 33);
}

TEST(Tree, MissingDamagedAndCyclicPagesAreErrors) {
  MemoryObjects objects;
  DirectoryBuilder builder(objects);
  for (int i = 0; i < 5000; ++i) ASSERT_TRUE(builder.add(file(fmt::format("{:08}", i))).ok());
  TreeRef tree = builder.finish().value();
  std::string root = objects.get(tree.page).value();
  ObjectId leaf = objects.tree_page(tree.page).value()->child(0);
  objects.contents()[leaf] = root;  // an index page that names itself
  EXPECT_EQ(find_name(objects, tree.page, "00000000").error().code, EUCLEAN);
  EXPECT_EQ(TreeIterator::after(objects, tree.page).error().code, EUCLEAN);
  objects.contents().erase(leaf);
  EXPECT_EQ(find_delta(objects, tree.page, 1).error().code, EUCLEAN);
  EXPECT_TRUE(find_delta(objects, tree.page, 4999).ok());
}

TEST(Tree, RootPage) {
  MemoryObjects objects;
  Entry root = directory("ignored", {.page = ObjectId{3}, .inode_count = 9, .entry_count = 4});
  root.xattrs = {{"user.x", "y"}};
  ObjectId id = put_root_page(objects, root).value();
  root.name = "root";
  EXPECT_TRUE(read_root_page(objects, id).value() == root);
  EXPECT_EQ(objects.tree_page(id).value()->inode_count(), 10u);
  DirectoryBuilder other(objects);
  ASSERT_TRUE(other.add(file("file")).ok());
  EXPECT_EQ(read_root_page(objects, other.finish()->page).error().code, EUCLEAN);
}

}  // namespace
}  // namespace layerfs
