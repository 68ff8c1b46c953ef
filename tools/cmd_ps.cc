// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "layerdb/ops/container.h"
#include "layerdb/upper/upper.h"
#include "tools/cli.h"
#include "tools/text.h"

namespace layerfs {
namespace {

struct Row {
  Container container;
  std::optional<MountInfo> mount;
  uint64_t size_bytes = 0;
};

Result<std::vector<Row>> describe_containers(const std::string& root) {
  std::vector<Row> rows;
  std::vector<Container> containers = TRY(list_containers(root));
  for (Container& container : containers) {
    Row row;
    row.mount = TRY(mounted(container));
    row.size_bytes = TRY(Upper::stored_bytes_in(container.directory));
    row.container = std::move(container);
    rows.push_back(std::move(row));
  }
  return rows;
}

nlohmann::json to_json(const Row& row) {
  nlohmann::json json = {{"Name", row.container.name},
                         {"Image", row.container.reference},
                         {"ImageId", row.container.image.to_string()},
                         {"CreatedAt", format_rfc3339(row.container.created_at)},
                         {"State", row.mount ? "mounted" : "not mounted"},
                         {"Pid", nullptr},
                         {"MountPoint", nullptr},
                         {"ReadOnly", nullptr},
                         {"MountedAt", nullptr},
                         {"Size", row.size_bytes},
                         {"SizeLimit", row.container.size_limit_bytes}};
  if (row.mount) {
    json["Pid"] = row.mount->pid;
    json["MountPoint"] = row.mount->mountpoint;
    json["ReadOnly"] = row.mount->read_only;
    json["MountedAt"] = format_rfc3339(row.mount->mounted_at);
  }
  return json;
}

Status list_all(const Globals& globals) {
  std::vector<Row> rows = TRY(describe_containers(globals.root));
  if (globals.json) {
    nlohmann::json list = nlohmann::json::array();
    for (const Row& row : rows) list.push_back(to_json(row));
    print_json(list);
  } else if (globals.quiet) {
    for (const Row& row : rows) print_line(row.container.name);
  } else {
    Table table({"CONTAINER NAME", "IMAGE", "CREATED", "STATUS", "MOUNT POINT", "SIZE"});
    for (const Row& row : rows)
      table.add({row.container.name, printable(row.container.reference),
                 time_ago(row.container.created_at),
                 row.mount ? fmt::format("mounted (pid {})", row.mount->pid) : "not mounted",
                 row.mount ? printable(row.mount->mountpoint) : "", human_size(row.size_bytes)});
    print_line(table.to_string());
  }
  return {};
}

}  // namespace

void add_ps(CommandLine& line) {
  line.add("Containers", "ps", "List containers, mounted or not",
           {"layerfs ps", "layerfs ps -q", "layerfs ps --json"}, list_all);
}

}  // namespace layerfs
