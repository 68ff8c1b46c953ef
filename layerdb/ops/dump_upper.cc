// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include "layerdb/ops/container.h"
#include "layerdb/ops/dump.h"
#include "layerdb/ops/dump_text.h"
#include "layerdb/upper/upper.h"

namespace layerfs {
namespace {

const char* body_name(Body body) {
  switch (body) {
    case Body::none:
      return "none";
    case Body::lower:
      return "lower";
    case Body::small:
      return "small";
    case Body::file:
      return "file";
  }
  return "unknown";
}

Status dump_inode(Upper& upper, Ino ino, const InodeRecord& record, const DumpLine& line) {
  line(fmt::format("inode {} {} atime {} ctime {} btime {} parent {} body {} lower {}{}", ino,
                   describe(record.attributes), describe(record.atime), describe(record.ctime),
                   describe(record.btime), record.parent, body_name(record.body),
                   record.lower_size_bytes, record.own_xattrs ? " own-xattrs" : ""));
  if (!record.symlink_target.empty()) line("  target " + quote(record.symlink_target));
  auto xattrs = TRY(upper.xattrs(ino));
  for (const auto& [name, value] : xattrs) {
    line(fmt::format("  xattr {}={}", quote(name), quote(value)));
  }
  auto ranges = TRY(upper.ranges(ino, 0, UINT64_MAX));
  for (const Range& range : ranges) {
    line(fmt::format("  range {}+{}", range.offset, range.length));
  }
  if (record.body == Body::small) {
    line(fmt::format("  small {}", TRY(upper.small_body(ino)).size()));
  }
  return {};
}

}  // namespace

Status dump_container(Store& store, const std::string& name, const DumpLine& line) {
  Container container = TRY(find_container(store.root(), name));
  line(fmt::format("container {} reference {} image {} chain {} created {} limit {}",
                   container.name, quote(container.reference), container.image.to_string(),
                   container.chain_id.to_string(), container.created_at,
                   container.size_limit_bytes));
  if (!path_exists(container.directory + "/upper")) return {};  // never mounted
  if (TRY(mounted(container))) {
    return Error{EBUSY, "container '" + name + "' is mounted; its upper changes while it is read"};
  }
  auto upper = TRY(Upper::open(container.directory, 0, {.read_only = true}));
  Status status;
  TRY(upper->for_each_inode([&](Ino ino, const InodeRecord& record) {
    status = dump_inode(*upper, ino, record, line);
    return status.ok();
  }));
  TRY(std::move(status));
  TRY(upper->for_each_name([&](Ino directory, std::string_view entry, const UpperName& target) {
    line(fmt::format("name {} {} -> {} {}{}", directory, quote(entry), target.ino,
                     type_name(target.type), target.over_lower ? " over-lower" : ""));
    return true;
  }));
  auto orphans = TRY(upper->orphans());
  for (Ino ino : orphans) line(fmt::format("orphan {}", ino));
  return {};
}

}  // namespace layerfs
