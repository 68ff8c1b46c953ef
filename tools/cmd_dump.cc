// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <charconv>
#include <nlohmann/json.hpp>

#include "layerdb/ops/dump.h"
#include "tools/cli.h"

namespace layerfs {
namespace {

Result<uint64_t> parse_number(const std::string& text) {
  uint64_t number = 0;
  auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (text.empty() || error != std::errc() || end != text.data() + text.size()) {
    return Error{EINVAL, "'" + text + "' is not a number"};
  }
  return number;
}

Status dump(Store& store, const std::string& kind, const std::string& id, const DumpLine& line) {
  bool all = id.empty();
  if (kind == "catalog") return dump_catalog(store, line);
  if (kind == "chunks") return dump_chunk_index(store, line);
  if (kind == "similar") return dump_similar(store, line);
  if (kind == "reads") return dump_reads(store, line);
  if (kind == "copies") return dump_copies(store, line);
  if (kind == "object" && all) return dump_objects(store, line);
  if (kind == "object") return dump_object(store, ObjectId{TRY(parse_number(id))}, line);
  if (kind == "group" && all) return dump_groups(store, line);
  if (kind == "group") return dump_group(store, TRY(parse_number(id)), line);
  if (all) return Error{EINVAL, "dump " + kind + " needs an id"};
  if (kind == "image") return dump_image(store, id, line);
  if (kind == "layer") return dump_layer(store, id, line);
  if (kind == "chain") return dump_chain(store, id, line);
  return dump_container(store, id, line);
}

Status run_dump(const Globals& globals, const std::string& kind, const std::string& id) {
  std::unique_ptr<Store> store = TRY(open_store_to_read(globals));
  if (!globals.json) return dump(*store, kind, id, print_line);
  nlohmann::json lines = nlohmann::json::array();
  TRY(dump(*store, kind, id, [&](std::string_view line) { lines.push_back(std::string(line)); }));
  print_json(lines);
  return {};
}

}  // namespace

void add_dump(CommandLine& line) {
  struct DumpArguments {
    std::string kind, id;
  };
  auto arguments = std::make_shared<DumpArguments>();
  Command command = line.add("Store", "dump", "Print what is stored, as text",
                             {"layerfs dump catalog", "layerfs dump image debian:12",
                              "layerfs dump object 42", "layerfs dump container web"},
                             [arguments](const Globals& globals) {
                               return run_dump(globals, arguments->kind, arguments->id);
                             });
  command.required("KIND", arguments->kind, "What to print",
                   {"catalog", "image", "layer", "chain", "object", "group", "chunks", "similar",
                    "reads", "copies", "container"});
  command.optional("ID", arguments->id,
                   "Reference, digest, number or name; objects and groups are listed without");
}

}  // namespace layerfs
