// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <map>

#include "layerdb/base/coding.h"
#include "layerdb/ops/fsck_state.h"
#include "layerdb/ops/tree_builder.h"
#include "layerdb/store/database.h"

namespace layerfs {
namespace {

// The bytes of an object, or a finding.
std::optional<std::string> load_object(FsckState& state, const std::string& owner,
                                       const std::string& path, ObjectId id) {
  auto bytes = state.store.database().get(Family::objects, be64(raw(id)));
  if (!bytes.ok()) {
    state.report(FindingKind::damaged_object, owner, path, bytes.error().message);
    return std::nullopt;
  }
  if (!*bytes) {
    state.report(FindingKind::missing_object, owner, path,
                 fmt::format("object {} is missing", raw(id)));
    return std::nullopt;
  }
  state.use_object(id);
  return std::move(**bytes);
}

bool check_extents(FsckState& state, const std::string& owner, const std::string& path,
                   const std::vector<Extent>& extents, uint64_t size_bytes) {
  bool clean = true;
  auto report = [&](FindingKind kind, std::string message) {
    state.report(kind, owner, path, std::move(message));
    clean = false;
  };
  for (const Extent& extent : extents) {
    state.use_group(extent.group);
    auto group = state.groups.find(extent.group);
    if (group == state.groups.end()) {
      report(FindingKind::missing_group, fmt::format("group {} is missing", extent.group));
    } else if (!group->second.problem.empty()) {
      report(FindingKind::damaged_group, group->second.problem);
    } else if (uint64_t{extent.group_offset} + extent.length > group->second.raw_bytes) {
      report(FindingKind::bad_extent,
             fmt::format("an extent reaches beyond the end of group {}", extent.group));
    }
    if (extent.file_offset > size_bytes || extent.length > size_bytes - extent.file_offset) {
      report(FindingKind::bad_extent, "an extent reaches beyond the end of the file");
    }
    if (!clean) return false;  // one finding a file is enough
  }
  return true;
}

class TreeCheck {
 public:
  TreeCheck(FsckState& state, const std::string& owner, bool merged)
      : state_(state), owner_(owner), merged_(merged) {}

  uint64_t run(ObjectId root, ObjectId links) {
    TreeRef tree;
    auto page = load_page("", root);
    if (page) {
      bool single = !page->is_index() && page->size() == 1;
      Result<Entry> entry = single ? page->entry(0) : Error{EUCLEAN, "not a root page"};
      if (!entry.ok() || entry->attributes.type != FileType::directory) {
        report(FindingKind::damaged_object, "",
               fmt::format("object {} is not a root page", raw(root)));
      } else {
        tree = entry->tree;
        check_directory("", tree, root, 0);
      }
    }
    uint64_t link_bytes = links == ObjectId::none ? 0 : check_links(links);
    for (const auto& [id, names] : names_) {
      if (!merged_ || table_.contains(id)) continue;  // a diff may name links of its parent
      for (const std::string& path : names) {
        report(FindingKind::bad_link, path,
               fmt::format("hard link {} is in no link table", link_name(id)));
      }
    }
    return tree.content_bytes + link_bytes;
  }

 private:
  bool report(FindingKind kind, const std::string& path, std::string message) {
    state_.report(kind, owner_, path.empty() ? "/" : path, std::move(message));
    return false;
  }

  std::shared_ptr<const TreePage> load_page(const std::string& path, ObjectId id) {
    auto bytes = load_object(state_, owner_, path.empty() ? "/" : path, id);
    if (!bytes) return nullptr;
    auto page = TreePage::parse(std::move(*bytes));
    if (page.ok()) return *page;
    report(FindingKind::damaged_object, path,
           fmt::format("object {}: {}", raw(id), page.error().message));
    return nullptr;
  }

  // A page and everything below it; false when something was reported. `parent` is the page that
  // names it.
  bool check_directory(const std::string& path, const TreeRef& tree, ObjectId parent,
                       size_t depth) {
    if (tree.page == ObjectId::none) return true;
    if (raw(tree.page) >= raw(parent) || depth > kMaxTreeDepth) {
      return report(
          FindingKind::damaged_object, path,
          fmt::format("object {} names the later object {}", raw(parent), raw(tree.page)));
    }
    // Names of hard links are counted for each owner anew.
    if (tree.linked_count == 0 && state_.clean.contains(tree.page)) return true;
    auto page = load_page(path, tree.page);
    if (!page) return false;
    bool clean = true;
    TreeRef counts = page->counts();
    counts.page = tree.page;
    if (counts != tree) {
      clean = report(FindingKind::wrong_count, path,
                     fmt::format("tree page {} does not hold what is said of it", raw(tree.page)));
    }
    if (merged_ && depth == 0 && counts.whiteout_count != 0) {
      clean = report(FindingKind::wrong_count, path, "a merged tree has marks of a layer left");
    }
    for (size_t i = 0; i < page->size(); ++i) {
      clean &= page->is_index() ? check_child(path, *page, i, tree.page, depth)
                                : check_entry(path, *page, i, tree.page, depth);
    }
    if (clean) state_.clean.insert(tree.page);
    return clean;
  }

  bool check_child(const std::string& path, const TreePage& page, size_t i, ObjectId parent,
                   size_t depth) {
    TreeRef child = page.tree(i);
    bool clean = check_directory(path, child, parent, depth);
    if (!clean) return false;
    auto below = state_.store.objects().tree_page(child.page);
    if (!below.ok() || (*below)->name(0) != page.name(i) || (*below)->level() + 1 != page.level()) {
      return report(
          FindingKind::damaged_object, path,
          fmt::format("index page {} is wrong about page {}", raw(parent), raw(child.page)));
    }
    return true;
  }

  bool check_entry(const std::string& directory, const TreePage& page, size_t i, ObjectId parent,
                   size_t depth) {
    std::string path = fmt::format("{}/{}", directory, page.name(i));
    if (uint64_t id = page.link_id(i)) {
      names_[id].push_back(path);
      return true;
    }
    auto entry = page.entry(i);
    if (!entry.ok()) return report(FindingKind::damaged_object, path, entry.error().message);
    if (entry->attributes.type == FileType::directory) {
      return check_directory(path, entry->tree, parent, depth + 1);
    }
    return check_content(state_, owner_, path, entry->content, entry->attributes.size_bytes);
  }

  // Returns what the linked files add up to.
  uint64_t check_links(ObjectId links) {
    const std::string where = "/(hard links)";
    auto page = load_page(where, links);
    if (!page) return 0;
    uint64_t bytes = page->counts().content_bytes;
    std::vector<std::pair<ObjectId, std::shared_ptr<const TreePage>>> pending{{links, page}};
    while (!pending.empty()) {
      auto [id, at] = pending.back();
      pending.pop_back();
      for (size_t i = 0; i < at->size(); ++i) {
        if (!at->is_index()) {
          check_link(where, *at, i);
        } else if (raw(at->child(i)) >= raw(id)) {
          report(FindingKind::damaged_object, where,
                 fmt::format("object {} names the later object {}", raw(id), raw(at->child(i))));
        } else if (auto child = load_page(where, at->child(i))) {
          pending.emplace_back(at->child(i), child);
        }
      }
    }
    return bytes;
  }

  void check_link(const std::string& where, const TreePage& page, size_t i) {
    auto id = parse_link_name(page.name(i));
    auto entry = page.entry(i);
    if (!id.ok() || !entry.ok() || entry->attributes.type == FileType::directory ||
        entry->link_id != 0) {
      report(FindingKind::damaged_object, where, "the link table has an entry that is none");
      return;
    }
    table_.insert(*id);
    const auto& names = names_[*id];
    if (merged_ && entry->attributes.nlink != names.size()) {
      report(FindingKind::wrong_count, names.empty() ? where : names.front(),
             fmt::format("hard link {} has {} names, not {}", link_name(*id), names.size(),
                         entry->attributes.nlink));
    }
    for (const std::string& path : names) {
      check_content(state_, owner_, path, entry->content, entry->attributes.size_bytes);
    }
  }

  FsckState& state_;
  const std::string& owner_;
  const bool merged_;
  std::map<uint64_t, std::vector<std::string>> names_;  // of each hard link
  std::set<uint64_t> table_;
};

}  // namespace

bool check_content(FsckState& state, const std::string& owner, const std::string& path,
                   const Content& content, uint64_t size_bytes) {
  if (content.map == ObjectId::none) {
    return check_extents(state, owner, path, content.extents, size_bytes);
  }
  std::vector<ObjectId> pending{content.map};
  while (!pending.empty()) {
    ObjectId id = pending.back();
    pending.pop_back();
    auto bytes = load_object(state, owner, path, id);
    if (!bytes) return false;
    auto page = decode_map_page(*bytes);
    if (!page.ok()) {
      state.report(FindingKind::damaged_object, owner, path,
                   fmt::format("object {}: {}", raw(id), page.error().message));
      return false;
    }
    if (!check_extents(state, owner, path, page->extents, size_bytes)) return false;
    for (const MapChild& child : page->children) {
      if (raw(child.page) < raw(id)) {
        pending.push_back(child.page);
        continue;
      }
      state.report(FindingKind::damaged_object, owner, path,
                   fmt::format("object {} names the later object {}", raw(id), raw(child.page)));
      return false;
    }
  }
  return true;
}

uint64_t check_tree(FsckState& state, const std::string& owner, ObjectId root, ObjectId links,
                    bool merged) {
  return TreeCheck(state, owner, merged).run(root, links);
}

}  // namespace layerfs
