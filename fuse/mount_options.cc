// SPDX-License-Identifier: Apache-2.0
#include "fuse/mount_options.h"

#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <optional>
#include <set>
#include <span>
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

// What mount(8), fstab and libfuse's tools pass and what is so without saying: access times follow
// relatime's rule unless noatime is given.
constexpr std::array<std::string_view, 9> kTakenAsGiven = {
    "rw", "defaults", "async", "relatime", "auto", "noauto", "user", "nouser", "_netdev"};

bool contains(std::span<const std::string_view> list, std::string_view item) {
  return std::find(list.begin(), list.end(), item) != list.end();
}

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
  std::optional<std::string> shown;
  MountOptions out;
  for (const std::string& list : given) {
    std::istringstream items(list);
    for (std::string item; std::getline(items, item, ',');) {
      if (item.empty() || contains(kTakenAsGiven, item)) continue;
      if (item.starts_with("fsname="))
        shown = item.substr(std::strlen("fsname="));
      else if (item == "nodiratime")  // libfuse 3.14 refuses it; the kernel leaves atime to us
        out.keep_directory_atime = true;
      else if (contains(kPassedOn, item))
        wanted.insert(item);
      else
        log_warning("ignoring the mount option '{}', which layerfs does not know", item);
    }
  }
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
  out.keep_atime = wanted.contains("noatime");
  out.keep_directory_atime |= out.keep_atime;
  out.for_libfuse.assign(wanted.begin(), wanted.end());
  if (!shown) out.for_libfuse.push_back("subtype=layerfs");
  out.for_libfuse.push_back("fsname=" + escape(shown.value_or(source)));
  return out;
}

}  // namespace layerfs
