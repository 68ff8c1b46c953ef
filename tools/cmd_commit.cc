// SPDX-License-Identifier: Apache-2.0
#include "layerdb/ops/commit.h"
#include "layerdb/store/reference.h"
#include "tools/cli.h"
#include "tools/quiet_container.h"

namespace layerfs {
namespace {

struct CommitArguments {
  std::string container, reference;
  CommitOptions options;
};

Status commit_container(const Globals& globals, CommitArguments arguments) {
  Reference reference = TRY(parse_reference(arguments.reference));
  if (reference.digest)
    return Error{EINVAL, "'" + arguments.reference + "' names a digest; give repository:tag"};
  Container container = TRY(find_container(globals.root, arguments.container));
  std::unique_ptr<Store> store = TRY(open_store_to_write(globals, WhenMissing::fail));
  Digest image;
  {
    ProgressBar bar(globals);
    std::unique_ptr<QuietContainer> quiet = TRY(QuietContainer::open(*store, container));
    arguments.options.progress = quiet->keeping(bar.callback());
    CommitResult result =
        TRY(build_commit(*store, container, quiet->lower(), quiet->upper(), arguments.options));
    result.batch.put_ref(reference.to_string(), result.image.id);
    image = result.image.id;
    TRY(quiet->keep());
    TRY(store->publish(std::move(result.batch)));
  }
  print_line(image.to_string());
  return {};
}

}  // namespace

void add_commit(CommandLine& line) {
  auto arguments = std::make_shared<CommitArguments>();
  Command command = line.add(
      "Containers", "commit", "Make an image of a container's state, mounted or not",
      {"layerfs commit web site:v2", "layerfs commit -m 'install git' web site:git"},
      [arguments](const Globals& globals) { return commit_container(globals, *arguments); });
  command.required("CONTAINER", arguments->container, "Container");
  command.required("REFERENCE", arguments->reference, "Name of the image, repository[:tag]");
  command.optional("-m,--message", arguments->options.message, "What was changed");
  command.optional("--author", arguments->options.author, "Who changed it");
}

}  // namespace layerfs
