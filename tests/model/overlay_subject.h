// SPDX-License-Identifier: Apache-2.0
//
// The overlay in-process, over a lower in a real store, with a host that can fail. All subjects of
// a process share the store; commits add to it.
#pragma once

#include <memory>
#include <string>

#include "layerdb/store/catalog.h"
#include "tests/model/driver.h"
#include "tests/support/faulty_env.h"
#include "tests/support/overlay_rig.h"

namespace layerfs {

struct MountedImage;

class OverlaySubject final : public Subject {
 public:
  OverlaySubject();
  ~OverlaySubject() override;
  OverlayRig& rig();

  Overlay& fs() override { return rig().overlay(); }
  ModelFs::Rules rules() const override { return ModelFs::Rules::filesystem; }
  Timestamp now() override { return rig().now(); }
  void tick() override { rig().tick(); }
  Status remount() override;
  Status crash() override;
  Status commit() override;
  void break_host(int64_t calls) override {
    env_.fail_after(calls, rocksdb::Status::NoSpace("injected"));
  }
  void heal_host() override { env_.work_again(); }
  bool keeps_numbers() const override { return true; }

 private:
  std::unique_ptr<MountedImage> mount(const ImageRecord& image, int64_t seconds);

  test_support::FaultyEnv env_;
  std::unique_ptr<MountedImage> mounted_;
};

// Every error that fsck finds in the store.
std::string check_model_store();

}  // namespace layerfs
