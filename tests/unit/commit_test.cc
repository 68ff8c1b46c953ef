// SPDX-License-Identifier: Apache-2.0
//
// Commit against its oracle: the image that a commit makes shows exactly what the container showed.
#include "layerdb/ops/commit.h"

#include <fmt/format.h>
#include <gtest/gtest.h>
#include <linux/fs.h>

#include <map>
#include <nlohmann/json.hpp>
#include <set>

#include "layerdb/ops/canonical_tar.h"
#include "layerdb/ops/changes.h"
#include "layerdb/ops/merge.h"
#include "layerdb/store/content.h"
#include "layerdb/view/store_lower.h"
#include "tests/support/model_tree.h"
#include "tests/support/overlay_rig.h"
#include "tests/support/random.h"
#include "tests/support/random_changes.h"
#include "tests/support/result_matchers.h"
#include "tests/support/temp_dir.h"

namespace layerfs {
namespace {

using test_support::Random;
using test_support::RandomChanges;

// Everything an image holds of one path, as text.
using View = std::map<std::string, std::string>;

std::string describe(Overlay& overlay, const Stat& stat, const std::string& group) {
  const Attributes& a = stat.attributes;
  std::string out = fmt::format("type {} mode {:o} owner {}:{} rdev {}:{} mtime {}.{:09} group {}",
                                static_cast<int>(a.type), a.mode, a.uid, a.gid, a.rdev_major,
                                a.rdev_minor, a.mtime.seconds, a.mtime.nanoseconds, group);
  if (a.type != FileType::directory) out += fmt::format(" nlink {} size {}", a.nlink, a.size_bytes);
  if (a.type == FileType::symlink) out += " -> " + VALUE(overlay.readlink(stat.ino));
  std::vector<std::string> xattrs = VALUE(overlay.list_xattrs(stat.ino));
  for (const std::string& name : xattrs)
    out += " " + name + "=" + VALUE(overlay.get_xattr(stat.ino, name));
  if (a.type == FileType::regular) {
    std::string bytes(a.size_bytes, '\0');
    EXPECT_EQ(VALUE(overlay.read(stat.ino, 0, bytes)), a.size_bytes);
    out += " content " + sha256(bytes).hex();
  }
  return out;
}

void view_below(Overlay& overlay, Ino directory, const std::string& path,
                std::map<Ino, std::string>& first_names, View& out) {
  std::map<std::string, std::pair<Ino, FileType>> entries;
  ASSERT_OK(overlay.list(directory, 0, [&](const DirectoryEntry& entry) {
    entries[std::string(entry.name)] = {entry.ino, entry.type};
    return true;
  }));
  for (const auto& [name, found] : entries) {
    if (found.second == FileType::socket) continue;  // no image holds one
    std::string child = path.empty() ? name : path + "/" + name;
    Stat stat = VALUE(overlay.stat(found.first));
    out[child] = describe(overlay, stat, first_names.try_emplace(found.first, child).first->second);
    if (found.second == FileType::directory)
      view_below(overlay, found.first, child, first_names, out);
  }
}

View view_of(Overlay& overlay) {
  View out;
  std::map<Ino, std::string> first_names;
  out[""] = describe(overlay, VALUE(overlay.stat(kRootIno)), "");
  view_below(overlay, kRootIno, "", first_names, out);
  return out;
}

// A store with an image, and the container on it.
class CommitTest : public ::testing::Test {
 protected:
  CommitTest() {
    store_ = VALUE(Store::open(dir_ / "store"));
    LayerRecord layer = store_model(store_->objects(), empty_model());
    layer.diff_id = sha256("base");
    ChainRecord chain = VALUE(merge_layer(*store_, std::nullopt, layer));
    nlohmann::json config = {
        {"architecture", "amd64"},
        {"os", "linux"},
        {"unheard-of", {1, 2}},
        {"rootfs", {{"type", "layers"}, {"diff_ids", {layer.diff_id.to_string()}}}}};
    ImageRecord image;
    image.id = sha256(config.dump());
    image.diff_ids = {layer.diff_id};
    image.chain_id = chain.chain_id;
    CatalogBatch batch;
    batch.put_layer(layer);
    batch.put_chain(chain);
    batch.put_image(image, config.dump());
    VALUE_STATUS(store_->publish(std::move(batch)));
    container_.image = image.id;
    open(image);
  }

  static void VALUE_STATUS(Status status) {
    if (!status.ok()) throw std::runtime_error(status.error().message);
  }

  void open(const ImageRecord& image) {
    container_.image = image.id;
    container_.chain_id = image.chain_id;
    rig_.reset();
    lower_ = VALUE(open_store_lower(*store_, VALUE(store_->catalog().chain(image.chain_id))));
    rig_ = std::make_unique<OverlayRig>(*lower_);
  }

  Overlay& fs() { return rig_->overlay(); }
  Ino at(const std::string& path) { return VALUE(rig_->resolve(path)); }

  Ino make(Ino directory, const std::string& name, FileType type = FileType::regular) {
    NewNode node;
    node.type = type;
    node.mode = type == FileType::directory ? 0755 : 0644;
    node.rdev_major = 5;
    if (type == FileType::symlink) node.symlink_target = "to/" + name;
    Ino ino = VALUE(fs().make(directory, name, node, Caller{})).ino;
    fs().forget(ino, 1);
    return ino;
  }
  void write(Ino ino, uint64_t offset, const std::string& bytes) {
    EXPECT_EQ(VALUE(fs().write(ino, offset, bytes)), bytes.size());
  }

  // Commits, checks image and tar, and goes on with a new container on the new image.
  CommitResult commit() {
    View before = view_of(fs());
    CommitOptions options;
    options.message = "a message";
    options.author = "A";
    options.hash_at_once_bytes = hash_at_once_bytes_;
    CommitResult result = VALUE(build_commit(*store_, container_, *lower_, rig_->upper(), options));
    VALUE_STATUS(store_->publish(result.batch));
    EXPECT_EQ(tar_digest(result.source.layers.back()), build(UINT64_MAX).diff_id);
    if (!result.source.layers.back().provisional) {
      EXPECT_EQ(tar_digest(result.source.layers.back()), result.image.diff_ids.back());
    }
    open(result.image);
    View after = view_of(fs());
    EXPECT_EQ(before.size(), after.size());
    for (const auto& [path, description] : before) EXPECT_EQ(after[path], description) << path;
    return result;
  }

  // The layer that a commit would make now.
  LayerRecord build(uint64_t hash_at_once_bytes) {
    CommitOptions options;
    options.hash_at_once_bytes = hash_at_once_bytes;
    return VALUE(build_commit(*store_, container_, *lower_, rig_->upper(), options))
        .source.layers.back();
  }

  Digest tar_digest(const LayerRecord& layer) {
    ContentReader reader(store_->chunks(), store_->objects(), layer.tar, layer.tar_bytes);
    std::string bytes(layer.tar_bytes, '\0');
    EXPECT_EQ(VALUE(reader.read(0, bytes)), bytes.size());
    EXPECT_EQ(bytes.size() % 512, 0u);
    return sha256(bytes);
  }

  // As `layerfs diff` prints it.
  std::string changes() {
    std::string out;
    VALUE_STATUS(walk_changes(*lower_, rig_->upper(), [&](const Change& change) -> Status {
      out += fmt::format("{}{} /{}\n", static_cast<char>(change.kind),
                         change.self_changed ? "" : "-", change.path);
      return {};
    }));
    return out;
  }

  test_support::TempDir dir_;
  std::unique_ptr<Store> store_;
  Container container_;
  std::unique_ptr<Lower> lower_;
  std::unique_ptr<OverlayRig> rig_;
  uint64_t hash_at_once_bytes_ = kHashAtOnceBytes;
};

TEST_F(CommitTest, ExtendsTheConfig) {
  make(kRootIno, "file");
  CommitResult result = commit();
  nlohmann::json config = nlohmann::json::parse(VALUE(store_->catalog().config(result.image.id)));
  EXPECT_EQ(config["unheard-of"], (nlohmann::json{1, 2}));
  EXPECT_EQ(config["author"], "A");
  ASSERT_EQ(config["history"].size(), 1u);
  EXPECT_EQ(config["history"][0]["comment"], "a message");
  EXPECT_EQ(config["rootfs"]["diff_ids"].size(), 2u);
  EXPECT_EQ(config["rootfs"]["diff_ids"][1], result.image.diff_ids[1].to_string());
  EXPECT_EQ(result.image.id, sha256(VALUE(store_->catalog().config(result.image.id))));
  EXPECT_EQ(result.image.chain_id,
            chain_id_of(chain_id_of(std::nullopt, sha256("base")), result.image.diff_ids[1]));
}

TEST_F(CommitTest, AnUnchangedContainerMakesAnEmptyLayer) {
  make(kRootIno, "a");
  commit();
  EXPECT_EQ(changes(), "");
  CommitResult result = commit();
  EXPECT_EQ(result.source.layers.back().entry_count, 0u);
  EXPECT_EQ(result.source.layers.back().tar_bytes, tar_trailer().size());
}

TEST_F(CommitTest, FindsEveryKindOfChange) {
  make(make(kRootIno, "etc", FileType::directory), "passwd");
  make(make(kRootIno, "old", FileType::directory), "inside");
  make(make(at("old"), "sub", FileType::directory), "deep");
  make(make(kRootIno, "swap", FileType::directory), "child");
  make(kRootIno, "pair1");
  ASSERT_OK(fs().link(at("pair1"), at("etc"), "pair2"));
  make(kRootIno, "single");
  make(kRootIno, "quiet");
  commit();
  rig_->tick();
  SetAttributes mode;
  mode.mode = 0600;
  ASSERT_OK(fs().set_attributes(at("etc/passwd"), mode, Caller{}));
  ASSERT_OK(fs().rename(kRootIno, "old", kRootIno, "new", 0));
  ASSERT_OK(fs().unlink(at("swap"), "child"));
  ASSERT_OK(fs().rmdir(kRootIno, "swap"));
  make(kRootIno, "swap", FileType::fifo);
  write(at("pair1"), 0, "x");
  ASSERT_OK(fs().link(at("single"), kRootIno, "double"));
  EXPECT_EQ(changes(),
            "C /\n"
            "A /double\n"
            "C- /etc\n"
            "C /etc/pair2\n"
            "C /etc/passwd\n"
            "A /new\n"
            "A /new/inside\n"
            "A /new/sub\n"
            "A /new/sub/deep\n"
            "D /old\n"
            "C /pair1\n"
            "C- /single\n"
            "A /swap\n");
  commit();
}

TEST_F(CommitTest, OneByteOfABigFileIsAllThatIsStored) {
  Random random;
  write(make(kRootIno, "big"), 0, random.bytes(8 << 20));
  commit();
  uint64_t before = store_->chunks().counters().new_bytes;
  write(at("big"), 5 << 20, "!");
  commit();
  EXPECT_LT(store_->chunks().counters().new_bytes - before, 16u * 1024);
}

TEST_F(CommitTest, WhatTheContainerDidNotWriteIsNotRead) {
  Random random;
  make(kRootIno, "holes");
  ASSERT_OK(fs().write(at("holes"), (1 << 20) - 1, "x"));
  write(make(make(kRootIno, "d", FileType::directory), "big"), 0, random.bytes(16 << 20));
  ImageRecord image = commit().image;
  rig_.reset();
  lower_.reset();
  store_.reset();  // and its cache
  store_ = VALUE(Store::open(dir_ / "store"));
  open(image);
  write(at("d/big"), 5 << 20, "!");
  ASSERT_OK(fs().rename(kRootIno, "d", kRootIno, "e", 0));
  SetAttributes longer;
  longer.size_bytes = 64 << 20;
  ASSERT_OK(fs().set_attributes(at("holes"), longer, Caller{}));
  uint64_t before = store_->chunks().counters().decoded_bytes;
  EXPECT_TRUE(build(64 << 20).provisional);
  EXPECT_LT(store_->chunks().counters().decoded_bytes - before, 1u << 20);
  EXPECT_FALSE(build(128 << 20).provisional);
  EXPECT_GT(store_->chunks().counters().decoded_bytes - before, 15u << 20);
  hash_at_once_bytes_ = 0;
  EXPECT_TRUE(commit().source.layers.back().provisional);
  EXPECT_FALSE(build(0).provisional) << "nothing is changed: all of its tar was hashed";
}

TEST_F(CommitTest, AProvisionalIdNamesEveryByteOfTheTar) {
  Random random;
  write(make(kRootIno, "a"), 0, random.bytes(100000));
  write(make(kRootIno, "b"), 0, random.bytes(100000));
  commit();
  std::set<Digest> seen;
  auto expect_another = [&](const char* what) {
    LayerRecord layer = build(0);
    EXPECT_TRUE(layer.provisional);
    EXPECT_EQ(layer.diff_id, build(0).diff_id) << what;
    EXPECT_TRUE(seen.insert(layer.diff_id).second) << what;
  };
  rig_->tick();
  auto set = [&](const char* path, SetAttributes to) {
    ASSERT_OK(fs().set_attributes(at(path), to, Caller{}));
  };
  set("a", {.mode = 0600});
  expect_another("metadata");
  write(at("a"), 50000, "!");
  expect_another("a new byte");
  write(at("a"), 50000, "?");
  expect_another("another one");
  set("b", {.mode = 0600});
  expect_another("a second file");
  ASSERT_OK(fs().rename(kRootIno, "a", kRootIno, "b", RENAME_EXCHANGE));
  expect_another("the two exchanged");
  set("a", {.size_bytes = 90000});
  expect_another("the end cut off");
  set("a", {.size_bytes = 100000});
  expect_another("zeros in its place");
}

// The same metadata (the clock stands still) and the same new bytes: only where the rest comes from
// differs.
TEST_F(CommitTest, AProvisionalIdNamesWhereBytesComeFrom) {
  Random random;
  write(make(kRootIno, "a"), 0, random.bytes(100000));
  write(make(kRootIno, "b"), 0, random.bytes(100000));
  ImageRecord image = commit().image;
  auto touch = [&] {
    for (const char* name : {"a", "b"})
      ASSERT_OK(fs().set_attributes(at(name), {.mode = 0600}, Caller{}));
  };
  touch();
  std::set<Digest> ids, tars;
  auto build_both = [&] {
    LayerRecord layer = build(0);
    EXPECT_TRUE(layer.provisional);
    ids.insert(layer.diff_id);
    tars.insert(build(UINT64_MAX).diff_id);
  };
  build_both();
  ASSERT_OK(fs().rename(kRootIno, "a", kRootIno, "b", RENAME_EXCHANGE));
  build_both();
  EXPECT_EQ(tars.size(), 2u);
  EXPECT_EQ(ids.size(), 2u) << "the inode";
  for (uint64_t size : {90000, 100000})
    ASSERT_OK(fs().set_attributes(at("a"), {.size_bytes = size}, Caller{}));
  build_both();
  EXPECT_EQ(tars.size(), 3u);
  EXPECT_EQ(ids.size(), 3u) << "a hole";

  open(image);
  write(at("a"), 0, random.bytes(100000));
  commit();
  touch();
  build_both();
  EXPECT_EQ(tars.size(), 4u);
  EXPECT_EQ(ids.size(), 4u) << "the chain below";
}

TEST_F(CommitTest, AChainThatIsThereKeepsItsNumbers) {
  make(kRootIno, "a");
  ASSERT_OK(fs().link(at("a"), kRootIno, "b"));
  auto build_all = [&] {
    return VALUE(build_commit(*store_, container_, *lower_, rig_->upper(), {}));
  };
  CommitResult first = build_all();
  VALUE_STATUS(store_->publish(first.batch));
  CommitResult again = build_all();
  EXPECT_EQ(again.source.chain.chain_id, first.source.chain.chain_id);
  EXPECT_EQ(again.source.chain.root, first.source.chain.root);
  EXPECT_EQ(again.source.chain.links, first.source.chain.links);
  EXPECT_NE(again.source.layers.back().links, first.source.layers.back().links);
}

TEST_F(CommitTest, RenamedDirectoriesAreSharedByAddress) {
  Random random;
  make(kRootIno, "d", FileType::directory);
  for (int i = 0; i < 20; ++i) write(make(at("d"), std::to_string(i)), 0, random.bytes(100000));
  CommitResult first = commit();
  Ino d = at("d");
  ObjectId tree = VALUE(lower_->entry(d)).tree.page;
  ASSERT_OK(fs().rename(kRootIno, "d", kRootIno, "e", 0));
  uint64_t before = store_->chunks().counters().new_bytes;
  commit();
  EXPECT_EQ(VALUE(lower_->entry(at("e"))).tree.page, tree);
  EXPECT_LT(store_->chunks().counters().new_bytes - before, 64u * 1024);
}

TEST_F(CommitTest, SparseFilesStaySparse) {
  Ino ino = make(kRootIno, "sparse");
  write(ino, 0, "head");
  write(ino, 50 << 20, "tail");
  commit();
  std::shared_ptr<const LowerFile> file = VALUE(lower_->open(at("sparse")));
  EXPECT_EQ(file->size_bytes(), (50u << 20) + 4);
  EXPECT_GT(VALUE(file->seek_data(1 << 20)), 49u << 20);
}

// A layer may come on another parent (exported, and imported there), where the link ids of the
// parent that it was made on mean nothing, or belong to other names, too.
TEST_F(CommitTest, LayersDoNotDependOnTheirParentsLinkIds) {
  Ino file = make(make(kRootIno, "d", FileType::directory), "f");
  write(file, 0, "old");
  for (const char* name : {"a", "b"}) ASSERT_OK(fs().link(file, kRootIno, name));
  ImageRecord base = commit().image;
  write(at("a"), 0, "new");
  LayerRecord written = commit().source.layers.back();
  for (const char* name : {"a", "b"}) ASSERT_OK(fs().unlink(kRootIno, name));
  commit();  // d/f is left alone, but with a link id
  ASSERT_OK(fs().rename(kRootIno, "d", kRootIno, "moved", 0));
  LayerRecord moved = commit().source.layers.back();

  ChainRecord alone = VALUE(merge_layer(*store_, std::nullopt, moved));
  auto lower = VALUE(open_store_lower(*store_, alone));
  Ino directory = VALUE(lower->lookup(kRootIno, "moved")).ino;
  EXPECT_EQ(VALUE(lower->lookup(directory, "f")).attributes.size_bytes, 3u);

  open(base);
  ASSERT_OK(fs().link(at("a"), kRootIno, "c"));
  ChainRecord other = VALUE(merge_layer(*store_, commit().source.chain, written));
  lower = VALUE(open_store_lower(*store_, other));
  auto content = [&](const char* name) {
    std::string bytes(3, '\0');
    EXPECT_EQ(VALUE(VALUE(lower->open(VALUE(lower->lookup(kRootIno, name)).ino))->read(0, bytes)),
              3u);
    return bytes;
  };
  EXPECT_EQ(content("a"), "new");
  EXPECT_EQ(content("c"), "old");
  EXPECT_EQ(VALUE(lower->lookup(kRootIno, "a")).attributes.nlink, 3u);
  EXPECT_EQ(VALUE(lower->lookup(kRootIno, "c")).attributes.nlink, 1u);
}

TEST_F(CommitTest, TheImageShowsWhatTheContainerShowed) {
  Random random;
  for (int round = 0; round < 12; ++round) {
    hash_at_once_bytes_ = round % 2 == 0 ? 0 : kHashAtOnceBytes;
    RandomChanges changes(fs(), random, round);
    for (int step = 0; step < 60; ++step) {
      changes.step();
      if (random.one_in(8)) rig_->tick();
    }
    commit();
    if (HasFailure()) FAIL() << "in round " << round;
  }
}

}  // namespace
}  // namespace layerfs
