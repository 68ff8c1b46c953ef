// SPDX-License-Identifier: Apache-2.0
#include "tests/model/overlay_subject.h"

#include <nlohmann/json.hpp>
#include <stdexcept>

#include "layerdb/ops/commit.h"
#include "layerdb/ops/fsck.h"
#include "layerdb/ops/merge.h"
#include "layerdb/ops/tree_builder.h"
#include "layerdb/view/store_lower.h"
#include "tests/model/generator.h"
#include "tests/support/temp_dir.h"

namespace layerfs {
namespace {

template <typename T>
T must(Result<T> result) {
  if (!result.ok()) throw std::runtime_error(result.error().message);
  return std::move(result).value();
}
void must(Status status) {
  if (!status.ok()) throw std::runtime_error(status.error().message);
}

}  // namespace

// An image that is mounted by an OverlayRig.
struct MountedImage {
  MountedImage(Store& s, const ImageRecord& image, rocksdb::Env* env, int64_t seconds) : store(s) {
    container.image = image.id;
    container.chain_id = image.chain_id;
    lower = must(open_store_lower(store, must(store.catalog().chain(image.chain_id))));
    rig = std::make_unique<OverlayRig>(*lower, env, seconds);
  }
  // The image of what it shows now.
  ImageRecord commit() {
    CommitOptions options;
    options.hash_at_once_bytes = 0;  // what is shared must be right without being read
    CommitResult result = must(build_commit(store, container, *lower, rig->upper(), options));
    must(store.publish(std::move(result.batch)));
    return result.image;
  }

  Store& store;
  Container container;
  std::unique_ptr<Lower> lower;
  std::unique_ptr<OverlayRig> rig;
};

namespace {

// The store and the image that every script starts from.
class ModelStore {
 public:
  static ModelStore& get() {
    static ModelStore instance;
    return instance;
  }
  Store& store() { return *store_; }
  const ImageRecord& image() const { return image_; }

 private:
  ModelStore() : store_(must(Store::open(directory_ / "store"))) {
    MountedImage empty(*store_, empty_image(), nullptr, 0);
    ScriptRunner runner;
    for (const Command& command : lower_script()) {
      if (runner.run(empty.rig->overlay(), command) != "ok") {
        throw std::runtime_error("lower script: " + script_text({command}));
      }
    }
    image_ = empty.commit();
  }

  ImageRecord empty_image() {
    Entry root;
    root.attributes.type = FileType::directory;
    root.attributes.mode = 0755;
    LayerRecord layer;
    layer.diff_id = sha256("");
    layer.root = must(put_root_page(store_->objects(), root));
    ChainRecord chain = must(merge_layer(*store_, std::nullopt, layer));
    nlohmann::json config = {{"rootfs", {{"diff_ids", {layer.diff_id.to_string()}}}}};
    ImageRecord image{sha256(config.dump()), {layer.diff_id}, chain.chain_id};
    CatalogBatch batch;
    batch.put_layer(layer);
    batch.put_chain(chain);
    batch.put_image(image, config.dump());
    must(store_->publish(std::move(batch)));
    return image;
  }

  test_support::TempDir directory_;
  std::unique_ptr<Store> store_;
  ImageRecord image_;
};

}  // namespace

OverlaySubject::OverlaySubject() : mounted_(mount(ModelStore::get().image(), 1000)) {}
OverlaySubject::~OverlaySubject() = default;

std::unique_ptr<MountedImage> OverlaySubject::mount(const ImageRecord& image, int64_t seconds) {
  return std::make_unique<MountedImage>(ModelStore::get().store(), image, &env_, seconds);
}

OverlayRig& OverlaySubject::rig() { return *mounted_->rig; }

Status OverlaySubject::remount() {
  rig().remount();
  return {};
}

Status OverlaySubject::crash() {
  rig().crash();
  return {};
}

Status OverlaySubject::commit() {
  ImageRecord image = mounted_->commit();
  mounted_ = mount(image, rig().now().seconds);
  return {};
}

std::string check_model_store() {
  std::string out;
  FsckResult result = must(check_store(ModelStore::get().store()));
  for (const Finding& finding : result.findings) out += finding.to_string() + "\n";
  return out;
}

}  // namespace layerfs
