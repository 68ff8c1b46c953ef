// SPDX-License-Identifier: Apache-2.0
#include "layerdb/ops/upper_check.h"

#include <fmt/format.h>

#include <map>

#include "layerdb/object/tree.h"

namespace layerfs {
namespace {

// One container's upper against its lower. The first failure to read ends it.
class UpperCheck {
 public:
  UpperCheck(Lower& lower, Upper& upper, const UpperProblem& report)
      : lower_(lower), upper_(upper), report_(report) {}

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
  void report(const std::string& message) { report_(message); }

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

  Lower& lower_;
  Upper& upper_;
  const UpperProblem& report_;
  std::map<Ino, FileType> types_;   // of inodes with a record
  std::map<Ino, uint32_t> nlinks_;  // of those that are no directories
  std::map<Ino, uint32_t> names_;
};

}  // namespace

Status check_upper(Lower& lower, Upper& upper, const UpperProblem& report) {
  return UpperCheck(lower, upper, report).run();
}

}  // namespace layerfs
