// SPDX-License-Identifier: Apache-2.0
//
// A sharded cache of immutable values by number, bounded by their bytes, least recently used out
// first. get() loads a missing value once, however many threads ask for it meanwhile: the others
// wait and share the value (or the error; errors are not kept). Thread-safe; the loader runs
// without any lock.
#pragma once

#include <array>
#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <list>
#include <memory>
#include <mutex>
#include <new>
#include <optional>
#include <unordered_map>

#include "layerdb/base/result.h"

namespace layerfs {

template <typename Value>
class LruCache {
 public:
  using Pointer = std::shared_ptr<const Value>;
  struct Loaded {
    Pointer value;
    size_t bytes = 0;
  };

  explicit LruCache(size_t capacity_bytes) { set_capacity(capacity_bytes); }

  // Less is true for each shard once something is added to it.
  void set_capacity(size_t bytes) { shard_capacity_bytes_ = bytes / kShards; }

  template <typename Load>  // Result<Loaded>()
  Result<Pointer> get(uint64_t key, Load&& load) {
    Shard& shard = shard_of(key);
    std::unique_lock lock(shard.mutex);
    if (Pointer hit = shard.touch(key)) return hit;
    auto flight = std::make_shared<Flight>();
    if (auto [it, mine] = shard.flights.try_emplace(key, flight); !mine) {
      flight = it->second;
      shard.landed.wait(lock, [&] { return flight->result.has_value(); });
      return *flight->result;
    }
    lock.unlock();
    Result<Loaded> loaded = guarded(load);
    lock.lock();
    shard.flights.erase(key);
    if (loaded.ok())
      flight->result.emplace(loaded->value);
    else
      flight->result.emplace(std::move(loaded).error());
    shard.landed.notify_all();
    if (loaded.ok()) shard.insert(key, std::move(*loaded), shard_capacity_bytes_);
    return *flight->result;
  }

  bool contains(uint64_t key) {
    Shard& shard = shard_of(key);
    std::lock_guard lock(shard.mutex);
    return shard.items.contains(key);
  }

  void insert(uint64_t key, Loaded value) {
    Shard& shard = shard_of(key);
    std::lock_guard lock(shard.mutex);
    shard.insert(key, std::move(value), shard_capacity_bytes_);
  }

  void clear() {
    for (Shard& shard : shards_) {
      std::lock_guard lock(shard.mutex);
      shard.items.clear();
      shard.order.clear();
      shard.bytes = 0;
    }
  }

 private:
  static constexpr size_t kShards = 8;

  struct Flight {
    std::optional<Result<Pointer>> result;
  };
  struct Item {
    uint64_t key;
    Loaded loaded;
  };
  struct Shard {
    std::mutex mutex;
    std::condition_variable landed;
    std::list<Item> order;  // most recently used first
    std::unordered_map<uint64_t, typename std::list<Item>::iterator> items;
    std::unordered_map<uint64_t, std::shared_ptr<Flight>> flights;
    size_t bytes = 0;

    Pointer touch(uint64_t key) {
      auto it = items.find(key);
      if (it == items.end()) return nullptr;
      order.splice(order.begin(), order, it->second);
      return it->second->loaded.value;
    }
    void insert(uint64_t key, Loaded loaded, size_t capacity_bytes) {
      if (items.contains(key)) return;
      bytes += loaded.bytes;
      order.push_front({key, std::move(loaded)});
      items[key] = order.begin();
      while (bytes > capacity_bytes && !order.empty()) {
        bytes -= order.back().loaded.bytes;
        items.erase(order.back().key);
        order.pop_back();
      }
    }
  };

  // Others wait for what it returns: it must return.
  template <typename Load>
  static Result<Loaded> guarded(Load&& load) {
    try {
      return load();
    } catch (const std::bad_alloc&) {
      return Error{ENOMEM, "out of memory"};  // short: takes none
    }
  }

  Shard& shard_of(uint64_t key) { return shards_[key % kShards]; }

  std::atomic<size_t> shard_capacity_bytes_ = 0;
  std::array<Shard, kShards> shards_;
};

}  // namespace layerfs
