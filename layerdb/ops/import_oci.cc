// SPDX-License-Identifier: Apache-2.0
//
// OCI image layouts (image-spec: image-layout.md, image-index.md, manifest.md).
#include <nlohmann/json.hpp>
#include <utility>

#include "layerdb/base/json.h"
#include "layerdb/ops/image_import.h"

namespace layerfs {
namespace {

using nlohmann::json;

constexpr int kMaxIndexDepth = 8;

std::string text_of(const json& object, const char* key) {
  if (!object.is_object()) return "";
  auto it = object.find(key);
  return it != object.end() && it->is_string() ? it->get<std::string>() : "";
}

struct Descriptor {
  Digest digest;
  uint64_t size_bytes = 0;
  std::string path() const { return "blobs/sha256/" + digest.hex(); }
};

class OciImport {
 public:
  OciImport(ImageImport& import, SourceFiles& files, const std::string& name)
      : import_(import), files_(files), name_(name) {}

  Status run() {
    json index = TRY(parse(TRY(files_.read("index.json")), "index.json"));
    return import_index(index, "", 0);
  }

 private:
  Error bad(const std::string& what) const { return {EINVAL, "'" + name_ + "': " + what}; }

  Result<json> parse(const std::string& bytes, const std::string& what) const {
    json document = parse_json(bytes);
    if (!document.is_object()) return bad(what + " is not a JSON object");
    return document;
  }

  Result<Descriptor> descriptor(const json& value, const std::string& what) const {
    std::string text = text_of(value, "digest");
    Result<Digest> digest = Digest::parse(text);
    if (!digest.ok() || !text.starts_with("sha256:")) {
      return bad(what + " has no sha256 digest ('" + text + "')");
    }
    auto size = value.find("size");
    if (size == value.end() || !size->is_number_unsigned()) return bad(what + " has no size");
    return Descriptor{*digest, size->get<uint64_t>()};
  }

  Result<std::string> read_blob(const Descriptor& blob, const std::string& what) const {
    if (!files_.exists(blob.path())) return bad(what + " is missing (" + blob.path() + ")");
    std::string bytes = TRY(files_.read(blob.path()));
    if (bytes.size() != blob.size_bytes || sha256(bytes) != blob.digest) {
      return bad(what + " is damaged: " + blob.path() + " does not have its digest and size");
    }
    return bytes;
  }

  // Entries that are a platform's variant of one image: this machine's counts. Others are images of
  // their own.
  Status import_index(const json& index, const std::string& reference, int depth) {
    auto manifests = index.find("manifests");
    if (manifests == index.end() || !manifests->is_array())
      return bad("an index lists no manifests");
    if (depth > kMaxIndexDepth) return bad("indexes are nested too deeply");
    std::map<std::string, std::vector<const json*>> images;  // by name
    std::vector<std::string> order;
    for (const json& entry : *manifests) {
      if (is_attestation(entry)) continue;
      std::string name = reference_of(entry);
      if (name.empty()) name = reference;
      auto [it, added] = images.try_emplace(name);
      if (added) order.push_back(name);
      it->second.push_back(&entry);
    }
    if (order.empty()) return bad("an index lists no images");
    for (const std::string& name : order) {
      std::vector<const json*> chosen = TRY(choose(std::move(images[name])));
      for (const json* entry : chosen) TRY(import_entry(*entry, name, depth));
    }
    return {};
  }

  static bool is_attestation(const json& entry) {
    const json annotations = entry.is_object() ? entry.value("annotations", json()) : json();
    if (!text_of(annotations, "vnd.docker.reference.type").empty()) return true;
    const json platform = entry.is_object() ? entry.value("platform", json()) : json();
    return text_of(platform, "os") == "unknown";
  }

  static std::string reference_of(const json& entry) {
    const json annotations = entry.is_object() ? entry.value("annotations", json()) : json();
    std::string name = text_of(annotations, "io.containerd.image.name");
    return name.empty() ? text_of(annotations, "org.opencontainers.image.ref.name") : name;
  }

  Result<std::vector<const json*>> choose(std::vector<const json*> entries) const {
    std::vector<const json*> matching;
    std::string platforms;
    for (const json* entry : entries) {
      const json platform = entry->is_object() ? entry->value("platform", json()) : json();
      std::string os = text_of(platform, "os"), architecture = text_of(platform, "architecture");
      if (architecture.empty()) return entries;  // not variants
      if (os == "linux" && architecture == host_architecture()) matching.push_back(entry);
      platforms += (platforms.empty() ? "" : ", ") + os + "/" + architecture;
    }
    if (entries.size() == 1) return entries;
    if (matching.empty()) {
      return bad("no image for linux/" + host_architecture() + ", only for " + platforms);
    }
    matching.resize(1);
    return matching;
  }

  Status import_entry(const json& entry, const std::string& reference, int depth) {
    Descriptor blob = TRY(descriptor(entry, "an entry of the index"));
    json document = TRY(parse(TRY(read_blob(blob, "a manifest")), blob.path()));
    if (document.contains("manifests")) return import_index(document, reference, depth + 1);
    return import_manifest(document, reference);
  }

  Status import_manifest(const json& manifest, const std::string& reference) {
    Descriptor config_blob =
        TRY(descriptor(manifest.value("config", json()), "the manifest's config"));
    ImageConfig config = TRY(parse_image_config(TRY(read_blob(config_blob, "the config")),
                                                name_ + ":" + config_blob.path()));
    const json layers = manifest.value("layers", json());
    if (!layers.is_array() || layers.size() != config.diff_ids.size()) {
      return bad("manifest and config do not list the same number of layers");
    }
    for (size_t i = 0; i < layers.size(); ++i) {
      Descriptor blob = TRY(descriptor(layers[i], "a layer"));
      std::string label = name_ + ":" + blob.path();
      TRY(import_.add_layer(config.diff_ids[i], label, [&]() -> Result<ByteSource> {
        if (!files_.exists(blob.path())) return bad("a layer is missing (" + blob.path() + ")");
        ByteSource source = TRY(files_.open(blob.path()));
        std::string what = "layer " + std::to_string(i + 1) + "/" + std::to_string(layers.size());
        source =
            with_progress(std::move(source), blob.size_bytes, what, import_.options().progress);
        return with_digest(std::move(source), blob.digest, blob.size_bytes, label);
      }));
    }
    std::vector<std::string> references;
    if (!reference.empty()) references.push_back(reference);
    return import_.finish_image(config, references);
  }

  ImageImport& import_;
  SourceFiles& files_;
  const std::string& name_;
};

}  // namespace

Status import_oci(ImageImport& import, SourceFiles& files, const std::string& name) {
  return OciImport(import, files, name).run();
}

}  // namespace layerfs
