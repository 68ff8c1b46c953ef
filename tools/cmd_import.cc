// SPDX-License-Identifier: Apache-2.0
#include "layerdb/ops/import.h"
#include "tools/cli.h"

namespace layerfs {
namespace {

Status import_source(const Globals& globals, const std::string& source,
                     const std::string& reference) {
  ImportOptions options;
  if (!reference.empty()) options.reference = reference;
  options.cancelled = cancelled_by_signal();
  std::unique_ptr<Store> store = TRY(open_store_to_write(globals, WhenMissing::create));
  ImportResult result;
  {
    ProgressBar bar(globals);
    options.progress = bar.callback();
    result = TRY(import_image(*store, source, options));
  }
  for (const Digest& image : result.images) print_line(image.to_string());
  return {};
}

}  // namespace

void add_import(CommandLine& line) {
  struct ImportArguments {
    std::string source, reference;
  };
  auto arguments = std::make_shared<ImportArguments>();
  Command command =
      line.add("Images", "import", "Bring in a root filesystem or an image; prints the image id",
               {"layerfs import rootfs.tar.zst debian:12", "podman save alpine | layerfs import -",
                "layerfs import ./oci-layout/"},
               [arguments](const Globals& globals) {
                 return import_source(globals, arguments->source, arguments->reference);
               });
  command.required(
      "SOURCE", arguments->source,
      "Tar (any compression), directory, OCI layout or docker-archive; - is standard input");
  command.optional("REFERENCE", arguments->reference, "Tag for the image, repository[:tag]");
}

}  // namespace layerfs
