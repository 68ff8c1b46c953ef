// SPDX-License-Identifier: Apache-2.0
//
// docker-archives: what `docker save`, `podman save` and skopeo write, old and new layouts alike.
#include <nlohmann/json.hpp>
#include <utility>

#include "layerdb/base/json.h"
#include "layerdb/ops/image_import.h"

namespace layerfs {
namespace {

using nlohmann::json;

// The digest that a config's file name promises, if it does ("<hex>.json", "blobs/sha256/<hex>").
std::optional<Digest> digest_in_name(const std::string& path) {
  std::string name = path.substr(path.rfind('/') + 1);
  if (name.ends_with(".json")) name.resize(name.size() - 5);
  Result<Digest> digest = Digest::parse(name);
  if (!digest.ok()) return std::nullopt;
  return *digest;
}

Result<std::vector<std::string>> strings(const json& object, const char* key,
                                         const std::string& name) {
  std::vector<std::string> out;
  const json list = object.value(key, json());
  if (list.is_null()) return out;
  Error bad{EINVAL, "'" + name + "': manifest.json: '" + key + "' is not a list of strings"};
  if (!list.is_array()) return bad;
  for (const json& item : list) {
    if (!item.is_string()) return bad;
    out.push_back(item.get<std::string>());
  }
  return out;
}

Status import_one(ImageImport& import, SourceFiles& files, const std::string& name,
                  const json& image) {
  auto bad = [&](const std::string& what) { return Error{EINVAL, "'" + name + "': " + what}; };
  if (!image.is_object() || !image.value("Config", json()).is_string()) {
    return bad("manifest.json: an image without a config");
  }
  std::string config_path = image["Config"].get<std::string>();
  if (!files.exists(config_path)) return bad("the config '" + config_path + "' is missing");
  ImageConfig config =
      TRY(parse_image_config(TRY(files.read(config_path)), name + ":" + config_path));
  std::optional<Digest> promised = digest_in_name(config_path);
  if (promised && *promised != config.id) {
    return bad("the config '" + config_path + "' is damaged: its digest is " +
               config.id.to_string());
  }
  std::vector<std::string> layers = TRY(strings(image, "Layers", name));
  if (layers.size() != config.diff_ids.size()) {
    return bad("manifest.json and config do not list the same number of layers");
  }
  for (size_t i = 0; i < layers.size(); ++i) {
    TRY(import.add_layer(config.diff_ids[i], name + ":" + layers[i], [&]() -> Result<ByteSource> {
      if (!files.exists(layers[i])) return bad("the layer '" + layers[i] + "' is missing");
      std::string what = "layer " + std::to_string(i + 1) + "/" + std::to_string(layers.size());
      return with_progress(TRY(files.open(layers[i])), TRY(files.size_bytes(layers[i])), what,
                           import.options().progress);
    }));
  }
  return import.finish_image(config, TRY(strings(image, "RepoTags", name)));
}

}  // namespace

Status import_docker(ImageImport& import, SourceFiles& files, const std::string& name) {
  json manifest = parse_json(TRY(files.read("manifest.json")));
  if (!manifest.is_array() || manifest.empty()) {
    return Error{EINVAL, "'" + name + "': manifest.json lists no images"};
  }
  for (const json& image : manifest) TRY(import_one(import, files, name, image));
  return {};
}

}  // namespace layerfs
