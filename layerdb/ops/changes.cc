// SPDX-License-Identifier: Apache-2.0
//
// Two steps. Mark: from the upper's records alone, find every place where something changed: the
// names the upper has, and the lower names of changed inodes; and every directory above one of them
// (the marked directories). Walk: descend from the root into marked directories only; a whole lower
// directory under a new name is listed through the lower.
#include "layerdb/ops/changes.h"

#include <map>
#include <set>
#include <unordered_map>
#include <unordered_set>
#include <vector>

namespace layerfs {

namespace {

bool is_directory(FileType type) { return type == FileType::directory; }

std::string child_path(const std::string& directory, const std::string& name) {
  return directory.empty() ? name : directory + "/" + name;
}

// Whether a lower inode's record says anything that an image can hold and the lower does not.
Result<bool> differs(Lower& lower, Upper& upper, Ino ino) {
  std::optional<InodeRecord> record = TRY(upper.inode(ino));
  if (!record.has_value()) return false;
  Attributes now = record->attributes;
  Attributes was = TRY(lower.get(ino)).attributes;
  if (is_directory(now.type)) now.size_bytes = was.size_bytes;
  now.nlink = was.nlink;  // follows from the names
  if (now != was) return true;
  if (record->body == Body::file || record->body == Body::small) return true;
  return record->own_xattrs && TRY(upper.xattrs(ino)) != TRY(lower.xattrs(ino));
}

// Whether hard links are below a lower directory, also such as have one name left: their ids mean
// something in this parent's link table only.
Result<bool> has_links(Lower& lower, Ino directory) {
  return TRY(lower.entry(directory)).tree.linked_count != 0;
}

// The places where something changed.
class Marks {
 public:
  Marks(Lower& lower, Upper& upper) : lower_(lower), upper_(upper) {}

  Status collect();

  // A directory in which, or somewhere below which, something may have changed.
  bool marked(Ino directory) const { return marked_.contains(directory); }
  // Lower names of `directory` that are still in place and need a look.
  const std::set<std::string>& places(Ino directory) const {
    static const std::set<std::string> kNone;
    auto it = places_.find(directory);
    return it == places_.end() ? kNone : it->second;
  }
  // Has a new name, or comes along with one of its names: all others must come, too.
  bool linked(Ino ino) const { return linked_.contains(ino); }

 private:
  Status mark_names_of(Ino ino);
  Status mark_place(const Lower::Location& place);
  Status mark_directory(Ino directory);
  Status mark_links_below(Ino directory);

  Lower& lower_;
  Upper& upper_;
  std::unordered_set<Ino> marked_;
  std::unordered_map<Ino, std::set<std::string>> places_;
  std::unordered_set<Ino> linked_;
};

Status Marks::collect() {
  std::vector<Ino> changed;
  TRY(upper_.for_each_inode([&](Ino ino, const InodeRecord&) {
    if (ino < lower_.inode_limit()) changed.push_back(ino);
    return ino < lower_.inode_limit();  // by number: the upper's own inodes come last
  }));
  std::vector<Ino> directories;
  std::vector<UpperName> renamed;  // lower inodes that have a name in the upper
  TRY(upper_.for_each_name([&](Ino directory, std::string_view, const UpperName& target) {
    if (directories.empty() || directories.back() != directory) directories.push_back(directory);
    if (!target.whiteout() && target.ino < lower_.inode_limit()) renamed.push_back(target);
    return true;
  }));
  for (Ino ino : changed)
    if (ino != kRootIno) TRY(mark_names_of(ino));
  for (const UpperName& name : renamed) {
    if (is_directory(name.type)) {
      TRY(mark_links_below(name.ino));
    } else if (linked_.insert(name.ino).second) {
      TRY(mark_names_of(name.ino));
    }
  }
  for (Ino directory : directories) TRY(mark_directory(directory));
  return {};
}

Status Marks::mark_names_of(Ino ino) {
  Result<Lower::Location> place = lower_.locate(ino);
  if (place.ok()) return mark_place(*place);
  if (place.error().code != EMLINK) return std::move(place).error();
  std::vector<Lower::Location> names = TRY(lower_.names_of(ino));
  for (const Lower::Location& name : names) TRY(mark_place(name));
  // A change of one name's inode is a change of them all.
  if (TRY(differs(lower_, upper_, ino))) linked_.insert(ino);
  return {};
}

Status Marks::mark_place(const Lower::Location& place) {
  if (TRY(upper_.name(place.parent, place.name)).has_value()) return {};  // the walk meets that
  places_[place.parent].insert(place.name);
  return mark_directory(place.parent);
}

Status Marks::mark_directory(Ino directory) {
  while (marked_.insert(directory).second && directory != kRootIno &&
         directory < lower_.inode_limit()) {
    Lower::Location place = TRY(lower_.locate(directory));
    // Moved or removed: the directory that names it now, if any, has a record and is marked.
    if (TRY(upper_.name(place.parent, place.name)).has_value()) return {};
    places_[place.parent].insert(place.name);
    directory = place.parent;
  }
  return {};
}

// A lower directory that moved takes names of hard-linked inodes along; their other names must not
// be left behind in the layers below.
Status Marks::mark_links_below(Ino directory) {
  if (!TRY(has_links(lower_, directory))) return {};
  std::vector<Ino> linked;
  std::vector<Ino> below;
  TRY(lower_.list(directory, "", [&](std::string_view, const LowerNode& node) {
    if (is_directory(node.attributes.type))
      below.push_back(node.ino);
    else if (node.attributes.nlink > 1)
      linked.push_back(node.ino);
    return true;
  }));
  for (Ino ino : linked)
    if (linked_.insert(ino).second) TRY(mark_names_of(ino));
  for (Ino child : below) TRY(mark_links_below(child));
  return {};
}

class Walk {
 public:
  Walk(Lower& lower, Upper& upper, const Marks& marks,
       const std::function<Status(const Change&)>& visit)
      : lower_(lower), upper_(upper), marks_(marks), visit_(visit) {}

  Status run() {
    Change root{.path = "", .ino = kRootIno, .type = FileType::directory};
    root.self_changed = TRY(differs(lower_, upper_, kRootIno));
    return directory_in_place(root);
  }

 private:
  Status emit(const Change& change);
  Status directory_in_place(const Change& directory);
  Status name_in_place(Ino directory, const std::string& path, const std::string& name,
                       const std::optional<UpperName>& record);
  Status added(const Change& change);

  Lower& lower_;
  Upper& upper_;
  const Marks& marks_;
  const std::function<Status(const Change&)>& visit_;
  std::vector<Change> pending_;  // directories that were entered; visited once something is found
};

Status Walk::emit(const Change& change) {
  std::vector<Change> parents;
  parents.swap(pending_);
  for (const Change& parent : parents) TRY(visit_(parent));
  return visit_(change);
}

Status Walk::directory_in_place(const Change& directory) {
  if (directory.self_changed)
    TRY(emit(directory));
  else
    pending_.push_back(directory);
  if (marks_.marked(directory.ino)) {
    std::map<std::string, std::optional<UpperName>> names;
    for (const std::string& name : marks_.places(directory.ino)) names[name];
    TRY(upper_.list_names(directory.ino, "", [&](std::string_view name, const UpperName& record) {
      names[std::string(name)] = record;
      return true;
    }));
    for (const auto& [name, record] : names)
      TRY(name_in_place(directory.ino, directory.path, name, record));
  }
  if (!pending_.empty() && pending_.back().ino == directory.ino) pending_.pop_back();
  return {};
}

Status Walk::name_in_place(Ino directory, const std::string& path, const std::string& name,
                           const std::optional<UpperName>& record) {
  LowerNode below;  // what the lower has under this name
  if (directory < lower_.inode_limit()) {
    Result<LowerNode> found = lower_.lookup(directory, name);
    if (!found.ok() && found.error().code != ENOENT) return std::move(found).error();
    if (found.ok()) below = *found;
  }
  Change change{.path = child_path(path, name)};
  if (record.has_value() && record->whiteout()) {
    if (below.ino == 0) return {};
    change.kind = ChangeKind::deleted;
    change.type = below.attributes.type;
    change.self_changed = true;
    return emit(change);
  }
  change.ino = record.has_value() ? record->ino : below.ino;
  change.type = record.has_value() ? record->type : below.attributes.type;
  if (change.ino != below.ino) {
    change.replaced = below.attributes.type;
    return added(change);
  }
  change.self_changed = TRY(differs(lower_, upper_, change.ino));
  if (is_directory(change.type)) return directory_in_place(change);
  if (change.self_changed || marks_.linked(change.ino)) return emit(change);
  return {};
}

Status Walk::added(const Change& found) {
  Change change = found;
  change.kind = ChangeKind::added;
  change.self_changed = true;
  bool in_lower = change.ino < lower_.inode_limit();
  change.lower_tree = is_directory(change.type) && in_lower && !change.inside_lower_tree &&
                      !marks_.marked(change.ino) && !TRY(has_links(lower_, change.ino));
  TRY(emit(change));
  if (!is_directory(change.type)) return {};

  std::map<std::string, Change> children;
  bool inside = change.inside_lower_tree || change.lower_tree;
  auto child = [&](std::string_view name, Ino ino, FileType type) {
    children[std::string(name)] = {.path = child_path(change.path, std::string(name)),
                                   .ino = ino,
                                   .type = type,
                                   .inside_lower_tree = inside};
    return true;
  };
  if (in_lower)
    TRY(lower_.list(change.ino, "", [&](std::string_view name, const LowerNode& node) {
      return child(name, node.ino, node.attributes.type);
    }));
  TRY(upper_.list_names(change.ino, "", [&](std::string_view name, const UpperName& record) {
    if (!record.whiteout()) return child(name, record.ino, record.type);
    children.erase(std::string(name));
    return true;
  }));
  for (const auto& [name, next] : children) TRY(added(next));
  return {};
}

}  // namespace

Status walk_changes(Lower& lower, Upper& upper, const std::function<Status(const Change&)>& visit) {
  Marks marks(lower, upper);
  TRY(marks.collect());
  return Walk(lower, upper, marks, visit).run();
}

Result<Entry> current_entry(Lower& lower, Upper& upper, Ino ino) {
  Entry entry;
  std::optional<InodeRecord> record = TRY(upper.inode(ino));
  if (!record.has_value()) {
    entry.attributes = TRY(lower.get(ino)).attributes;
    if (entry.attributes.type == FileType::symlink) entry.symlink_target = TRY(lower.readlink(ino));
    entry.xattrs = TRY(lower.xattrs(ino));
    return entry;
  }
  entry.attributes = record->attributes;
  bool in_lower = ino < lower.inode_limit();
  if (entry.attributes.type == FileType::symlink)
    entry.symlink_target = in_lower && record->symlink_target.empty() ? TRY(lower.readlink(ino))
                                                                      : record->symlink_target;
  if (record->own_xattrs || !in_lower)
    entry.xattrs = TRY(upper.xattrs(ino));
  else
    entry.xattrs = TRY(lower.xattrs(ino));
  return entry;
}

}  // namespace layerfs
