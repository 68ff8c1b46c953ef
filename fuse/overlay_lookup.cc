// SPDX-License-Identifier: Apache-2.0
//
// Names to inodes, and directory listings.
#include "fuse/overlay_impl.h"
#include "layerdb/object/tree.h"

namespace layerfs {
namespace {

// Cookies: a lower name's rank + 1, or this bit and the position of an upper name.
constexpr uint64_t kUpperCookie = uint64_t{1} << 62;

}  // namespace

bool is_dot(std::string_view name) { return name == "." || name == ".."; }

Status check_name(std::string_view name) {
  if (name.size() > kMaxNameBytes) return Error{ENAMETOOLONG, "name too long"};
  if (name.empty()) return Error{ENOENT, "empty name"};
  if (is_dot(name)) return Error{EEXIST, "exists"};
  return {};
}

Result<OverlayImpl::Found> OverlayImpl::find(Ino directory, std::string_view name) {
  Found out;
  if (nodes_.orphan(directory)) return out;
  if (upper_ != nullptr && upper_->may_have_names(directory)) {
    auto upper_name = TRY(upper_->name(directory, name));
    if (upper_name) {
      out.ino = upper_name->ino;
      out.type = upper_name->whiteout() ? FileType::none : upper_name->type;
      out.over_lower = upper_name->over_lower;
      return out;
    }
  }
  if (!in_lower(directory)) return out;
  auto node = lower_.lookup(directory, name);
  if (!node.ok()) {
    if (node.error().code == ENOENT) return out;
    return std::move(node).error();
  }
  out.ino = node->ino;
  out.type = node->attributes.type;
  out.over_lower = true;
  out.lower_node = std::move(*node);
  return out;
}

Result<Stat> OverlayImpl::lookup(Ino directory, std::string_view name) {
  if (name.size() > kMaxNameBytes) return Error{ENAMETOOLONG, "name too long"};
  std::shared_lock names(namespace_);
  Found found;
  if (is_dot(name)) {
    found.ino = name == "." ? directory : TRY(parent_locked(directory));
  } else {
    found = TRY(find(directory, name));
  }
  if (found.ino == 0) return Error{ENOENT, "no such name"};
  Stat out = TRY(stat_found(found.ino, found.lower_node ? &*found.lower_node : nullptr));
  // By file handle: a deleted inode may wait for its last FORGET still.
  if (name == "." && out.attributes.nlink == 0) return Error{ENOENT, "deleted"};
  nodes_.remember(found.ino);
  return out;
}

void OverlayImpl::refer(Ino ino) { nodes_.remember(ino); }

Result<Ino> OverlayImpl::parent_locked(Ino directory) {
  if (directory == kRootIno) return kRootIno;
  auto record = TRY(find_record(directory));
  if (record) {
    if (record->attributes.type != FileType::directory) return Error{ENOTDIR, "not a directory"};
    return record->parent;
  }
  if (!in_lower(directory)) return Error{ENOENT, "no such inode"};
  return TRY(lower_.locate(directory)).parent;
}

Result<Ino> OverlayImpl::parent(Ino directory) {
  std::shared_lock names(namespace_);
  return parent_locked(directory);
}

Status OverlayImpl::visit_names(
    Ino directory, uint64_t cookie,
    const std::function<bool(const DirectoryEntry&, const LowerNode*)>& visit) {
  if (nodes_.orphan(directory)) return {};
  bool upper_names = upper_ != nullptr && upper_->may_have_names(directory);
  bool stopped = false;
  Status failed;
  if (in_lower(directory) && cookie < kUpperCookie) {
    uint64_t rank = cookie;
    auto visit_lower = [&](std::string_view name, const LowerNode& node) {
      DirectoryEntry entry{name, node.ino, node.attributes.type, ++rank};
      const LowerNode* lower_node = &node;
      if (upper_names) {
        auto over = upper_->name(directory, name);
        if (!over.ok()) {
          failed = std::move(over).error();
          return false;
        }
        if (over->has_value()) {
          if ((*over)->whiteout()) return true;
          entry.ino = (*over)->ino;
          entry.type = (*over)->type;
          lower_node = nullptr;
        }
      }
      stopped = !visit(entry, lower_node);
      return !stopped;
    };
    TRY(lower_.list_from(directory, rank, visit_lower));
    TRY(std::move(failed));
  }
  if (stopped || !upper_names) return {};
  uint64_t after = cookie & kUpperCookie ? cookie & ~kUpperCookie : 0;
  return upper_->list_by_position(
      directory, after, [&](std::string_view name, const UpperName& target) {
        if (target.over_lower || target.whiteout()) return true;  // has its place among the lower's
        return visit({name, target.ino, target.type, kUpperCookie | name_position(name)}, nullptr);
      });
}

Result<bool> OverlayImpl::is_empty(Ino directory) {
  bool empty = true;
  TRY(visit_names(directory, 0,
                  [&](const DirectoryEntry&, const LowerNode*) { return empty = false; }));
  return empty;
}

Status OverlayImpl::list(Ino directory, uint64_t cookie, const DirectoryVisitor& visit) {
  std::shared_lock names(namespace_);
  return visit_names(directory, cookie,
                     [&](const DirectoryEntry& entry, const LowerNode*) { return visit(entry); });
}

Status OverlayImpl::list_plus(Ino directory, uint64_t cookie, const DirectoryVisitorPlus& visit) {
  std::shared_lock names(namespace_);
  Status failed;
  TRY(visit_names(directory, cookie, [&](const DirectoryEntry& entry, const LowerNode* lower_node) {
    auto found = stat_found(entry.ino, lower_node);
    if (!found.ok()) {
      failed = std::move(found).error();
      return false;
    }
    bool taken = visit(entry, *found);
    if (taken) nodes_.remember(entry.ino);
    return taken;
  }));
  return failed;
}

}  // namespace layerfs
