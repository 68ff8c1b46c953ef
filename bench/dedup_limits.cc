// SPDX-License-Identifier: Apache-2.0
//
// dedup_limits DIRECTORY…: what deduplication alone could reach on all files below the directories:
// bytes that remain when equal files, or equal chunks of 16, 32 or 64 KiB on average, are kept
// once.
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <unordered_set>

#include "layerdb/base/hash.h"
#include "layerdb/object/chunker.h"

namespace {

using layerfs::Fingerprint;

struct Kind {
  const char* name;
  size_t (*next)(std::string_view);
  std::unordered_set<Fingerprint> seen;
  uint64_t bytes = 0;

  void add(std::string_view piece) {
    if (seen.insert(layerfs::fingerprint(piece)).second) bytes += piece.size();
  }
};

size_t whole(std::string_view bytes) { return bytes.size(); }

}  // namespace

int main(int argc, char** argv) {
  namespace fs = std::filesystem;
  Kind kinds[] = {{"files", &whole, {}},
                  {"chunks-16K", &layerfs::next_chunk_size_of<16 * 1024>, {}},
                  {"chunks-32K", &layerfs::next_chunk_size_of<32 * 1024>, {}},
                  {"chunks-64K", &layerfs::next_chunk_size_of<64 * 1024>, {}}};
  for (int i = 1; i < argc; ++i) {
    for (const fs::directory_entry& entry : fs::recursive_directory_iterator(argv[i])) {
      if (!entry.is_regular_file() || entry.is_symlink()) continue;
      std::ostringstream text;
      text << std::ifstream(entry.path(), std::ios::binary).rdbuf();
      std::string bytes = std::move(text).str();
      for (Kind& kind : kinds)
        for (std::string_view rest = bytes; !rest.empty();) {
          size_t size = kind.next(rest);
          kind.add(rest.substr(0, size));
          rest.remove_prefix(size);
        }
    }
  }
  for (const Kind& kind : kinds)
    std::printf("%s %llu\n", kind.name, static_cast<unsigned long long>(kind.bytes));
  return 0;
}
