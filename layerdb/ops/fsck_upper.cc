// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <map>

#include "layerdb/ops/container.h"
#include "layerdb/ops/fsck_state.h"
#include "layerdb/upper/upper.h"
#include "layerdb/view/store_lower.h"

namespace layerfs {
namespace {

// One container's upper against its lower. The first failure to read ends it.
class UpperCheck {
 public:
  UpperCheck(FsckState& state, std::string owner, Lower& lower, Upper& upper)
      : state_(state), owner_(std::move(owner)), lower_(lower), upper_(upper) {}

  Status run() {
    std::vector<Ino> orphans = TRY(upper_.orphans());
    TRY(upper_.for_each_inode([&](Ino ino, const InodeRecord& record) {
      types_[ino] = record.attributes.type;
      if (record.attributes.type != FileType::directory) nlinks_[ino] = record.attributes.nlink;
      return true;
    }));
    Status inner;
    TRY(upper_.for_each_inode([&](Ino ino, const InodeRecord& record) {
      inner = check_inode(ino, record);
      return inner.ok();
    }));
    TRY(std::move(inner));
    Status names;
    TRY(upper_.for_each_name([&](Ino directory, std::string_view name, const UpperName& target) {
      names = check_name(directory, name, target);
      return names.ok();
    }));
    TRY(std::move(names));
    for (Ino ino : orphans) nlinks_.erase(ino);
    for (const auto& [ino, nlink] : nlinks_) {
      // A lower inode may keep names in the lower; only new ones have all theirs here.
      if (ino < lower_.inode_limit() || nlink == names_[ino]) continue;
      report(fmt::format("inode {} has {} names, not {}", ino, names_[ino], nlink));
    }
    return {};
  }

 private:
  void report(std::string message) {
    state_.report(FindingKind::damaged_container, owner_, "", std::move(message));
  }

  // none: there is no such inode.
  Result<FileType> type_of(Ino ino) {
    if (auto known = types_.find(ino); known != types_.end()) return known->second;
    if (ino >= lower_.inode_limit()) return FileType::none;
    auto node = lower_.get(ino);
    if (node.ok()) return node->attributes.type;
    if (node.error().code == ENOENT) return FileType::none;
    return node.error();
  }

  Status check_inode(Ino ino, const InodeRecord& record) {
    FileType type = record.attributes.type;
    bool of_lower = ino < lower_.inode_limit();
    if (type == FileType::none || type > FileType::socket) {
      report(fmt::format("inode {} has no valid type", ino));
    } else if (type == FileType::directory && ino != kRootIno &&
               TRY(type_of(record.parent)) != FileType::directory) {
      report(fmt::format("the parent of directory {} is no directory", ino));
    }
    if (record.body == Body::lower && !of_lower) {
      report(fmt::format("inode {} says that its content is in the image, where it is not", ino));
    }
    if (record.body != Body::file) return {};
    uint64_t end = 0;
    auto ranges = TRY(upper_.ranges(ino, 0, UINT64_MAX));
    for (const Range& range : ranges) {
      if (range.length == 0 || range.offset < end || range.length > record.lower_size_bytes ||
          range.offset > record.lower_size_bytes - range.length) {
        report(fmt::format("inode {} has a wrong range at {}", ino, range.offset));
        break;
      }
      end = range.offset + range.length;
    }
    return {};
  }

  Status check_name(Ino directory, std::string_view name, const UpperName& target) {
    if (!valid_name(name)) report(fmt::format("directory {} has an invalid name", directory));
    if (TRY(type_of(directory)) != FileType::directory) {
      report(fmt::format("'{}' is in {}, which is no directory", name, directory));
    }
    if (target.whiteout()) return {};
    FileType type = TRY(type_of(target.ino));
    if (type == FileType::none) {
      report(fmt::format("'{}' in directory {} names inode {}, which does not exist", name,
                         directory, target.ino));
    } else if (type != target.type) {
      report(fmt::format("'{}' in directory {} has another type than inode {}", name, directory,
                         target.ino));
    }
    ++names_[target.ino];
    return {};
  }

  FsckState& state_;
  std::string owner_;
  Lower& lower_;
  Upper& upper_;
  std::map<Ino, FileType> types_;   // of inodes with a record
  std::map<Ino, uint32_t> nlinks_;  // of those that are no directories
  std::map<Ino, uint32_t> names_;
};

Status check_upper(FsckState& state, const std::string& owner, const Container& container,
                   const ChainRecord& chain) {
  auto lower = open_store_lower(state.store, chain);
  if (!lower.ok()) return {};                                   // reported with the image
  if (!path_exists(container.directory + "/upper")) return {};  // never mounted
  auto upper = TRY(Upper::open(container.directory, (*lower)->inode_limit(), {.read_only = true}));
  return UpperCheck(state, owner, **lower, *upper).run();
}

Status check_container(FsckState& state, const std::string& owner, const Container& container) {
  if (!state.store.catalog().image(container.image).ok()) {
    state.report(FindingKind::missing_record, owner, "",
                 fmt::format("its image {} is missing", container.image.to_string()));
  }
  auto chain = state.store.catalog().chain(container.chain_id);
  if (!chain.ok()) {
    state.report(FindingKind::missing_record, owner, "", chain.error().message);
    return {};
  }
  if (TRY(mounted(container))) {
    state.result.skipped_containers.push_back(container.name);
    return {};
  }
  ++state.result.containers;
  return check_upper(state, owner, container, *chain);
}

}  // namespace

Status check_containers(FsckState& state) {
  auto containers = list_containers(state.store.root());
  if (!containers.ok()) {
    state.report(FindingKind::damaged_container, "store", "", containers.error().message);
    return {};
  }
  for (const Container& container : *containers) {
    std::string owner = "container " + container.name;
    Status checked = check_container(state, owner, container);
    if (checked.ok()) continue;
    auto running = mounted(container);
    if (running.ok() && *running) {  // mounted just now
      state.result.skipped_containers.push_back(container.name);
    } else {
      state.report(FindingKind::damaged_container, owner, "", checked.error().message);
    }
  }
  return {};
}

}  // namespace layerfs
