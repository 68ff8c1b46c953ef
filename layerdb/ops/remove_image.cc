// SPDX-License-Identifier: Apache-2.0
#include "layerdb/ops/remove_image.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <set>

#include "layerdb/ops/container.h"
#include "layerdb/store/catalog.h"
#include "layerdb/store/reference.h"

namespace layerfs {
namespace {

// chainIDs of every prefix of a stack, bottom first.
std::vector<Digest> chain_ids(const std::vector<Digest>& diff_ids) {
  std::vector<Digest> out;
  std::optional<Digest> parent;
  for (const Digest& diff_id : diff_ids) {
    parent = chain_id_of(parent, diff_id);
    out.push_back(*parent);
  }
  return out;
}

Status refuse_if_used(Store& store, const Digest& image) {
  for (const Container& container : TRY(list_containers(store.root())))
    if (container.image == image)
      return Error{EBUSY, "container '" + container.name + "' uses image " +
                              image.hex().substr(0, 12) + "; remove it first: layerfs rm " +
                              container.name};
  return {};
}

// The image's records and those of its layers and chains that no other image has.
Status delete_records(Store& store, const Digest& image, CatalogBatch& batch, RemovedImage& out) {
  Catalog& catalog = store.catalog();
  ImageRecord record = TRY(catalog.image(image));
  std::set<Digest> kept_layers, kept_chains;
  for (const ImageRecord& other : TRY(catalog.images())) {
    if (other.id == image) continue;
    kept_layers.insert(other.diff_ids.begin(), other.diff_ids.end());
    std::vector<Digest> chains = chain_ids(other.diff_ids);
    kept_chains.insert(chains.begin(), chains.end());
  }
  batch.delete_image(image);
  out.deleted.push_back(image);
  std::vector<Digest> chains = chain_ids(record.diff_ids);
  for (size_t i = record.diff_ids.size(); i-- > 0;) {
    if (kept_chains.insert(chains[i]).second) batch.delete_chain(chains[i]);
    if (!kept_layers.insert(record.diff_ids[i]).second) continue;  // also one that comes twice
    batch.delete_layer(record.diff_ids[i]);
    out.deleted.push_back(record.diff_ids[i]);
  }
  return {};
}

}  // namespace

Result<RemovedImage> remove_image(Store& store, const std::string& name) {
  Catalog& catalog = store.catalog();
  Digest image = TRY(resolve_image(catalog, name));
  std::string meant;  // the reference that `name` is; empty: it is an id
  std::vector<std::string> references;
  Result<Reference> parsed = parse_reference(name);
  for (const auto& [reference, target] : TRY(catalog.refs())) {
    if (target != image) continue;
    references.push_back(reference);
    bool same = parsed.ok() && !parsed->digest && parsed->to_string() == reference;
    if (same || name == reference) meant = reference;
  }
  if (meant.empty() && references.size() > 1)
    return Error{EBUSY, fmt::format("image '{}' has several references ({}); remove them by name",
                                    name, fmt::join(references, ", "))};

  CatalogBatch batch;
  RemovedImage out;
  bool last = references.size() <= 1;
  if (!meant.empty()) references = {meant};
  UniqueFd lock = TRY(lock_containers(store.root()));
  for (const std::string& reference : references) batch.delete_ref(reference);
  out.untagged = references;
  if (last) {
    TRY(refuse_if_used(store, image));
    TRY(delete_records(store, image, batch, out));
  }
  TRY(store.publish(std::move(batch)));
  return out;
}

}  // namespace layerfs
