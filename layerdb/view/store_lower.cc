// SPDX-License-Identifier: Apache-2.0
#include "layerdb/view/store_lower.h"

#include <fmt/format.h>

#include <array>
#include <mutex>

#include "layerdb/store/content.h"
#include "layerdb/view/tree_reader.h"

namespace layerfs {
namespace {

class StoredFile : public LowerFile {
 public:
  explicit StoredFile(ContentReader reader) : reader_(std::move(reader)) {}
  uint64_t size_bytes() const override { return reader_.size_bytes(); }
  Result<size_t> read(uint64_t offset, std::span<char> out) const override {
    return reader_.read(offset, out);
  }
  Result<uint64_t> seek_data(uint64_t offset) const override { return reader_.seek_data(offset); }
  Result<uint64_t> seek_hole(uint64_t offset) const override { return reader_.seek_hole(offset); }

 private:
  ContentReader reader_;
};

class StoreLower : public Lower {
 public:
  StoreLower(ObjectStore& objects, ChunkStore& chunks, const ChainRecord& chain)
      : objects_(objects), chunks_(chunks), chain_(chain) {}

  Status open() {
    root_ = TRY(objects_.tree_page(chain_.root));
    if (root_->is_index() || root_->size() != 1 || root_->type(0) != FileType::directory) {
      return Error{EUCLEAN, fmt::format("object {} is not a root page", raw(chain_.root))};
    }
    first_linked_ = root_->inode_count() + 1;
    inode_limit_ = first_linked_;
    if (chain_.links != ObjectId::none) {
      inode_limit_ += TRY(objects_.tree_page(chain_.links))->entry_count();
    }
    return {};
  }

  Ino inode_limit() const override { return inode_limit_; }
  uint64_t content_bytes() const override { return chain_.content_bytes; }

  Result<LowerNode> lookup(Ino directory, std::string_view name) override {
    TreeRef tree = TRY(directory_tree(directory));
    auto position = TRY(find_name(objects_, tree.page, name));
    return node_at(*position.page, position.index, directory + position.delta);
  }

  Result<LowerNode> get(Ino ino) override {
    Found found = TRY(find(ino));
    return LowerNode{ino, found.page->attributes(found.index)};
  }

  Result<Location> locate(Ino ino) override {
    if (ino == kRootIno) return Error{EINVAL, "the root has no parent"};
    if (is_linked(ino)) return Error{EMLINK, fmt::format("inode {} has several names", ino)};
    Found found = TRY(find(ino));
    return Location{found.parent, std::string(found.page->name(found.index))};
  }

  Result<std::vector<Location>> names_of(Ino ino) override {
    std::vector<Location> names;
    if (!is_linked(ino)) {
      names.push_back(TRY(locate(ino)));
      return names;
    }
    uint64_t link_id = TRY(link_id_of(ino));
    TRY(collect_names(kRootIno, root_->tree(0), link_id, names));
    return names;
  }

  Status list(Ino directory, std::string_view after, const Visitor& visit) override {
    TreeRef tree = TRY(directory_tree(directory));
    return list(directory, TRY(TreeIterator::after(objects_, tree.page, after)), visit);
  }

  Status list_from(Ino directory, uint64_t rank, const Visitor& visit) override {
    TreeRef tree = TRY(directory_tree(directory));
    return list(directory, TRY(TreeIterator::from_rank(objects_, tree.page, rank)), visit);
  }

  Result<std::string> readlink(Ino ino) override {
    Found found = TRY(find(ino));
    if (found.page->type(found.index) != FileType::symlink) {
      return Error{EINVAL, fmt::format("inode {} is not a symbolic link", ino)};
    }
    return std::string(found.page->symlink_target(found.index));
  }

  Result<Xattrs> xattrs(Ino ino) override {
    Found found = TRY(find(ino));
    if (!found.page->has_xattrs(found.index)) return Xattrs{};
    return TRY(found.page->entry(found.index)).xattrs;
  }

  Result<std::shared_ptr<const LowerFile>> open(Ino ino) override {
    Entry file = TRY(regular_file(ino));
    return std::shared_ptr<const LowerFile>(std::make_shared<StoredFile>(
        ContentReader(chunks_, objects_, std::move(file.content), file.attributes.size_bytes)));
  }

  Result<Content> content(Ino ino) override { return TRY(regular_file(ino)).content; }

  Result<Entry> entry(Ino ino) override {
    Found found = TRY(find(ino));
    Entry entry = TRY(found.page->entry(found.index));
    if (is_linked(ino)) {
      entry.name.clear();
      entry.link_id = TRY(link_id_of(ino));
    } else if (ino == kRootIno) {
      entry.name.clear();
    }
    return entry;
  }

 private:
  // Where an inode's metadata is: in its directory's leaf page, or in the link table's.
  struct Found {
    std::shared_ptr<const TreePage> page;
    size_t index = 0;
    Ino parent = 0;
  };

  static Error no_inode(Ino ino) { return {ENOENT, fmt::format("no inode {}", ino)}; }
  bool is_linked(Ino ino) const { return ino >= first_linked_; }

  Result<Found> find(Ino ino) {
    if (ino == 0 || ino >= inode_limit_) return no_inode(ino);
    if (is_linked(ino)) {
      auto position = TRY(find_rank(objects_, chain_.links, ino - first_linked_));
      return Found{std::move(position.page), position.index, 0};
    }
    Finger finger = recent_parent(ino);
    Found found = finger.found;
    Ino number = finger.number;
    while (number != ino) {
      finger = {found, number};
      auto position = find_delta(objects_, found.page->tree(found.index).page, ino - number);
      if (!position.ok()) {
        if (position.error().code != ENOENT) return position.error();
        return Error{EUCLEAN, fmt::format("the directory of inode {} has wrong counts", ino)};
      }
      found = {std::move(position->page), position->index, number};
      number += position->delta;
    }
    remember_parent(finger);
    // The number that one name of a hard-linked inode takes is not the inode's.
    if (found.page->link_id(found.index) != 0) return no_inode(ino);
    return found;
  }

  // Inodes are asked for in runs of the same directory: the search begins at the one that the last
  // search ended in, if the inode is anywhere below it, and else at the root.
  struct Finger {
    Found found;  // of a directory
    Ino number = 0;
  };
  Finger recent_parent(Ino ino) {
    std::lock_guard lock(finger_mutex_);
    const Found& found = finger_.found;
    bool below = found.page != nullptr && ino > finger_.number &&
                 ino - finger_.number <= found.page->tree(found.index).inode_count;
    return below ? finger_ : Finger{{root_, 0, 0}, kRootIno};
  }
  void remember_parent(const Finger& finger) {
    std::lock_guard lock(finger_mutex_);
    finger_ = finger;
  }

  // Lookups come in runs for few directories, and finding one takes a search per level.
  Result<TreeRef> directory_tree(Ino ino) {
    RecentDirectory& recent = recent_[ino % kRecentDirectories];
    {
      std::lock_guard lock(recent.mutex);
      if (recent.ino == ino) return recent.tree;
    }
    TreeRef tree = TRY(find_directory_tree(ino));
    std::lock_guard lock(recent.mutex);
    recent.ino = ino;
    recent.tree = tree;
    return tree;
  }

  Result<TreeRef> find_directory_tree(Ino ino) {
    Found found = TRY(find(ino));
    if (found.page->type(found.index) != FileType::directory) {
      return Error{ENOTDIR, fmt::format("inode {} is not a directory", ino)};
    }
    return found.page->tree(found.index);
  }

  Result<Entry> regular_file(Ino ino) {
    Found found = TRY(find(ino));
    FileType type = found.page->type(found.index);
    if (type != FileType::regular) {
      return Error{type == FileType::directory ? EISDIR : EINVAL,
                   fmt::format("inode {} is not a regular file", ino)};
    }
    return found.page->entry(found.index);
  }

  Result<uint64_t> link_id_of(Ino ino) {
    Found found = TRY(find(ino));
    return parse_link_name(found.page->name(found.index));
  }

  // The node that a name stands for; `number` is the name's own.
  Result<LowerNode> node_at(const TreePage& page, size_t index, Ino number) {
    uint64_t link_id = page.link_id(index);
    if (link_id == 0) return LowerNode{number, page.attributes(index)};
    auto rank = rank_of(objects_, chain_.links, link_name(link_id));
    if (!rank.ok()) {
      if (rank.error().code != ENOENT) return rank.error();
      return Error{EUCLEAN, fmt::format("'{}' is a hard link to {}, which the link table lacks",
                                        page.name(index), link_name(link_id))};
    }
    return get(first_linked_ + *rank);
  }

  Status list(Ino directory, TreeIterator it, const Visitor& visit) {
    for (; it.valid(); TRY(it.next())) {
      LowerNode node = TRY(node_at(it.page(), it.index(), directory + it.delta()));
      if (!visit(it.name(), node)) break;
    }
    return {};
  }

  // Goes only where hard links are.
  Status collect_names(Ino directory, const TreeRef& tree, uint64_t link_id,
                       std::vector<Location>& names) {
    if (tree.linked_count == 0) return {};
    for (auto it = TRY(TreeIterator::all(objects_, tree)); it.valid(); TRY(it.next())) {
      if (it.page().link_id(it.index()) == link_id) {
        names.push_back({directory, std::string(it.name())});
      }
      TRY(collect_names(directory + it.delta(), it.page().tree(it.index()), link_id, names));
    }
    return {};
  }

  static constexpr size_t kRecentDirectories = 256;
  struct RecentDirectory {
    std::mutex mutex;
    Ino ino = 0;
    TreeRef tree;
  };

  ObjectStore& objects_;
  ChunkStore& chunks_;
  const ChainRecord chain_;
  std::array<RecentDirectory, kRecentDirectories> recent_;
  std::mutex finger_mutex_;
  Finger finger_;
  std::shared_ptr<const TreePage> root_;
  Ino first_linked_ = 0;
  Ino inode_limit_ = 0;
};

}  // namespace

Result<std::unique_ptr<Lower>> open_store_lower(ObjectStore& objects, ChunkStore& chunks,
                                                const ChainRecord& chain) {
  auto lower = std::make_unique<StoreLower>(objects, chunks, chain);
  TRY(lower->open());
  return std::unique_ptr<Lower>(std::move(lower));
}

}  // namespace layerfs
