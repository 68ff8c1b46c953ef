// SPDX-License-Identifier: Apache-2.0
//
// What the export formats share, inside ops/export*.cc.
#pragma once

#include <chrono>
#include <string>

#include "layerdb/ops/export.h"
#include "layerdb/ops/layout_writer.h"
#include "layerdb/store/content.h"

namespace layerfs {

// Copies contents out of the store in pieces, telling progress and noticing cancellation.
class ContentCopier {
 public:
  // `total_bytes` of everything that will be copied, for the progress.
  ContentCopier(Store& store, const ExportOptions& options, uint64_t total_bytes);
  Status copy(const Content& content, uint64_t size_bytes, const std::string& what,
              const ByteSink& sink);
  // A layer's tar; returns its SHA-256.
  Result<Digest> copy_tar(const LayerRecord& layer, const std::string& what, const ByteSink& sink);
  // The same; EUCLEAN when its SHA-256 is not the diffID.
  Status copy_layer(const LayerRecord& layer, const ByteSink& sink);

 private:
  void report(const std::string& what);

  Store& store_;
  const ExportOptions& options_;
  uint64_t done_bytes_ = 0;
  uint64_t total_bytes_;
  std::chrono::steady_clock::time_point reported_{};
  std::string buffer_;
};

Status export_oci(Store& store, const ImageSource& image, const ExportOptions& options);
Status export_docker(Store& store, const ImageSource& image, const ExportOptions& options);
Status export_tar(Store& store, const ImageSource& image, const ExportOptions& options);

// The image with the diffIDs that its layers' tars have; reads the tars of provisional ones.
Result<ImageSource> without_provisional_ids(Store& store, ImageSource image,
                                            const ExportOptions& options);

// For what standard output must wait for: <root>/tmp, made when it is missing, or where that cannot
// be written what TMPDIR says.
std::string spool_directory(Store& store);

}  // namespace layerfs
