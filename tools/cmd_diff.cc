// SPDX-License-Identifier: Apache-2.0
//
// Letters as docker prints them: A added, C changed (also a directory in which something was), D
// deleted (not what was below it). What replaced something of the same name is C, and where that is
// a directory over a directory, their contents are compared name by name.
#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <nlohmann/json.hpp>

#include "layerdb/ops/changes.h"
#include "layerdb/ops/tree_builder.h"
#include "layerdb/store/reference.h"
#include "layerdb/view/store_lower.h"
#include "layerdb/view/tree_reader.h"
#include "tools/cli.h"
#include "tools/image_info.h"
#include "tools/quiet_container.h"
#include "tools/text.h"

namespace layerfs {
namespace {

std::string child_path(const std::string& directory, std::string_view name) {
  return directory + "/" + std::string(name);
}

struct Line {
  char letter = 'A';
  FileType type = FileType::none;  // of what is there now
};
using Lines = std::map<std::string, Line>;  // by path, "/a/b"

// `path` is a new directory where the image below has the directory `was`.
Status compare_replaced(Lower& lower, const std::string& path, Ino was, Lines& lines) {
  lines[path].letter = 'C';
  std::vector<std::pair<std::string, LowerNode>> children;
  TRY(lower.list(was, "", [&](std::string_view name, const LowerNode& node) {
    children.emplace_back(name, node);
    return true;
  }));
  for (const auto& [name, node] : children) {
    std::string child = child_path(path, name);
    auto [line, gone] = lines.try_emplace(child, Line{'D', FileType::none});
    if (gone) continue;
    line->second.letter = 'C';
    if (node.attributes.type == FileType::directory && line->second.type == FileType::directory)
      TRY(compare_replaced(lower, child, node.ino, lines));
  }
  return {};
}

Result<Ino> lower_ino(Lower& lower, const std::string& path) {
  Ino ino = kRootIno;
  for (size_t start = 1; start < path.size();) {
    size_t end = std::min(path.find('/', start), path.size());
    ino = TRY(lower.lookup(ino, path.substr(start, end - start))).ino;
    start = end + 1;
  }
  return ino;
}

Result<Lines> container_changes(Store& store, const Container& container) {
  std::unique_ptr<QuietContainer> quiet = TRY(QuietContainer::open(store, container));
  Lines lines;
  std::vector<std::string> replaced;
  TRY(walk_changes(quiet->lower(), quiet->upper(), [&](const Change& change) -> Status {
    bool company = !change.self_changed && change.type != FileType::directory;
    if (company) return {};  // only another name of a changed inode
    char letter = static_cast<char>(change.kind);
    if (change.replaced != FileType::none) letter = 'C';
    lines["/" + change.path] = {letter, change.type};
    if (change.type == FileType::directory && change.replaced == FileType::directory)
      replaced.push_back("/" + change.path);
    return {};
  }));
  TRY(quiet->keep());  // it stood still while the upper was read
  for (const std::string& path : replaced)
    TRY(compare_replaced(quiet->lower(), path, TRY(lower_ino(quiet->lower(), path)), lines));
  return lines;
}

// The entries of a layer's diff below `directory`, against the image below it (null: none; `lower`
// is 0: that has no such directory).
Status layer_changes(Store& store, const TreeRef& tree, Lower* below, Ino lower,
                     const std::string& directory, Lines& lines,
                     std::vector<std::string>& replaced) {
  for (TreeIterator it = TRY(TreeIterator::after(store.objects(), tree.page)); it.valid();
       TRY(it.next())) {
    Entry entry = TRY(it.entry());
    std::string path = child_path(directory, entry.name);
    Ino was = 0;
    FileType was_type = FileType::none;
    if (below != nullptr && lower != 0) {
      Result<LowerNode> found = below->lookup(lower, entry.name);
      if (!found.ok() && found.error().code != ENOENT) return std::move(found).error();
      if (found.ok()) {
        was = found->ino;
        was_type = found->attributes.type;
      }
    }
    if (entry.attributes.type == FileType::whiteout) {
      if (was != 0) lines[path] = {'D', FileType::none};
      continue;
    }
    lines[path] = {was != 0 ? 'C' : 'A', entry.attributes.type};
    if (entry.attributes.type != FileType::directory) continue;
    bool merged = was_type == FileType::directory && !entry.opaque;
    if (was_type == FileType::directory && entry.opaque) replaced.push_back(path);
    TRY(layer_changes(store, entry.tree, below, merged ? was : 0, path, lines, replaced));
  }
  return {};
}

Result<Lines> image_changes(Store& store, const std::string& name) {
  ImageRecord image = TRY(store.catalog().image(TRY(resolve_image(store.catalog(), name))));
  ChainRecord chain = TRY(store.catalog().chain(image.chain_id));
  LayerRecord layer = TRY(store.catalog().layer(chain.diff_id));
  std::unique_ptr<Lower> below;
  if (chain.parent) below = TRY(open_store_lower(store, TRY(store.catalog().chain(*chain.parent))));
  Entry root = TRY(read_root_page(store.objects(), layer.root));
  Lines lines;
  std::vector<std::string> replaced;
  TRY(layer_changes(store, root.tree, below.get(), kRootIno, "", lines, replaced));
  for (const std::string& path : replaced)
    TRY(compare_replaced(*below, path, TRY(lower_ino(*below, path)), lines));
  if (!lines.empty())
    lines.try_emplace("/", Line{below == nullptr ? 'A' : 'C', FileType::directory});
  return lines;
}

Status print_changes(const Globals& globals, const std::string& name) {
  std::unique_ptr<Store> store = TRY(open_store_to_read(globals));
  Lines lines;
  Result<Container> container = find_container(globals.root, name);
  if (container.ok()) {
    lines = TRY(container_changes(*store, *container));
  } else {
    if (!may_be_image(container.error())) return std::move(container).error();
    lines = TRY(image_changes(*store, name));
  }
  nlohmann::json list = nlohmann::json::array();
  for (const auto& [path, line] : lines) {
    if (globals.json)
      list.push_back({{"Kind", std::string(1, line.letter)}, {"Path", path}});
    else
      print_line(fmt::format("{} {}", line.letter, printable(path)));
  }
  if (globals.json) print_json(list);
  return {};
}

}  // namespace

void add_diff(CommandLine& line) {
  auto name = std::make_shared<std::string>();
  Command command = line.add(
      "Containers", "diff",
      "Show what a container, or an image's top layer, added (A), changed (C), deleted (D)",
      {"layerfs diff web", "layerfs diff debian:tested"},
      [name](const Globals& globals) { return print_changes(globals, *name); });
  command.required("CONTAINER|REFERENCE", *name, "Container, or image");
}

}  // namespace layerfs
