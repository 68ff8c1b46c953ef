// SPDX-License-Identifier: Apache-2.0
#include "layerdb/store/catalog.h"
#include "layerdb/store/reference.h"
#include "tools/cli.h"

namespace layerfs {
namespace {

Status tag_image(const Globals& globals, const std::string& source, const std::string& target) {
  Reference reference = TRY(parse_reference(target));
  if (reference.digest)
    return Error{EINVAL, "'" + target + "' names a digest; give repository:tag"};
  std::unique_ptr<Store> store = TRY(open_store_to_write(globals, WhenMissing::fail));
  Digest image = TRY(resolve_image(store->catalog(), source));
  CatalogBatch batch;
  batch.put_ref(reference.to_string(), image);
  return store->publish(std::move(batch));
}

}  // namespace

void add_tag(CommandLine& line) {
  struct TagArguments {
    std::string source, target;
  };
  auto arguments = std::make_shared<TagArguments>();
  Command command = line.add(
      "Images", "tag", "Give an image another reference",
      {"layerfs tag debian:12 registry.example/base:v1", "layerfs tag 3f2a91 debian:tested"},
      [arguments](const Globals& globals) {
        return tag_image(globals, arguments->source, arguments->target);
      });
  command.required("IMAGE", arguments->source, "Reference or id");
  command.required("REFERENCE", arguments->target, "New reference, repository[:tag]");
}

}  // namespace layerfs
