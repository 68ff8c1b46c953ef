// SPDX-License-Identifier: Apache-2.0
//
// Space on the host's disk set aside while a container can be changed, so that deleting works when
// the disk is full: deleting writes a little, too. take() is asked before every change that needs
// space; it fails when the reserve was given back and cannot be had again, so that only what frees
// space uses it up. A filesystem that cannot set space aside has none. Thread-safe.
#pragma once

#include <atomic>
#include <mutex>
#include <string>

#include "layerdb/base/result.h"

namespace layerfs {

class Reserve {
 public:
  explicit Reserve(std::string path) : path_(std::move(path)) {}
  ~Reserve();

  Status take();     // ENOSPC
  bool give_back();  // false: there is none

  // Deleting a file writes a few hundred bytes; a memtable has 4 MiB.
  static constexpr uint64_t kBytes = 4 << 20;

 private:
  const std::string path_;
  std::atomic<bool> taken_ = false;
  std::mutex mutex_;
};

}  // namespace layerfs
