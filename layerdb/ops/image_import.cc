// SPDX-License-Identifier: Apache-2.0
#include "layerdb/ops/image_import.h"

#include <sys/utsname.h>
#include <time.h>

#include <nlohmann/json.hpp>
#include <utility>

#include "layerdb/base/json.h"
#include "layerdb/base/log.h"
#include "layerdb/ops/merge.h"
#include "layerdb/store/content.h"
#include "layerdb/store/reference.h"

namespace layerfs {

using nlohmann::json;

std::string host_architecture() {
  struct utsname name;
  ::uname(&name);
  std::string machine = name.machine;
  if (machine == "x86_64") return "amd64";
  if (machine == "aarch64") return "arm64";
  if (machine == "i686" || machine == "i386") return "386";
  return machine;
}

namespace {

std::string now_text() {
  time_t now = ::time(nullptr);
  struct tm parts;
  ::gmtime_r(&now, &parts);
  char text[32];
  ::strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%SZ", &parts);
  return text;
}

}  // namespace

std::string make_rootfs_config(const Digest& diff_id, const std::string& source_name) {
  std::string now = now_text();
  json config = {
      {"architecture", host_architecture()},
      {"config", json::object()},
      {"created", now},
      {"history",
       {{{"created", now},
         {"created_by", "layerfs import"},
         {"comment", "imported from " + source_name}}}},
      {"os", "linux"},
      {"rootfs", {{"type", "layers"}, {"diff_ids", {diff_id.to_string()}}}},
  };
  return json_text(config);
}

Result<ImageConfig> parse_image_config(std::string bytes, const std::string& name) {
  auto bad = [&](const std::string& what) {
    return Error{EINVAL, "'" + name + "' is not an image config: " + what};
  };
  ImageConfig config;
  json document = parse_json(bytes);
  if (!document.is_object()) return bad("not a JSON object");
  const json rootfs = document.value("rootfs", json());
  const json diff_ids = rootfs.is_object() ? rootfs.value("diff_ids", json()) : json();
  if (!diff_ids.is_array() || diff_ids.empty()) return bad("it lists no layers (rootfs.diff_ids)");
  for (const json& id : diff_ids) {
    if (!id.is_string()) return bad("a diff_id is not a string");
    config.diff_ids.push_back(TRY(Digest::parse(id.get_ref<const std::string&>())));
  }
  config.id = sha256(bytes);
  config.bytes = std::move(bytes);
  return config;
}

Result<std::optional<LayerRecord>> ImageImport::find_layer(const Digest& diff_id) {
  if (auto it = new_layers_.find(diff_id); it != new_layers_.end())
    return std::optional(it->second);
  Result<LayerRecord> stored = store_.catalog().layer(diff_id);
  if (stored.ok()) return std::optional(std::move(stored).value());
  if (stored.error().code == ENOENT) return std::optional<LayerRecord>();
  return stored.error();
}

Status ImageImport::add_layer(const Digest& diff_id, const std::string& name,
                              const OpenLayer& open) {
  std::optional<LayerRecord> layer = TRY(find_layer(diff_id));
  bool known = layer.has_value();
  if (known) {
    ++result_.layers_known;
  } else {
    layer = TRY(import_layer_tar(store_, chain_, TRY(open()), name, diff_id, options_.cancelled));
    ++result_.layers_new;
    new_layers_[diff_id] = *layer;
    batch_.put_layer(*layer);
  }
  return stack(*layer, !known);
}

Result<Digest> ImageImport::add_layer(InputStream& input, const std::string& name) {
  LayerRecord layer = TRY(import_layer_stream(store_, chain_, input, name, std::nullopt));
  if (std::optional<LayerRecord> known = TRY(find_layer(layer.diff_id))) {
    if (!layer.links_below) {  // read in vain: take back what little it wrote
      if (new_layers_.empty()) store_.discard();
      layer = std::move(*known);
    }
    ++result_.layers_known;
  } else {
    ++result_.layers_new;
    new_layers_[layer.diff_id] = layer;
    batch_.put_layer(layer);
  }
  TRY(stack(layer, true));
  return layer.diff_id;
}

// The layer with its hard links looked up in this stack, from its tar in the store.
Result<LayerRecord> ImageImport::read_again(const LayerRecord& layer) {
  TRY(store_.chunks().flush());
  ContentReader tar(store_.chunks(), store_.objects(), layer.tar, layer.tar_bytes);
  ByteSource source = [&tar, at = uint64_t{0}](char* buffer, size_t size) mutable {
    Result<size_t> got = tar.read(at, {buffer, size});
    if (got.ok()) at += *got;
    return got;
  };
  return import_layer_tar(store_, chain_, source, "layer " + layer.diff_id.to_string(),
                          layer.diff_id, options_.cancelled);
}

// Merges the layer onto the stack, unless that very stack exists already. `read_here`: its record
// was made for this stack.
Status ImageImport::stack(const LayerRecord& layer, bool read_here) {
  std::optional<Digest> below;
  if (chain_) below = chain_->chain_id;
  Digest id = chain_id_of(below, layer.diff_id);
  diff_ids_.push_back(layer.diff_id);
  if (auto it = new_chains_.find(id); it != new_chains_.end()) {
    chain_ = it->second;
    return {};
  }
  Result<ChainRecord> stored = store_.catalog().chain(id);
  if (stored.ok()) {
    chain_ = std::move(stored).value();
    return {};
  }
  if (stored.error().code != ENOENT) return stored.error();
  bool again = layer.links_below && !read_here;
  chain_ = TRY(merge_layer(store_, chain_, again ? TRY(read_again(layer)) : layer));
  new_chains_[id] = *chain_;
  batch_.put_chain(*chain_);
  return {};
}

Status ImageImport::finish_image(const ImageConfig& config,
                                 const std::vector<std::string>& references) {
  if (config.diff_ids != diff_ids_) {
    return Error{EINVAL,
                 "image " + config.id.to_string() + ": its config does not list its layers"};
  }
  ImageRecord image;
  image.id = config.id;
  image.diff_ids = std::move(diff_ids_);
  image.chain_id = chain_->chain_id;
  image.imported_at = ::time(nullptr);
  batch_.put_image(image, config.bytes);
  result_.images.push_back(image.id);
  for (const std::string& text : references) {
    Result<Reference> reference = parse_reference(text);
    if (!reference.ok() || reference->digest) {
      log_warning("the name '{}' that the archive gives the image is not a reference; left out",
                  text);
      continue;
    }
    batch_.put_ref(reference->to_string(), image.id);
    result_.references.push_back(reference->to_string());
  }
  chain_.reset();
  diff_ids_.clear();
  return {};
}

Result<ImportResult> ImageImport::publish() {
  if (options_.reference) {
    if (result_.images.size() != 1) {
      return Error{EINVAL, "the archive holds " + std::to_string(result_.images.size()) +
                               " images; import it without a reference, it brings its own"};
    }
    Reference reference = TRY(parse_reference(*options_.reference));
    if (reference.digest) {
      return Error{EINVAL, "'" + *options_.reference + "' names a digest; give repository:tag"};
    }
    batch_.put_ref(reference.to_string(), result_.images.front());
    result_.references.push_back(reference.to_string());
  }
  if (options_.cancelled && *options_.cancelled) return Error{EINTR, "interrupted"};
  TRY(store_.publish(std::move(batch_)));
  return std::move(result_);
}

}  // namespace layerfs
