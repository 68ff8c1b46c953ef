// SPDX-License-Identifier: Apache-2.0
//
// Work that goes on in the background once it has said it is ready.
//
// The caller of run_in_background must be single-threaded: the child goes on with only the thread
// that forked, and RocksDB is opened in it, never before.
#pragma once

#include <functional>
#include <string>

#include "layerdb/base/result.h"

namespace layerfs {

// What the background process calls once, when it is ready: the parent returns `result`, and the
// child's standard error becomes `log_path`. No descriptor of the parent's stays open (podman reads
// its helper's standard error to the end).
using Announce = std::function<Status(const std::string& result, const std::string& log_path)>;

// Forks. The parent returns what the child announced, or the error that `body` returned before
// announcing. The child leaves the session and directory it was started in, and never returns.
Result<std::string> run_in_background(const std::function<Status(const Announce&)>& body);

}  // namespace layerfs
