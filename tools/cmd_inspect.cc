// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <nlohmann/json.hpp>

#include "layerdb/ops/container.h"
#include "layerdb/store/catalog.h"
#include "layerdb/store/reference.h"
#include "tools/cli.h"
#include "tools/image_info.h"
#include "tools/text.h"

namespace layerfs {
namespace {

using nlohmann::json;

json field(const json& object, const char* key, json missing) {
  auto found = object.find(key);
  return found == object.end() ? missing : *found;
}

// Docker's names; what only layerfs knows comes after.
json describe(const ImageInfo& image) {
  json layers = json::array();
  for (const LayerRecord& layer : image.layers) layers.push_back(layer.diff_id.to_string());
  json history = json::array();
  for (const HistoryEntry& entry : image.history())
    history.push_back({{"Created", entry.created},
                       {"CreatedBy", entry.created_by},
                       {"Author", entry.author},
                       {"Comment", entry.comment},
                       {"EmptyLayer", !entry.diff_id.has_value()}});
  return {{"Id", image.record.id.to_string()},
          {"RepoTags", image.references},
          {"Created", image.created},
          {"Author", string_field(image.config, "author")},
          {"Config", field(image.config, "config", json::object())},
          {"Architecture", string_field(image.config, "architecture")},
          {"Variant", string_field(image.config, "variant")},
          {"Os", string_field(image.config, "os")},
          {"Size", image.size_bytes},
          {"RootFS", {{"Type", "layers"}, {"Layers", layers}}},
          {"History", history},
          {"ChainId", image.record.chain_id.to_string()},
          {"Provisional", std::ranges::any_of(image.layers, &LayerRecord::provisional)},
          {"ImportedAt", format_rfc3339(image.record.imported_at)}};
}

Result<json> describe(const Container& container) {
  json state = {{"Mounted", false}};
  if (std::optional<MountInfo> mount = TRY(mounted(container)))
    state = {{"Mounted", true},
             {"Pid", mount->pid},
             {"MountPoint", mount->mountpoint},
             {"ReadOnly", mount->read_only},
             {"MountedAt", format_rfc3339(mount->mounted_at)}};
  return json{{"Name", container.name},
              {"Image", container.image.to_string()},
              {"Reference", container.reference},
              {"Created", format_rfc3339(container.created_at)},
              {"ChainId", container.chain_id.to_string()},
              {"State", state},
              {"SizeLimit", container.size_limit_bytes},
              {"Directory", container.directory}};
}

Result<json> inspect_one(const Globals& globals, Store* store, const std::string& name) {
  Result<Container> container = find_container(globals.root, name);
  if (container.ok()) return describe(*container);
  Error nothing = container.error();
  if (nothing.code == ENOENT)
    nothing.message =
        "no container or image '" + name + "'; `layerfs ps` and `layerfs images` list them";
  if (!may_be_image(nothing) || store == nullptr) return nothing;
  Result<Digest> id = resolve_image(store->catalog(), name);
  if (!id.ok() && id.error().code == ENOENT) return nothing;
  if (!id.ok()) return id.error();
  ImageInfo image = TRY(describe_image(store->catalog(), *id));
  return describe(image);
}

Status inspect(const Globals& globals, const std::vector<std::string>& names) {
  std::unique_ptr<Store> store = TRY(open_store_if_any(globals));
  json list = json::array();
  for (const std::string& name : names) {
    json one = TRY(inspect_one(globals, store.get(), name));
    list.push_back(std::move(one));
  }
  print_json(list);
  return {};
}

}  // namespace

void add_inspect(CommandLine& line) {
  auto names = std::make_shared<std::vector<std::string>>();
  Command command =
      line.add("Images", "inspect", "Show everything about containers or images, as JSON",
               {"layerfs inspect debian:12", "layerfs inspect mycontainer"},
               [names](const Globals& globals) { return inspect(globals, *names); });
  command.required("NAME", *names, "Container, reference or image id");
}

}  // namespace layerfs
