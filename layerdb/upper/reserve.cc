// SPDX-License-Identifier: Apache-2.0
#include "layerdb/upper/reserve.h"

#include <fcntl.h>
#include <unistd.h>

#include "layerdb/base/sys.h"

namespace layerfs {

Reserve::~Reserve() {
  if (taken_) ::unlink(path_.c_str());
}

Status Reserve::take() {
  if (taken_) return {};
  std::lock_guard lock(mutex_);
  if (taken_) return {};
  UniqueFd fd = TRY(open_file(path_, O_WRONLY | O_CREAT, 0600));
  if (::fallocate(fd.get(), 0, 0, kBytes) != 0 && errno != EOPNOTSUPP) {
    Error error = errno_error("set space aside in '" + path_ + "'");
    ::unlink(path_.c_str());  // a part of it would help nobody
    return error;
  }
  taken_ = true;
  return {};
}

bool Reserve::give_back() {
  std::lock_guard lock(mutex_);
  taken_ = false;
  return ::unlink(path_.c_str()) == 0;
}

}  // namespace layerfs
