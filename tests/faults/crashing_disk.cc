// SPDX-License-Identifier: Apache-2.0
#include "tests/faults/crashing_disk.h"

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <iterator>

namespace layerfs::test_support {
namespace {

namespace fs = std::filesystem;
using Kind = HostCall::Kind;
constexpr size_t kPageBytes = 4096;

void overwrite(std::string& content, uint64_t offset, const std::string& bytes) {
  if (content.size() < offset + bytes.size()) content.resize(offset + bytes.size());
  content.replace(offset, bytes.size(), bytes);
}

void zero(std::string& content, uint64_t offset, uint64_t length) {
  if (offset >= content.size()) return;
  length = std::min<uint64_t>(length, content.size() - offset);
  content.replace(offset, length, length, '\0');
}

}  // namespace

CrashingDisk::CrashingDisk(const std::string& directory, Names names) : names_(names) {
  std::vector<std::string> paths;
  for (const auto& entry : fs::recursive_directory_iterator(directory)) {
    std::string path = entry.path().string().substr(directory.size() + 1);
    if (entry.is_directory()) tree_[path] = 0;
    if (entry.is_regular_file()) paths.push_back(path);
  }
  std::sort(paths.begin(), paths.end());  // as HostCalls numbers them
  for (size_t i = 0; i < paths.size(); ++i) {
    std::ifstream in(directory + "/" + paths[i], std::ios::binary);
    File& file = files_[i + 1];
    file.now.assign(std::istreambuf_iterator<char>(in), {});
    file.synced = file.sized = file.now;
    tree_[paths[i]] = i + 1;
  }
  committed_ = tree_;
}

void CrashingDisk::change_names(Tree& tree, const HostCall& call) {
  switch (call.kind) {
    case Kind::create:
      tree[call.path] = call.file;
      return;
    case Kind::make_directory:
      tree[call.path] = 0;
      return;
    case Kind::link:
      tree[call.to] = tree[call.path];
      return;
    case Kind::unlink:
      tree.erase(call.path);
      return;
    case Kind::rename: {
      Tree moved;
      for (auto it = tree.begin(); it != tree.end();) {
        bool below = it->first == call.path || it->first.starts_with(call.path + "/");
        if (below) moved[call.to + it->first.substr(call.path.size())] = it->second;
        it = below ? tree.erase(it) : std::next(it);
      }
      for (const auto& [path, file] : moved) tree[path] = file;
      return;
    }
    default:
      return;
  }
}

void CrashingDisk::commit_names() {
  committed_ = tree_;
  uncommitted_.clear();
}

void CrashingDisk::apply(const HostCall& call) {
  File* file = call.file != 0 ? &files_[call.file] : nullptr;
  switch (call.kind) {
    case Kind::create:
    case Kind::make_directory:
    case Kind::rename:
    case Kind::link:
    case Kind::unlink:
      change_names(tree_, call);
      uncommitted_.push_back(call);
      return;
    case Kind::write:
      overwrite(file->now, call.offset, call.bytes);
      if (file->sized.size() < file->now.size()) file->sized.resize(file->now.size());
      break;
    case Kind::truncate:
      file->now.resize(call.length);
      file->sized.resize(call.length);
      break;
    case Kind::extend:
      file->now.resize(std::max<uint64_t>(file->now.size(), call.length));
      file->sized.resize(file->now.size());
      break;
    case Kind::punch:
      zero(file->now, call.offset, call.length);
      zero(file->sized, call.offset, call.length);
      break;
    case Kind::sync:
      file->synced = file->sized = file->now;
      file->changed = false;
      if (names_ == Names::journalled) commit_names();
      return;
    case Kind::sync_directory:
      commit_names();
      return;
    case Kind::sync_everything:
      for (auto& [number, each] : files_) {
        if (each.changed) each.synced = each.sized = each.now;
        each.changed = false;
      }
      commit_names();
      return;
  }
  file->changed = true;
}

std::string CrashingDisk::tear(const std::string& path, const File& file, Random& random) {
  if (path.find("MANIFEST-") != std::string::npos) {
    size_t least = std::min(file.synced.size(), file.now.size());
    return file.now.substr(0, least + random.below(file.now.size() - least + 1));
  }
  if (random.one_in(4)) return file.now;
  if (random.one_in(4)) return file.synced;
  std::string out = random.one_in(2) ? file.now : file.synced;
  for (size_t at = 0; at < out.size(); at += kPageBytes) {
    size_t size = std::min(kPageBytes, out.size() - at);
    std::string page(size, '\0');
    uint64_t choice = random.below(3);
    const std::string& from = choice == 0 ? file.sized : choice == 1 ? file.synced : file.now;
    if (at < from.size()) page.replace(0, std::min(size, from.size() - at), from, at, size);
    page.resize(size);
    out.replace(at, size, page);
  }
  return out;
}

void CrashingDisk::leave(const std::string& directory, Loss loss, Random& random) const {
  Tree tree = loss == Loss::unsynced || loss == Loss::torn ? committed_ : tree_;
  if (loss == Loss::torn) {
    size_t count = random.below(uncommitted_.size() + 1);
    for (size_t i = 0; i < count; ++i) change_names(tree, uncommitted_[i]);
  }
  fs::create_directories(directory);
  std::map<uint64_t, std::string> written;  // hard links stay links
  for (const auto& [path, number] : tree) {
    fs::path target = fs::path(directory) / path;
    fs::create_directories(number == 0 ? target : target.parent_path());
    if (number == 0) continue;
    if (auto [it, first] = written.try_emplace(number, target.string()); !first) {
      fs::create_hard_link(it->second, target);
      continue;
    }
    const File& file = files_.at(number);
    std::string content = !file.changed || loss == Loss::nothing ? file.now
                          : loss == Loss::unsynced               ? file.synced
                          : loss == Loss::contents               ? file.sized
                                                                 : tear(path, file, random);
    std::ofstream(target, std::ios::binary) << content;
  }
}

}  // namespace layerfs::test_support
