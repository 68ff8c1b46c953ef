// SPDX-License-Identifier: Apache-2.0
#include "layerdb/ops/layer_tree.h"

#include <algorithm>
#include <limits>
#include <utility>

#include "layerdb/ops/layer_records.h"

namespace layerfs {
namespace {

constexpr uint64_t kNever = std::numeric_limits<uint64_t>::max();

Entry implicit_directory() {
  Entry entry;
  entry.attributes.type = FileType::directory;
  entry.attributes.mode = 0755;
  entry.implicit = true;
  return entry;
}

std::string last_component(const std::string& path) {
  return path.substr(path.rfind('/') + 1);  // npos + 1 == 0
}

}  // namespace

LayerTreeWriter::LayerTreeWriter(ObjectStore& objects, const LinkGroups& groups)
    : objects_(objects), groups_(groups) {}
LayerTreeWriter::~LayerTreeWriter() = default;

Status LayerTreeWriter::add(std::string_view key, std::string_view value) {
  if (pending_.key.empty() || !same_path(pending_.key, key)) {
    TRY(flush_pending());
    pending_ = {};
    pending_.key = key;
    pending_.path = record_path(key);
    TRY(close_until(pending_.path));
  }
  return accept(key, value);
}

// Folds one record into what is known of its path.
Status LayerTreeWriter::accept(std::string_view key, std::string_view value) {
  uint64_t sequence = record_sequence(key);
  Pending& p = pending_;
  if (!frames_.empty()) {
    const Frame& above = frames_.back();
    if (sequence < above.replaced_at) return {};
    if (sequence < above.directory_since) {
      // umoci writes these when a file takes a directory's place: with the directory all went.
      if (record_kind(value) == RecordKind::whiteout) return {};
      return Error{EINVAL, "'" + p.path + "' lies below '" + above.path +
                               "', which is not a directory in this archive"};
    }
  }
  switch (record_kind(value)) {
    case RecordKind::entry:
      if (record_type(value) == FileType::directory) {
        if (p.directory_sequence == 0) p.directory_sequence = sequence;
        p.directory = value;
        break;
      }
      [[fallthrough]];
    case RecordKind::hard_link:
      p.other_sequence = sequence;
      p.other = value;
      p.directory_sequence = 0;
      p.directory.clear();
      p.opaque = false;
      p.link_sequence = 0;
      break;
    case RecordKind::lower_name:
      // The name below goes with a directory that does not show through.
      if (std::ranges::none_of(frames_, [](const Frame& f) {
            return f.entry.opaque || f.entry.attributes.type == FileType::whiteout;
          }))
        p.link_sequence = sequence;
      break;
    case RecordKind::whiteout:
      p.whiteout = true;
      break;
    case RecordKind::opaque:
      if (p.other_sequence != 0 && p.directory_sequence == 0) {
        return Error{EINVAL, "'" + p.path + "' is marked opaque but is not a directory"};
      }
      p.opaque = true;
      break;
  }
  return {};
}

// What the path is in the end.
Result<Entry> LayerTreeWriter::final_entry() const {
  const Pending& p = pending_;
  Entry entry;
  if (p.directory_sequence != 0) {
    entry = TRY(decode_entry_record(p.directory));
    entry.opaque = p.opaque || p.whiteout || p.other_sequence != 0;
  } else if (p.other_sequence != 0) {
    bool link = record_kind(p.other) == RecordKind::hard_link;
    if (!link) entry = TRY(decode_entry_record(p.other));
    if (const LinkGroups::Group* group = groups_.find(p.other_sequence)) {
      entry = {};
      entry.attributes.type = group->type;
      entry.link_id = group->link_id;
    }
  } else if (p.whiteout) {
    entry.attributes.type = FileType::whiteout;
  } else if (p.link_sequence != 0) {
    const LinkGroups::Group* group = groups_.find(p.link_sequence);
    entry.attributes.type = group->type;
    entry.link_id = group->link_id;
  } else {
    entry = implicit_directory();
    entry.opaque = p.opaque;
  }
  return entry;
}

Status LayerTreeWriter::flush_pending() {
  const Pending& p = pending_;
  if (p.key.empty()) return {};
  if (p.directory_sequence == 0 && p.other_sequence == 0 && !p.whiteout && !p.opaque &&
      p.link_sequence == 0) {
    return {};  // every record belonged to something replaced
  }
  if (!p.path.empty()) TRY(open_parents(p.path));
  Entry entry = TRY(final_entry());
  bool directory = entry.attributes.type == FileType::directory;
  bool marked = entry.attributes.type == FileType::whiteout;
  push(p.path, std::move(entry));
  if (p.other_sequence != 0) {
    Frame& frame = frames_.back();
    frame.replaced_at = std::max(frame.replaced_at, p.other_sequence);
    frame.directory_since =
        std::max(frame.directory_since, directory ? p.directory_sequence : kNever);
  } else if (p.link_sequence != 0 && !directory && !marked) {
    frames_.back().directory_since = kNever;
  }
  return {};
}

void LayerTreeWriter::push(std::string path, Entry entry) {
  Frame frame;
  entry.name = path.empty() ? "root" : last_component(path);
  frame.path = std::move(path);
  frame.entry = std::move(entry);
  if (!frames_.empty()) {
    frame.replaced_at = frames_.back().replaced_at;
    frame.directory_since = frames_.back().directory_since;
  }
  frames_.push_back(std::move(frame));
}

// Directories between the open ones and `path` that the layer does not describe. A deleted name
// with something below it is a new directory over nothing.
Status LayerTreeWriter::open_parents(const std::string& path) {
  if (frames_.empty()) push("", implicit_directory());
  for (;;) {
    Frame& top = frames_.back();
    if (top.entry.attributes.type == FileType::whiteout) {
      std::string name = std::move(top.entry.name);
      top.entry = implicit_directory();
      top.entry.name = std::move(name);
      top.entry.implicit = false;
      top.entry.opaque = true;
    }
    size_t start = top.path.empty() ? 0 : top.path.size() + 1;
    size_t slash = path.find('/', start);
    if (slash == std::string::npos) return {};
    push(path.substr(0, slash), implicit_directory());
  }
}

Status LayerTreeWriter::close_until(const std::string& path) {
  while (!frames_.empty() && !is_below(path, frames_.back().path)) TRY(close_top());
  return {};
}

Status LayerTreeWriter::close_top() {
  Frame frame = std::move(frames_.back());
  frames_.pop_back();
  if (frame.children) {
    frame.entry.tree = TRY(frame.children->finish());
  }
  if (frames_.empty()) {
    frames_.push_back(std::move(frame));  // the root stays until finish()
    return Error{EINVAL, "records of a layer are not in order"};
  }
  std::optional<DirectoryBuilder>& siblings = frames_.back().children;
  if (!siblings) siblings.emplace(objects_);
  return siblings->add(frame.entry);
}

Result<Entry> LayerTreeWriter::finish() {
  TRY(flush_pending());
  pending_ = {};
  if (frames_.empty()) push("", implicit_directory());
  while (frames_.size() > 1) TRY(close_top());
  Frame& root = frames_.back();
  if (root.children) root.entry.tree = TRY(root.children->finish());
  Entry entry = std::move(root.entry);
  frames_.clear();
  return entry;
}

}  // namespace layerfs
