// SPDX-License-Identifier: Apache-2.0
#include "layerdb/store/catalog.h"

#include <algorithm>

#include "layerdb/base/coding.h"
#include "layerdb/store/catalog_impl.h"
#include "layerdb/store/catalog_json.h"

namespace layerfs {
namespace {

constexpr char kRef[] = "ref/";
constexpr char kImage[] = "image/";
constexpr char kConfig[] = "config/";
constexpr char kLayer[] = "layer/";
constexpr char kChain[] = "chain/";
constexpr char kNext[] = "next";

std::string key_of(const char* prefix, const Digest& id) { return prefix + id.hex(); }

}  // namespace

void CatalogBatch::put_ref(const std::string& reference, const Digest& image) {
  operations_.emplace_back(kRef + reference, image.to_string());
}
void CatalogBatch::delete_ref(const std::string& reference) {
  operations_.emplace_back(kRef + reference, std::nullopt);
}
void CatalogBatch::put_image(const ImageRecord& image, std::string config) {
  operations_.emplace_back(key_of(kImage, image.id), encode_image(image));
  operations_.emplace_back(key_of(kConfig, image.id), std::move(config));
}
void CatalogBatch::delete_image(const Digest& image) {
  operations_.emplace_back(key_of(kImage, image), std::nullopt);
  operations_.emplace_back(key_of(kConfig, image), std::nullopt);
}
void CatalogBatch::put_layer(const LayerRecord& layer) {
  operations_.emplace_back(key_of(kLayer, layer.diff_id), encode_layer(layer));
}
void CatalogBatch::delete_layer(const Digest& diff_id) {
  operations_.emplace_back(key_of(kLayer, diff_id), std::nullopt);
}
void CatalogBatch::put_chain(const ChainRecord& chain) {
  operations_.emplace_back(key_of(kChain, chain.chain_id), encode_chain(chain));
}
void CatalogBatch::delete_chain(const Digest& chain_id) {
  operations_.emplace_back(key_of(kChain, chain_id), std::nullopt);
}

Result<std::string> StoredCatalog::value(const std::string& key, const std::string& what) {
  std::optional<std::string> value = TRY(database_.get(Family::catalog, key));
  if (!value) return Error{ENOENT, "the store has no " + what};
  return std::move(*value);
}

template <typename Record>
Result<std::vector<Record>> StoredCatalog::all(const std::string& prefix,
                                               Result<Record> (*decode)(const Digest&,
                                                                        std::string_view)) {
  std::vector<Record> out;
  Status failure;
  TRY(database_.for_each(
      Family::catalog, prefix, [&](std::string_view key, std::string_view value) {
        Result<Digest> id = Digest::parse(key.substr(prefix.size()));
        Result<Record> record =
            id.ok() ? decode(*id, value)
                    : Error{EUCLEAN, "the catalog has a damaged key '" + std::string(key) + "'"};
        if (record.ok())
          out.push_back(std::move(*record));
        else
          failure = record.error();
        return failure.ok();
      }));
  TRY(failure);
  return out;
}

Result<Digest> StoredCatalog::ref(const std::string& reference) {
  std::string text = TRY(value(kRef + reference, "image '" + reference + "'"));
  Result<Digest> id = Digest::parse(text);
  if (!id.ok()) return Error{EUCLEAN, "the catalog's record of '" + reference + "' is damaged"};
  return id;
}

Result<std::vector<std::pair<std::string, Digest>>> StoredCatalog::refs() {
  std::vector<std::pair<std::string, Digest>> out;
  Status failure;
  TRY(database_.for_each(Family::catalog, kRef, [&](std::string_view key, std::string_view value) {
    std::string name(key.substr(sizeof kRef - 1));
    Result<Digest> id = Digest::parse(value);
    if (id.ok())
      out.emplace_back(std::move(name), *id);
    else
      failure = Error{EUCLEAN, "the catalog's record of '" + name + "' is damaged"};
    return failure.ok();
  }));
  TRY(failure);
  return out;
}

Result<ImageRecord> StoredCatalog::image(const Digest& id) {
  return decode_image(id, TRY(value(key_of(kImage, id), "image " + id.to_string())));
}
Result<std::string> StoredCatalog::config(const Digest& id) {
  return value(key_of(kConfig, id), "config of image " + id.to_string());
}
Result<std::vector<ImageRecord>> StoredCatalog::images() { return all(kImage, &decode_image); }

Result<LayerRecord> StoredCatalog::layer(const Digest& diff_id) {
  return decode_layer(diff_id, TRY(value(key_of(kLayer, diff_id), "layer " + diff_id.to_string())));
}
Result<std::vector<LayerRecord>> StoredCatalog::layers() { return all(kLayer, &decode_layer); }

Result<ChainRecord> StoredCatalog::chain(const Digest& chain_id) {
  return decode_chain(chain_id,
                      TRY(value(key_of(kChain, chain_id), "chain " + chain_id.to_string())));
}
Result<std::vector<ChainRecord>> StoredCatalog::chains() { return all(kChain, &decode_chain); }

Result<StoredCatalog::Next> StoredCatalog::next() {
  std::optional<std::string> record = TRY(database_.get(Family::catalog, kNext));
  if (!record) return Next{};
  Reader in(*record);
  Next next{in.u64(), in.u64(), in.u64()};
  if (!in.done()) return Error{EUCLEAN, "the catalog's record of the next numbers is damaged"};
  return next;
}

Status StoredCatalog::write(const CatalogBatch& batch, const Next& next) {
  rocksdb::WriteBatch out;
  for (const auto& [key, value] : batch.operations()) {
    if (value)
      out.Put(database_.handle(Family::catalog), key, *value);
    else
      out.Delete(database_.handle(Family::catalog), key);
  }
  std::string record;
  put_u64(record, next.group);
  put_u64(record, next.object);
  put_u64(record, next.link);
  out.Put(database_.handle(Family::catalog), kNext, record);
  return database_.write(out);
}

Digest chain_id_of(const std::optional<Digest>& parent, const Digest& diff_id) {
  return parent ? sha256(parent->to_string() + " " + diff_id.to_string()) : diff_id;
}

}  // namespace layerfs
