// SPDX-License-Identifier: Apache-2.0
//
// The catalog's records as bytes and in a store.
#include "layerdb/store/catalog.h"

#include <gtest/gtest.h>

#include "layerdb/store/catalog_json.h"
#include "layerdb/store/store.h"
#include "tests/support/result_matchers.h"
#include "tests/support/temp_dir.h"

namespace layerfs {
namespace {

const LayerRecord kLayer{.diff_id = sha256("layer"),
                         .root = ObjectId{3},
                         .links = ObjectId{4},
                         .tar = {.extents = {{0, 1, 2, 3}}},
                         .tar_bytes = 3,
                         .entry_count = 5,
                         .content_bytes = 6,
                         .links_below = true,
                         .provisional = true};

TEST(CatalogTest, RecordsComeBack) {
  for (bool flag : {false, true}) {
    LayerRecord layer = kLayer;
    layer.links_below = flag;
    layer.provisional = !flag;
    LayerRecord back = VALUE(decode_layer(layer.diff_id, encode_layer(layer)));
    EXPECT_EQ(back.root, layer.root);
    EXPECT_EQ(back.links, layer.links);
    EXPECT_EQ(back.tar, layer.tar);
    EXPECT_EQ(back.tar_bytes, layer.tar_bytes);
    EXPECT_EQ(back.entry_count, layer.entry_count);
    EXPECT_EQ(back.content_bytes, layer.content_bytes);
    EXPECT_EQ(back.links_below, flag);
    EXPECT_EQ(back.provisional, !flag);
  }
  LayerRecord mapped = kLayer;
  mapped.tar = {.map = ObjectId{77}};
  EXPECT_EQ(VALUE(decode_layer(mapped.diff_id, encode_layer(mapped))).tar, mapped.tar);

  for (bool with_parent : {false, true}) {
    ChainRecord chain{.chain_id = sha256("chain"), .diff_id = sha256("layer"), .root = ObjectId{9}};
    if (with_parent) chain.parent = sha256("parent");
    ChainRecord back = VALUE(decode_chain(chain.chain_id, encode_chain(chain)));
    EXPECT_EQ(back.chain_id, chain.chain_id);
    EXPECT_EQ(back.diff_id, chain.diff_id);
    EXPECT_EQ(back.parent, chain.parent);
    EXPECT_EQ(back.root, chain.root);
  }
  ImageRecord image{sha256("image"), {sha256("a"), sha256("b")}, sha256("chain"), -5};
  ImageRecord back = VALUE(decode_image(image.id, encode_image(image)));
  EXPECT_EQ(back.diff_ids, image.diff_ids);
  EXPECT_EQ(back.chain_id, image.chain_id);
  EXPECT_EQ(back.imported_at, -5);
}

TEST(CatalogTest, DamageIsFound) {
  std::string good = encode_layer(kLayer);
  for (size_t size = 0; size < good.size(); ++size)
    EXPECT_ERRNO(decode_layer(kLayer.diff_id, good.substr(0, size)), EUCLEAN);
  auto replaced = [&](const std::string& what, const std::string& with) {
    std::string out = good;
    size_t at = out.find(what);
    EXPECT_NE(at, std::string::npos) << what;
    return out.replace(at, what.size(), with);
  };
  for (const std::string& bad :
       {replaced("\"root\"", "\"r\""), replaced("\"links_below\":true", "\"links_below\":1"),
        replaced("\"provisional\":true", "\"provisional\":\"yes\""),
        replaced("[0,1,2,3]", "[0,1,2]"), replaced("[0,1,2,3]", "[0,1,2,-3]"),
        replaced("\"tar_bytes\":3", "\"tar_bytes\":-3"), std::string("[]"), std::string("null")}) {
    EXPECT_ERRNO(decode_layer(kLayer.diff_id, bad), EUCLEAN);
  }
  EXPECT_ERRNO(decode_image(sha256(""), R"({"diff_ids":["x"],"chain_id":"y"})"), EUCLEAN);
  EXPECT_ERRNO(decode_chain(sha256(""), "{}"), EUCLEAN);
}

TEST(CatalogTest, ABatchAppearsAsAWholeAndInOrder) {
  test_support::TempDir directory;
  auto store = VALUE(Store::open(directory.path()));
  Catalog& catalog = store->catalog();
  ImageRecord image{sha256("config"), {kLayer.diff_id}, sha256("chain"), 1};
  CatalogBatch batch;
  batch.put_layer(kLayer);
  batch.put_chain({.chain_id = image.chain_id, .diff_id = kLayer.diff_id});
  batch.put_image(image, "config");
  batch.put_ref("b:1", image.id);
  batch.put_ref("a:1", image.id);
  batch.put_ref("gone:1", image.id);
  batch.delete_ref("gone:1");
  EXPECT_ERRNO(catalog.image(image.id), ENOENT);
  ASSERT_OK(store->publish(std::move(batch)));
  EXPECT_EQ(VALUE(catalog.config(image.id)), "config");
  using Refs = std::vector<std::pair<std::string, Digest>>;
  EXPECT_EQ(VALUE(catalog.refs()), (Refs{{"a:1", image.id}, {"b:1", image.id}}));
  EXPECT_EQ(VALUE(catalog.layers()).size(), 1u);
  EXPECT_EQ(VALUE(catalog.chains()).size(), 1u);

  CatalogBatch removal;
  removal.delete_ref("a:1");
  removal.delete_image(image.id);
  removal.delete_chain(image.chain_id);
  removal.delete_layer(kLayer.diff_id);
  ASSERT_OK(store->publish(std::move(removal)));
  EXPECT_ERRNO(catalog.ref("a:1"), ENOENT);
  EXPECT_ERRNO(catalog.config(image.id), ENOENT);
  EXPECT_ERRNO(catalog.layer(kLayer.diff_id), ENOENT);
  EXPECT_ERRNO(catalog.chain(image.chain_id), ENOENT);
  EXPECT_TRUE(VALUE(catalog.images()).empty());
}

}  // namespace
}  // namespace layerfs
