// SPDX-License-Identifier: Apache-2.0
//
// The flattened root filesystem: a walk of the merged tree in canonical order. Hard links refer to
// the first name of their inode. Memory: the open directories' pages, and one path for each hard
// linked inode between its first and its last name.
#include <unordered_map>

#include "layerdb/base/log.h"
#include "layerdb/ops/canonical_tar.h"
#include "layerdb/ops/export_formats.h"
#include "layerdb/ops/output.h"
#include "layerdb/ops/tree_builder.h"
#include "layerdb/store/catalog.h"
#include "layerdb/view/tree_reader.h"

namespace layerfs {
namespace {

class FlatTar {
 public:
  FlatTar(Store& store, const ChainRecord& chain, OutputFile& out, const ExportOptions& options)
      : store_(store), chain_(chain), out_(out), copier_(store, options, chain.content_bytes) {}

  Status write() {
    Entry root = TRY(read_root_page(store_.objects(), chain_.root));
    TRY(add("", root));
    TRY(open(root.tree, ""));
    while (!directories_.empty()) TRY(step());
    return out_.write(tar_trailer());
  }

 private:
  struct OpenDirectory {
    TreeIterator entries;
    std::string path;  // "" or with a '/' at the end
  };
  struct LinkedInode {
    std::string first_path;
    uint32_t names_left = 0;
  };

  Status open(const TreeRef& tree, std::string path) {
    TreeIterator entries = TRY(TreeIterator::after(store_.objects(), tree.page));
    directories_.push_back({std::move(entries), std::move(path)});
    return {};
  }

  // The next entry of the innermost directory, or its end.
  Status step() {
    OpenDirectory& directory = directories_.back();
    if (!directory.entries.valid()) {
      directories_.pop_back();
      return {};
    }
    Entry entry = TRY(directory.entries.entry());
    TRY(directory.entries.next());
    std::string path = directory.path + entry.name;
    if (entry.link_id != 0) return add_linked(path, entry.link_id);
    TRY(add(path, entry));
    if (entry.attributes.type != FileType::directory) return {};
    return open(entry.tree, path + "/");  // invalidates `directory`
  }

  Status add_linked(const std::string& path, uint64_t link_id) {
    TreePosition position = TRY(find_name(store_.objects(), chain_.links, link_name(link_id)));
    Entry inode = TRY(position.page->entry(position.index));
    auto [linked, first] = linked_.try_emplace(link_id);
    if (first) {
      linked->second = {path, inode.attributes.nlink};
      TRY(add(path, inode));
    } else if (tar_can_hold(inode.attributes.type)) {
      std::string header = TRY(encode_tar_header(path, inode, linked->second.first_path));
      TRY(out_.write(header));
    }
    if (linked->second.names_left-- <= 1) linked_.erase(linked);
    return {};
  }

  Status add(const std::string& path, const Entry& entry) {
    if (!tar_can_hold(entry.attributes.type)) {
      log_warning("'{}' is a socket, which a tar cannot hold: left out", path);
      return {};
    }
    std::string header = TRY(encode_tar_header(path, entry, ""));
    TRY(out_.write(header));
    if (entry.attributes.type != FileType::regular) return {};
    TRY(copier_.copy(entry.content, entry.attributes.size_bytes, path,
                     [&](std::string_view bytes) { return out_.write(bytes); }));
    return out_.write(std::string(tar_padding(entry.attributes.size_bytes), '\0'));
  }

  Store& store_;
  const ChainRecord& chain_;
  OutputFile& out_;
  ContentCopier copier_;
  std::vector<OpenDirectory> directories_;
  std::unordered_map<uint64_t, LinkedInode> linked_;
};

}  // namespace

Status export_tar(Store& store, const ImageSource& image, const ExportOptions& options) {
  std::unique_ptr<OutputFile> out = TRY(OutputFile::create(options.output));
  TRY(FlatTar(store, image.chain, *out, options).write());
  return out->commit();
}

}  // namespace layerfs
