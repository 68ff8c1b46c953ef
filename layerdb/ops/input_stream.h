// SPDX-License-Identifier: Apache-2.0
//
// The uncompressed bytes of a stream that may be compressed, read ahead: one thread reads and
// decompresses (libarchive's filters), a second one takes the SHA-256, the caller consumes. Memory:
// a few blocks of kInputBlockBytes, whatever the stream's size.
// Used from one thread; `source` is called from another. Errors: the source's own; EINVAL for
// damaged compressed data; EINTR once *cancelled is set.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "layerdb/base/hash.h"
#include "layerdb/base/result.h"
#include "layerdb/ops/import.h"

namespace layerfs {

// A multiple of tar's block size: a peek at an aligned position holds a whole tar block.
inline constexpr size_t kInputBlockBytes = 512 * 1024;

class InputStream {
 public:
  // `name` is for error sentences. `cancelled` may be null.
  InputStream(ByteSource source, std::string name, const std::atomic<bool>* cancelled);
  ~InputStream();  // stops and joins the threads

  // The bytes at hand, empty only at the end; valid until the first peek() after consuming them
  // all.
  Result<std::string_view> peek();
  void consume(size_t size_bytes);
  uint64_t position() const;  // bytes consumed

  // Of all bytes. Only after peek() reported the end.
  Digest digest();

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace layerfs
