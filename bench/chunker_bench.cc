// SPDX-License-Identifier: Apache-2.0
#include <benchmark/benchmark.h>

#include "bench/corpus.h"
#include "layerdb/base/hash.h"
#include "layerdb/object/chunker.h"

namespace layerfs {
namespace {

void BM_Chunker(benchmark::State& state) {
  const std::string& bytes = bench::corpus();
  size_t chunks = 0;
  for (auto _ : state)
    for (std::string_view rest = bytes; !rest.empty(); ++chunks)
      rest.remove_prefix(next_chunk_size(rest.substr(0, kMaxChunkBytes)));
  state.SetBytesProcessed(static_cast<int64_t>(state.iterations() * bytes.size()));
  state.counters["mean_chunk_bytes"] =
      static_cast<double>(state.iterations() * bytes.size()) / static_cast<double>(chunks);
}
BENCHMARK(BM_Chunker)->Unit(benchmark::kMillisecond);

template <auto kHash>
void BM_Hash(benchmark::State& state) {
  const std::string& bytes = bench::corpus();
  size_t size = static_cast<size_t>(state.range(0)), offset = 0;
  for (auto _ : state) {
    benchmark::DoNotOptimize(kHash(std::string_view(bytes).substr(offset, size)));
    offset = offset + 2 * size > bytes.size() ? 0 : offset + size;
  }
  state.SetBytesProcessed(static_cast<int64_t>(state.iterations() * size));
}
BENCHMARK(BM_Hash<fingerprint>)->Name("BM_Fingerprint")->Arg(1 << 10)->Arg(32 << 10);
BENCHMARK(BM_Hash<sha256>)->Name("BM_Sha256")->Arg(1 << 10)->Arg(32 << 10);

}  // namespace
}  // namespace layerfs
