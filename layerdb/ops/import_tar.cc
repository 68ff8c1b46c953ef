// SPDX-License-Identifier: Apache-2.0
//
// One layer: tar bytes -> chunks, a diff tree and a map of the tar.
#include <algorithm>
#include <utility>

#include "layerdb/ops/image_import.h"
#include "layerdb/ops/import.h"
#include "layerdb/ops/input_stream.h"
#include "layerdb/ops/layer_writer.h"
#include "layerdb/ops/tar_map.h"
#include "layerdb/ops/tar_reader.h"
#include "layerdb/store/content.h"

namespace layerfs {
namespace {

constexpr std::string_view kWhiteoutPrefix = ".wh.";
constexpr std::string_view kMetaPrefix = ".wh..wh.";
constexpr std::string_view kOpaqueName = ".wh..wh..opq";

struct SplitPath {
  std::string parent;
  std::string name;
};

SplitPath split(const std::string& path) {
  size_t slash = path.rfind('/');
  if (slash == std::string::npos) return {"", path};
  return {path.substr(0, slash), path.substr(slash + 1)};
}

std::string join(const std::string& parent, std::string_view name) {
  return parent.empty() ? std::string(name) : parent + "/" + std::string(name);
}

class LayerImport {
 public:
  LayerImport(Store& store, LayerWriter& writer, InputStream& input, const std::string& source)
      : source_(source),
        chunks_(store.chunks()),
        writer_(writer),
        body_(store.chunks(), store.objects()),
        map_(store),
        reader_(input, source, [this](std::string_view bytes) { return map_.literal(bytes); }) {}

  Status run() {
    TarEntry entry;
    while (TRY(reader_.next(entry))) {
      Status status = add_entry(entry);
      if (!status.ok()) return name_source(status.error());
    }
    return reader_.finish();
  }

  // `last`: no other layer follows, and publishing need not wait for the trees.
  Result<LayerRecord> finish(const Digest& diff_id, bool last) {
    LayerRecord layer;
    layer.tar_bytes = map_.size_bytes();
    Content tar = TRY(map_.finish());
    if (last) TRY(chunks_.start_flush());
    Result<LayerRecord> tree = writer_.finish();
    if (!tree.ok()) return name_source(tree.error());
    uint64_t tar_bytes = layer.tar_bytes;
    layer = std::move(tree).value();
    layer.tar_bytes = tar_bytes;
    layer.tar = std::move(tar);
    layer.diff_id = diff_id;
    return layer;
  }

  bool end_marker_seen() const { return reader_.end_marker_seen(); }

 private:
  Error name_source(const Error& error) const {
    if (error.code != EINVAL || error.message.starts_with("'" + source_ + "'")) return error;
    return error.wrap("'" + source_ + "'");
  }

  Status add_entry(TarEntry& entry) {
    std::string path = TRY(normalise_path(entry.path));
    SplitPath where = split(path);
    if (where.name.starts_with(kWhiteoutPrefix)) return add_mark(where);
    if (entry.hard_link) {
      std::string target = TRY(normalise_path(entry.link_target));
      if (entry.body_bytes > 0) {  // the inode's bytes once more: only the map needs them
        entry.segments = {{0, entry.body_bytes}};
        TRY(store_body(entry));
      }
      return writer_.add_hard_link(path, target);
    }
    if (entry.entry.attributes.type == FileType::regular) {
      entry.entry.content = TRY(store_body(entry));
    }
    return writer_.add(path, std::move(entry.entry));
  }

  // `.wh.NAME` deletes NAME of the layers below, `.wh..wh..opq` everything in its directory; other
  // `.wh..wh.` names are AUFS's own and mean nothing.
  Status add_mark(const SplitPath& where) {
    if (where.name == kOpaqueName) return writer_.add_opaque(where.parent);
    if (where.name.starts_with(kMetaPrefix)) return {};
    std::string name = where.name.substr(kWhiteoutPrefix.size());
    if (name.empty() || name == "." || name == "..") {
      return Error{EINVAL, "'" + join(where.parent, where.name) + "' is a whiteout of no name"};
    }
    return writer_.add_whiteout(join(where.parent, name));
  }

  // The body's bytes become chunks of the file; the map refers to them.
  Result<Content> store_body(const TarEntry& entry) {
    auto segment = entry.segments.begin();
    uint64_t in_segment = 0;
    for (;;) {
      std::string_view piece = TRY(reader_.body());
      if (piece.empty()) break;
      while (!piece.empty()) {
        if (in_segment == 0 && segment->offset > body_.size_bytes()) {
          TRY(body_.append_hole(segment->offset - body_.size_bytes()));
        }
        uint64_t size = std::min<uint64_t>(piece.size(), segment->length - in_segment);
        TRY(body_.append(piece.substr(0, size)));
        piece.remove_prefix(size);
        in_segment += size;
        if (in_segment == segment->length) {
          ++segment;
          in_segment = 0;
        }
      }
    }
    Content content = TRY(body_.finish());
    for (const TarSegment& s : entry.segments) TRY(map_.body(content, s.offset, s.length));
    return content;
  }

  const std::string& source_;
  ChunkStore& chunks_;
  LayerWriter& writer_;
  ContentWriter body_;
  TarMapWriter map_;
  TarReader reader_;
};

}  // namespace

Result<LayerRecord> import_layer_stream(Store& store, const std::optional<ChainRecord>& parent,
                                        InputStream& input, const std::string& source_name,
                                        const std::optional<Digest>& expected) {
  std::unique_ptr<LayerWriter> writer = TRY(LayerWriter::create(store, parent));
  LayerImport import(store, *writer, input, source_name);
  TRY(import.run());
  Digest diff_id = input.digest();
  if (expected && diff_id != *expected) {
    return Error{EINVAL, "'" + source_name + "' is damaged: its uncompressed digest is " +
                             diff_id.to_string() + " instead of " + expected->to_string()};
  }
  if (!expected && !import.end_marker_seen()) {
    return Error{EINVAL,
                 "'" + source_name + "': the archive is cut short, its end marker is missing"};
  }
  return import.finish(diff_id, /*last=*/!expected);
}

Result<LayerRecord> import_layer_tar(Store& store, const std::optional<ChainRecord>& parent,
                                     const ByteSource& read, const std::string& source_name,
                                     const std::optional<Digest>& expected,
                                     const std::atomic<bool>* cancelled) {
  InputStream input(read, source_name, cancelled);
  return import_layer_stream(store, parent, input, source_name, expected);
}

}  // namespace layerfs
