// SPDX-License-Identifier: Apache-2.0
//
// What an exception means to people. The code itself throws none, but memory and threads can run
// out anywhere (std::bad_alloc, std::thread's std::system_error).
#pragma once

#include <cerrno>

#include "layerdb/base/result.h"

namespace layerfs {

// Of the exception that is being handled: to be called in a catch block only. Allocates nothing.
const char* caught_reason() noexcept;
inline Error caught_error() { return {ENOMEM, caught_reason()}; }

// What `calls` returns, a Status, or what it threw.
template <typename Calls>
Status call_and_catch(Calls&& calls) {
  try {
    return calls();
  } catch (...) {
    return caught_error();
  }
}

}  // namespace layerfs
