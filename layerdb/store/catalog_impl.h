// SPDX-License-Identifier: Apache-2.0
//
// The catalog over the database's family of that name. Private to layerdb/store and its tests.
#pragma once

#include "layerdb/store/catalog.h"
#include "layerdb/store/database.h"

namespace layerfs {

class StoredCatalog : public Catalog {
 public:
  explicit StoredCatalog(Database& database) : database_(database) {}

  Result<Digest> ref(const std::string& reference) override;
  Result<std::vector<std::pair<std::string, Digest>>> refs() override;
  Result<ImageRecord> image(const Digest& id) override;
  Result<std::string> config(const Digest& id) override;
  Result<std::vector<ImageRecord>> images() override;
  Result<LayerRecord> layer(const Digest& diff_id) override;
  Result<std::vector<LayerRecord>> layers() override;
  Result<ChainRecord> chain(const Digest& chain_id) override;
  Result<std::vector<ChainRecord>> chains() override;

  // The numbers to give next (format.md), written with every batch.
  struct Next {
    uint64_t group = 1;
    uint64_t object = 1;
    uint64_t link = 1;
  };
  Result<Next> next();
  Status write(const CatalogBatch& batch, const Next& next);

 private:
  Result<std::string> value(const std::string& key, const std::string& what);
  template <typename Record>
  Result<std::vector<Record>> all(const std::string& prefix,
                                  Result<Record> (*decode)(const Digest&, std::string_view));

  Database& database_;
};

}  // namespace layerfs
