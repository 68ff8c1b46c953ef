// SPDX-License-Identifier: Apache-2.0
#include "layerdb/ops/tree_builder.h"

#include <fmt/format.h>

namespace layerfs {
namespace {

constexpr std::string_view kRootName = "root";

}  // namespace

struct DirectoryBuilder::State {
  explicit State(ObjectStore& store) : objects(store) {}

  Status check_name(std::string_view name) {
    if (!valid_name(name)) return Error{EINVAL, fmt::format("invalid name '{}'", name)};
    if (has_last && name <= last_name) {
      return Error{EINVAL, fmt::format("'{}' comes after '{}'", name, last_name)};
    }
    return {};
  }

  void set_last_name(std::string_view name) {
    last_name = name;
    has_last = true;
  }

  Status finish_leaf() {
    IndexChild child{leaf.first_name(), leaf.counts()};
    child.tree.page = TRY(objects.put(leaf.finish()));
    pages.push_back(std::move(child));
    return {};
  }

  // Index pages over `pages`, cut like leaves, until a single page is left.
  Status build_index() {
    for (size_t level = 1; pages.size() > 1; ++level) {
      std::vector<IndexChild> above;
      std::vector<IndexChild> group;
      size_t group_bytes = 0;
      for (size_t i = 0; i < pages.size(); ++i) {
        group_bytes += sizeof(IndexChild) + pages[i].first_name.size();
        group.push_back(std::move(pages[i]));
        if (i + 1 < pages.size() &&
            !ends_page(group.back().first_name, group.size(), group_bytes)) {
          continue;
        }
        IndexChild parent{group.front().first_name, {}};
        for (const IndexChild& child : group) count_page(parent.tree, child.tree);
        parent.tree.page = TRY(objects.put(encode_index_page(group, level)));
        above.push_back(std::move(parent));
        group.clear();
        group_bytes = 0;
      }
      pages = std::move(above);
    }
    return {};
  }

  ObjectStore& objects;
  LeafPageBuilder leaf;
  std::vector<IndexChild> pages;
  std::string last_name;
  bool has_last = false;
};

DirectoryBuilder::DirectoryBuilder(ObjectStore& objects)
    : state_(std::make_unique<State>(objects)) {}
DirectoryBuilder::~DirectoryBuilder() = default;
DirectoryBuilder::DirectoryBuilder(DirectoryBuilder&&) noexcept = default;
DirectoryBuilder& DirectoryBuilder::operator=(DirectoryBuilder&&) noexcept = default;

Status DirectoryBuilder::add(const Entry& entry) {
  TRY(state_->check_name(entry.name));
  if (entry.attributes.type == FileType::none) {
    return Error{EINVAL, fmt::format("'{}' has no type", entry.name)};
  }
  state_->set_last_name(entry.name);
  state_->leaf.add(entry);
  return state_->leaf.full() ? state_->finish_leaf() : Status();
}

Status DirectoryBuilder::add_page(const IndexChild& child) {
  TRY(state_->check_name(child.first_name));
  if (!at_page_start()) return Error{EINVAL, "a page can be taken over between pages only"};
  state_->set_last_name(child.first_name);
  state_->pages.push_back(child);
  return {};
}

bool DirectoryBuilder::at_page_start() const { return state_->leaf.empty(); }

Result<TreeRef> DirectoryBuilder::finish() {
  if (!state_->leaf.empty()) TRY(state_->finish_leaf());
  TRY(state_->build_index());
  TreeRef tree = state_->pages.empty() ? TreeRef{} : state_->pages.front().tree;
  state_ = std::make_unique<State>(state_->objects);
  return tree;
}

Result<ObjectId> put_root_page(ObjectStore& objects, Entry root) {
  root.name = kRootName;
  root.attributes.type = FileType::directory;
  LeafPageBuilder page;
  page.add(root);
  return objects.put(page.finish());
}

Result<Entry> read_root_page(ObjectStore& objects, ObjectId root) {
  auto page = TRY(objects.tree_page(root));
  if (page->is_index() || page->size() != 1 || page->name(0) != kRootName ||
      page->type(0) != FileType::directory) {
    return Error{EUCLEAN, fmt::format("object {} is not a root page", raw(root))};
  }
  return page->entry(0);
}

}  // namespace layerfs
