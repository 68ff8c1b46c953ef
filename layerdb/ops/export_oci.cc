// SPDX-License-Identifier: Apache-2.0
//
// OCI image layout: oci-layout, blobs/sha256/*, index.json, in this order in a tar.
#include <map>
#include <nlohmann/json.hpp>

#include "layerdb/base/json.h"
#include "layerdb/ops/export_formats.h"
#include "layerdb/store/catalog.h"

namespace layerfs {
namespace {

constexpr const char* kBlobs = "blobs/sha256";
constexpr const char* kConfigType = "application/vnd.oci.image.config.v1+json";
constexpr const char* kManifestType = "application/vnd.oci.image.manifest.v1+json";
constexpr const char* kIndexType = "application/vnd.oci.image.index.v1+json";

std::string layer_type(LayerCompression compression) {
  std::string type = "application/vnd.oci.image.layer.v1.tar";
  if (compression == LayerCompression::gzip) return type + "+gzip";
  if (compression == LayerCompression::zstd) return type + "+zstd";
  return type;
}

nlohmann::ordered_json descriptor(const std::string& type, const Blob& blob) {
  return {{"mediaType", type}, {"digest", blob.digest.to_string()}, {"size", blob.size_bytes}};
}

Result<Blob> add_layer(LayoutWriter& layout, ContentCopier& copier, const LayerRecord& layer,
                       LayerCompression compression) {
  if (compression == LayerCompression::none) {  // name and size are known: no detour
    TRY(layout.add_stream(std::string(kBlobs) + "/" + layer.diff_id.hex(), layer.tar_bytes,
                          [&](const ByteSink& sink) { return copier.copy_layer(layer, sink); }));
    return Blob{layer.diff_id, layer.tar_bytes};
  }
  return layout.add_blob(kBlobs, [&](const ByteSink& sink) -> Status {
    std::unique_ptr<Compressor> compressor = TRY(make_compressor(compression, sink));
    TRY(copier.copy_layer(layer, [&](std::string_view bytes) { return compressor->write(bytes); }));
    return compressor->finish();
  });
}

Result<Blob> add_document(LayoutWriter& layout, const std::string& bytes) {
  Blob blob{sha256(bytes), bytes.size()};
  TRY(layout.add_file(std::string(kBlobs) + "/" + blob.digest.hex(), bytes));
  return blob;
}

}  // namespace

Status export_oci(Store& store, const ImageSource& stored, const ExportOptions& options) {
  std::unique_ptr<LayoutWriter> layout = TRY(create_layout(options.output, spool_directory(store)));
  ImageSource image = TRY(without_provisional_ids(store, stored, options));
  std::map<Digest, Blob> written;  // a layer may come twice
  uint64_t total_bytes = 0;
  for (const LayerRecord& layer : image.layers)
    if (written.emplace(layer.diff_id, Blob{}).second) total_bytes += layer.tar_bytes;
  written.clear();

  ContentCopier copier(store, options, total_bytes);
  TRY(layout->add_file("oci-layout", R"({"imageLayoutVersion":"1.0.0"})"));
  TRY(layout->add_directory("blobs"));
  TRY(layout->add_directory(kBlobs));

  nlohmann::ordered_json layers = nlohmann::ordered_json::array();
  for (const LayerRecord& layer : image.layers) {
    if (!written.contains(layer.diff_id)) {
      Blob blob = TRY(add_layer(*layout, copier, layer, options.compression));
      written.emplace(layer.diff_id, blob);
    }
    layers.push_back(descriptor(layer_type(options.compression), written.at(layer.diff_id)));
  }
  Blob config = TRY(add_document(*layout, image.config));
  nlohmann::ordered_json manifest = {{"schemaVersion", 2},
                                     {"mediaType", kManifestType},
                                     {"config", descriptor(kConfigType, config)},
                                     {"layers", layers}};
  Blob manifest_blob = TRY(add_document(*layout, json_text(manifest)));
  nlohmann::ordered_json named = descriptor(kManifestType, manifest_blob);
  if (options.reference)
    named["annotations"] = {{"org.opencontainers.image.ref.name", *options.reference}};
  nlohmann::ordered_json index = {{"schemaVersion", 2},
                                  {"mediaType", kIndexType},
                                  {"manifests", nlohmann::ordered_json::array({named})}};
  TRY(layout->add_file("index.json", json_text(index)));
  return layout->commit();
}

}  // namespace layerfs
