// SPDX-License-Identifier: Apache-2.0
#include "layerdb/ops/commit.h"

#include <fmt/chrono.h>
#include <fmt/format.h>

#include <chrono>
#include <nlohmann/json.hpp>

#include "layerdb/base/json.h"
#include "layerdb/ops/layer_builder.h"
#include "layerdb/ops/merge.h"

namespace layerfs {

namespace {

using OrderedJson = nlohmann::ordered_json;

// RFC 3339 with nanoseconds, as docker writes it.
std::string format_time(std::chrono::system_clock::time_point time) {
  auto since_epoch = time.time_since_epoch();
  auto seconds = std::chrono::floor<std::chrono::seconds>(since_epoch);
  auto nanoseconds =
      std::chrono::duration_cast<std::chrono::nanoseconds>(since_epoch - seconds).count();
  return fmt::format("{:%Y-%m-%dT%H:%M:%S}.{:09}Z", fmt::gmtime(std::time_t{seconds.count()}),
                     nanoseconds);
}

// The parent's config with everything it says, and the new layer on top.
Result<std::string> extend_config(const std::string& parent, const LayerRecord& layer,
                                  const CommitOptions& options, const std::string& now) {
  OrderedJson config = parse_ordered_json(parent);
  if (!config.is_object()) return Error{EUCLEAN, "the parent image's config is not a JSON object"};
  config["created"] = now;
  if (!options.author.empty()) config["author"] = options.author;
  OrderedJson entry = {{"created", now}, {"created_by", "layerfs commit"}};
  if (!options.author.empty()) entry["author"] = options.author;
  if (!options.message.empty()) entry["comment"] = options.message;
  OrderedJson& history = config["history"];
  if (!history.is_array()) history = OrderedJson::array();
  history.push_back(std::move(entry));
  OrderedJson& rootfs = config["rootfs"];
  if (!rootfs.is_object() || !rootfs["diff_ids"].is_array())
    return Error{EUCLEAN, "the parent image's config lists no layers"};
  rootfs["diff_ids"].push_back(layer.diff_id.to_string());
  return json_text(config);
}

// A chain that is there stays as it is: containers on it know its inodes by their numbers.
Result<ChainRecord> find_or_merge(Store& store, const ChainRecord& below,
                                  const LayerRecord& layer) {
  Result<ChainRecord> known = store.catalog().chain(chain_id_of(below.chain_id, layer.diff_id));
  if (known.ok() || known.error().code != ENOENT) return known;
  return merge_layer(store, below, layer);
}

}  // namespace

Result<CommitResult> build_commit(Store& store, const Container& container, Lower& lower,
                                  Upper& upper, const CommitOptions& options) {
  ImageRecord parent = TRY(store.catalog().image(container.image));
  ChainRecord below = TRY(store.catalog().chain(container.chain_id));
  std::string parent_config = TRY(store.catalog().config(container.image));

  CommitResult out;
  for (const Digest& diff_id : parent.diff_ids)
    out.source.layers.push_back(TRY(store.catalog().layer(diff_id)));
  LayerRecord layer = TRY(LayerBuilder(store, below.chain_id, lower, upper, options).build());
  out.source.layers.push_back(layer);
  out.source.chain = TRY(find_or_merge(store, below, layer));

  auto now = std::chrono::system_clock::now();
  out.source.config = TRY(extend_config(parent_config, layer, options, format_time(now)));
  out.image.id = sha256(out.source.config);
  out.image.diff_ids = parent.diff_ids;
  out.image.diff_ids.push_back(layer.diff_id);
  out.image.chain_id = out.source.chain.chain_id;
  out.image.imported_at = std::chrono::system_clock::to_time_t(now);
  out.batch.put_layer(layer);
  out.batch.put_chain(out.source.chain);
  out.batch.put_image(out.image, out.source.config);
  return out;
}

}  // namespace layerfs
