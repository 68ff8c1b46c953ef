// SPDX-License-Identifier: Apache-2.0
#include "layerdb/ops/layer_builder.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>

#include "layerdb/base/coding.h"
#include "layerdb/object/tree.h"
#include "layerdb/ops/canonical_tar.h"

namespace layerfs {

namespace {

constexpr size_t kContentBufferBytes = 256 * 1024;
constexpr uint64_t kProgressBytes = 64 << 20;

std::string last_name(const std::string& path) { return path.substr(path.rfind('/') + 1); }

bool contains(const std::string& directory, const std::string& path) {
  return directory.empty() || (path.size() > directory.size() && path[directory.size()] == '/' &&
                               path.compare(0, directory.size(), directory) == 0);
}

}  // namespace

LayerBuilder::LayerBuilder(Store& store, const Digest& below, Lower& lower, Upper& upper,
                           const CommitOptions& options)
    : store_(store),
      below_(below),
      lower_(lower),
      upper_(upper),
      options_(options),
      tar_(store.chunks(), store.objects()) {}

Result<LayerRecord> LayerBuilder::build() {
  TRY(survey());
  layer_.provisional = unwritten_bytes_ > options_.hash_at_once_bytes;
  Entry root = TRY(current_entry(lower_, upper_, kRootIno));
  root.name = "root";
  root.implicit = true;  // unless it turns out to be a change itself
  open_.push_back({"", std::move(root), DirectoryBuilder(store_.objects())});
  TRY(walk_changes(lower_, upper_, [&](const Change& change) { return add(change); }));
  while (open_.size() > 1) TRY(close_directories(""));
  OpenDirectory& top = open_.front();
  top.entry.tree = TRY(top.builder.finish());
  layer_.root = TRY(put_root_page(store_.objects(), top.entry));
  DirectoryBuilder table(store_.objects());
  for (auto& [id, entry] : link_table_) {
    entry.name = link_name(id);
    TRY(table.add(entry));
  }
  layer_.links = TRY(table.finish()).page;
  TRY(tar_literal(tar_trailer()));
  layer_.tar_bytes = tar_.size_bytes();
  layer_.tar = TRY(tar_.finish());
  layer_.provisional &= has_sources_;  // else all of it was hashed after all
  layer_.diff_id = layer_.provisional ? provisional_id() : sha256_.finish();
  return layer_;
}

// What must be known before the first name: how many each inode has in the layer, and whether
// there is too much to read for the tar's SHA-256.
Status LayerBuilder::survey() {
  return walk_changes(lower_, upper_, [&](const Change& change) -> Status {
    if (change.kind == ChangeKind::deleted || change.type == FileType::directory) return {};
    std::optional<InodeRecord> record = TRY(upper_.inode(change.ino));
    Attributes now =
        record.has_value() ? record->attributes : TRY(lower_.get(change.ino)).attributes;
    if (now.nlink > 1 && ++names_[change.ino] > 1) return {};
    if (change.type == FileType::regular)
      unwritten_bytes_ +=
          record.has_value() ? TRY(unwritten_bytes(change.ino, *record)) : now.size_bytes;
    return {};
  });
}

// The lower's bytes exactly, holes by what the host has allocated.
Result<uint64_t> LayerBuilder::unwritten_bytes(Ino ino, const InodeRecord& record) {
  uint64_t size_bytes = record.attributes.size_bytes;
  if (record.body == Body::small) return uint64_t{0};
  if (record.body != Body::file) return size_bytes;
  uint64_t lower_bytes = std::min(record.lower_size_bytes, size_bytes);
  lower_bytes -= std::min(lower_bytes, TRY(upper_.range_bytes(ino)));
  uint64_t own_bytes = size_bytes - lower_bytes;
  return size_bytes - std::min(own_bytes, TRY(upper_.body_blocks(ino)) * 512);
}

Status LayerBuilder::add(const Change& change) {
  if (change.path.empty()) {  // the root: open already
    if (!change.self_changed) return {};
    open_.front().entry.implicit = false;
    ++layer_.entry_count;
    return tar_literal(TRY(encode_tar_header("", open_.front().entry, "")));
  }
  TRY(close_directories(change.path));
  if (change.kind == ChangeKind::deleted) return add_whiteout(change);
  Entry entry = TRY(current_entry(lower_, upper_, change.ino));
  entry.name = last_name(change.path);
  if (change.type == FileType::directory) return add_directory(change, std::move(entry));
  if (!tar_can_hold(change.type))
    return change.replaced == FileType::none ? Status() : add_whiteout(change);
  return add_file(change, std::move(entry));
}

Status LayerBuilder::add_whiteout(const Change& change) {
  Entry entry;
  entry.name = last_name(change.path);
  entry.attributes.type = FileType::whiteout;
  ++layer_.entry_count;
  TRY(tar_literal(TRY(encode_tar_header(change.path, entry, ""))));
  return add_to_parent(entry);
}

Status LayerBuilder::add_directory(const Change& change, Entry entry) {
  entry.implicit = !change.self_changed;
  entry.opaque = change.replaced == FileType::directory;
  if (!entry.implicit) {
    ++layer_.entry_count;
    TRY(tar_literal(TRY(encode_tar_header(change.path, entry, ""))));
    if (entry.opaque) TRY(tar_literal(TRY(encode_opaque_header(change.path))));
  }
  bool shared = change.lower_tree || change.inside_lower_tree;
  if (change.lower_tree) entry.tree = TRY(lower_.entry(change.ino)).tree;
  open_.push_back({change.path, std::move(entry), DirectoryBuilder(store_.objects()), shared});
  return {};
}

Status LayerBuilder::close_directories(const std::string& path) {
  // With an empty path: one level.
  while (open_.size() > 1 && (path.empty() || !contains(open_.back().path, path))) {
    OpenDirectory closed = std::move(open_.back());
    open_.pop_back();
    if (!closed.tree_is_lower) closed.entry.tree = TRY(closed.builder.finish());
    TRY(add_to_parent(closed.entry));
    if (path.empty()) break;
  }
  return {};
}

Status LayerBuilder::add_to_parent(const Entry& entry) {
  OpenDirectory& parent = open_.back();
  if (parent.tree_is_lower) return {};
  return parent.builder.add(entry);
}

Status LayerBuilder::add_file(const Change& change, Entry entry) {
  ++layer_.entry_count;
  auto several = names_.find(change.ino);
  bool linked = several != names_.end() && several->second > 1;
  if (linked) {
    auto met = links_.find(change.ino);
    if (met != links_.end()) {
      Entry name = met->second.entry;
      name.name = entry.name;
      TRY(tar_literal(TRY(encode_tar_header(change.path, name, met->second.first_path))));
      return add_to_parent(name);
    }
    // Never the lower's id: on another parent that may have names which are not this layer's.
    entry.link_id = TRY(store_.objects().new_link_id());
    entry.attributes.nlink = several->second;
  } else {
    entry.attributes.nlink = 1;
  }
  TRY(tar_literal(TRY(encode_tar_header(change.path, entry, ""))));
  if (entry.attributes.type == FileType::regular) {
    layer_.content_bytes += entry.attributes.size_bytes;
    entry.content = TRY(add_body(change.ino, entry.attributes.size_bytes));
    TRY(tar_body(entry.content, entry.attributes.size_bytes));
  }
  if (linked) {
    links_[change.ino] = {change.path, entry};
    Entry stored = entry;
    stored.link_id = 0;
    link_table_[entry.link_id] = std::move(stored);
  }
  return add_to_parent(entry);
}

// Bodies: stores what is new, hashes all of it (or its sources) in order, yields where it all is.
Result<Content> LayerBuilder::add_body(Ino ino, uint64_t size_bytes) {
  std::optional<InodeRecord> record = TRY(upper_.inode(ino));
  Body body = record.has_value() ? record->body : Body::lower;
  uint64_t lower_bytes = 0;
  if (ino < lower_.inode_limit())
    lower_bytes = record.has_value() ? std::min(record->lower_size_bytes, size_bytes) : size_bytes;
  if (body == Body::lower && lower_bytes == size_bytes) return shared_body(ino, size_bytes);

  ContentWriter out(store_.chunks(), store_.objects());
  if (body == Body::small && size_bytes > 0) {
    std::string bytes = TRY(upper_.small_body(ino));
    bytes.resize(std::min<uint64_t>(bytes.size(), size_bytes));
    TRY(append_bytes(out, bytes));
  } else if (body == Body::lower) {
    TRY(append_lower(out, ino, 0, lower_bytes));
  } else if (body == Body::file) {
    uint64_t at = 0;
    std::vector<Range> ranges = TRY(upper_.ranges(ino, 0, lower_bytes));
    for (const Range& range : ranges) {
      TRY(append_lower(out, ino, at, range.offset));
      TRY(append_upper(out, ino, range.offset, range.offset + range.length));
      at = range.offset + range.length;
    }
    TRY(append_lower(out, ino, at, lower_bytes));
    TRY(append_upper(out, ino, lower_bytes, size_bytes));
  }
  TRY(append_hole(out, size_bytes - out.size_bytes()));
  return out.finish();
}

// All of a lower file, as it is. A longer lower file that was cut needs append_lower.
Result<Content> LayerBuilder::shared_body(Ino ino, uint64_t size_bytes) {
  if (TRY(lower_.get(ino)).attributes.size_bytes != size_bytes) {
    ContentWriter out(store_.chunks(), store_.objects());
    TRY(append_lower(out, ino, 0, size_bytes));
    return out.finish();
  }
  Content content = TRY(lower_.content(ino));
  ContentReader reader(store_.chunks(), store_.objects(), content, size_bytes);
  TRY(hash_lower(reader, ino, 0, size_bytes));
  return content;
}

Status LayerBuilder::hash_lower(const ContentReader& reader, Ino ino, uint64_t from, uint64_t to) {
  if (layer_.provisional && to <= reader.size_bytes()) {  // else reading tells the damage
    hash_source(ino, from, to - from);
    return {};
  }
  std::string buffer(std::min<uint64_t>(kContentBufferBytes, to - from), '\0');
  while (from < to) {
    std::span<char> part(buffer.data(), std::min<uint64_t>(buffer.size(), to - from));
    size_t got = TRY(reader.read(from, part));
    if (got == 0) return Error{EUCLEAN, "a file of the lower ends before its size"};
    hash({part.data(), got});
    from += got;
  }
  return {};
}

Status LayerBuilder::append_bytes(ContentWriter& out, std::string_view bytes) {
  hash(bytes);
  return out.append(bytes);
}

Status LayerBuilder::append_hole(ContentWriter& out, uint64_t size_bytes) {
  if (size_bytes == 0) return {};
  if (layer_.provisional)
    hash_source(0, 0, size_bytes);
  else
    hash_zeros(size_bytes);
  return out.append_hole(size_bytes);
}

Status LayerBuilder::append_lower(ContentWriter& out, Ino ino, uint64_t from, uint64_t to) {
  if (from >= to) return {};
  uint64_t lower_size = TRY(lower_.get(ino)).attributes.size_bytes;
  ContentReader reader(store_.chunks(), store_.objects(), TRY(lower_.content(ino)), lower_size);
  TRY(out.append_extents(TRY(reader.extents(from, to - from)), from, to - from));
  return hash_lower(reader, ino, from, to);
}

Status LayerBuilder::append_upper(ContentWriter& out, Ino ino, uint64_t from, uint64_t to) {
  std::string buffer(std::min<uint64_t>(kContentBufferBytes, to - from), '\0');
  while (from < to) {
    Result<uint64_t> data = upper_.seek_body(ino, from, SEEK_DATA);
    if (!data.ok() && data.error().code != ENXIO) return std::move(data).error();
    uint64_t next = data.ok() ? std::min(*data, to) : to;
    TRY(append_hole(out, next - from));
    from = next;
    if (from == to) break;
    uint64_t end = std::min(TRY(upper_.seek_body(ino, from, SEEK_HOLE)), to);
    while (from < end) {
      std::span<char> part(buffer.data(), std::min<uint64_t>(buffer.size(), end - from));
      size_t got = TRY(upper_.read_body(ino, from, part));
      if (got == 0) return Error{EIO, "a body became shorter while it was read"};
      TRY(append_bytes(out, {part.data(), got}));
      from += got;
    }
  }
  return {};
}

Status LayerBuilder::tar_literal(std::string_view bytes) {
  hash(bytes);
  return tar_.append(bytes);
}

// The body is hashed already; the tar only names where it is.
Status LayerBuilder::tar_body(const Content& content, uint64_t size_bytes) {
  if (size_bytes == 0) return {};
  ContentReader reader(store_.chunks(), store_.objects(), content, size_bytes);
  TRY(tar_.append_extents(TRY(reader.extents(0, size_bytes)), 0, size_bytes));
  return tar_literal(std::string(tar_padding(size_bytes), '\0'));
}

void LayerBuilder::hash(std::string_view bytes) {
  sha256_.update(bytes);
  advance(bytes.size());
}

void LayerBuilder::advance(uint64_t size_bytes) {
  position_bytes_ += size_bytes;
  if (options_.progress != nullptr && position_bytes_ - reported_bytes_ >= kProgressBytes) {
    reported_bytes_ = position_bytes_;
    options_.progress(position_bytes_, 0, "committing");
  }
}

// For a provisional diffID: what comes here in the tar is not read. Ino 0: a hole.
void LayerBuilder::hash_source(Ino ino, uint64_t offset, uint64_t size_bytes) {
  if (size_bytes == 0) return;
  has_sources_ = true;
  std::string source;
  for (uint64_t field : {position_bytes_, ino, offset, size_bytes}) put_be64(source, field);
  sources_.update(source);
  advance(size_bytes);
}

// The chain below says what every inode number of it holds, so this names the tar's bytes as surely
// as their own hash does.
Digest LayerBuilder::provisional_id() {
  return sha256(fmt::format("layerfs provisional diffID\nbelow {}\ntar {}\nnew {}\nsources {}\n",
                            below_.to_string(), layer_.tar_bytes, sha256_.finish().to_string(),
                            sources_.finish().to_string()));
}

void LayerBuilder::hash_zeros(uint64_t size_bytes) {
  static const std::string kZeros(kContentBufferBytes, '\0');
  for (; size_bytes > 0; size_bytes -= std::min<uint64_t>(size_bytes, kZeros.size()))
    hash(std::string_view(kZeros).substr(0, size_bytes));
}

}  // namespace layerfs
