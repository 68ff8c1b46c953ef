// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <nlohmann/json.hpp>

#include "layerdb/store/catalog.h"
#include "layerdb/store/reference.h"
#include "tools/cli.h"
#include "tools/image_info.h"
#include "tools/text.h"

namespace layerfs {
namespace {

// The start of what fits a column, whole characters, as docker cuts it.
std::string shorten(const std::string& text) {
  static constexpr size_t kColumns = 45;
  size_t characters = 0;
  for (size_t i = 0; i < text.size(); ++i) {
    if ((static_cast<uint8_t>(text[i]) & 0xc0) == 0x80) continue;
    if (++characters == kColumns && i + 1 < text.size()) return text.substr(0, i) + "…";
  }
  return text;
}

nlohmann::json to_json(const HistoryEntry& entry, const std::string& id) {
  return {{"Id", id},
          {"Created", entry.created},
          {"CreatedBy", entry.created_by},
          {"Author", entry.author},
          {"Comment", entry.comment},
          {"DiffId", entry.diff_id ? nlohmann::json(entry.diff_id->to_string()) : nlohmann::json()},
          {"Size", entry.size_bytes}};
}

Status show_history(const Globals& globals, const std::string& name) {
  std::unique_ptr<Store> store = TRY(open_store_to_read(globals));
  Digest id = TRY(resolve_image(store->catalog(), name));
  ImageInfo image = TRY(describe_image(store->catalog(), id));
  std::vector<HistoryEntry> history = image.history();
  std::reverse(history.begin(), history.end());

  nlohmann::json list = nlohmann::json::array();
  Table table({"IMAGE", "CREATED", "CREATED BY", "SIZE", "COMMENT"});
  for (size_t i = 0; i < history.size(); ++i) {
    const HistoryEntry& entry = history[i];
    std::string row_id = i == 0 ? short_id(id) : "<missing>";
    list.push_back(to_json(entry, i == 0 ? id.to_string() : row_id));
    table.add({row_id, created_ago(entry.created), shorten(printable(entry.created_by)),
               human_size(entry.size_bytes), printable(entry.comment)});
  }
  if (globals.json)
    print_json(list);
  else
    print_line(table.to_string());
  return {};
}

}  // namespace

void add_history(CommandLine& line) {
  auto name = std::make_shared<std::string>();
  Command command = line.add("Images", "history", "Show how an image was made, newest step first",
                             {"layerfs history debian:12"}, [name](const Globals& globals) {
                               return show_history(globals, *name);
                             });
  command.required("IMAGE", *name, "Reference or id");
}

}  // namespace layerfs
