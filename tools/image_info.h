// SPDX-License-Identifier: Apache-2.0
//
// What the listings say about an image: its records joined with its config. A config is a
// stranger's JSON: fields that are missing or of the wrong type read as empty.
#pragma once

#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "layerdb/base/result.h"
#include "layerdb/store/catalog.h"

namespace layerfs {

struct HistoryEntry {
  std::string created;  // RFC 3339 or empty
  std::string created_by;
  std::string author;
  std::string comment;
  std::optional<Digest> diff_id;  // none: the step made no layer
  uint64_t size_bytes = 0;
};

struct ImageInfo {
  ImageRecord record;
  std::vector<std::string> references;  // sorted
  std::vector<LayerRecord> layers;      // bottom first
  nlohmann::json config;                // an object
  std::string created;                  // RFC 3339 or empty
  uint64_t size_bytes = 0;              // what the layers' files add up to, as docker counts

  std::vector<HistoryEntry> history() const;  // bottom first; every layer has an entry
};

Result<ImageInfo> describe_image(Catalog& catalog, const Digest& image);
// All images, newest first, as docker lists them.
Result<std::vector<ImageInfo>> describe_images(Catalog& catalog);

// json[key] when it is a string, else empty.
std::string string_field(const nlohmann::json& object, const char* key);
// "3 hours ago", or "N/A" for a time that is missing or no time.
std::string created_ago(const std::string& rfc3339);

// Whether a name may be an image's, of which find_container() said this: there is no such
// container, or another user's are not to be seen.
inline bool may_be_image(const Error& no_container) {
  return no_container.code == ENOENT || no_container.code == EACCES;
}

}  // namespace layerfs
