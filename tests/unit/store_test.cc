// SPDX-License-Identifier: Apache-2.0
#include "layerdb/store/store.h"

#include <gtest/gtest.h>
#include <rocksdb/env.h>
#include <rocksdb/file_system.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <set>
#include <thread>

#include "layerdb/base/coding.h"
#include "layerdb/base/sys.h"
#include "layerdb/store/catalog.h"
#include "layerdb/store/chunk_store_impl.h"
#include "layerdb/store/content.h"
#include "layerdb/store/database.h"
#include "layerdb/store/group_copies.h"
#include "layerdb/store/maintenance.h"
#include "tests/support/random.h"
#include "tests/support/result_matchers.h"
#include "tests/support/temp_dir.h"

namespace layerfs {
namespace {

using test_support::Random;
using test_support::TempDir;

std::unique_ptr<Store> open_to_write(const std::string& root) { return VALUE(Store::open(root)); }
std::unique_ptr<Store> open_to_read(const std::string& root) {
  return VALUE(Store::open(root, {.read_only = true}));
}

std::unique_ptr<Store> open_to_share(const std::string& root) {
  return VALUE(Store::open(root, {.read_only = true, .for_mount = true}));
}

Content write_content(Store& store, std::string_view bytes) {
  ContentWriter writer(store.chunks(), store.objects());
  for (size_t i = 0; i < bytes.size(); i += 100'000)
    if (Status s = writer.append(bytes.substr(i, 100'000)); !s.ok())
      throw std::runtime_error(s.error().message);
  return VALUE(writer.finish());
}

std::string read_content(Store& store, const Content& content, uint64_t size) {
  ContentReader reader(store.chunks(), store.objects(), content, size);
  std::string out(size, '?');
  size_t n = VALUE(reader.read(0, out));
  out.resize(n);
  return out;
}

LayerRecord publish_layer(Store& store, std::string_view bytes) {
  LayerRecord layer{
      .diff_id = sha256(bytes), .tar = write_content(store, bytes), .tar_bytes = bytes.size()};
  CatalogBatch batch;
  batch.put_layer(layer);
  Status s = store.publish(std::move(batch));
  if (!s.ok()) throw std::runtime_error(s.error().message);
  return layer;
}

TEST(Store, KeepsWhatWasPublished) {
  TempDir dir;
  Random random;
  std::string bytes = random.text(3 << 20) + random.bytes(1 << 20);
  {
    auto store = open_to_write(dir.path());
    publish_layer(*store, bytes);
  }
  auto store = open_to_read(dir.path());
  LayerRecord layer = VALUE(store->catalog().layer(sha256(bytes)));
  EXPECT_EQ(layer.tar_bytes, bytes.size());
  EXPECT_EQ(read_content(*store, layer.tar, bytes.size()), bytes);
}

TEST(Store, ReadersThatShareDecodeOnceTogether) {
  TempDir dir;
  Random random;
  std::string bytes = random.text(3 << 20);
  publish_layer(*open_to_write(dir.path()), bytes);
  auto one = open_to_share(dir.path()), other = open_to_share(dir.path());
  LayerRecord layer = VALUE(one->catalog().layer(sha256(bytes)));
  EXPECT_EQ(read_content(*one, layer.tar, bytes.size()), bytes);
  EXPECT_EQ(one->chunks().counters().decoded_bytes, bytes.size());
  EXPECT_EQ(read_content(*other, layer.tar, bytes.size()), bytes);
  EXPECT_EQ(other->chunks().counters().decoded_bytes, 0u);

  // A copy is another store, whose groups may come to be others.
  TempDir copy;
  std::filesystem::copy(dir.path() + "/store", copy / "store");
  std::filesystem::copy(dir.path() + "/pool", copy / "pool",
                        std::filesystem::copy_options::copy_symlinks);
  auto third = open_to_share(copy.path());
  EXPECT_EQ(read_content(*third, layer.tar, bytes.size()), bytes);
  EXPECT_EQ(third->chunks().counters().decoded_bytes, bytes.size());
}

// A copy for others has its price: who is alone makes it of what it decodes again, or read little
// of.
TEST(Store, AReaderAloneSharesOnlyWhatIsUsedAgain) {
  TempDir dir;
  Random random;
  std::string bytes = random.text(StoredChunks::kCacheBytesAlone + (4 << 20));
  LayerRecord layer = publish_layer(*open_to_write(dir.path()), bytes);
  auto decoded_by_another = [&] {
    auto other = open_to_share(dir.path());
    EXPECT_EQ(read_content(*other, layer.tar, bytes.size()), bytes);
    return other->chunks().counters().decoded_bytes;
  };
  auto store = open_to_share(dir.path());
  EXPECT_EQ(read_content(*store, layer.tar, bytes.size()), bytes);
  EXPECT_EQ(store->chunks().counters().decoded_bytes, bytes.size());
  EXPECT_EQ(decoded_by_another(), bytes.size());
  EXPECT_EQ(read_content(*store, layer.tar, bytes.size()), bytes);
  EXPECT_EQ(store->chunks().counters().decoded_bytes, 2 * bytes.size()) << "more than its cache";
  EXPECT_EQ(decoded_by_another(), 0u);

  store = open_to_share(dir.path());
  ContentReader reader(store->chunks(), store->objects(), layer.tar, bytes.size());
  Extent extent = VALUE(reader.extents(bytes.size() / 2, 1)).front();
  std::string page(4096, '?');
  ASSERT_EQ(VALUE(reader.read(extent.file_offset + 10'000, page)), page.size());
  EXPECT_EQ(decoded_by_another(), bytes.size() - extent.length);
}

TEST(Store, AReaderAmongOthersKeepsLessByItself) {
  TempDir dir;
  Random random;
  std::string bytes = random.text(6 << 20);
  static_assert(StoredChunks::kCacheBytesAmongOthers < 5 << 20 &&
                StoredChunks::kCacheBytesAlone > 7 << 20);
  LayerRecord layer = publish_layer(*open_to_write(dir.path()), bytes);
  auto store = open_to_share(dir.path()), other = open_to_share(dir.path());
  EXPECT_EQ(read_content(*store, layer.tar, bytes.size()), bytes);
  ::sleep(1);
  other->drop_caches();  // what they share, as nobody used it
  EXPECT_EQ(read_content(*store, layer.tar, bytes.size()), bytes);
  EXPECT_EQ(store->chunks().counters().decoded_bytes, 2 * bytes.size());
}

TEST(Store, AReaderAtRestKeepsNoBlocks) {
  TempDir dir;
  publish_layer(*open_to_write(dir.path()), "content");
  auto store = open_to_read(dir.path());
  auto cached_bytes = [&] {
    uint64_t bytes = 0;
    Database& database = store->database();
    EXPECT_TRUE(database.db().GetIntProperty(database.handle(Family::catalog),
                                             "rocksdb.block-cache-usage", &bytes));
    return bytes;
  };
  VALUE(store->catalog().layer(sha256("content")));
  uint64_t before = cached_bytes();
  store->drop_caches();
  EXPECT_LT(cached_bytes(), before / 4);  // its own bookkeeping remains
}

// What a mount reads is read ahead by the next one, in the order it was read in.
TEST(Store, AReaderReadsAheadWhatAnotherRead) {
  TempDir dir;
  Random random;
  std::string bytes = random.text(4 << 20);
  LayerRecord layer = publish_layer(*open_to_write(dir.path()), bytes);
  auto read_backwards = [&](Store& store, size_t parts) {
    ContentReader reader(store.chunks(), store.objects(), layer.tar, bytes.size());
    std::string part(128 << 10, '?');
    for (size_t i = 0; i < parts; ++i) {
      uint64_t offset = bytes.size() - (i + 1) * part.size();
      ASSERT_EQ(VALUE(reader.read(offset, part)), part.size());
      EXPECT_EQ(part, bytes.substr(offset, part.size()));
    }
  };
  size_t parts = bytes.size() / (128 << 10);
  read_backwards(*open_to_share(dir.path()), parts);

  auto store = open_to_share(dir.path());
  read_backwards(*store, 4);
  uint64_t asked = 4 * (128 << 10), decoded = 0;
  for (int i = 0; i < 5000 && decoded <= asked + (256 << 10); ++i) {
    ::usleep(1000);
    decoded = store->chunks().counters().decoded_bytes;
  }
  EXPECT_GT(decoded, asked + (256 << 10));
  read_backwards(*store, parts);
  EXPECT_EQ(store->chunks().counters().decoded_bytes, bytes.size()) << "each group once";
  store->drop_caches();

  // Where nothing can be kept, everything is read all the same.
  store.reset();
  std::filesystem::remove(ReadHistory::path_in(dir.path()));
  std::filesystem::create_directory(ReadHistory::path_in(dir.path()));
  read_backwards(*open_to_share(dir.path()), parts);
}

// An older state that is put back gives numbers of groups again: nobody may take a copy of what had
// them for what has them now.
TEST(Store, CopiesOfGroupsThatAreNoMoreGo) {
  TempDir dir, before;
  publish_layer(*open_to_write(dir.path()), "one");
  auto put = [](const std::string& from, const std::string& to) {  // in place: the same files
    for (const auto& file : std::filesystem::directory_iterator(from + "/store"))
      if (file.path().filename() != "IDENTITY" || !path_exists(to + "/store/IDENTITY"))
        std::filesystem::copy(file, to + "/store/" + file.path().filename().string(),
                              std::filesystem::copy_options::overwrite_existing);
  };
  std::filesystem::create_directory(before / "store");
  put(dir.path(), before.path());
  publish_layer(*open_to_write(dir.path()), Random().bytes(200'000));
  std::string path = GroupCopies::path_in(dir.path());
  { auto reader = open_to_share(dir.path()); }
  GroupCopies copies = VALUE(GroupCopies::open(path, VALUE(Store::identify(dir.path())), 1));
  auto add = [&] {
    return copies.add(std::vector<GroupId>{3}, 1 << 20, [](GroupId) { return std::string("r"); });
  };
  auto has_copy = [&] {
    Result<GroupCopies> now = GroupCopies::open_to_read(path);
    return now.ok() && now->find(3).has_value();
  };
  EXPECT_EQ(add(), std::vector<GroupId>{3});
  { auto store = open_to_write(dir.path()); }
  { auto reader = open_to_share(dir.path()); }
  EXPECT_TRUE(has_copy());
  std::filesystem::remove(dir.path() + "/store/CURRENT");
  put(before.path(), dir.path());
  ASSERT_EQ(VALUE(Store::identify(dir.path())), copies.identity()) << "as far as can be told";
  { auto store = open_to_write(dir.path()); }
  { auto reader = open_to_share(dir.path()); }
  EXPECT_FALSE(has_copy());
  EXPECT_EQ(add(), std::vector<GroupId>()) << "by a daemon that runs since before";
}

TEST(Store, AReaderThatCannotShareReadsAllTheSame) {
  TempDir dir;
  Random random;
  std::string bytes = random.text(1 << 20);
  publish_layer(*open_to_write(dir.path()), bytes);
  std::ofstream(dir / "pool") << "in the way";
  auto store = open_to_share(dir.path());
  LayerRecord layer = VALUE(store->catalog().layer(sha256(bytes)));
  EXPECT_EQ(read_content(*store, layer.tar, bytes.size()), bytes);
}

TEST(Store, AReaderOfNothingIsToldSo) {
  TempDir dir;
  EXPECT_ERRNO(Store::open(dir / "none", {.read_only = true}), ENOENT);
  EXPECT_ERRNO(Store::open(dir / "none", {.create = false}), ENOENT);
  EXPECT_FALSE(path_exists(dir / "none"));
}

TEST(Store, WhatIsNoStoreOrLostAFileIsNotNothing) {
  TempDir dir;
  ASSERT_OK(write_file_atomically(dir / "file", ""));
  EXPECT_ERRNO(Store::open(dir / "file", {.read_only = true}), ENOTDIR);
  EXPECT_ERRNO(Store::open(dir / "file", {.create = false}), ENOTDIR);
  { auto store = open_to_write(dir.path()); }
  for (const std::string& name : VALUE(list_directory(dir / "store")))
    if (name.starts_with("MANIFEST")) ASSERT_OK(remove_tree(dir / "store/" + name));
  EXPECT_ERRNO(Store::open(dir.path(), {.read_only = true}), EUCLEAN);
}

TEST(Store, AReaderRefusesToWrite) {
  TempDir dir;
  { auto store = open_to_write(dir.path()); }
  auto store = open_to_read(dir.path());
  EXPECT_ERRNO(store->chunks().put("chunk"), EROFS);
  EXPECT_ERRNO(store->objects().put("object"), EROFS);
  EXPECT_ERRNO(store->publish({}), EROFS);
}

TEST(Store, AnAbandonedImportIsInvisible) {
  TempDir dir;
  Random random;
  std::string old_bytes = random.text(1 << 20), new_bytes = random.bytes(70 << 20);
  {
    auto store = open_to_write(dir.path());
    publish_layer(*store, old_bytes);
    Content lost = write_content(*store, new_bytes);  // over one table: partly ingested
    (void)lost;
  }
  auto store = open_to_write(dir.path());
  EXPECT_EQ(VALUE(store->catalog().layers()).size(), 1u);
  LayerRecord layer = VALUE(store->catalog().layer(sha256(old_bytes)));
  EXPECT_EQ(read_content(*store, layer.tar, old_bytes.size()), old_bytes);
  LayerRecord again = publish_layer(*store, new_bytes);
  EXPECT_EQ(read_content(*store, again.tar, new_bytes.size()), new_bytes);
}

TEST(Store, DiscardGivesTheSpaceBackAndTheStoreGoesOn) {
  TempDir dir;
  Random random;
  std::string old_bytes = random.text(1 << 20), new_bytes = random.bytes(70 << 20);
  auto store = open_to_write(dir.path());
  publish_layer(*store, old_bytes);
  auto group_bytes = [&] { return group_file_bytes(store->database()); };
  uint64_t before = group_bytes();
  write_content(*store, new_bytes);
  store->discard();
  EXPECT_EQ(group_bytes(), before);
  LayerRecord layer = VALUE(store->catalog().layer(sha256(old_bytes)));
  EXPECT_EQ(read_content(*store, layer.tar, old_bytes.size()), old_bytes);
  LayerRecord again = publish_layer(*store, new_bytes);
  EXPECT_EQ(read_content(*store, again.tar, new_bytes.size()), new_bytes);
}

// Of more table files than RocksDB opens at once.
std::vector<std::string> publish_many(Store& store) {
  Random random;
  std::vector<std::string> contents;
  for (int i = 0; i < 40; ++i) {
    contents.push_back(random.bytes(100'000));
    publish_layer(store, contents.back());
  }
  return contents;
}

std::string read_layer(Store& store, const std::string& bytes) {
  LayerRecord layer = VALUE(store.catalog().layer(sha256(bytes)));
  return read_content(store, layer.tar, layer.tar_bytes);
}

TEST(Store, AnOpenReaderKeepsWhatAWriterDeletes) {
  TempDir dir;
  auto writer = open_to_write(dir.path());
  std::vector<std::string> contents = publish_many(*writer);
  auto reader = open_to_read(dir.path()), mount = open_to_share(dir.path());
  ASSERT_OK(delete_groups_from(writer->database(), 1));
  for (const std::string& bytes : contents) {
    EXPECT_EQ(read_layer(*reader, bytes), bytes);
    EXPECT_EQ(read_layer(*mount, bytes), bytes);
  }
}

// Which table files were read from.
class WatchedTables : public rocksdb::FileSystemWrapper {
 public:
  WatchedTables() : FileSystemWrapper(rocksdb::FileSystem::Default()) {}
  const char* Name() const override { return "WatchedTables"; }
  size_t read_from() const { return read_from_.size(); }
  void miss_one_after(int openings) { openings_until_missing_ = openings; }

  rocksdb::IOStatus NewRandomAccessFile(const std::string& name,
                                        const rocksdb::FileOptions& options,
                                        std::unique_ptr<rocksdb::FSRandomAccessFile>* file,
                                        rocksdb::IODebugContext* debug) override {
    if (openings_until_missing_-- == 0) return rocksdb::IOStatus::PathNotFound(name);
    rocksdb::IOStatus opened = target()->NewRandomAccessFile(name, options, file, debug);
    if (opened.ok()) *file = std::make_unique<Table>(std::move(*file), name, *this);
    return opened;
  }

 private:
  class Table : public rocksdb::FSRandomAccessFileOwnerWrapper {
   public:
    Table(std::unique_ptr<rocksdb::FSRandomAccessFile> file, std::string name, WatchedTables& all)
        : FSRandomAccessFileOwnerWrapper(std::move(file)), name_(std::move(name)), all_(all) {}
    rocksdb::IOStatus Read(uint64_t offset, size_t size, const rocksdb::IOOptions& options,
                           rocksdb::Slice* result, char* scratch,
                           rocksdb::IODebugContext* debug) const override {
      all_.read_from_.insert(name_);
      return target()->Read(offset, size, options, result, scratch, debug);
    }

   private:
    const std::string name_;
    WatchedTables& all_;
  };
  std::set<std::string> read_from_;
  int openings_until_missing_ = -1;
};

TEST(Store, AMountOpensWhatFilesAreReadFrom) {
  TempDir dir;
  publish_layer(*open_to_write(dir.path()), "content");
  auto mount = open_to_share(dir.path()), reader = open_to_read(dir.path());
  for (Family family : kAllFamilies) EXPECT_TRUE(reader->database().has(family));
  for (Family family : {Family::chunk_index, Family::object_index, Family::similar})
    EXPECT_FALSE(mount->database().has(family));
  EXPECT_EQ(read_layer(*mount, "content"), "content");
}

TEST(Store, AReaderLooksIntoTheTablesItNeeds) {
  TempDir dir;
  std::vector<std::string> contents = publish_many(*open_to_write(dir.path()));
  auto watched = std::make_shared<WatchedTables>();
  auto env = rocksdb::NewCompositeEnv(watched);
  auto store =
      VALUE(Store::open(dir.path(), {.read_only = true, .env = env.get(), .for_mount = true}));
  size_t opened = watched->read_from();
  EXPECT_LE(opened, 20u);
  EXPECT_EQ(read_layer(*store, contents[20]), contents[20]);
  EXPECT_LE(watched->read_from(), opened + 10);
  for (const std::string& bytes : contents) EXPECT_EQ(read_layer(*store, bytes), bytes);
  EXPECT_GT(watched->read_from(), 40u);
}

// A writer may delete a table while a reader opens the many of its state: it then opens a later
// one.
TEST(Store, AReaderThatMissesATableOpensAgain) {
  TempDir dir;
  std::vector<std::string> contents = publish_many(*open_to_write(dir.path()));
  auto watched = std::make_shared<WatchedTables>();
  auto env = rocksdb::NewCompositeEnv(watched);
  for (int openings : {3, 20, 40}) {
    watched->miss_one_after(openings);
    auto store = VALUE(Store::open(dir.path(), {.read_only = true, .env = env.get()}));
    for (const std::string& bytes : contents) EXPECT_EQ(read_layer(*store, bytes), bytes);
  }
}

TEST(Store, AReaderSeesTheStoreAsItWasWhenItOpened) {
  TempDir dir;
  auto writer = open_to_write(dir.path());
  publish_layer(*writer, "one");
  auto reader = open_to_read(dir.path());
  publish_layer(*writer, "two");
  EXPECT_EQ(VALUE(reader->catalog().layers()).size(), 1u);
  EXPECT_EQ(VALUE(open_to_read(dir.path())->catalog().layers()).size(), 2u);
}

TEST(Store, ReadersOpenWhileAWriterPublishes) {
  TempDir dir;
  auto writer = open_to_write(dir.path());
  publish_layer(*writer, "first");
  std::atomic<bool> done{false};
  std::thread publisher([&] {
    for (int i = 0; i < 40; ++i) publish_layer(*writer, "layer " + std::to_string(i));
    done = true;
  });
  size_t seen = 0;
  do {
    auto reader = open_to_read(dir.path());
    std::vector<LayerRecord> layers = VALUE(reader->catalog().layers());
    EXPECT_GE(layers.size(), seen);
    seen = layers.size();
    for (const LayerRecord& layer : layers)
      EXPECT_EQ(sha256(read_content(*reader, layer.tar, layer.tar_bytes)), layer.diff_id);
  } while (!done);
  publisher.join();
}

TEST(Store, AWriterWaitsForAnother) {
  TempDir dir;
  auto first = open_to_write(dir.path());
  std::atomic<int> waits{0};
  std::thread second([&] {
    auto store = VALUE(Store::open(dir.path(), {.on_wait = [&] {
                                     ++waits;
                                     waits.notify_all();
                                   }}));
  });
  waits.wait(0);
  first.reset();
  second.join();
  EXPECT_EQ(waits, 1);
}

TEST(Store, ANewerFormatIsRefusedWithASentence) {
  TempDir dir;
  {
    auto store = open_to_write(dir.path());
    std::string record;
    put_u32(record, kFormatVersion + 7);
    put_u32(record, kMinReaderVersion);
    rocksdb::WriteBatch batch;
    batch.Put(store->database().handle(Family::meta), "format", record);
    ASSERT_OK(store->database().write(batch));
    ASSERT_OK(store->database().flush({Family::meta}));
  }
  EXPECT_ERRNO(Store::open(dir.path()), EPROTO);
  ASSERT_OK(Store::open(dir.path(), {.read_only = true}));  // min reader allows it
}

TEST(Store, LinkIdsAreNotGivenTwice) {
  TempDir dir;
  uint64_t first;
  {
    auto store = open_to_write(dir.path());
    first = VALUE(store->objects().new_link_id());
    EXPECT_NE(VALUE(store->objects().new_link_id()), first);
    ASSERT_OK(store->publish({}));
  }
  EXPECT_EQ(VALUE(open_to_write(dir.path())->objects().new_link_id()), first + 2);
}

}  // namespace
}  // namespace layerfs
