// SPDX-License-Identifier: Apache-2.0
//
// A thread's memory for one message or reply. Most are small, some of a mebibyte: what those
// touched is given back by release(), after which the buffer holds zeros. For its own thread.
#pragma once

#include <cstddef>
#include <memory>

namespace layerfs {

class MessageBuffer {
 public:
  explicit MessageBuffer(size_t size_bytes)
      : size_bytes_(size_bytes), bytes_(new char[size_bytes]) {}
  char* data() { return bytes_.get(); }
  void release() noexcept;

 private:
  size_t size_bytes_;
  std::unique_ptr<char[]> bytes_;
};

}  // namespace layerfs
