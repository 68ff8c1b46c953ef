// SPDX-License-Identifier: Apache-2.0
#include "layerdb/ops/merge.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>

#include "layerdb/ops/tree_builder.h"
#include "layerdb/view/tree_reader.h"

namespace layerfs {
namespace {

using LinkChanges = std::map<uint64_t, int64_t>;  // link id -> names added less names removed

// Merges sorted changes into a directory. Leaf pages without a change are taken over unread.
// `changes` has valid(), name(), next(); combine(builder, lower or nullptr) adds what becomes of
// the current change.
template <typename Changes, typename Combine>
Result<TreeRef> rewrite_directory(ObjectStore& objects, const TreeRef& lower, Changes& changes,
                                  const Combine& combine) {
  DirectoryBuilder out(objects);
  auto leaves = TRY(leaf_pages(objects, lower));
  for (size_t k = 0; k < leaves.size(); ++k) {
    bool last = k + 1 == leaves.size();
    auto change_before = [&](std::string_view bound, bool unbounded) {
      return changes.valid() && (unbounded || changes.name() < bound);
    };
    std::string_view end = last ? std::string_view() : leaves[k + 1].first_name;
    if (out.at_page_start() && !change_before(end, last)) {
      TRY(out.add_page(leaves[k]));
      continue;
    }
    auto page = TRY(objects.tree_page(leaves[k].tree.page));
    for (size_t i = 0; i < page->size(); ++i) {
      for (; change_before(page->name(i), false); TRY(changes.next())) TRY(combine(out, nullptr));
      Entry entry = TRY(page->entry(i));
      if (changes.valid() && changes.name() == entry.name) {
        TRY(combine(out, &entry));
        TRY(changes.next());
      } else {
        TRY(out.add(entry));
      }
    }
    for (; change_before(end, last); TRY(changes.next())) TRY(combine(out, nullptr));
  }
  for (; changes.valid(); TRY(changes.next())) TRY(combine(out, nullptr));  // lower was empty
  return out.finish();
}

class TreeMerger {
 public:
  explicit TreeMerger(ObjectStore& objects) : objects_(objects) {}

  // `hidden`: nothing of the lower directory shows.
  Result<TreeRef> merge(const TreeRef& lower, const TreeRef& diff, bool hidden) {
    TRY(count_links(diff, +1));
    if (hidden) TRY(count_links(lower, -1));
    return merge_directory(hidden ? TreeRef{} : lower, diff, 0);
  }

  const LinkChanges& link_changes() const { return link_changes_; }

 private:
  Result<TreeRef> merge_directory(const TreeRef& lower, const TreeRef& diff, size_t depth) {
    if (depth > kMaxTreeDepth) {
      return Error{EINVAL, fmt::format("directories are nested deeper than {}", kMaxTreeDepth)};
    }
    if (diff.entry_count == 0) return lower;
    if (lower.entry_count == 0 && diff.whiteout_count == 0) return diff;
    auto changes = TRY(TreeIterator::all(objects_, diff));
    return rewrite_directory(objects_, lower, changes,
                             [&](DirectoryBuilder& out, const Entry* below) -> Status {
                               auto entry = TRY(combine(below, TRY(changes.entry()), depth));
                               return entry ? out.add(*entry) : Status();
                             });
  }

  // What a name becomes that the diff mentions; nullopt: nothing.
  Result<std::optional<Entry>> combine(const Entry* lower, Entry diff, size_t depth) {
    bool both_directories = lower != nullptr && !diff.opaque &&
                            diff.attributes.type == FileType::directory &&
                            lower->attributes.type == FileType::directory;
    if (lower != nullptr && !both_directories) TRY(count_removed(*lower));
    if (diff.attributes.type == FileType::whiteout) return std::optional<Entry>();

    TreeRef tree =
        TRY(merge_directory(both_directories ? lower->tree : TreeRef{}, diff.tree, depth + 1));
    Entry entry = both_directories && diff.implicit ? *lower : std::move(diff);
    entry.tree = tree;
    entry.opaque = false;
    entry.implicit = false;
    return std::optional<Entry>(std::move(entry));
  }

  Status count_removed(const Entry& entry) {
    if (entry.link_id != 0) --link_changes_[entry.link_id];
    return count_links(entry.tree, -1);
  }

  // Goes only where hard links are.
  Status count_links(const TreeRef& tree, int64_t step, size_t depth = 0) {
    if (tree.linked_count == 0) return {};
    if (depth > kMaxTreeDepth) {
      return Error{EINVAL, fmt::format("directories are nested deeper than {}", kMaxTreeDepth)};
    }
    for (auto it = TRY(TreeIterator::all(objects_, tree)); it.valid(); TRY(it.next())) {
      if (uint64_t link_id = it.page().link_id(it.index())) link_changes_[link_id] += step;
      TRY(count_links(it.page().tree(it.index()), step, depth + 1));
    }
    return {};
  }

  ObjectStore& objects_;
  LinkChanges link_changes_;
};

// The sorted changes of a link table as rewrite_directory reads them.
class LinkChangeCursor {
 public:
  explicit LinkChangeCursor(const LinkChanges& changes)
      : at_(changes.begin()), end_(changes.end()) {
    set_name();
  }
  bool valid() const { return at_ != end_; }
  const std::string& name() const { return name_; }
  uint64_t link_id() const { return at_->first; }
  int64_t change() const { return at_->second; }
  Status next() {
    ++at_;
    set_name();
    return {};
  }

 private:
  void set_name() {
    if (valid()) name_ = link_name(link_id());
  }
  LinkChanges::const_iterator at_;
  LinkChanges::const_iterator end_;
  std::string name_;
};

Result<TreeRef> table_ref(ObjectStore& objects, ObjectId links) {
  if (links == ObjectId::none) return TreeRef{};
  TreeRef table = TRY(objects.tree_page(links))->counts();
  table.page = links;
  return table;
}

Result<TreeRef> merge_links(ObjectStore& objects, ObjectId lower, ObjectId diff,
                            const LinkChanges& changes) {
  TreeRef table = TRY(table_ref(objects, lower));
  if (changes.empty()) return table;
  LinkChangeCursor cursor(changes);
  auto combine = [&](DirectoryBuilder& out, const Entry* below) -> Status {
    int64_t names = cursor.change() + (below != nullptr ? below->attributes.nlink : 0);
    if (names <= 0) return {};
    auto position = find_name(objects, diff, cursor.name());
    Entry inode;
    if (position.ok()) {
      inode = TRY(position->page->entry(position->index));
    } else if (position.error().code != ENOENT) {
      return position.error();
    } else if (below != nullptr) {
      inode = *below;
    } else {
      return Error{EUCLEAN, fmt::format("no link table has {}", cursor.name())};
    }
    inode.attributes.nlink = static_cast<uint32_t>(std::min<int64_t>(names, UINT32_MAX));
    return out.add(inode);
  };
  return rewrite_directory(objects, table, cursor, combine);
}

}  // namespace

Result<ChainRecord> merge_layer(ObjectStore& objects, const std::optional<ChainRecord>& parent,
                                const LayerRecord& layer) {
  Entry diff = TRY(read_root_page(objects, layer.root));
  Entry root = diff;
  TreeRef lower;
  if (parent) {
    Entry below = TRY(read_root_page(objects, parent->root));
    if (diff.implicit) root = below;
    lower = below.tree;
  }
  root.opaque = root.implicit = false;
  TreeMerger merger(objects);
  root.tree = TRY(merger.merge(lower, diff.tree, diff.opaque));
  TreeRef links = TRY(merge_links(objects, parent ? parent->links : ObjectId::none, layer.links,
                                  merger.link_changes()));

  ChainRecord chain;
  if (parent) chain.parent = parent->chain_id;
  chain.chain_id = chain_id_of(chain.parent, layer.diff_id);
  chain.diff_id = layer.diff_id;
  chain.root = TRY(put_root_page(objects, root));
  chain.links = links.page;
  chain.content_bytes = root.tree.content_bytes + links.content_bytes;
  return chain;
}

}  // namespace layerfs
