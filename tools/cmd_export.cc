// SPDX-License-Identifier: Apache-2.0
#include <unistd.h>

#include <map>

#include "layerdb/ops/commit.h"
#include "layerdb/ops/container.h"
#include "layerdb/ops/export.h"
#include "layerdb/store/reference.h"
#include "tools/cli.h"
#include "tools/image_info.h"
#include "tools/large_pages.h"
#include "tools/quiet_container.h"

namespace layerfs {
namespace {

struct ExportArguments {
  std::string name;
  std::string output;
  std::string format = "oci";
  std::string compression = "gzip";
};

ExportOptions to_options(const ExportArguments& arguments) {
  static const std::map<std::string, ExportFormat> kFormats = {
      {"oci", ExportFormat::oci}, {"docker", ExportFormat::docker}, {"tar", ExportFormat::tar}};
  static const std::map<std::string, LayerCompression> kCompressions = {
      {"gzip", LayerCompression::gzip},
      {"zstd", LayerCompression::zstd},
      {"none", LayerCompression::none}};
  ExportOptions out;
  out.format = kFormats.at(arguments.format);
  out.compression = kCompressions.at(arguments.compression);
  out.output = arguments.output;
  return out;
}

// The container's state becomes an image that is never published.
Status export_container(const Globals& globals, const Container& container,
                        const ExportOptions& options) {
  Result<std::unique_ptr<Store>> opened = open_store_to_write(globals, WhenMissing::fail);
  if (!opened.ok() && opened.error().code == EROFS)
    return opened.error().wrap("exporting container '" + container.name +
                               "' writes to its store; do it on a copy that can be written");
  std::unique_ptr<Store> store = TRY(std::move(opened));
  Result<CommitResult> built = [&]() -> Result<CommitResult> {
    std::unique_ptr<QuietContainer> quiet = TRY(QuietContainer::open(*store, container));
    CommitOptions commit;
    commit.progress = quiet->keeping(options.progress);
    CommitResult result =
        TRY(build_commit(*store, container, quiet->lower(), quiet->upper(), commit));
    TRY(quiet->keep());
    return result;
  }();
  Status status = built.ok() ? export_image(*store, built->source, options) : built.error();
  store->discard();
  return status;
}

Status export_stored(const Globals& globals, const std::string& name, ExportOptions options) {
  begin_heap_in_large_pages(StoreOptions().group_cache_bytes);
  std::unique_ptr<Store> store = TRY(open_store_to_read(globals));
  Digest id = TRY(resolve_image(store->catalog(), name));
  Result<Reference> reference = parse_reference(name);
  if (reference.ok() && !reference->digest) {
    Result<Digest> target = store->catalog().ref(reference->to_string());
    if (target.ok() && *target == id) options.reference = reference->to_string();
  }
  ImageSource image = TRY(load_image(*store, id));
  return export_image(*store, image, options);
}

Status run_export(const Globals& globals, const ExportArguments& arguments) {
  if (arguments.output == "-" && ::isatty(STDOUT_FILENO) == 1)
    return Error{EINVAL, "standard output is a terminal; use -o FILE or a pipe"};
  ExportOptions options = to_options(arguments);
  ProgressBar bar(globals);
  options.progress = bar.callback();
  options.cancelled = cancelled_by_signal();
  Result<Container> container = find_container(globals.root, arguments.name);
  if (container.ok()) return export_container(globals, *container, options);
  if (!may_be_image(container.error())) return std::move(container).error();
  return export_stored(globals, arguments.name, std::move(options));
}

}  // namespace

void add_export(CommandLine& line) {
  auto arguments = std::make_shared<ExportArguments>();
  Command command =
      line.add("Images", "export", "Write an image or a container's present state to a file",
               {"layerfs export debian:12 -o debian.tar", "layerfs export debian:12 -o layout/",
                "layerfs export mycontainer --format tar -o - | tar -C rootfs -x",
                "layerfs export debian:12 --format docker -o - | docker load"},
               [arguments](const Globals& globals) { return run_export(globals, *arguments); });
  command.required("NAME", arguments->name, "Container, reference or image id");
  command.required("-o,--output", arguments->output,
                   "File; a directory when it ends in '/'; '-' is standard output");
  command.optional("--format", arguments->format,
                   "oci: image layout; docker: docker-archive; tar: the root filesystem, flattened",
                   {"oci", "docker", "tar"});
  command.optional("--compression", arguments->compression, "Of OCI layers",
                   {"gzip", "zstd", "none"});
}

}  // namespace layerfs
