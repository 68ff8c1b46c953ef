// SPDX-License-Identifier: Apache-2.0
//
// Helpers for tests of the upper: opening one, building records, applying a transaction.
#pragma once

#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "layerdb/upper/upper.h"

namespace layerfs {

inline constexpr Ino kFirst = 1000;

inline std::unique_ptr<Upper> open_upper(const std::string& path, Upper::Options options = {}) {
  Result<std::unique_ptr<Upper>> upper = Upper::open(path, kFirst, options);
  EXPECT_TRUE(upper.ok()) << upper.error().message;
  return upper.ok() ? std::move(*upper) : nullptr;
}

inline InodeRecord regular(Body body, uint64_t size_bytes = 0) {
  InodeRecord record;
  record.attributes.type = FileType::regular;
  record.attributes.mode = 04755;
  record.attributes.uid = 4000000000;
  record.attributes.gid = 7;
  record.attributes.nlink = 2;
  record.attributes.size_bytes = size_bytes;
  record.attributes.mtime = {-5, 999999999};
  record.atime = {1, 2};
  record.ctime = {3, 4};
  record.btime = {5, 6};
  record.body = body;
  return record;
}

// Applies what `build` puts into a transaction.
template <typename Build>
Status apply(Upper& upper, Build build) {
  auto transaction = upper.begin();
  build(*transaction);
  return upper.apply(std::move(transaction));
}

inline std::vector<std::string> names(Upper& upper, Ino directory, std::string_view after = {}) {
  std::vector<std::string> out;
  EXPECT_TRUE(upper
                  .list_names(directory, after,
                              [&](std::string_view name, const UpperName&) {
                                out.emplace_back(name);
                                return true;
                              })
                  .ok());
  return out;
}

}  // namespace layerfs
