// SPDX-License-Identifier: Apache-2.0
//
// A container held still, to be read from outside (commit, diff, export): when it is mounted, its
// daemon has written everything back and holds back changes as long as the object lives; when it is
// not, its lock is held, so that nobody mounts it meanwhile. Killing this process lets go of both.
#pragma once

#include <memory>

#include "fuse/control.h"
#include "layerdb/base/result.h"
#include "layerdb/base/sys.h"
#include "layerdb/ops/container.h"
#include "layerdb/ops/import.h"
#include "layerdb/store/store.h"
#include "layerdb/upper/upper.h"
#include "layerdb/view/lower.h"

namespace layerfs {

class QuietContainer {
 public:
  // `store` must outlive the object.
  static Result<std::unique_ptr<QuietContainer>> open(Store& store, const Container& container);

  // Asks for it to stay still: to be called now and then (every progress), and before what was read
  // is used. ETIMEDOUT: it did not stay so.
  Status keep();
  // A progress callback that does, and then calls `progress`.
  Progress keeping(Progress progress);

  Lower& lower() { return *lower_; }
  Upper& upper() { return *upper_; }

 private:
  QuietContainer() = default;
  Status hold(const Container& container);

  UniqueFd lock_;                          // not mounted
  std::unique_ptr<ControlClient> daemon_;  // mounted: frozen while connected
  std::unique_ptr<Lower> lower_;
  std::unique_ptr<Upper> upper_;
};

}  // namespace layerfs
