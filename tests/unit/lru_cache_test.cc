// SPDX-License-Identifier: Apache-2.0
#include "layerdb/store/lru_cache.h"

#include <gtest/gtest.h>

#include <future>
#include <string>

#include "tests/support/result_matchers.h"

namespace layerfs {
namespace {

using Cache = LruCache<std::string>;

Result<Cache::Loaded> load_text(const std::string& text) {
  return Cache::Loaded{std::make_shared<const std::string>(text), text.size()};
}

TEST(LruCacheTest, ALoaderWithoutMemoryFailsForAllWhoWaitAndForThemOnly) {
  Cache cache(1 << 20);
  std::promise<void> loading, go_on;
  auto first = std::async(std::launch::async, [&] {
    return cache.get(7, [&]() -> Result<Cache::Loaded> {
      loading.set_value();
      go_on.get_future().wait();
      throw std::bad_alloc();
    });
  });
  loading.get_future().wait();
  // Waits for the first one's value, or comes after it and loads its own.
  auto second =
      std::async(std::launch::async, [&] { return cache.get(7, [] { return load_text("b"); }); });
  go_on.set_value();
  EXPECT_ERRNO(first.get(), ENOMEM);
  auto shared = second.get();
  if (shared.ok())
    EXPECT_EQ(**shared, "b");
  else
    EXPECT_EQ(shared.error().code, ENOMEM);
  std::string expected = shared.ok() ? "b" : "c";
  EXPECT_EQ(*VALUE(cache.get(7, [] { return load_text("c"); })), expected);
}

}  // namespace
}  // namespace layerfs
