// SPDX-License-Identifier: Apache-2.0
//
// Containers: a named upper on an image. On disk `<root>/containers/<name>/`: container.json,
// the upper (upper/upper.h), `lock` (flock, held by the daemon that has it mounted), `mount.json`
// (pid, mount point, since when; valid only while `lock` is held), `control` (the daemon's socket),
// `log`. A container names its image and chain, and so is a root of garbage collection.
//
// `<root>/containers.lock` (flock) is held exclusively while a container is made or removed and
// while rmi and gc decide what is in use: an image cannot vanish between being resolved and named.
// Lock order: store.lock before containers.lock before a container's lock.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "layerdb/base/hash.h"
#include "layerdb/base/result.h"
#include "layerdb/base/sys.h"
#include "layerdb/store/catalog.h"

namespace layerfs {

struct Container {
  std::string name;
  std::string directory;         // <root>/containers/<name>
  std::string reference;         // as the user wrote it
  Digest image;
  Digest chain_id;
  int64_t created_at = 0;        // seconds since the epoch
  uint64_t size_limit_bytes = 0;
};

struct MountInfo {
  int pid = 0;
  std::string mountpoint;
  bool read_only = false;
  int64_t mounted_at = 0;
};

Result<UniqueFd> lock_containers(const std::string& root);
// ENOENT "no container 'x'; `layerfs ps` lists them".
Result<Container> find_container(const std::string& root, const std::string& name);
Result<std::vector<Container>> list_containers(const std::string& root);  // sorted by name
// Needs the containers lock. EEXIST; EINVAL for a name that is not valid. Appears whole or not at all.
Result<Container> create_container(const std::string& root, Container description);
// EBUSY while mounted.
Status remove_container(const Container& container);
// Who has it mounted; nullopt when nobody does (a stale mount.json of a killed daemon counts not).
Result<std::optional<MountInfo>> mounted(const Container& container);
// The daemon's part, with the container's lock held: what mounted() tells others.
Status record_mount(const Container& container, const MountInfo& mount);
Status forget_mount(const Container& container);  // nothing recorded: success
std::string generate_container_name(const std::string& root);  // "adjective_noun", as docker's
bool valid_container_name(const std::string& name);            // [a-zA-Z0-9][a-zA-Z0-9_.-]*

}  // namespace layerfs
