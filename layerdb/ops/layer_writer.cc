// SPDX-License-Identifier: Apache-2.0
#include "layerdb/ops/layer_writer.h"

#include <algorithm>
#include <map>
#include <unordered_map>
#include <utility>
#include <vector>

#include "layerdb/ops/external_sort.h"
#include "layerdb/ops/layer_records.h"
#include "layerdb/ops/layer_tree.h"
#include "layerdb/ops/tree_builder.h"
#include "layerdb/view/tree_reader.h"

namespace layerfs {
namespace {

constexpr size_t kMaxPathBytes = 4095;  // PATH_MAX without the NUL
constexpr size_t kMaxXattrNameBytes = 255;
constexpr size_t kMaxXattrValueBytes = 64 * 1024;  // XATTR_SIZE_MAX
constexpr size_t kMaxXattrBytes = 128 * 1024;      // all of one entry's, so that a page holds them

Status check_entry(std::string_view path, const Entry& entry) {
  auto bad = [&](const std::string& what) {
    return Error{EINVAL, "'" + std::string(path) + "': " + what};
  };
  FileType type = entry.attributes.type;
  if (path.empty() && type != FileType::directory) return bad("the root must be a directory");
  if (type == FileType::symlink &&
      (entry.symlink_target.empty() || entry.symlink_target.size() > kMaxPathBytes)) {
    return bad("a symbolic link's target must have 1 to 4095 bytes");
  }
  size_t total = 0;
  for (const auto& [name, value] : entry.xattrs) {
    if (name.empty() || name.size() > kMaxXattrNameBytes) {
      return bad("an extended attribute's name must have 1 to 255 bytes");
    }
    if (value.size() > kMaxXattrValueBytes) {
      return bad("extended attribute '" + name + "' is longer than 64 KiB");
    }
    total += name.size() + value.size();
  }
  if (total > kMaxXattrBytes)
    return bad("its extended attributes are longer than 128 KiB together");
  return {};
}

// The entry of a path of a merged tree, metadata of hard links included. ENOENT.
Result<Entry> find_path(ObjectStore& objects, const ChainRecord& chain, std::string_view path) {
  Entry entry = TRY(read_root_page(objects, chain.root));
  while (!path.empty()) {
    size_t slash = std::min(path.find('/'), path.size());
    if (entry.attributes.type != FileType::directory || entry.tree.page == ObjectId::none) {
      return Error{ENOENT, "no such name"};
    }
    TreePosition found = TRY(find_name(objects, entry.tree.page, path.substr(0, slash)));
    entry = TRY(found.page->entry(found.index));
    path.remove_prefix(std::min(slash + 1, path.size()));
  }
  return entry;
}

}  // namespace

Result<std::string> normalise_path(std::string_view path) {
  auto bad = [&](const std::string& what) {
    return Error{EINVAL, "'" + std::string(path) + "': " + what};
  };
  if (path.find('\0') != std::string_view::npos) return bad("a NUL byte in a path");
  std::string out;
  size_t start = 0;
  while (start < path.size()) {
    size_t end = std::min(path.find('/', start), path.size());
    std::string_view component = path.substr(start, end - start);
    start = end + 1;
    if (component.empty() || component == ".") continue;
    if (component == "..") return bad("a path with '..' could leave the image");
    if (component.size() > kMaxNameBytes) return bad("a name of more than 255 bytes");
    if (!out.empty()) out.push_back('/');
    out.append(component);
  }
  if (out.size() > kMaxPathBytes) return bad("a path of more than 4095 bytes");
  return out;
}

struct LayerWriter::State {
  State(Store& s, std::optional<ChainRecord> p)
      : store(s),
        parent(std::move(p)),
        records(s.root() + "/tmp"),
        links(s.root() + "/tmp", 8 << 20) {}

  Store& store;
  std::optional<ChainRecord> parent;
  uint64_t sequence = 0;
  ExternalSorter records;
  ExternalSorter links;  // (target path, sequence) -> path, to join with `records`
  LinkGroups groups;
  std::map<std::string, std::string> lower_names;  // further records: names that joined a group
  std::map<uint64_t, Entry> lower_inodes;          // link id -> inode of the parent chain
  std::map<std::string, uint64_t> lower_groups;    // path in the parent chain -> link id
  uint64_t linked_bytes = 0;                       // content of the link table's inodes

  Status add_record(std::string_view path, const std::string& value) {
    return records.add(record_key(path, ++sequence), value);
  }
  Status resolve_links();
  Status link_to_lower(const std::string& path, uint64_t link, const std::string& target);
  Result<ObjectId> write_link_table();
};

LayerWriter::LayerWriter() = default;
LayerWriter::~LayerWriter() = default;

Result<std::unique_ptr<LayerWriter>> LayerWriter::create(Store& store,
                                                         std::optional<ChainRecord> parent) {
  std::unique_ptr<LayerWriter> writer(new LayerWriter);
  writer->state_ = std::make_unique<State>(store, std::move(parent));
  return writer;
}

Status LayerWriter::add(std::string_view path, Entry entry) {
  TRY(check_entry(path, entry));
  return state_->add_record(path, encode_entry_record(entry));
}

Status LayerWriter::add_hard_link(std::string_view path, std::string_view target) {
  if (path.empty()) return Error{EINVAL, "the root cannot be a hard link"};
  TRY(state_->add_record(path, encode_mark_record(RecordKind::hard_link)));
  return state_->links.add(record_key(target, state_->sequence), path);
}

Status LayerWriter::add_whiteout(std::string_view path) {
  if (path.empty()) return Error{EINVAL, "a whiteout without a name"};
  return state_->add_record(path, encode_mark_record(RecordKind::whiteout));
}

Status LayerWriter::add_opaque(std::string_view directory) {
  return state_->add_record(directory, encode_mark_record(RecordKind::opaque));
}

// A hard link to a name that only the parent chain has: both names become one group. A name that
// is already linked there keeps its group.
Status LayerWriter::State::link_to_lower(const std::string& path, uint64_t link,
                                         const std::string& target) {
  auto bad = [&](const std::string& what) {
    return Error{EINVAL, "hard link '" + path + "' to '" + target + "': " + what};
  };
  auto [group, added] = lower_groups.try_emplace(target, 0);
  if (added) {
    if (!parent) return bad("the target is not in the archive before it");
    Result<Entry> found = find_path(store.objects(), *parent, target);
    if (!found.ok() && found.error().code == ENOENT) {
      return bad("the target is neither in the archive before it nor in a layer below");
    }
    Entry entry = TRY(std::move(found));
    if (entry.attributes.type == FileType::directory) return bad("the target is a directory");
    if (entry.link_id == 0) {
      group->second = TRY(store.objects().new_link_id());
      // With the link's own number, so that it finds the link's group.
      lower_names[record_key(target, link)] = encode_mark_record(RecordKind::lower_name);
    } else {
      group->second = entry.link_id;
      TreePosition inode = TRY(find_name(store.objects(), parent->links, link_name(entry.link_id)));
      entry = TRY(inode.page->entry(inode.index));
    }
    groups.add_lower(group->second, entry.attributes.type);
    lower_inodes[group->second] = std::move(entry);
  }
  groups.join_lower(link, group->second);
  return {};
}

// Joins links, sorted by target, with the records: the newest entry of the target's path that came
// before the link is what it links to; that may be a link itself.
Status LayerWriter::State::resolve_links() {
  auto record = TRY(records.scan());
  std::string candidate;  // key of the newest entry so far
  bool directory = false;
  for (auto link = TRY(links.scan()); link.valid(); TRY(link.next())) {
    for (; record.valid() && record.key() < link.key(); TRY(record.next())) {
      RecordKind kind = record_kind(record.value());
      if (kind != RecordKind::entry && kind != RecordKind::hard_link) continue;
      candidate = record.key();
      directory = kind == RecordKind::entry && record_type(record.value()) == FileType::directory;
    }
    std::string path(link.value());
    std::string target = record_path(link.key());
    uint64_t sequence = record_sequence(link.key());
    if (candidate.empty() || !same_path(candidate, link.key())) {
      TRY(link_to_lower(path, sequence, target));
    } else if (directory) {
      return Error{EINVAL, "hard link '" + path + "' to '" + target + "': that is a directory"};
    } else {
      groups.join(sequence, record_sequence(candidate));
    }
  }
  groups.resolve();
  return {};
}

// Ids must ascend: those of the parent chain are older than any new one, and lower single names
// got theirs before the ones made here.
Result<ObjectId> LayerWriter::State::write_link_table() {
  DirectoryBuilder table(store.objects());
  for (auto& [link_id, entry] : lower_inodes) {
    entry.name = link_name(link_id);
    entry.link_id = 0;
    TRY(table.add(entry));
  }
  for (auto record = TRY(records.scan()); record.valid(); TRY(record.next())) {
    uint64_t sequence = record_sequence(record.key());
    if (record_kind(record.value()) != RecordKind::entry || !groups.has_links(sequence)) continue;
    Entry entry = TRY(decode_entry_record(record.value()));
    uint64_t link_id = TRY(store.objects().new_link_id());
    groups.set_link_id(sequence, link_id, entry.attributes.type);
    entry.name = link_name(link_id);
    TRY(table.add(entry));
  }
  TreeRef links_tree = TRY(table.finish());
  linked_bytes = links_tree.content_bytes;
  return links_tree.page;
}

Result<LayerRecord> LayerWriter::finish() {
  State& s = *state_;
  TRY(s.records.finish());
  TRY(s.links.finish());
  LayerRecord layer;
  if (s.links.size() > 0) {
    TRY(s.resolve_links());
    layer.links = TRY(s.write_link_table());
  }
  LayerTreeWriter tree(s.store.objects(), s.groups);
  auto lower = s.lower_names.begin();
  for (auto record = TRY(s.records.scan()); record.valid(); TRY(record.next())) {
    for (; lower != s.lower_names.end() && lower->first < record.key(); ++lower) {
      TRY(tree.add(lower->first, lower->second));
    }
    TRY(tree.add(record.key(), record.value()));
  }
  for (; lower != s.lower_names.end(); ++lower) TRY(tree.add(lower->first, lower->second));
  Entry root = TRY(tree.finish());
  layer.links_below = !s.lower_inodes.empty();
  layer.entry_count = root.tree.inode_count;
  layer.content_bytes = root.tree.content_bytes + s.linked_bytes;
  layer.root = TRY(put_root_page(s.store.objects(), std::move(root)));
  return layer;
}

}  // namespace layerfs
