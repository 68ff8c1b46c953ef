// SPDX-License-Identifier: Apache-2.0
#include "tests/support/overlay_rig.h"

#include <stdlib.h>

#include <algorithm>
#include <filesystem>
#include <set>
#include <stdexcept>
#include <string>

#include "layerdb/base/sys.h"

namespace layerfs {

namespace {

std::string make_rig_directory() {
  std::string pattern = (std::filesystem::temp_directory_path() / "layerfs.XXXXXX").string();
  if (::mkdtemp(pattern.data()) == nullptr) throw std::runtime_error("mkdtemp " + pattern);
  return pattern;
}

std::set<std::string> names_below(const std::string& directory) {
  std::set<std::string> out;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(directory))
    out.insert(entry.path());
  return out;
}

// RocksDB may make or remove a file meanwhile: then once more.
std::string copy_of_one_moment(const std::string& directory) {
  for (int attempt = 0; attempt < 1000; ++attempt) {
    std::string copy = make_rig_directory();
    std::set<std::string> names = names_below(directory);
    std::error_code failed;
    std::filesystem::copy(directory, copy, std::filesystem::copy_options::recursive, failed);
    if (!failed && names_below(directory) == names) return copy;
    (void)remove_tree(copy);
  }
  throw std::runtime_error("'" + directory + "' is never still");
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
  std::string left = copy_of_one_moment(directory_);
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
