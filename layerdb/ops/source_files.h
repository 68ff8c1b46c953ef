// SPDX-License-Identifier: Apache-2.0
//
// Where an import's bytes come from: streams, and the files of an image archive or layout.
//
// SourceFiles is a directory, or an archive whose files are read in any order: in place when it is
// an uncompressed file, else out of a spool file without a name under <root>/tmp (so disk use is
// bounded by the archive's own uncompressed size and nothing is left behind).
// Thread-safe: sources may be read from any thread. Errors: EINVAL names archive and file; ENOENT.
#pragma once

#include <atomic>
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "layerdb/base/hash.h"
#include "layerdb/base/result.h"
#include "layerdb/base/sys.h"
#include "layerdb/ops/import.h"
#include "layerdb/ops/input_stream.h"

namespace layerfs {

// A whole file or pipe, owned by the source. Waiting for a pipe ends when *cancelled is set.
ByteSource file_source(UniqueFd fd, const std::string& name, const std::atomic<bool>* cancelled);
// Reports what passes through, a few times a second.
ByteSource with_progress(ByteSource source, uint64_t total_bytes, const std::string& what,
                         const Progress& progress);
// Fails at the end (EINVAL) unless the bytes have this digest and size.
ByteSource with_digest(ByteSource source, const Digest& digest, uint64_t size_bytes,
                       const std::string& name);

class SourceFiles {
 public:
  virtual ~SourceFiles() = default;
  virtual bool exists(const std::string& path) const = 0;
  virtual Result<uint64_t> size_bytes(const std::string& path) const = 0;
  virtual Result<ByteSource> open(const std::string& path) const = 0;
  // For JSON documents: EINVAL past 16 MiB.
  Result<std::string> read(const std::string& path) const;
};

std::unique_ptr<SourceFiles> open_directory_files(const std::string& directory);

struct ArchiveInput {
  std::string name;   // for sentences
  UniqueFd in_place;  // the archive itself when it is an uncompressed file, else invalid
  std::string spool_directory;
};
// Reads the archive's entries off `input`.
Result<std::unique_ptr<SourceFiles>> open_archive_files(InputStream& input, ArchiveInput archive);

}  // namespace layerfs
