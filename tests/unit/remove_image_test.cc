// SPDX-License-Identifier: Apache-2.0
#include "layerdb/ops/remove_image.h"

#include <gtest/gtest.h>

#include "layerdb/ops/container.h"
#include "tests/support/stored_image.h"
#include "tests/support/temp_dir.h"

namespace layerfs {
namespace {

using Strings = std::vector<std::string>;
using Digests = std::vector<Digest>;

class RemoveImageTest : public ::testing::Test {
 protected:
  RemoveImageTest() : store_(VALUE(Store::open(dir_ / "store"))) {
    base_ = test_support::make_layer(*store_, "base layer");
    top_ = test_support::make_layer(*store_, "top layer");
    small_ = test_support::publish_image(*store_, {base_}, "small", {"small:1"});
    large_ = test_support::publish_image(*store_, {base_, top_}, "large", {"large:1", "large:2"});
  }
  Catalog& catalog() { return store_->catalog(); }

  test_support::TempDir dir_;
  std::unique_ptr<Store> store_;
  LayerRecord base_, top_;
  ImageRecord small_, large_;
};

TEST_F(RemoveImageTest, AReferenceGoesFirstTheImageWithTheLast) {
  RemovedImage first = VALUE(remove_image(*store_, "large:1"));
  EXPECT_EQ(first.untagged, Strings{"large:1"});
  EXPECT_TRUE(first.deleted.empty());
  ASSERT_OK(catalog().image(large_.id));
  EXPECT_ERRNO(catalog().ref("large:1"), ENOENT);

  RemovedImage second = VALUE(remove_image(*store_, "large:2"));
  EXPECT_EQ(second.untagged, Strings{"large:2"});
  EXPECT_EQ(second.deleted, (Digests{large_.id, top_.diff_id}));
  EXPECT_ERRNO(catalog().image(large_.id), ENOENT);
  EXPECT_ERRNO(catalog().config(large_.id), ENOENT);
  EXPECT_ERRNO(catalog().layer(top_.diff_id), ENOENT);
  EXPECT_ERRNO(catalog().chain(large_.chain_id), ENOENT);
  ASSERT_OK(catalog().layer(base_.diff_id));  // the small image's
  ASSERT_OK(catalog().chain(small_.chain_id));

  EXPECT_EQ(VALUE(remove_image(*store_, "small:1")).deleted, (Digests{small_.id, base_.diff_id}));
  EXPECT_TRUE(VALUE(catalog().layers()).empty());
  EXPECT_TRUE(VALUE(catalog().chains()).empty());
  EXPECT_TRUE(VALUE(catalog().refs()).empty());
}

TEST_F(RemoveImageTest, AnIdWithSeveralReferencesIsRefused) {
  Result<RemovedImage> result = remove_image(*store_, large_.id.hex().substr(0, 12));
  ASSERT_FALSE(result.ok());
  EXPECT_EQ(result.error().code, EBUSY);
  EXPECT_NE(result.error().message.find("large:1, large:2"), std::string::npos);
  ASSERT_OK(catalog().image(large_.id));
}

TEST_F(RemoveImageTest, AnIdWithOneReferenceTakesItAlong) {
  RemovedImage removed = VALUE(remove_image(*store_, small_.id.to_string()));
  EXPECT_EQ(removed.untagged, Strings{"small:1"});
  EXPECT_EQ(removed.deleted, Digests{small_.id});  // its layer is in the large image
  ASSERT_OK(catalog().chain(small_.chain_id));     // and so is its chain
}

TEST_F(RemoveImageTest, AnImageThatAContainerUsesStays) {
  {
    UniqueFd lock = VALUE(lock_containers(store_->root()));
    ASSERT_OK(create_container(
        store_->root(),
        {.name = "busy", .reference = "small:1", .image = small_.id, .chain_id = small_.chain_id}));
  }
  Result<RemovedImage> result = remove_image(*store_, "small:1");
  ASSERT_FALSE(result.ok());
  EXPECT_EQ(result.error().code, EBUSY);
  EXPECT_NE(result.error().message.find("'busy'"), std::string::npos);
  ASSERT_OK(catalog().ref("small:1"));
  ASSERT_OK(remove_image(*store_, "large:1"));  // another image's
}

TEST_F(RemoveImageTest, AnUnknownNameIsRefused) {
  EXPECT_ERRNO(remove_image(*store_, "nothing:1"), ENOENT);
}

}  // namespace
}  // namespace layerfs
