// SPDX-License-Identifier: Apache-2.0
//
// The store by itself: putting new and duplicate bytes, reading groups, opening.
#include <benchmark/benchmark.h>

#include "bench/corpus.h"
#include "layerdb/store/catalog.h"
#include "layerdb/store/content.h"
#include "layerdb/store/database.h"
#include "layerdb/store/store.h"
#include "tests/support/temp_dir.h"

namespace layerfs {
namespace {

using testing::TempDir;

constexpr size_t kBytes = 128 << 20;

Status put_all(Store& store, std::string_view bytes) {
  ContentWriter writer(store.chunks(), store.objects());
  for (; !bytes.empty(); bytes.remove_prefix(std::min<size_t>(bytes.size(), 1 << 20)))
    TRY(writer.append(bytes.substr(0, 1 << 20)));
  TRY(writer.finish());
  return store.publish({});
}

void check(benchmark::State& state, const Status& status) {
  if (!status.ok()) state.SkipWithError(status.error().message.c_str());
}

// One store with the corpus in it, for the benchmarks that only read.
Store& filled_store() {
  static TempDir dir;
  static std::unique_ptr<Store> store = [] {
    auto opened = std::move(Store::open(dir / "store")).value();
    if (Status s = put_all(*opened, bench::corpus(kBytes)); !s.ok()) std::abort();
    return opened;
  }();
  return *store;
}

void BM_PutNew(benchmark::State& state) {
  const std::string& bytes = bench::corpus(kBytes);
  for (auto _ : state) {
    state.PauseTiming();
    auto dir = std::make_unique<TempDir>();
    auto store = std::move(Store::open(*dir / "store")).value();
    state.ResumeTiming();
    check(state, put_all(*store, bytes));
    state.PauseTiming();
    store.reset();
    dir.reset();
    state.ResumeTiming();
  }
  state.SetBytesProcessed(static_cast<int64_t>(state.iterations() * bytes.size()));
}
BENCHMARK(BM_PutNew)->Unit(benchmark::kMillisecond)->UseRealTime();

void BM_PutDuplicate(benchmark::State& state) {
  const std::string& bytes = bench::corpus(kBytes);
  Store& store = filled_store();
  for (auto _ : state) check(state, put_all(store, bytes));
  state.SetBytesProcessed(static_cast<int64_t>(state.iterations() * bytes.size()));
}
BENCHMARK(BM_PutDuplicate)->Unit(benchmark::kMillisecond)->UseRealTime();

void BM_ReadGroup(benchmark::State& state) {  // more groups than the cache holds, in order
  Store& store = filled_store();
  GroupId last = std::move(store.database().last_number(Family::groups)).value(), next = 1;
  uint64_t bytes = 0;
  for (auto _ : state) {
    auto group = store.chunks().read_group(next);
    if (!group.ok()) return check(state, group.error());
    bytes += (*group)->size();
    next = next == last ? 1 : next + 1;
  }
  state.SetBytesProcessed(static_cast<int64_t>(bytes));
}
BENCHMARK(BM_ReadGroup);

void BM_ReadCachedGroup(benchmark::State& state) {
  Store& store = filled_store();
  for (auto _ : state) benchmark::DoNotOptimize(store.chunks().read_group(1));
}
BENCHMARK(BM_ReadCachedGroup);

void BM_OpenToRead(benchmark::State& state) {
  std::string root = filled_store().root();
  for (auto _ : state)
    if (auto store = Store::open(root, {.read_only = true}); !store.ok())
      check(state, store.error());
}
BENCHMARK(BM_OpenToRead)->Unit(benchmark::kMillisecond)->UseRealTime();

}  // namespace
}  // namespace layerfs
