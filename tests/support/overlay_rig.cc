// SPDX-License-Identifier: Apache-2.0
#include "tests/support/overlay_rig.h"

#include <stdlib.h>

#include <algorithm>
#include <filesystem>
#include <stdexcept>

#include "layerdb/base/sys.h"

namespace layerfs {

namespace {

std::string make_rig_directory() {
  std::string pattern = (std::filesystem::temp_directory_path() / "layerfs.XXXXXX").string();
  if (::mkdtemp(pattern.data()) == nullptr) throw std::runtime_error("mkdtemp " + pattern);
  return pattern;
}

}  // namespace

OverlayRig::OverlayRig(Lower& lower, rocksdb::Env* env, int64_t seconds)
    : lower_(lower), directory_(make_rig_directory()), env_(env), seconds_(seconds) {
  open();
}

OverlayRig::~OverlayRig() {
  overlay_.reset();
  upper_.reset();
  (void)remove_tree(directory_);
}

void OverlayRig::open() {
  auto upper = Upper::open(directory_, lower_.inode_limit(), {.env = env_});
  if (!upper.ok()) throw std::runtime_error(upper.error().message);
  upper_ = std::move(*upper);
  Overlay::Options options;
  options.clock = [this] { return now(); };
  options.host_directory = directory_;
  overlay_ = std::move(Overlay::create(lower_, upper_.get(), options).value());
}

void OverlayRig::remount() {
  overlay_.reset();
  upper_.reset();
  open();
}

// write(2) is all that a process's death needs.
void OverlayRig::crash() {
  std::string left = make_rig_directory();
  std::filesystem::copy(directory_, left, std::filesystem::copy_options::recursive);
  overlay_.reset();
  upper_.reset();
  (void)remove_tree(directory_);
  directory_ = left;
  open();
}

Result<Ino> OverlayRig::resolve(const std::string& path) {
  Ino at = kRootIno;
  for (size_t start = 0; start < path.size();) {
    size_t end = std::min(path.find('/', start), path.size());
    at = TRY(overlay_->lookup(at, path.substr(start, end - start))).ino;
    overlay_->forget(at, 1);
    start = end + 1;
  }
  return at;
}

Result<std::string> OverlayRig::read_all(Ino ino) {
  std::string out(TRY(overlay_->stat(ino)).attributes.size_bytes, '\0');
  out.resize(TRY(overlay_->read(ino, 0, out)));
  return out;
}

}  // namespace layerfs
