// SPDX-License-Identifier: Apache-2.0
//
// store_file FILE DIRECTORY: stores FILE's bytes as one content in a store at DIRECTORY and prints
// what it took. The bare cost of storing: no tar, no SHA-256. Compare with `zstd -3 -T1 < FILE`.
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/resource.h>
#include <unistd.h>

#include <chrono>

#include "layerdb/base/sys.h"
#include "layerdb/store/catalog.h"
#include "layerdb/store/chunk_store.h"
#include "layerdb/store/content.h"
#include "layerdb/store/store.h"

namespace layerfs {
namespace {

Status store_file(const std::string& path, const std::string& root) {
  auto start = std::chrono::steady_clock::now();
  auto store = TRY(Store::open(root));
  UniqueFd fd = TRY(open_file(path, O_RDONLY));
  ContentWriter writer(store->chunks(), store->objects());
  std::string buffer(1 << 20, '\0');
  for (uint64_t offset = 0;;) {
    size_t size = TRY(pread_full(fd.get(), buffer, offset));
    TRY(writer.append(std::string_view(buffer).substr(0, size)));
    offset += size;
    if (size < buffer.size()) break;
  }
  TRY(writer.finish());
  TRY(store->publish({}));
  std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
  rusage usage;
  ::getrusage(RUSAGE_SELF, &usage);
  auto as_seconds = [](timeval t) { return static_cast<double>(t.tv_sec) + 1e-6 * t.tv_usec; };
  ChunkStoreCounters counters = store->chunks().counters();
  fmt::print("{:.2f} s wall, {:.2f} s user, {:.2f} s system, {} MiB peak\n", seconds.count(),
             as_seconds(usage.ru_utime), as_seconds(usage.ru_stime), usage.ru_maxrss >> 10);
  fmt::print("{} MB in {} chunks, {} shared; {} MB new, {} MB stored\n",
             counters.put_bytes / 1000000, counters.chunks_put, counters.chunks_shared,
             counters.new_bytes / 1000000, counters.stored_bytes / 1000000);
  return {};
}

}  // namespace
}  // namespace layerfs

int main(int argc, char** argv) {
  if (argc != 3) {
    fmt::print(stderr, "usage: store_file FILE DIRECTORY\n");
    return 2;
  }
  layerfs::Status status = layerfs::store_file(argv[1], argv[2]);
  if (!status.ok()) fmt::print(stderr, "store_file: {}\n", status.error().message);
  return status.ok() ? 0 : 1;
}
