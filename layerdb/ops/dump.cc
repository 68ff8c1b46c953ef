// SPDX-License-Identifier: Apache-2.0
#include "layerdb/ops/dump.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <map>

#include "layerdb/base/coding.h"
#include "layerdb/object/file_map.h"
#include "layerdb/object/tree.h"
#include "layerdb/ops/dump_text.h"
#include "layerdb/store/catalog.h"
#include "layerdb/store/group_codec.h"
#include "layerdb/store/group_copies.h"
#include "layerdb/store/maintenance.h"
#include "layerdb/store/object_store.h"
#include "layerdb/store/read_history.h"
#include "layerdb/store/reference.h"
#include "layerdb/store/similarity.h"

namespace layerfs {
namespace {

std::string hex(const Fingerprint& f) { return fmt::format("{:016x}{:016x}", f.high, f.low); }

// A tree page and everything below it.
class TreeDump {
 public:
  TreeDump(Store& store, const DumpLine& line) : store_(store), line_(line) {}

  void page(ObjectId id, size_t depth) {
    auto page = store_.objects().tree_page(id);
    if (!page.ok()) return put(depth, "damaged " + quote(page.error().message));
    put(depth,
        fmt::format("{} {} level {} entries {} inodes {}", (*page)->is_index() ? "index" : "leaf",
                    raw(id), (*page)->level(), (*page)->entry_count(), (*page)->inode_count()));
    if (depth > kMaxTreeDepth) return put(depth, "damaged \"nested too deep\"");
    for (size_t i = 0; i < (*page)->size(); ++i) {
      if ((*page)->is_index()) {
        child(id, **page, i, depth);
      } else {
        entry(id, **page, i, depth);
      }
    }
  }

 private:
  void put(size_t depth, const std::string& text) { line_(std::string(2 * depth, ' ') + text); }

  void below(ObjectId parent, ObjectId id, size_t depth) {
    if (raw(id) < raw(parent)) return page(id, depth);
    put(depth, fmt::format("damaged \"names the later object {}\"", raw(id)));
  }

  void child(ObjectId id, const TreePage& page, size_t i, size_t depth) {
    put(depth, fmt::format("child {} {}", quote(page.name(i)), describe(page.tree(i))));
    below(id, page.child(i), depth + 1);
  }

  void entry(ObjectId id, const TreePage& page, size_t i, size_t depth) {
    auto entry = page.entry(i);
    if (!entry.ok()) return put(depth, fmt::format("damaged {}", quote(page.name(i))));
    put(depth, fmt::format("+{} {}", page.delta(i), describe(*entry)));
    if (entry->tree.page != ObjectId::none) below(id, entry->tree.page, depth + 1);
  }

  Store& store_;
  const DumpLine& line_;
};

void dump_map(Store& store, ObjectId id, size_t depth, const DumpLine& line) {
  std::string indent(2 * depth, ' ');
  auto page = store.objects().map_page(id);
  if (!page.ok()) return line(indent + "damaged " + quote(page.error().message));
  for (const Extent& extent : (*page)->extents) line(indent + describe(extent));
  for (const MapChild& child : (*page)->children) {
    line(fmt::format("{}map {} from {}", indent, raw(child.page), child.first_offset));
    if (raw(child.page) < raw(id)) dump_map(store, child.page, depth + 1, line);
  }
}

void dump_layer_record(const LayerRecord& layer, const DumpLine& line) {
  line(fmt::format("layer {} root {} links {} entries {} content {} tar {} {}{}",
                   layer.diff_id.to_string(), raw(layer.root), raw(layer.links), layer.entry_count,
                   layer.content_bytes, layer.tar_bytes, describe(layer.tar),
                   layer.provisional ? " provisional" : ""));
}

void dump_chain_record(const ChainRecord& chain, const DumpLine& line) {
  line(fmt::format("chain {} top {} parent {} root {} links {} content {}",
                   chain.chain_id.to_string(), chain.diff_id.to_string(),
                   chain.parent ? chain.parent->to_string() : "none", raw(chain.root),
                   raw(chain.links), chain.content_bytes));
}

void dump_group_record(GroupId number, std::string_view record, const DumpLine& line) {
  auto parsed = parse_group(number, record);
  if (!parsed.ok()) return line(fmt::format("group {} damaged", number));
  std::string bases;
  for (GroupId base : parsed->bases) bases += fmt::format(" base {}", base);
  line(fmt::format("group {} codec {} stored {} raw {}{}", number,
                   parsed->codec == GroupCodec::zstd ? "zstd" : "plain", record.size(),
                   parsed->raw_bytes, bases));
}

}  // namespace

Status dump_catalog(Store& store, const DumpLine& line) {
  return for_each_record(store.database(), Family::catalog, [&](auto key, auto value) {
    line(fmt::format("{} {}", quote(key), key == "next" ? hex_bytes(value) : quote(value)));
    return true;
  });
}

Status dump_image(Store& store, const std::string& name, const DumpLine& line) {
  Catalog& catalog = store.catalog();
  Digest id = TRY(resolve_image(catalog, name));
  ImageRecord image = TRY(catalog.image(id));
  line(fmt::format("image {} imported {} chain {}", id.to_string(), image.imported_at,
                   image.chain_id.to_string()));
  auto references = TRY(catalog.refs());
  for (const auto& [reference, target] : references) {
    if (target == id) line("reference " + quote(reference));
  }
  std::optional<Digest> chain_id;
  for (const Digest& diff_id : image.diff_ids) {
    dump_layer_record(TRY(catalog.layer(diff_id)), line);
    chain_id = chain_id_of(chain_id, diff_id);
    auto chain = catalog.chain(*chain_id);
    if (chain.ok()) dump_chain_record(*chain, line);
  }
  line("config " + quote(TRY(catalog.config(id))));
  return {};
}

Status dump_layer(Store& store, const std::string& diff_id, const DumpLine& line) {
  LayerRecord layer = TRY(store.catalog().layer(TRY(Digest::parse(diff_id))));
  dump_layer_record(layer, line);
  TRY(dump_object(store, layer.root, line));
  if (layer.links != ObjectId::none) TRY(dump_object(store, layer.links, line));
  if (layer.tar.map != ObjectId::none) dump_map(store, layer.tar.map, 0, line);
  return {};
}

Status dump_chain(Store& store, const std::string& chain_id, const DumpLine& line) {
  ChainRecord chain = TRY(store.catalog().chain(TRY(Digest::parse(chain_id))));
  dump_chain_record(chain, line);
  TRY(dump_object(store, chain.root, line));
  if (chain.links != ObjectId::none) TRY(dump_object(store, chain.links, line));
  return {};
}

Status dump_object(Store& store, ObjectId id, const DumpLine& line) {
  auto bytes = TRY(store.database().get(Family::objects, be64(raw(id))));
  if (!bytes) return Error{ENOENT, fmt::format("no object {}", raw(id))};
  if (TreePage::parse(*bytes).ok()) {
    TreeDump(store, line).page(id, 0);
  } else if (decode_map_page(*bytes).ok()) {
    line(fmt::format("map {}", raw(id)));
    dump_map(store, id, 1, line);
  } else {
    line(fmt::format("object {} damaged {}", raw(id), hex_bytes(*bytes)));
  }
  return {};
}

Status dump_objects(Store& store, const DumpLine& line) {
  return for_each_object(store.database(), [&](ObjectId id, std::string_view bytes) {
    const char* kind = TreePage::parse(std::string(bytes)).ok() ? "tree"
                       : decode_map_page(bytes).ok()            ? "map"
                                                                : "damaged";
    line(fmt::format("object {} {} {}", raw(id), kind, bytes.size()));
    return true;
  });
}

Status dump_group(Store& store, GroupId number, const DumpLine& line) {
  auto record = TRY(store.database().get(Family::groups, be64(number)));
  if (!record) return Error{ENOENT, fmt::format("no group {}", number)};
  dump_group_record(number, *record, line);
  std::vector<std::pair<uint32_t, std::string>> chunks;
  TRY(for_each_chunk(store.database(), [&](const Fingerprint& fingerprint, const auto& addresses) {
    for (const ChunkAddress& address : addresses) {
      if (address.group == number) chunks.emplace_back(address.offset, hex(fingerprint));
    }
    return true;
  }));
  std::sort(chunks.begin(), chunks.end());
  for (const auto& [offset, text] : chunks) line(fmt::format("chunk at {} {}", offset, text));
  return {};
}

Status dump_groups(Store& store, const DumpLine& line) {
  return for_each_record(store.database(), Family::groups, [&](auto key, auto value) {
    if (key.size() == 8) {
      dump_group_record(decode_be64(key.data()), value, line);
    } else {
      line("damaged key " + quote(key));
    }
    return true;
  });
}

Status dump_chunk_index(Store& store, const DumpLine& line) {
  return for_each_chunk(store.database(),
                        [&](const Fingerprint& fingerprint, const auto& addresses) {
                          std::string text = "chunk " + hex(fingerprint);
                          for (const ChunkAddress& address : addresses) {
                            text += fmt::format(" {}:{}", address.group, address.offset);
                          }
                          line(text);
                          return true;
                        });
}

Status dump_similar(Store& store, const DumpLine& line) {
  return for_each_record(store.database(), Family::similar, [&](auto key, auto value) {
    Result<GroupId> group = decode_similar(value);
    if (group.ok())
      line(fmt::format("feature {} group {}", hex_bytes(key), *group));
    else
      line(fmt::format("feature {} damaged {}", hex_bytes(key), hex_bytes(value)));
    return true;
  });
}

Status dump_reads(Store& store, const DumpLine& line) {
  Result<ReadHistory> history = ReadHistory::open_to_read(ReadHistory::path_in(store.root()));
  if (!history.ok() && history.error().code == ENOENT) return {};
  TRY(std::move(history)).for_each_run([&](ReadHistory::Place place, std::span<const GroupId> run) {
    line(fmt::format("run at {} groups {}", place, fmt::join(run, " ")));
  });
  return {};
}

Status dump_copies(Store& store, const DumpLine& line) {
  Result<GroupCopies> copies = GroupCopies::open_to_read(GroupCopies::path_in(store.root()));
  if (!copies.ok() && copies.error().code == ENOENT) return {};
  std::map<uint64_t, std::string> lines;  // in the file's order
  TRY(TRY(std::move(copies)).for_each([&](GroupId group, uint64_t offset, uint32_t bytes) {
    lines[offset] = fmt::format("copy of group {} stored {} at {}", group, bytes, offset);
  }));
  for (const auto& [offset, text] : lines) line(text);
  return {};
}

}  // namespace layerfs
