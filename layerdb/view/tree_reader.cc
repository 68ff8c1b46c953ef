// SPDX-License-Identifier: Apache-2.0
#include "layerdb/view/tree_reader.h"

#include <fmt/format.h>

namespace layerfs {
namespace {

Error no_entry() { return {ENOENT, "no such entry"}; }

// Child `i` of an index page, which must be older than the page itself.
Result<std::shared_ptr<const TreePage>> child_page(ObjectStore& objects, ObjectId parent,
                                                   const TreePage& page, size_t i) {
  ObjectId child = page.child(i);
  if (raw(child) >= raw(parent)) {
    return Error{EUCLEAN,
                 fmt::format("tree page {} names the later page {}", raw(parent), raw(child))};
  }
  auto loaded = TRY(objects.tree_page(child));
  if (loaded->level() + 1 != page.level() || loaded->inode_count() != page.tree(i).inode_count ||
      loaded->entry_count() != page.tree(i).entry_count) {
    return Error{EUCLEAN, fmt::format("tree page {} is not the one that {} describes", raw(child),
                                      raw(parent))};
  }
  return loaded;
}

// Goes down to the leaf that `choose(page)` leads to, summing the numbers before it.
template <typename Choose>
Result<TreePosition> find_leaf(ObjectStore& objects, ObjectId id, Choose choose) {
  if (id == ObjectId::none) return no_entry();
  TreePosition position;
  position.page = TRY(objects.tree_page(id));
  while (position.page->is_index()) {
    const TreePage& page = *position.page;
    size_t i = choose(page);
    if (i >= page.size()) return no_entry();
    position.delta += page.delta(i);
    auto child = TRY(child_page(objects, id, page, i));
    id = page.child(i);
    position.page = std::move(child);
  }
  return position;
}

// The position on this page that holds the `rank`-th entry under it, which becomes relative to that
// position; size() past the end.
size_t take_rank(const TreePage& page, uint64_t& rank) {
  if (rank >= page.entry_count()) return page.size();
  if (!page.is_index()) return rank;
  size_t low = 0;
  size_t high = page.size();
  while (high - low > 1) {
    size_t middle = (low + high) / 2;
    (page.entries_before(middle) <= rank ? low : high) = middle;
  }
  rank -= page.entries_before(low);
  return low;
}

Status check_counts(ObjectStore& objects, const TreeRef& dir) {
  if (dir.page == ObjectId::none) return {};
  auto page = TRY(objects.tree_page(dir.page));
  if (page->inode_count() == dir.inode_count && page->entry_count() == dir.entry_count) return {};
  return Error{EUCLEAN, fmt::format("tree page {} does not have the counts that its directory "
                                    "gives it",
                                    raw(dir.page))};
}

}  // namespace

Result<TreePosition> find_name(ObjectStore& objects, ObjectId dir, std::string_view name) {
  auto position =
      TRY(find_leaf(objects, dir, [&](const TreePage& page) { return page.lower_bound(name); }));
  position.index = position.page->lower_bound(name);
  if (position.index == position.page->size() || position.page->name(position.index) != name) {
    return no_entry();
  }
  position.delta += position.page->delta(position.index);
  return position;
}

Result<TreePosition> find_delta(ObjectStore& objects, ObjectId dir, uint64_t delta) {
  uint64_t wanted = delta;  // relative to the page at hand
  auto position = TRY(find_leaf(objects, dir, [&](const TreePage& page) {
    if (wanted == 0 || wanted > page.inode_count()) return page.size();
    size_t i = page.find_delta(wanted);
    wanted -= page.delta(i);
    return i;
  }));
  if (wanted == 0 || wanted > position.page->inode_count()) return no_entry();
  position.index = position.page->find_delta(wanted);
  position.delta += position.page->delta(position.index);
  return position;
}

Result<TreePosition> find_rank(ObjectStore& objects, ObjectId tree, uint64_t rank) {
  auto position =
      TRY(find_leaf(objects, tree, [&](const TreePage& page) { return take_rank(page, rank); }));
  if (rank >= position.page->size()) return no_entry();
  position.index = rank;
  position.delta += position.page->delta(position.index);
  return position;
}

Result<uint64_t> rank_of(ObjectStore& objects, ObjectId tree, std::string_view name) {
  uint64_t before = 0;
  auto position = TRY(find_leaf(objects, tree, [&](const TreePage& page) {
    size_t i = page.lower_bound(name);
    before += page.entries_before(i);
    return i;
  }));
  size_t index = position.page->lower_bound(name);
  if (index == position.page->size() || position.page->name(index) != name) return no_entry();
  return before + index;
}

Result<std::vector<IndexChild>> leaf_pages(ObjectStore& objects, const TreeRef& dir) {
  TRY(check_counts(objects, dir));
  std::vector<IndexChild> leaves;
  if (dir.page == ObjectId::none) return leaves;
  struct Level {
    ObjectId id;
    std::shared_ptr<const TreePage> page;
    size_t index;
  };
  auto root = TRY(objects.tree_page(dir.page));
  if (!root->is_index()) return std::vector<IndexChild>{{std::string(root->name(0)), dir}};
  std::vector<Level> levels{{dir.page, root, 0}};
  while (!levels.empty()) {
    Level& top = levels.back();
    if (top.index == top.page->size()) {
      levels.pop_back();
      continue;
    }
    size_t i = top.index++;
    if (top.page->level() == 1) {  // named, not read
      leaves.push_back({std::string(top.page->name(i)), top.page->tree(i)});
    } else {
      auto child = TRY(child_page(objects, top.id, *top.page, i));
      levels.push_back({top.page->child(i), std::move(child), 0});
    }
  }
  return leaves;
}

Result<TreeIterator> TreeIterator::from(ObjectStore& objects, ObjectId dir, std::string_view name) {
  TreeIterator it(objects);
  if (dir == ObjectId::none) return it;
  TRY(it.descend(dir, 0, [&](const TreePage& page) { return page.lower_bound(name); }));
  if (it.index() == it.page().size()) {  // every name of this leaf is smaller
    --it.levels_.back().index;
    TRY(it.next());
  }
  return it;
}

Result<TreeIterator> TreeIterator::all(ObjectStore& objects, const TreeRef& dir) {
  TRY(check_counts(objects, dir));
  return after(objects, dir.page);
}

Result<TreeIterator> TreeIterator::from_rank(ObjectStore& objects, ObjectId dir, uint64_t rank) {
  TreeIterator it(objects);
  if (dir == ObjectId::none || rank >= TRY(objects.tree_page(dir))->entry_count()) return it;
  TRY(it.descend(dir, 0, [&](const TreePage& page) { return take_rank(page, rank); }));
  return it;
}

Result<TreeIterator> TreeIterator::after(ObjectStore& objects, ObjectId dir,
                                         std::string_view after) {
  auto it = TRY(from(objects, dir, after));
  if (it.valid() && it.name() == after) TRY(it.next());
  return it;
}

template <typename Choose>
Status TreeIterator::descend(ObjectId id, uint64_t base, Choose choose) {
  auto page = levels_.empty() ? TRY(objects_->tree_page(id))
                              : TRY(child_page(*objects_, levels_.back().id, *levels_.back().page,
                                               levels_.back().index));
  for (;;) {
    size_t i = choose(*page);
    levels_.push_back({page, id, i, base});
    if (!page->is_index()) return {};
    base += page->delta(i);
    auto child = TRY(child_page(*objects_, id, *page, i));
    id = page->child(i);
    page = std::move(child);
  }
}

bool TreeIterator::valid() const { return !levels_.empty(); }

Status TreeIterator::next() {
  while (!levels_.empty() && ++levels_.back().index == levels_.back().page->size()) {
    levels_.pop_back();
  }
  if (levels_.empty() || !levels_.back().page->is_index()) return {};
  const Level& top = levels_.back();
  return descend(top.page->child(top.index), top.base + top.page->delta(top.index),
                 [](const TreePage&) { return size_t{0}; });
}

const TreePage& TreeIterator::page() const { return *levels_.back().page; }
size_t TreeIterator::index() const { return levels_.back().index; }
uint64_t TreeIterator::delta() const {
  return levels_.back().base + levels_.back().page->delta(levels_.back().index);
}

}  // namespace layerfs
