// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "layerdb/ops/usage.h"
#include "tools/cli.h"
#include "tools/text.h"

namespace layerfs {
namespace {

std::string ratio(uint64_t logical, uint64_t stored) {
  if (stored == 0) return "-";
  return fmt::format("{:.2f}", static_cast<double>(logical) / static_cast<double>(stored));
}

nlohmann::json to_json(const Usage& usage) {
  nlohmann::json images = nlohmann::json::array();
  for (const ImageUsage& image : usage.images) {
    images.push_back({{"Id", image.id.to_string()},
                      {"RepoTags", image.references},
                      {"LogicalBytes", image.logical_bytes},
                      {"SharedBytes", image.shared_bytes},
                      {"UniqueBytes", image.unique_bytes},
                      {"StoredBytes", image.stored_bytes},
                      {"UniqueStoredBytes", image.unique_stored_bytes}});
  }
  return {{"Images", images},
          {"LogicalBytes", usage.logical_bytes},
          {"DataBytes", usage.data_bytes},
          {"SharedBytes", usage.shared_bytes},
          {"StoredBytes", usage.stored_bytes},
          {"MetadataBytes", usage.metadata_bytes},
          {"UnreferencedBytes", usage.unreferenced_bytes},
          {"HintBytes", usage.hint_bytes},
          {"DiskBytes", usage.disk_bytes}};
}

void print_table(const Usage& usage) {
  Table table({"IMAGE", "LOGICAL", "SHARED", "UNIQUE", "STORED", "RATIO"});
  for (const ImageUsage& image : usage.images) {
    std::string name =
        image.references.empty() ? short_id(image.id) : printable(image.references.front());
    table.add({name, human_size(image.logical_bytes), human_size(image.shared_bytes),
               human_size(image.unique_bytes), human_size(image.stored_bytes),
               ratio(image.logical_bytes, image.stored_bytes)});
  }
  table.add({"TOTAL", human_size(usage.logical_bytes), human_size(usage.shared_bytes),
             human_size(usage.data_bytes - usage.shared_bytes), human_size(usage.stored_bytes),
             ratio(usage.logical_bytes, usage.stored_bytes)});
  print_line(table.to_string());
  print_line(fmt::format(
      "On disk: {} ({} of it trees, indexes and records; {} for reading sooner; "
      "{} unused, see `layerfs gc`), {} times smaller than the images",
      human_size(usage.disk_bytes), human_size(usage.metadata_bytes), human_size(usage.hint_bytes),
      human_size(usage.unreferenced_bytes), ratio(usage.logical_bytes, usage.disk_bytes)));
}

Status show_usage(const Globals& globals) {
  std::unique_ptr<Store> store = TRY(open_store_if_any(globals));
  Usage usage;
  if (store != nullptr) usage = TRY(measure_usage(*store));
  if (globals.json) {
    print_json(to_json(usage));
  } else if (globals.quiet) {
    print_line(std::to_string(usage.disk_bytes));
  } else {
    print_table(usage);
  }
  return {};
}

}  // namespace

void add_df(CommandLine& line) {
  line.add("Store", "df", "Show what images take, share and save",
           {"layerfs df", "layerfs df --json"}, show_usage);
}

}  // namespace layerfs
