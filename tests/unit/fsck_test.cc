// SPDX-License-Identifier: Apache-2.0
//
// fsck: one test per finding makes exactly that damage; a whole store has none.
#include "layerdb/ops/fsck.h"

#include <gtest/gtest.h>

#include <filesystem>

#include "layerdb/base/coding.h"
#include "layerdb/base/sys.h"
#include "layerdb/ops/container.h"
#include "layerdb/ops/merge.h"
#include "layerdb/store/chunk_store.h"
#include "layerdb/store/database.h"
#include "layerdb/store/group_codec.h"
#include "layerdb/store/group_copies.h"
#include "layerdb/upper/upper.h"
#include "layerdb/view/tree_reader.h"
#include "tests/support/random.h"
#include "tests/support/result_matchers.h"
#include "tests/support/store_images.h"
#include "tests/support/temp_dir.h"

namespace layerfs {
namespace {

class Fsck : public ::testing::Test {
 protected:
  Fsck() : store_(VALUE(Store::open(dir_.path()))) {
    ModelTree tree = empty_model();
    tree.root.children["usr"] = model_directory();
    tree.root.children["usr"].children["small"] = model_file(*store_, random_.bytes(1000));
    tree.root.children["usr"].children["big"] = model_file(*store_, random_.bytes(900000));
    link_ = VALUE(store_->objects().new_link_id());
    ModelNode link;
    link.entry.attributes.type = FileType::regular;
    link.entry.link_id = link_;
    tree.links[link_] = model_file(*store_, random_.bytes(500)).entry;
    tree.links[link_].attributes.nlink = 2;
    tree.root.children["one"] = tree.root.children["two"] = link;
    image_ = publish_image(*store_, tree, "whole:1");
    chain_ = VALUE(store_->catalog().chain(image_.chain_id));
    layer_ = VALUE(store_->catalog().layer(image_.diff_ids[0]));
  }

  FsckResult check() {
    std::unique_ptr<Store> reader = VALUE(Store::open(dir_.path(), {.read_only = true}));
    return VALUE(check_store(*reader));
  }

  // Every finding is of this kind, and one of them is about `owner` and `path`.
  void expect(FindingKind kind, const std::string& owner, const std::string& path = "") {
    bool found = false;
    for (const Finding& finding : check().findings) {
      EXPECT_STREQ(finding_name(finding.kind), finding_name(kind)) << finding.to_string();
      found |= finding.owner == owner && finding.path == path;
    }
    EXPECT_TRUE(found) << "nothing about " << owner << " " << path;
  }

  void put(Family family, const std::string& key, const std::optional<std::string>& value) {
    Database& database = store_->database();
    rocksdb::WriteBatch batch;
    if (value) {
      batch.Put(database.handle(family), key, *value);
    } else {
      batch.Delete(database.handle(family), key);
    }
    ASSERT_OK(database.write(batch));
    ASSERT_OK(database.flush({family}));
  }

  Entry entry_of(const std::string& name) {
    Entry root = VALUE(read_root_page(store_->objects(), chain_.root));
    auto usr = VALUE(find_name(store_->objects(), root.tree.page, "usr"));
    auto found = VALUE(find_name(store_->objects(), usr.page->tree(usr.index).page, name));
    return VALUE(found.page->entry(found.index));
  }

  std::string key(Family family, std::string_view prefix) {
    std::string found;
    EXPECT_TRUE(store_->database()
                    .for_each(family, prefix,
                              [&](std::string_view key, std::string_view) {
                                found = key;
                                return false;
                              })
                    .ok());
    return found;
  }

  // Publishes the merged tree with another root in place of the right one.
  void replace_chain(const ChainRecord& chain) {
    CatalogBatch batch;
    batch.put_chain(chain);
    ASSERT_OK(store_->publish(std::move(batch)));
  }

  test_support::TempDir dir_;
  test_support::Random random_;
  std::unique_ptr<Store> store_;
  uint64_t link_ = 0;
  ImageRecord image_;
  ChainRecord chain_;
  LayerRecord layer_;
};

TEST_F(Fsck, WholeStore) {
  FsckResult result = check();
  for (const Finding& finding : result.findings) ADD_FAILURE() << finding.to_string();
  EXPECT_EQ(result.images, 1u);
  EXPECT_EQ(result.layers, 1u);
  EXPECT_GT(result.decoded_bytes, 900000u);
  EXPECT_EQ(result.reclaimable_groups + result.reclaimable_objects, 0u);
}

TEST_F(Fsck, BadRecord) {
  put(Family::catalog, "ref/broken:1", "not an image id");
  expect(FindingKind::bad_record, "store");
}

TEST_F(Fsck, MissingRecords) {
  put(Family::catalog, "config/" + image_.id.hex(), std::nullopt);
  expect(FindingKind::missing_record, "image whole:1");
  put(Family::catalog, "layer/" + image_.diff_ids[0].hex(), std::nullopt);
  put(Family::catalog, "chain/" + image_.chain_id.hex(), std::nullopt);
  EXPECT_EQ(check().findings.size(), 3u);
  put(Family::catalog, "image/" + image_.id.hex(), std::nullopt);
  expect(FindingKind::missing_record, "reference whole:1");
}

TEST_F(Fsck, WrongConfig) {
  put(Family::catalog, "config/" + image_.id.hex(), "{}");
  expect(FindingKind::wrong_config, "image whole:1");
}

TEST_F(Fsck, MissingGroupNamesEveryFile) {
  GroupId group = entry_of("small").content.extents[0].group;
  put(Family::groups, be64(group), std::nullopt);
  expect(FindingKind::missing_group, "image whole:1", "/usr/small");
}

TEST_F(Fsck, DamagedGroup) {
  GroupId group = entry_of("small").content.extents[0].group;
  std::string record = *VALUE(store_->database().get(Family::groups, be64(group)));
  put(Family::groups, be64(group), record.substr(0, record.size() - 1));
  expect(FindingKind::damaged_group, "image whole:1", "/usr/small");
}

TEST_F(Fsck, MissingObject) {
  put(Family::objects, be64(raw(entry_of("big").content.map)), std::nullopt);
  expect(FindingKind::missing_object, "image whole:1", "/usr/big");
}

TEST_F(Fsck, DamagedObject) {
  std::string id = be64(raw(chain_.links));
  std::string bytes = *VALUE(store_->database().get(Family::objects, id));
  bytes[0] ^= 1;
  put(Family::objects, id, bytes);
  bool found = false;
  for (const Finding& finding : check().findings) {
    found |= finding.kind == FindingKind::damaged_object && finding.owner == "image whole:1";
  }
  EXPECT_TRUE(found);
}

TEST_F(Fsck, BadExtent) {
  ModelTree tree = empty_model();
  tree.root.children["f"] = model_file(*store_, random_.bytes(100));
  tree.root.children["f"].entry.content.extents[0].group_offset += 1 << 20;
  ChainRecord chain = VALUE(merge_layer(*store_, {}, store_model(store_->objects(), tree)));
  chain_.root = chain.root;
  chain_.links = chain.links;
  chain_.content_bytes = chain.content_bytes;
  replace_chain(chain_);
  expect(FindingKind::bad_extent, "image whole:1", "/f");
}

TEST_F(Fsck, WrongCountOfBytes) {
  chain_.content_bytes += 1;
  replace_chain(chain_);
  expect(FindingKind::wrong_count, "image whole:1");
}

TEST_F(Fsck, WrongCountOfLinks) {
  Entry root = VALUE(read_root_page(store_->objects(), chain_.root));
  auto table = VALUE(find_name(store_->objects(), chain_.links, link_name(link_)));
  Entry inode = VALUE(table.page->entry(table.index));
  inode.attributes.nlink = 3;
  DirectoryBuilder builder(store_->objects());
  ASSERT_OK(builder.add(inode));
  chain_.links = VALUE(builder.finish()).page;
  replace_chain(chain_);
  expect(FindingKind::wrong_count, "image whole:1", "/one");
}

TEST_F(Fsck, WrongCountInATree) {
  Entry root = VALUE(read_root_page(store_->objects(), chain_.root));
  root.tree.inode_count += 1;
  chain_.root = VALUE(put_root_page(store_->objects(), root));
  replace_chain(chain_);
  expect(FindingKind::wrong_count, "image whole:1", "/");
}

TEST_F(Fsck, BadLink) {
  chain_.links = ObjectId::none;
  chain_.content_bytes -= 500;
  replace_chain(chain_);
  expect(FindingKind::bad_link, "image whole:1", "/two");
}

TEST_F(Fsck, BadIndex) {
  std::string wrong(16, 'x');
  std::string right = key(Family::chunk_index, "");
  put(Family::chunk_index, wrong, *VALUE(store_->database().get(Family::chunk_index, right)));
  expect(FindingKind::bad_index, "store");
}

TEST_F(Fsck, WrongCopy) {
  std::string path = GroupCopies::path_in(dir_.path());
  GroupCopies copies = VALUE(GroupCopies::open(path, VALUE(Store::identify(dir_.path())), 1));
  std::string right = *VALUE(store_->database().get(Family::groups, be64(1)));
  GroupEncoder encoder;
  std::string wrong = VALUE(encoder.encode(2, "other bytes", {}));
  auto add = [&](GroupId group, const std::string& record) {
    copies.add(std::vector<GroupId>{group}, 1 << 20, [&](GroupId) { return record; });
  };
  add(1, right);
  add(999, right);  // gone since
  EXPECT_EQ(check().findings.size(), 0u);
  add(2, wrong);
  expect(FindingKind::wrong_copy, "store");
  // Another database's is nobody's.
  copies = VALUE(GroupCopies::open(path, 1, 1));
  add(2, wrong);
  EXPECT_EQ(check().findings.size(), 0u);
}

TEST_F(Fsck, WrongTar) {
  layer_.tar_bytes += 512;
  CatalogBatch batch;
  batch.put_layer(layer_);
  ASSERT_OK(store_->publish(std::move(batch)));
  FsckResult result = check();
  ASSERT_EQ(result.findings.size(), 1u);
  EXPECT_EQ(result.findings[0].kind, FindingKind::wrong_tar);
  EXPECT_NE(result.findings[0].owner.find("image whole:1"), std::string::npos);
}

TEST_F(Fsck, AProvisionalIdIsNotTheTarsHash) {
  layer_.diff_id = sha256("what changed");
  for (bool provisional : {true, false}) {
    layer_.provisional = provisional;
    CatalogBatch batch;
    batch.put_layer(layer_);
    ASSERT_OK(store_->publish(std::move(batch)));
    FsckResult result = check();
    ASSERT_EQ(result.findings.size(), provisional ? 0u : 1u);
    for (const Finding& finding : result.findings) EXPECT_EQ(finding.kind, FindingKind::wrong_tar);
  }
}

TEST_F(Fsck, WhatNobodyNeedsIsNoDamage) {
  VALUE(store_->objects().put("an object that nobody names"));
  auto address = VALUE(store_->chunks().put(random_.bytes(1000)));
  ASSERT_OK(store_->chunks().flush());
  ASSERT_OK(store_->database().flush({Family::chunk_index, Family::objects}));
  FsckResult result = check();
  EXPECT_TRUE(result.findings.empty());
  EXPECT_EQ(result.reclaimable_groups, 1u);
  EXPECT_EQ(result.reclaimable_objects, 1u);
  put(Family::groups, be64(address.group), std::nullopt);
  result = check();
  EXPECT_TRUE(result.findings.empty());
  EXPECT_EQ(result.stale_index_entries, 1u);
}

// Whoever writes to a store needs all of its table files: fsck does not call one sound that lacks a
// part of any. (More than RocksDB looks into when it opens.)
TEST_F(Fsck, EveryTableIsWhole) {
  for (int i = 0; i < 20; ++i) {
    ModelTree tree = empty_model();
    tree.root.children["file"] = model_file(*store_, random_.bytes(1000));
    publish_image(*store_, tree, "more:" + std::to_string(i));
  }
  store_.reset();
  size_t tables = 0;
  for (const std::string& name : VALUE(list_directory(dir_.path() + "/store"))) {
    if (!name.ends_with(".sst")) continue;
    SCOPED_TRACE(name);
    ++tables;
    std::string path = dir_.path() + "/store/" + name, bytes = VALUE(read_file(path));
    std::filesystem::resize_file(path, bytes.size() / 2);
    Result<std::unique_ptr<Store>> reader = Store::open(dir_.path(), {.read_only = true});
    if (reader.ok()) {
      EXPECT_FALSE(VALUE(check_store(**reader)).findings.empty());
    }
    ASSERT_OK(write_file_atomically(path, bytes));
  }
  EXPECT_GT(tables, 25u);
  EXPECT_TRUE(check().findings.empty());
}

class FsckContainer : public Fsck {
 protected:
  FsckContainer() {
    container_ = make("web", image_.id, image_.chain_id);
    upper_ = VALUE(Upper::open(container_.directory, kFirstIno, {}));
  }

  Container make(const std::string& name, const Digest& image, const Digest& chain) {
    Container description;
    description.name = name;
    description.reference = "whole:1";
    description.image = image;
    description.chain_id = chain;
    UniqueFd lock = VALUE(lock_containers(dir_.path()));
    return VALUE(create_container(dir_.path(), description));
  }

  // one, two, usr, usr/big, usr/small are 2..6; the hard-linked inode is 7.
  static constexpr Ino kFirstIno = 8;

  InodeRecord file(uint32_t nlink) {
    InodeRecord record;
    record.attributes = {.type = FileType::regular, .mode = 0644, .nlink = nlink};
    return record;
  }

  void apply(const std::function<void(Upper::Transaction&)>& change) {
    auto transaction = upper_->begin();
    change(*transaction);
    ASSERT_OK(upper_->apply(std::move(transaction)));
    upper_.reset();
  }

  Container container_;
  std::unique_ptr<Upper> upper_;
};

TEST_F(FsckContainer, WholeUpper) {
  Ino ino = upper_->allocate_ino();
  apply([&](auto& t) {
    t.put_inode(ino, file(2));
    t.put_name(kRootIno, "new", {ino, FileType::regular, false});
    t.put_name(kRootIno, "again", {ino, FileType::regular, false});
    t.put_name(kRootIno, "one", {0, FileType::whiteout, true});
  });
  FsckResult result = check();
  for (const Finding& finding : result.findings) ADD_FAILURE() << finding.to_string();
  EXPECT_EQ(result.containers, 1u);
}

TEST_F(FsckContainer, NameOfNothing) {
  Ino ino = upper_->allocate_ino();
  apply([&](auto& t) { t.put_name(kRootIno, "new", {ino, FileType::regular, false}); });
  expect(FindingKind::damaged_container, "container web");
}

TEST_F(FsckContainer, InodeWithoutName) {
  Ino ino = upper_->allocate_ino();
  apply([&](auto& t) { t.put_inode(ino, file(1)); });
  expect(FindingKind::damaged_container, "container web");
}

TEST_F(FsckContainer, NameInAFile) {
  Ino ino = upper_->allocate_ino();
  apply([&](auto& t) {
    t.put_inode(ino, file(1));
    t.put_name(6, "new", {ino, FileType::regular, false});
  });
  expect(FindingKind::damaged_container, "container web");
}

TEST_F(FsckContainer, WhatCameAfterTheStoreWasOpenedIsLeftOut) {
  upper_.reset();
  std::unique_ptr<Store> reader = VALUE(Store::open(dir_.path(), {.read_only = true}));
  ImageRecord late = publish_image(*store_, empty_model(), "late:1");
  make("late", late.id, late.chain_id);
  FsckResult result = VALUE(check_store(*reader));
  for (const Finding& finding : result.findings) ADD_FAILURE() << finding.to_string();
  EXPECT_EQ(result.containers, 1u);
}

TEST_F(FsckContainer, WhatGoesMeanwhileIsNoDamage) {
  upper_.reset();
  Container going = make("xyz", sha256("no image"), sha256("no chain"));
  UniqueFd daemon = VALUE(try_lock_file(container_.directory + "/lock"));
  ASSERT_OK(record_mount(container_, {.pid = 1}));
  std::unique_ptr<Store> reader = VALUE(Store::open(dir_.path(), {.read_only = true}));
  FsckResult result = VALUE(check_store(*reader, {}, [&](const Container& container, auto&) {
    EXPECT_EQ(container.name, "web");
    return remove_container(going);  // listed already, and not checked yet
  }));
  for (const Finding& finding : result.findings) ADD_FAILURE() << finding.to_string();
  EXPECT_EQ(result.containers, 1u);
}

TEST_F(FsckContainer, MissingChain) {
  upper_.reset();
  put(Family::catalog, "chain/" + image_.chain_id.hex(), std::nullopt);
  expect(FindingKind::missing_record, "container web");
}

}  // namespace
}  // namespace layerfs
