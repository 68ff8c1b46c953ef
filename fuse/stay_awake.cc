// SPDX-License-Identifier: Apache-2.0
#include "fuse/stay_awake.h"

#include <fcntl.h>
#include <unistd.h>

#include <cstdint>
#include <limits>

namespace layerfs {

StayAwake::StayAwake(const std::string& device, long processors) {
  if (processors > kMostProcessors) return;
  Result<UniqueFd> opened = open_file(device, O_WRONLY);
  if (opened.ok()) device_ = std::move(*opened);
}

void StayAwake::set(bool asked) {
  if (!device_.valid() || this->asked() == asked) return;
  std::lock_guard lock(mutex_);
  if (this->asked() == asked) return;
  const int32_t microseconds = asked ? 0 : std::numeric_limits<int32_t>::max();
  if (::pwrite(device_.get(), &microseconds, sizeof microseconds, 0) == sizeof microseconds)
    asked_.store(asked, std::memory_order_relaxed);
}

}  // namespace layerfs
