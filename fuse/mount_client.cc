// SPDX-License-Identifier: Apache-2.0
//
// The commands that talk to a running mount.
#include <nlohmann/json.hpp>

#include "fuse/control.h"
#include "fuse/mount.h"
#include "fuse/mountpoint.h"
#include "layerdb/ops/container.h"

namespace layerfs {
namespace {

struct Target {
  Container container;     // name and directory are set
  std::string mountpoint;  // when named by mount point
};

// The container that says it is mounted at `path`: for a mount whose source is another name
// (fsname=). No name: none says so.
Result<Container> container_at(const std::string& root, const std::string& path) {
  std::vector<Container> all = TRY(list_containers(root));
  for (const Container& container : all) {
    std::optional<MountInfo> mount = TRY(mounted(container));
    if (mount && mount->mountpoint == path) return container;
  }
  return Container{};
}

// A mount point first: a relative path may look like a container's name.
Result<Target> find_target(const std::string& root, const std::string& target) {
  Result<std::string> path = resolve_mountpoint(target);
  if (path.ok()) {
    Target out{{}, *path};
    std::optional<MountEntry> mount = TRY(find_mount(*path));
    if (mount && mount->type == kMountType) {
      out.container.directory = mount->source;
      out.container.name = mount->source.substr(mount->source.rfind('/') + 1);
    } else if (mount && mount->type == kPlainMountType) {
      if (is_dead_mount(*path)) return out;
      out.container = TRY(container_at(root, *path));
    }
    if (!out.container.name.empty()) return out;
  }
  if (valid_container_name(target)) {
    Result<Container> container = find_container(root, target);
    if (container.ok()) return Target{*container, ""};
    if (container.error().code != ENOENT) return std::move(container).error();
  }
  return Error{EINVAL, "'" + target +
                           "' is neither a layerfs mount nor a container; `layerfs ps` lists both"};
}

}  // namespace

Status run_unmount(const std::string& root, const std::string& given) {
  Target target = TRY(find_target(root, given));
  if (!target.mountpoint.empty() && is_dead_mount(target.mountpoint))
    return detach_mount(target.mountpoint, true);
  std::unique_ptr<ControlClient> daemon = TRY(ControlClient::connect(target.container));
  TRY(daemon->call({{"op", "unmount"}}));
  daemon->wait_for_end();
  return {};
}

Result<nlohmann::json> mount_stats(const std::string& root, const std::string& given) {
  Target target = TRY(find_target(root, given));
  std::unique_ptr<ControlClient> daemon = TRY(ControlClient::connect(target.container));
  return daemon->call({{"op", "stats"}});
}

}  // namespace layerfs
