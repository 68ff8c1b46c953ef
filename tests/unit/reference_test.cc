// SPDX-License-Identifier: Apache-2.0
#include "layerdb/store/reference.h"

#include <gtest/gtest.h>

#include "layerdb/store/catalog.h"
#include "layerdb/store/store.h"
#include "tests/support/result_matchers.h"
#include "tests/support/temp_dir.h"

namespace layerfs {
namespace {

TEST(Reference, Parses) {
  const std::string hex(64, 'a');
  struct Case {
    std::string text, repository, tag;
    bool digest;
  };
  for (const Case& c : std::vector<Case>{
           {"debian", "debian", "latest", false},
           {"debian:12", "debian", "12", false},
           {"team/app:v1.0-rc_2", "team/app", "v1.0-rc_2", false},
           {"localhost:5000/app", "localhost:5000/app", "latest", false},
           {"Host.example:5000/a/b__c--d:x", "Host.example:5000/a/b__c--d", "x", false},
           {"[::1]:5000/app:1", "[::1]:5000/app", "1", false},
           {"app@sha256:" + hex, "app", "", true},
           {"app:1@sha256:" + hex, "app", "1", true}}) {
    Reference r = VALUE(parse_reference(c.text));
    EXPECT_EQ(r.repository, c.repository) << c.text;
    EXPECT_EQ(r.tag, c.tag) << c.text;
    EXPECT_EQ(r.digest.has_value(), c.digest) << c.text;
  }
  for (const char* bad :
       {"", ":tag", "Upper", "a//b", "/a", "a/", "a:", "a:.x", "a:-x", "a b", "-a", "a..b", "a___b",
        "app@sha256:12", "app@md5:12", "host:x/app", "a\nb"})
    EXPECT_ERRNO(parse_reference(bad), EINVAL);
  EXPECT_ERRNO(parse_reference(std::string(256, 'a')), EINVAL);
  EXPECT_ERRNO(parse_reference("a:" + std::string(129, 't')), EINVAL);
}

TEST(Reference, Resolves) {
  test_support::TempDir dir;
  auto store = VALUE(Store::open(dir.path()));
  Digest a = VALUE(Digest::parse("ab1" + std::string(61, '0')));
  Digest b = VALUE(Digest::parse("ab2" + std::string(61, '0')));
  CatalogBatch batch;
  batch.put_image({.id = a, .diff_ids = {a}, .chain_id = a, .imported_at = 7}, "{}");
  batch.put_image({.id = b, .diff_ids = {a, b}, .chain_id = b}, "{\"b\":1}");
  batch.put_ref("app:latest", a);
  batch.put_ref("app:2", b);
  ASSERT_OK(store->publish(std::move(batch)));
  Catalog& catalog = store->catalog();
  EXPECT_EQ(VALUE(resolve_image(catalog, "app")), a);
  EXPECT_EQ(VALUE(resolve_image(catalog, "app:2")), b);
  EXPECT_EQ(VALUE(resolve_image(catalog, "ab2")), b);
  EXPECT_EQ(VALUE(resolve_image(catalog, "sha256:ab1")), a);
  EXPECT_EQ(VALUE(resolve_image(catalog, b.to_string())), b);
  EXPECT_EQ(VALUE(resolve_image(catalog, "app@" + a.to_string())), a);
  EXPECT_ERRNO(resolve_image(catalog, "ab"), EINVAL);
  EXPECT_ERRNO(resolve_image(catalog, "app:3"), ENOENT);
  EXPECT_ERRNO(resolve_image(catalog, "other@" + a.to_string()), ENOENT);
  EXPECT_ERRNO(resolve_image(catalog, "No such"), EINVAL);
  EXPECT_EQ(VALUE(catalog.image(a)).imported_at, 7);
  EXPECT_EQ(VALUE(catalog.image(b)).diff_ids, (std::vector<Digest>{a, b}));
  EXPECT_EQ(VALUE(catalog.config(b)), "{\"b\":1}");
  EXPECT_EQ(VALUE(catalog.refs()).size(), 2u);
  EXPECT_ERRNO(catalog.layer(a), ENOENT);
}

}  // namespace
}  // namespace layerfs
