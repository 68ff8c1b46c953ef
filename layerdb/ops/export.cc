// SPDX-License-Identifier: Apache-2.0
#include "layerdb/ops/export.h"

#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <nlohmann/json.hpp>

#include "layerdb/base/json.h"
#include "layerdb/base/sys.h"
#include "layerdb/ops/export_formats.h"
#include "layerdb/store/catalog.h"
#include "layerdb/store/chunk_store.h"

namespace layerfs {
namespace {

constexpr size_t kCopyBytes = 1 << 20;
constexpr auto kReportEvery = std::chrono::milliseconds(200);

}  // namespace

Result<ImageSource> without_provisional_ids(Store& store, ImageSource image,
                                            const ExportOptions& options) {
  uint64_t total_bytes = 0;
  for (const LayerRecord& layer : image.layers)
    if (layer.provisional) total_bytes += layer.tar_bytes;
  if (total_bytes == 0) return image;
  nlohmann::ordered_json config = parse_ordered_json(image.config);
  nlohmann::ordered_json* diff_ids = nullptr;
  if (config.is_object() && config["rootfs"].is_object()) diff_ids = &config["rootfs"]["diff_ids"];
  if (diff_ids == nullptr || !diff_ids->is_array() || diff_ids->size() != image.layers.size())
    return Error{EUCLEAN, "the image's config does not list its layers"};
  ContentCopier copier(store, options, total_bytes);
  for (size_t i = 0; i < image.layers.size(); ++i) {
    LayerRecord& layer = image.layers[i];
    if (!layer.provisional) continue;
    layer.diff_id = TRY(copier.copy_tar(layer, "hashing layer " + layer.diff_id.to_string(),
                                        [](std::string_view) { return Status(); }));
    layer.provisional = false;
    (*diff_ids)[i] = layer.diff_id.to_string();
  }
  image.config = json_text(config);
  return image;
}

ContentCopier::ContentCopier(Store& store, const ExportOptions& options, uint64_t total_bytes)
    : store_(store), options_(options), total_bytes_(total_bytes), buffer_(kCopyBytes, '\0') {}

Status ContentCopier::copy(const Content& content, uint64_t size_bytes, const std::string& what,
                           const ByteSink& sink) {
  ContentReader reader(store_.chunks(), store_.objects(), content, size_bytes);
  for (uint64_t offset = 0; offset < size_bytes;) {
    if (options_.cancelled != nullptr && *options_.cancelled)
      return Error{EINTR, "the export was interrupted"};
    Result<size_t> size = reader.read(offset, std::span<char>(buffer_.data(), buffer_.size()));
    if (!size.ok()) return size.error().wrap(what);
    if (*size == 0) return Error{EUCLEAN, what + ": the stored content is too short"};
    TRY(sink(std::string_view(buffer_.data(), *size)));
    offset += *size;
    done_bytes_ += *size;
    report(what);
  }
  return {};
}

Result<Digest> ContentCopier::copy_tar(const LayerRecord& layer, const std::string& what,
                                       const ByteSink& sink) {
  Sha256 hash;
  TRY(copy(layer.tar, layer.tar_bytes, what, [&](std::string_view bytes) {
    hash.update(bytes);
    return sink(bytes);
  }));
  return hash.finish();
}

Status ContentCopier::copy_layer(const LayerRecord& layer, const ByteSink& sink) {
  std::string what = "layer " + layer.diff_id.to_string();
  if (TRY(copy_tar(layer, what, sink)) != layer.diff_id)
    return Error{EUCLEAN, what + ": the stored tar has another SHA-256; run `layerfs fsck`"};
  return {};
}

void ContentCopier::report(const std::string& what) {
  if (!options_.progress) return;
  auto now = std::chrono::steady_clock::now();
  if (now - reported_ < kReportEvery) return;
  reported_ = now;
  options_.progress(done_bytes_, total_bytes_, what);
}

std::string spool_directory(Store& store) {
  std::string directory = store.root() + "/tmp";
  if (make_directories(directory, 0700).ok() && ::access(directory.c_str(), W_OK) == 0)
    return directory;
  const char* elsewhere = std::getenv("TMPDIR");
  return elsewhere != nullptr && elsewhere[0] == '/' ? elsewhere : "/tmp";
}

Result<ImageSource> load_image(Store& store, const Digest& image) {
  ImageSource out;
  ImageRecord record = TRY(store.catalog().image(image));
  out.config = TRY(store.catalog().config(image));
  for (const Digest& diff_id : record.diff_ids) {
    LayerRecord layer = TRY(store.catalog().layer(diff_id));
    out.layers.push_back(std::move(layer));
  }
  out.chain = TRY(store.catalog().chain(record.chain_id));
  return out;
}

Status export_image(Store& store, const ImageSource& image, const ExportOptions& options) {
  if (options.format != ExportFormat::oci && options.output.ends_with('/'))
    return Error{EINVAL,
                 "'" + options.output +
                     "': only an OCI layout can be a directory; leave out the '/' for a file"};
  // An image that was built and not published may end in a group that is still open.
  if (!store.read_only()) TRY(store.chunks().flush());
  switch (options.format) {
    case ExportFormat::oci:
      return export_oci(store, image, options);
    case ExportFormat::docker:
      return export_docker(store, image, options);
    case ExportFormat::tar:
      return export_tar(store, image, options);
  }
  return Error{EINVAL, "unknown export format"};
}

}  // namespace layerfs
