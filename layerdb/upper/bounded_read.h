// SPDX-License-Identifier: Apache-2.0
//
// Iterating over the keys below a bound. Without one an iterator that has passed the last key
// wanted goes on over whatever was deleted behind it, however much that is.
#pragma once

#include <rocksdb/options.h>

#include <string>
#include <utility>

namespace layerfs {

// Must outlive the iterator that takes its options.
class BoundedRead {
 public:
  explicit BoundedRead(std::string end) : end_(std::move(end)), slice_(end_) {
    if (!end_.empty()) options_.iterate_upper_bound = &slice_;
  }
  BoundedRead(const BoundedRead&) = delete;
  BoundedRead& operator=(const BoundedRead&) = delete;
  const rocksdb::ReadOptions& options() const { return options_; }

 private:
  const std::string end_;  // empty: no bound
  const rocksdb::Slice slice_;
  rocksdb::ReadOptions options_;
};

// The first key behind all that start with `prefix`; empty: there is none.
inline std::string end_of_prefix(std::string prefix) {
  while (!prefix.empty() && prefix.back() == '\xff') prefix.pop_back();
  if (!prefix.empty()) ++prefix.back();
  return prefix;
}

}  // namespace layerfs
