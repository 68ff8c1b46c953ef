// SPDX-License-Identifier: Apache-2.0
#include "tools/image_info.h"

#include <algorithm>

#include "layerdb/base/json.h"
#include "tools/text.h"

namespace layerfs {
namespace {

int64_t created_seconds(const ImageInfo& image) {
  Result<int64_t> seconds = parse_rfc3339(image.created);
  return seconds.ok() ? *seconds : image.record.imported_at;
}

}  // namespace

std::string string_field(const nlohmann::json& object, const char* key) {
  if (!object.is_object()) return {};
  auto found = object.find(key);
  return found != object.end() && found->is_string() ? found->get<std::string>() : std::string();
}

std::string created_ago(const std::string& rfc3339) {
  Result<int64_t> seconds = parse_rfc3339(rfc3339);
  return seconds.ok() && *seconds >= 0 ? time_ago(*seconds) : "N/A";
}

std::vector<HistoryEntry> ImageInfo::history() const {
  std::vector<HistoryEntry> out;
  size_t next_layer = 0;
  auto take_layer = [&](HistoryEntry& entry) {
    entry.diff_id = layers[next_layer].diff_id;
    entry.size_bytes = layers[next_layer].content_bytes;
    ++next_layer;
  };
  auto steps = config.find("history");
  if (steps != config.end() && steps->is_array()) {
    for (const nlohmann::json& step : *steps) {
      HistoryEntry entry{string_field(step, "created"),
                         string_field(step, "created_by"),
                         string_field(step, "author"),
                         string_field(step, "comment"),
                         std::nullopt,
                         0};
      bool empty = step.is_object() && step.contains("empty_layer") && step["empty_layer"] == true;
      if (!empty && next_layer < layers.size()) take_layer(entry);
      out.push_back(std::move(entry));
    }
  }
  while (next_layer < layers.size()) take_layer(out.emplace_back());  // layers without history
  return out;
}

Result<ImageInfo> describe_image(Catalog& catalog, const Digest& image) {
  ImageInfo info;
  info.record = TRY(catalog.image(image));
  for (const Digest& diff_id : info.record.diff_ids) {
    LayerRecord layer = TRY(catalog.layer(diff_id));
    info.size_bytes += layer.content_bytes;
    info.layers.push_back(std::move(layer));
  }
  std::vector<std::pair<std::string, Digest>> refs = TRY(catalog.refs());
  for (const auto& [reference, target] : refs)
    if (target == image) info.references.push_back(reference);
  std::string config = TRY(catalog.config(image));
  info.config = parse_json(config);
  if (!info.config.is_object()) info.config = nlohmann::json::object();
  info.created = string_field(info.config, "created");
  return info;
}

Result<std::vector<ImageInfo>> describe_images(Catalog& catalog) {
  std::vector<ImageInfo> out;
  std::vector<ImageRecord> records = TRY(catalog.images());
  for (const ImageRecord& record : records) {
    ImageInfo info = TRY(describe_image(catalog, record.id));
    out.push_back(std::move(info));
  }
  std::stable_sort(out.begin(), out.end(), [](const ImageInfo& a, const ImageInfo& b) {
    return created_seconds(a) > created_seconds(b);
  });
  return out;
}

}  // namespace layerfs
