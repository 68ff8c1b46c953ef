// SPDX-License-Identifier: Apache-2.0
//
// Images going out: OCI layout (directory or tar), docker-archive, flattened rootfs tar. Layer tars
// leave byte for byte as they came in, checked against their diffIDs on the way. A provisional
// diffID (store/catalog.h) is replaced by the tar's own, in the config too: such an image has
// another id outside. Output goes to a stream or a directory that appears only when complete (a
// failed export removes what it wrote). The same image exported twice gives the same bytes. Memory
// does not grow with the image.
//
// Errors: ENOENT a record is missing; EUCLEAN damage (the sentence names the layer or file); EINTR
// cancelled; EINVAL options that do not go together; what writing the output says.
#pragma once

#include <atomic>
#include <optional>
#include <string>
#include <vector>

#include "layerdb/base/result.h"
#include "layerdb/ops/compressor.h"
#include "layerdb/ops/import.h"
#include "layerdb/store/store.h"

namespace layerfs {

enum class ExportFormat { oci, docker, tar };

struct ExportOptions {
  ExportFormat format = ExportFormat::oci;
  LayerCompression compression =
      LayerCompression::gzip;            // OCI layers; docker's are never compressed
  std::string output;                    // "-": standard output; "x/": a directory
  std::optional<std::string> reference;  // written as the image's name
  Progress progress;
  const std::atomic<bool>* cancelled = nullptr;
};

// An image with all its records at hand: stored, or a container's state that was built but not
// published (ops/commit.h), so that exporting a container needs no second code path.
struct ImageSource {
  std::string config;               // exact bytes
  std::vector<LayerRecord> layers;  // bottom first
  ChainRecord chain;                // of the whole stack
};

Result<ImageSource> load_image(Store& store, const Digest& image);
Status export_image(Store& store, const ImageSource& image, const ExportOptions& options);

}  // namespace layerfs
