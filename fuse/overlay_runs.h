// SPDX-License-Identifier: Apache-2.0
//
// Where a lower file has data, asked at offsets that never fall. The run found last is kept: a file
// of which many small pieces were written has as many pieces of its lower left, and a search for
// the end of the data from within each one would walk over all extents that follow it each time.
// Not thread-safe; the file must outlive it.
#pragma once

#include <cerrno>
#include <cstdint>
#include <limits>

#include "layerdb/view/lower.h"

namespace layerfs {

class LowerRuns {
 public:
  static constexpr uint64_t kNone = std::numeric_limits<uint64_t>::max();
  struct Run {
    uint64_t begin = 0;
    uint64_t end = 0;
  };

  explicit LowerRuns(const LowerFile& file) : file_(file) {}

  // The run that holds `offset` or is the next one; it begins at kNone when no data follows. A run
  // may begin before where its data was first asked for.
  Result<Run> find(uint64_t offset) {
    if (offset < run_.end) return run_;
    auto begin = file_.seek_data(offset);
    if (!begin.ok() && begin.error().code == ENXIO) return run_ = Run{kNone, kNone};
    Run found{TRY(std::move(begin)), 0};
    found.end = TRY(file_.seek_hole(found.begin));
    return run_ = found;
  }

 private:
  const LowerFile& file_;
  Run run_;
};

}  // namespace layerfs
