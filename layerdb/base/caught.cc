// SPDX-License-Identifier: Apache-2.0
#include "layerdb/base/caught.h"

#include <exception>
#include <new>
#include <stdexcept>
#include <system_error>

namespace layerfs {

const char* caught_reason() noexcept {
  static constexpr const char* kNoMemory =
      "not enough memory or threads; end other programs, or raise the limits (ulimit -v, -u)";
  if (std::current_exception() == nullptr) return kNoMemory;  // still on its way
  try {
    throw;
  } catch (const std::bad_alloc&) {
    return kNoMemory;
  } catch (const std::length_error&) {  // RocksDB, which takes zstd's error for a length
    return kNoMemory;
  } catch (const std::system_error& e) {
    return e.code() == std::errc::resource_unavailable_try_again ? kNoMemory : e.what();
  } catch (const std::exception& e) {
    return e.what();
  } catch (...) {
    return "unknown exception";
  }
}

}  // namespace layerfs
