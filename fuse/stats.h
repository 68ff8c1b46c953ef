// SPDX-License-Identifier: Apache-2.0
//
// What a mount has been asked: messages per FUSE opcode and bytes moved. Counts repeat exactly
// where seconds do not, so tests of caching count messages. Thread-safe; counters only grow.
#pragma once

#include <array>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <nlohmann/json_fwd.hpp>

namespace layerfs {

class Stats {
 public:
  void count_message(uint32_t opcode) {
    size_t slot = opcode < messages_.size() ? opcode : 0;  // no message has opcode 0
    messages_[slot].fetch_add(1, std::memory_order_relaxed);
  }
  void add_read(uint64_t size_bytes) {
    read_bytes_.fetch_add(size_bytes, std::memory_order_relaxed);
  }
  void add_written(uint64_t size_bytes) {
    written_bytes_.fetch_add(size_bytes, std::memory_order_relaxed);
  }

  void add_kept_awake(std::chrono::nanoseconds time) {
    kept_awake_.fetch_add(time.count(), std::memory_order_relaxed);
  }

  // {"messages": {"LOOKUP": 3, …}, "messages_total": 3, "read_bytes": 0, "written_bytes": 0,
  // "kept_awake_seconds": 0.0}: how long idle processors were kept from sleeping
  nlohmann::json to_json() const;

 private:
  std::array<std::atomic<uint64_t>, 64> messages_{};
  std::atomic<uint64_t> read_bytes_{0};
  std::atomic<uint64_t> written_bytes_{0};
  std::atomic<int64_t> kept_awake_{0};  // ns
};

}  // namespace layerfs
