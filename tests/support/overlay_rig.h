// SPDX-License-Identifier: Apache-2.0
//
// An Overlay over a given lower and a fresh upper in a temporary directory, which goes with it.
// Its clock stands still but for tick(). Paths are "a/b"; "" is the root. Not thread-safe itself.
#pragma once

#include <atomic>
#include <memory>
#include <string>

#include "fuse/overlay.h"

namespace layerfs {

class OverlayRig {
 public:
  // `env` is the upper's host; null: the real one. `seconds` is when the clock starts.
  explicit OverlayRig(Lower& lower, rocksdb::Env* env = nullptr, int64_t seconds = 1000);
  ~OverlayRig();

  Overlay& overlay() { return *overlay_; }
  Upper& upper() { return *upper_; }
  void remount();  // closes and opens upper and overlay: the kernel forgets everything
  void crash();    // opens what kill -9 would have left instead
  void tick() { ++seconds_; }
  Timestamp now() const { return {seconds_, 0}; }

  Result<Ino> resolve(const std::string& path);  // leaves no reference behind
  Result<std::string> read_all(Ino ino);

 private:
  void open();

  Lower& lower_;
  std::string directory_;
  rocksdb::Env* env_;
  std::atomic<int64_t> seconds_;
  std::unique_ptr<Upper> upper_;
  std::unique_ptr<Overlay> overlay_;
};

}  // namespace layerfs
