// SPDX-License-Identifier: Apache-2.0
#include "layerdb/ops/gc.h"

#include <fmt/format.h>

#include <set>

#include "layerdb/base/log.h"
#include "layerdb/ops/container.h"
#include "layerdb/ops/reach.h"
#include "layerdb/store/catalog.h"
#include "layerdb/store/group_copies.h"
#include "layerdb/store/maintenance.h"

namespace layerfs {
namespace {

struct Records {
  std::set<Digest> layers;  // that stay
  std::set<Digest> chains;
};

// What images and containers name.
Result<Records> records_in_use(Store& store) {
  Records used;
  auto images = TRY(store.catalog().images());
  for (const ImageRecord& image : images) {
    std::optional<Digest> chain;
    for (const Digest& diff_id : image.diff_ids) {
      chain = chain_id_of(chain, diff_id);
      used.layers.insert(diff_id);
      used.chains.insert(*chain);
    }
  }
  auto containers = TRY(list_containers(store.root()));
  for (const Container& container : containers) {
    std::optional<Digest> next = container.chain_id;
    while (next) {
      auto chain = store.catalog().chain(*next);
      if (!chain.ok() && chain.error().code == ENOENT) break;  // fsck's business; nothing to keep
      if (!chain.ok()) return chain.error();
      used.layers.insert(chain->diff_id);
      used.chains.insert(*next);
      next = chain->parent;
    }
  }
  return used;
}

class Collector {
 public:
  explicit Collector(Store& store)
      : store_(store), reach_(store.objects(), [this](const Extent& e) { mark_group(e.group); }) {}

  Status mark() {
    Records used = TRY(records_in_use(store_));
    auto layers = TRY(store_.catalog().layers());
    for (const LayerRecord& layer : layers) {
      if (used.layers.contains(layer.diff_id)) {
        TRY(reach_.add_layer(layer));
      } else {
        ++result_.layers;
        batch_.delete_layer(layer.diff_id);
      }
    }
    auto chains = TRY(store_.catalog().chains());
    for (const ChainRecord& chain : chains) {
      if (used.chains.contains(chain.chain_id)) {
        TRY(reach_.add_chain(chain));
      } else {
        ++result_.chains;
        batch_.delete_chain(chain.chain_id);
      }
    }
    TRY(mark_bases());
    return count_dead();
  }

  Status sweep() {
    uint64_t before = file_bytes();
    if (!batch_.operations().empty()) TRY(store_.publish(std::move(batch_)));
    Database& database = store_.database();
    // An entry goes with its group even where the group itself stays for now: a dead group's base
    // may be gone, so nobody may find it any more.
    auto group_is_dead = [&](GroupId group) { return !is_live(group); };
    if (!dead_.empty()) {
      TRY(delete_index_entries(database, group_is_dead));
      if (!TRY(delete_groups(database, dead_)).empty()) remove_copies();
    }
    if (result_.objects > 0) {
      TRY(delete_objects(database, [&](ObjectId id) { return !reach_.has(id); }));
    }
    uint64_t after = file_bytes();
    result_.freed_bytes = before > after ? before - after : 0;
    return {};
  }

  // Those of deleted groups would be in the way of others'.
  void remove_copies() {
    Status removed = GroupCopies::remove(GroupCopies::path_in(store_.root()));
    if (!removed.ok()) log_warning("{}", removed.error().message);
  }

  const GcResult& result() const { return result_; }

 private:
  bool is_live(GroupId group) const { return group < live_.size() && live_[group]; }

  void mark_group(GroupId group) {
    if (group >= (uint64_t{1} << 40)) return;  // no such group can exist; fsck's business
    if (group >= live_.size()) live_.resize(group + group / 2 + 64);
    live_[group] = true;
  }

  // A base is older than what builds on it, so going down once finds bases of bases, too.
  Status mark_bases() {
    std::vector<std::pair<GroupId, std::vector<GroupId>>> with_bases;
    TRY(for_each_group(store_.database(), [&](const GroupInfo& group) {
      if (!group.bases.empty()) with_bases.emplace_back(group.number, group.bases);
      return true;
    }));
    for (size_t i = with_bases.size(); i-- > 0;) {
      if (!is_live(with_bases[i].first)) continue;
      for (GroupId base : with_bases[i].second) mark_group(base);
    }
    return {};
  }

  Status count_dead() {
    TRY(for_each_group(store_.database(), [&](const GroupInfo& group) {
      if (is_live(group.number)) return true;
      ++result_.groups;
      result_.group_bytes += group.stored_bytes;
      if (!dead_.empty() && dead_.back().last + 1 == group.number) {
        dead_.back().last = group.number;
      } else {
        dead_.push_back({group.number, group.number});
      }
      return true;
    }));
    return for_each_object(store_.database(), [&](ObjectId id, std::string_view bytes) {
      if (!reach_.has(id)) {
        ++result_.objects;
        result_.object_bytes += bytes.size();
      }
      return true;
    });
  }

  uint64_t file_bytes() {
    uint64_t sum = 0;
    for (const FamilySize& size : family_sizes(store_.database())) sum += size.file_bytes;
    return sum;
  }

  Store& store_;
  Reach reach_;
  std::vector<bool> live_;
  std::vector<GroupRange> dead_;
  CatalogBatch batch_;
  GcResult result_;
};

}  // namespace

Result<GcResult> collect_garbage(Store& store, bool dry_run) {
  UniqueFd lock;
  if (!dry_run) lock = TRY(lock_containers(store.root()));
  Collector collector(store);
  Status marked = collector.mark();
  if (!marked.ok()) {
    return marked.error().wrap("nothing was deleted (`layerfs fsck` says what is damaged)");
  }
  if (!dry_run) TRY(collector.sweep());
  return collector.result();
}

}  // namespace layerfs
