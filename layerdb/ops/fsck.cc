// SPDX-License-Identifier: Apache-2.0
#include "layerdb/ops/fsck.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>

#include "layerdb/ops/fsck_state.h"
#include "layerdb/store/content.h"
#include "layerdb/store/maintenance.h"

namespace layerfs {
namespace {

constexpr size_t kFsckReadBytes = 1 << 20;

std::string short_hex(const Digest& digest) { return digest.hex().substr(0, 12); }

class RecordCheck {
 public:
  RecordCheck(FsckState& state, const FsckProgress& progress)
      : state_(state), catalog_(state.store.catalog()), progress_(progress) {}

  Status run() {
    TRY(load_catalog());
    for (const ImageRecord& image : images_) check_image(image);
    for (const auto& [id, layer] : layers_) TRY(check_layer(layer));
    for (const auto& [id, chain] : chains_) {
      if (!checked_chains_.contains(id)) check_chain("chain " + short_hex(id), chain);
    }
    return {};
  }

 private:
  void report(FindingKind kind, const std::string& owner, std::string message) {
    state_.report(kind, owner, "", std::move(message));
  }

  // Reads records one by one, so that a damaged one hides no other.
  Status load_catalog() {
    std::vector<std::string> keys;
    Status walked = for_each_record(state_.store.database(), Family::catalog, [&](auto key, auto) {
      keys.emplace_back(key);
      return true;
    });
    if (!walked.ok()) report(FindingKind::bad_record, "store", walked.error().message);
    for (const std::string& key : keys) load_record(key);
    for (const auto& [reference, id] : refs_) {
      if (!image_names_.contains(id)) {
        report(FindingKind::missing_record, "reference " + reference,
               fmt::format("it names image {}, which is missing", id.to_string()));
      }
    }
    return {};
  }

  void load_record(const std::string& key) {
    size_t slash = key.find('/');
    std::string kind = key.substr(0, slash);
    std::string name = slash == key.npos ? "" : key.substr(slash + 1);
    Status status;
    if (kind == "ref") {
      status = keep(catalog_.ref(name), [&](const Digest& id) { refs_.emplace_back(name, id); });
    } else if (kind == "image" || kind == "layer" || kind == "chain") {
      auto id = Digest::parse(name);
      if (!id.ok()) {
        status = id.error();
      } else if (kind == "image") {
        status = keep(catalog_.image(*id), [&](const ImageRecord& image) {
          images_.push_back(image);
          image_names_.insert(*id);
        });
      } else if (kind == "layer") {
        status = keep(catalog_.layer(*id), [&](const LayerRecord& l) { layers_.emplace(*id, l); });
      } else {
        status = keep(catalog_.chain(*id), [&](const ChainRecord& c) { chains_.emplace(*id, c); });
      }
    }
    if (!status.ok()) report(FindingKind::bad_record, "store", status.error().message);
  }

  template <typename T, typename Keep>
  Status keep(Result<T> record, Keep keep) {
    if (!record.ok()) return record.error();
    keep(*record);
    return {};
  }

  std::string image_owner(const ImageRecord& image) {
    for (const auto& [reference, id] : refs_) {
      if (id == image.id) return "image " + reference;
    }
    return "image " + short_hex(image.id);
  }

  void check_image(const ImageRecord& image) {
    std::string owner = image_owner(image);
    ++state_.result.images;
    auto config = catalog_.config(image.id);
    if (!config.ok()) {
      report(FindingKind::missing_record, owner, config.error().message);
    } else if (sha256(*config) != image.id) {
      report(FindingKind::wrong_config, owner, "its config does not have its digest");
    }
    std::optional<Digest> chain_id;
    for (const Digest& diff_id : image.diff_ids) {
      chain_id = chain_id_of(chain_id, diff_id);
      layer_users_[diff_id].push_back(owner);
      if (!layers_.contains(diff_id)) {
        report(FindingKind::missing_record, owner,
               fmt::format("layer {} is missing", diff_id.to_string()));
      }
    }
    if (chain_id != image.chain_id) {
      report(FindingKind::bad_record, owner, "its chainID does not follow from its layers");
    }
    auto chain = chains_.find(image.chain_id);
    if (chain == chains_.end()) {
      report(FindingKind::missing_record, owner,
             fmt::format("its merged tree {} is missing", image.chain_id.to_string()));
    } else {
      check_chain(owner, chain->second);
    }
  }

  void check_chain(const std::string& owner, const ChainRecord& chain) {
    checked_chains_.insert(chain.chain_id);
    if (chain_id_of(chain.parent, chain.diff_id) != chain.chain_id) {
      report(FindingKind::bad_record, owner, "its chainID does not follow from its layers");
    }
    uint64_t bytes = check_tree(state_, owner, chain.root, chain.links, true);
    if (bytes != chain.content_bytes) {
      report(FindingKind::wrong_count, owner,
             fmt::format("its files add up to {} bytes, not {}", bytes, chain.content_bytes));
    }
  }

  Status check_layer(const LayerRecord& layer) {
    std::string owner = "layer " + short_hex(layer.diff_id);
    std::string users;
    for (const std::string& user : layer_users_[layer.diff_id]) {
      users += (users.empty() ? " (" : ", ") + user;
    }
    if (!users.empty()) owner += users + ")";
    ++state_.result.layers;
    if (progress_) progress_(state_.result.layers, layers_.size(), "layers");
    uint64_t bytes = check_tree(state_, owner, layer.root, layer.links, false);
    if (bytes != layer.content_bytes) {
      report(FindingKind::wrong_count, owner,
             fmt::format("its files add up to {} bytes, not {}", bytes, layer.content_bytes));
    }
    if (!check_content(state_, owner, "", layer.tar, layer.tar_bytes)) return {};
    if (layer.provisional) return {};  // there is no hash to compare its tar with
    return check_tar(owner, layer);
  }

  Status check_tar(const std::string& owner, const LayerRecord& layer) {
    ContentReader reader(state_.store.chunks(), state_.store.objects(), layer.tar, layer.tar_bytes);
    Sha256 hash;
    std::string buffer(kFsckReadBytes, '\0');
    for (uint64_t offset = 0; offset < layer.tar_bytes;) {
      auto read = reader.read(offset, std::span<char>(buffer));
      if (!read.ok() || *read == 0) {
        report(FindingKind::wrong_tar, owner,
               read.ok() ? "its tar ends too early" : read.error().message);
        return {};
      }
      hash.update(std::string_view(buffer).substr(0, *read));
      offset += *read;
    }
    if (hash.finish() != layer.diff_id) {
      report(FindingKind::wrong_tar, owner, "its tar does not have its diffID");
    }
    return {};
  }

  FsckState& state_;
  Catalog& catalog_;
  const FsckProgress& progress_;
  std::vector<std::pair<std::string, Digest>> refs_;
  std::vector<ImageRecord> images_;
  std::set<Digest> image_names_;
  std::map<Digest, LayerRecord> layers_;
  std::map<Digest, ChainRecord> chains_;
  std::map<Digest, std::vector<std::string>> layer_users_;
  std::set<Digest> checked_chains_;
};

void count_reclaimable(FsckState& state) {
  for (const auto& [number, group] : state.groups) {
    if (group.used) continue;
    ++state.result.reclaimable_groups;
    state.result.reclaimable_bytes += group.stored_bytes;
  }
  Status walked = for_each_object(state.store.database(), [&](ObjectId id, std::string_view bytes) {
    if (!state.used_objects.contains(id)) {
      ++state.result.reclaimable_objects;
      state.result.reclaimable_bytes += bytes.size();
    }
    return true;
  });
  if (!walked.ok()) {
    state.report(FindingKind::damaged_object, "store", "", walked.error().message);
  }
}

}  // namespace

const char* finding_name(FindingKind kind) {
  switch (kind) {
    case FindingKind::bad_record:
      return "bad-record";
    case FindingKind::missing_record:
      return "missing-record";
    case FindingKind::wrong_config:
      return "wrong-config";
    case FindingKind::missing_group:
      return "missing-group";
    case FindingKind::damaged_group:
      return "damaged-group";
    case FindingKind::bad_extent:
      return "bad-extent";
    case FindingKind::missing_object:
      return "missing-object";
    case FindingKind::damaged_object:
      return "damaged-object";
    case FindingKind::wrong_count:
      return "wrong-count";
    case FindingKind::bad_link:
      return "bad-link";
    case FindingKind::bad_index:
      return "bad-index";
    case FindingKind::wrong_copy:
      return "wrong-copy";
    case FindingKind::wrong_tar:
      return "wrong-tar";
    case FindingKind::damaged_container:
      return "damaged-container";
  }
  return "unknown";
}

std::string Finding::to_string() const {
  std::string where = path.empty() ? owner : owner + " " + path;
  return fmt::format("{}: {}: {}", finding_name(kind), where, message);
}

void FsckState::report(FindingKind kind, const std::string& owner, const std::string& path,
                       std::string message) {
  result.findings.push_back({kind, owner, path, std::move(message)});
}

bool FsckState::leave_unchecked(const std::string& owner, const Error& error) {
  static constexpr int kCodes[] = {EACCES, EPERM, EROFS, EMFILE, ENFILE, ENOMEM, EPROTO};
  if (std::ranges::find(kCodes, error.code) == std::end(kCodes)) return false;
  result.unchecked.push_back(owner + ": " + error.message);
  return true;
}

void FsckState::use_group(GroupId group) {
  if (auto it = groups.find(group); it != groups.end()) it->second.used = true;
}

void FsckState::use_object(ObjectId id) { used_objects.insert(id); }

namespace {

// What no file needs, but whoever writes to the store: the families that nothing else here walks.
void check_tables(FsckState& state) {
  for (Family family : {Family::meta, Family::object_index, Family::similar}) {
    Status walked =
        for_each_record(state.store.database(), family, [](auto, auto) { return true; });
    if (!walked.ok()) state.report(FindingKind::bad_record, "store", "", walked.error().message);
  }
}

}  // namespace

Result<FsckResult> check_store(Store& store, const FsckProgress& progress,
                               const WhileQuiet& while_quiet) {
  FsckState state(store);
  check_tables(state);
  TRY(check_groups(state, progress));
  check_copies(state);
  TRY(RecordCheck(state, progress).run());
  TRY(check_containers(state, while_quiet));
  count_reclaimable(state);
  return std::move(state.result);
}

}  // namespace layerfs
