// SPDX-License-Identifier: Apache-2.0
//
// Dumps name every structure, stay the same for the same store, and survive damage.
#include "layerdb/ops/dump.h"

#include <gtest/gtest.h>

#include "layerdb/base/coding.h"
#include "layerdb/ops/container.h"
#include "layerdb/ops/dump_text.h"
#include "layerdb/store/database.h"
#include "layerdb/store/group_copies.h"
#include "layerdb/store/read_history.h"
#include "layerdb/store/similarity.h"
#include "layerdb/upper/upper.h"
#include "tests/support/result_matchers.h"
#include "tests/support/store_images.h"
#include "tests/support/temp_dir.h"

namespace layerfs {
namespace {

class Dump : public ::testing::Test {
 protected:
  Dump() : store_(VALUE(Store::open(dir_.path()))) {
    ModelTree tree = empty_model();
    tree.root.children["etc"] = model_directory();
    tree.root.children["etc"].children["na\"me\n"] = model_file(*store_, "hello");
    uint64_t id = VALUE(store_->objects().new_link_id());
    tree.links[id] = model_file(*store_, "linked").entry;
    tree.root.children["l"].entry.attributes.type = FileType::regular;
    tree.root.children["l"].entry.link_id = id;
    image_ = publish_image(*store_, tree, "a:1");
    chain_ = VALUE(store_->catalog().chain(image_.chain_id));
  }

  DumpLine collect() {
    text_.clear();
    return [this](std::string_view line) { text_.append(line) += '\n'; };
  }
  bool has(const std::string& text) { return text_.find(text) != text_.npos; }

  test_support::TempDir dir_;
  std::unique_ptr<Store> store_;
  ImageRecord image_;
  ChainRecord chain_;
  std::string text_;
};

TEST(DumpText, QuotesEverythingThatIsNotPlain) {
  EXPECT_EQ(quote("a b"), "\"a b\"");
  EXPECT_EQ(quote("\"\\\n\xff"), "\"\\\"\\\\\\x0a\\xff\"");
  EXPECT_EQ(hex_bytes(std::string("\x01\xab", 2)), "0x01ab");
}

TEST(DumpText, EntriesInFull) {
  Entry entry;
  entry.name = "f";
  entry.attributes = {.type = FileType::regular,
                      .mode = 04755,
                      .uid = 1,
                      .gid = 2,
                      .size_bytes = 9,
                      .mtime = {-3, 7}};
  entry.content.extents = {{0, 12, 100, 9}};
  entry.xattrs = {{"user.a", "b"}};
  EXPECT_EQ(describe(entry),
            "\"f\" file 4755 1:2 nlink 1 size 9 mtime -3.000000007 extent 0+9 at 12:100 "
            "xattr \"user.a\"=\"b\"");
}

TEST_F(Dump, EveryStructure) {
  ASSERT_OK(dump_catalog(*store_, collect()));
  EXPECT_TRUE(has("\"ref/a:1\"") && has("\"image/" + image_.id.hex()) && has("\"next\" 0x"));
  ASSERT_OK(dump_image(*store_, "a:1", collect()));
  EXPECT_TRUE(has("layer " + image_.diff_ids[0].to_string()) && has("config \"{") &&
              has("chain " + image_.chain_id.to_string()));
  ASSERT_OK(dump_layer(*store_, image_.diff_ids[0].to_string(), collect()));
  EXPECT_TRUE(has("\"na\\\"me\\x0a\" file 0644"));
  ASSERT_OK(dump_chain(*store_, image_.chain_id.to_string(), collect()));
  EXPECT_TRUE(has("\"l\" file link 0000") && has("nlink 1 size 6"));
  std::string once = text_;
  ASSERT_OK(dump_chain(*store_, image_.chain_id.to_string(), collect()));
  EXPECT_EQ(text_, once);
  ASSERT_OK(dump_groups(*store_, collect()));
  EXPECT_TRUE(has("group 1 codec"));
  ASSERT_OK(dump_group(*store_, 1, collect()));
  EXPECT_TRUE(has("chunk at 0 "));
  ASSERT_OK(dump_chunk_index(*store_, collect()));
  EXPECT_TRUE(has(" 1:0"));
  rocksdb::WriteBatch batch;
  batch.Put(store_->database().handle(Family::similar), similar_key(0x123456789abcdef0),
            similar_record(77));
  batch.Put(store_->database().handle(Family::similar), similar_key(1), "\xff");
  ASSERT_OK(store_->database().write(batch));
  ASSERT_OK(dump_similar(*store_, collect()));
  EXPECT_TRUE(has("feature 0x123456789abc group 77") && has("feature 0x000000000000 damaged 0xff"));
  ASSERT_OK(dump_reads(*store_, collect()));
  EXPECT_EQ(text_, "") << "no mount has read anything";
  VALUE(ReadHistory::open(ReadHistory::path_in(store_->root())))
      .append(std::vector<GroupId>{3, 5, 4, 9}, false);
  ASSERT_OK(dump_reads(*store_, collect()));
  EXPECT_TRUE(has("run at 0 groups 3 5 4 9"));
  ASSERT_OK(dump_copies(*store_, collect()));
  EXPECT_EQ(text_, "");
  VALUE(GroupCopies::open(GroupCopies::path_in(store_->root()), 1, 1))
      .add(std::vector<GroupId>{9, 4}, 1 << 20, [](GroupId) { return std::string("record"); });
  ASSERT_OK(dump_copies(*store_, collect()));
  EXPECT_EQ(text_, "copy of group 9 stored 30 at 266240\ncopy of group 4 stored 30 at 266270\n");
  ASSERT_OK(dump_objects(*store_, collect()));
  EXPECT_TRUE(has("object 1 tree "));
  EXPECT_ERRNO(dump_object(*store_, ObjectId{999999}, collect()), ENOENT);
  EXPECT_ERRNO(dump_group(*store_, 999999, collect()), ENOENT);
}

TEST_F(Dump, GoesOnAfterDamage) {
  Entry root = VALUE(read_root_page(store_->objects(), chain_.root));
  rocksdb::WriteBatch batch;
  batch.Put(store_->database().handle(Family::objects), be64(raw(root.tree.page)), "rubbish");
  ASSERT_OK(store_->database().write(batch));
  ASSERT_OK(store_->database().flush({Family::objects}));
  store_.reset();
  store_ = VALUE(Store::open(dir_.path(), {.read_only = true}));
  ASSERT_OK(dump_chain(*store_, image_.chain_id.to_string(), collect()));
  EXPECT_TRUE(has("damaged") && has("nlink 1 size 6"));
  ASSERT_OK(dump_object(*store_, root.tree.page, collect()));
  EXPECT_TRUE(has("damaged 0x72756262697368"));
}

TEST_F(Dump, Container) {
  Container container;
  container.name = "web";
  container.reference = "a:1";
  container.image = image_.id;
  container.chain_id = image_.chain_id;
  {
    UniqueFd lock = VALUE(lock_containers(dir_.path()));
    container = VALUE(create_container(dir_.path(), container));
  }
  {
    auto upper = VALUE(Upper::open(container.directory, 100, {}));
    auto change = upper->begin();
    InodeRecord record;
    record.attributes = {.type = FileType::regular, .mode = 0600};
    change->put_inode(100, record);
    change->put_name(kRootIno, "new", {100, FileType::regular, false});
    change->put_xattr(100, "user.k", "v");
    ASSERT_OK(upper->apply(std::move(change)));
  }
  ASSERT_OK(dump_container(*store_, "web", collect()));
  EXPECT_TRUE(has("container web reference \"a:1\"") && has("inode 100 file 0600") &&
              has("name 1 \"new\" -> 100 file") && has("xattr \"user.k\"=\"v\""));
  EXPECT_ERRNO(dump_container(*store_, "none", collect()), ENOENT);
}

}  // namespace
}  // namespace layerfs
