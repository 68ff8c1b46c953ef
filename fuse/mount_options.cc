// SPDX-License-Identifier: Apache-2.0
#include "fuse/mount_options.h"

#include <unistd.h>

#include <algorithm>
#include <array>
#include <set>
#include <sstream>
#include <string_view>

#include "layerdb/base/log.h"

namespace layerfs {
namespace {

constexpr std::array<std::string_view, 13> kPassedOn = {"ro",
                                                        "dev",
                                                        "nodev",
                                                        "suid",
                                                        "nosuid",
                                                        "exec",
                                                        "noexec",
                                                        "atime",
                                                        "noatime",
                                                        "sync",
                                                        "dirsync",
                                                        "allow_other",
                                                        "default_permissions"};

// Commas separate options also inside one -o argument; libfuse takes a backslash before them.
std::string escape(const std::string& text) {
  std::string out;
  for (char c : text) {
    if (c == ',' || c == '\\') out.push_back('\\');
    out.push_back(c);
  }
  return out;
}

}  // namespace

MountOptions choose_mount_options(const std::vector<std::string>& given, bool read_only,
                                  const std::string& source) {
  std::set<std::string> wanted;
  for (const std::string& list : given) {
    std::istringstream items(list);
    for (std::string item; std::getline(items, item, ',');) {
      if (item.empty() || item == "rw" || item == "defaults") continue;
      if (std::find(kPassedOn.begin(), kPassedOn.end(), item) != kPassedOn.end())
        wanted.insert(item);
      else
        log_warning("ignoring the mount option '{}', which layerfs does not know", item);
    }
  }
  MountOptions out;
  if (::geteuid() == 0) {
    wanted.insert({"allow_other", "default_permissions"});
    if (!wanted.contains("nosuid")) wanted.insert("suid");
    if (!wanted.contains("nodev")) wanted.insert("dev");
  } else {
    // Whoever lets others in must not make them all root inside.
    if (wanted.contains("allow_other")) wanted.insert("default_permissions");
    out.ids = {::geteuid(), ::getegid()};
  }
  if (read_only) wanted.insert("ro");
  out.read_only = wanted.contains("ro");
  out.kernel_checks = wanted.contains("default_permissions");
  out.for_libfuse.assign(wanted.begin(), wanted.end());
  out.for_libfuse.push_back("subtype=layerfs");
  out.for_libfuse.push_back("fsname=" + escape(source));
  return out;
}

}  // namespace layerfs
