// SPDX-License-Identifier: Apache-2.0
#include "layerdb/base/available_memory.h"

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <optional>
#include <sstream>
#include <vector>

#include "layerdb/base/sys.h"

namespace layerfs {
namespace {

// What follows `key` in its line. Keys begin lines, but for ":memory:", which follows a number.
std::optional<std::string> value_of(const std::string& path, const std::string& key) {
  Result<std::string> text = read_file(path);
  if (!text.ok()) return std::nullopt;
  std::istringstream lines(*text);
  for (std::string line; std::getline(lines, line);) {
    size_t at = key.starts_with(':') ? line.find(key) : 0;
    if (at <= line.size() && line.compare(at, key.size(), key) == 0)
      return line.substr(at + key.size());
  }
  return std::nullopt;
}

std::optional<uint64_t> number_of(const std::string& path, const std::string& key) {
  std::optional<std::string> value = value_of(path, key);
  if (!value || value->find_first_of("0123456789") == std::string::npos) return std::nullopt;
  return std::strtoull(value->c_str(), nullptr, 10);
}

// The files that tell of a group in one version of cgroups. The page cache counts as free.
struct Version {
  const char* line;  // of /proc/self/cgroup, up to the path
  const char* directory;
  std::vector<const char*> limits;
  const char* used;
  std::vector<const char*> cache;  // keys of memory.stat
};
const Version kVersion2 = {
    "0::", "", {"memory.max", "memory.high"}, "memory.current", {"inactive_file ", "active_file "}};
const Version kVersion1 = {":memory:",
                           "/memory",
                           {"memory.limit_in_bytes"},
                           "memory.usage_in_bytes",
                           {"total_inactive_file ", "total_active_file "}};

// Or more: the first version has a number for none.
constexpr uint64_t kNoLimit = uint64_t{1} << 60;

// The least that the process's group and those above it have left.
uint64_t left_in_groups(const std::string& proc, const std::string& cgroups,
                        const Version& version) {
  uint64_t left = kNoLimit;
  std::filesystem::path group = value_of(proc + "/self/cgroup", version.line).value_or("/");
  for (;; group = group.parent_path()) {
    std::string files = std::filesystem::path(cgroups + version.directory) / group.relative_path();
    uint64_t limit = kNoLimit;
    for (const char* name : version.limits)
      limit = std::min(limit, number_of(files + "/" + name, "").value_or(kNoLimit));
    if (limit < kNoLimit) {
      uint64_t used = number_of(files + "/" + version.used, "").value_or(0);
      for (const char* key : version.cache)
        used -= std::min(used, number_of(files + "/memory.stat", key).value_or(0));
      left = std::min(left, limit - std::min(limit, used));
    }
    if (!group.has_relative_path()) return left;
  }
}

}  // namespace

uint64_t available_memory_bytes(const std::string& proc, const std::string& cgroups) {
  uint64_t available = number_of(proc + "/meminfo", "MemAvailable:").value_or(0) * 1024;
  return std::min({available, left_in_groups(proc, cgroups, kVersion2),
                   left_in_groups(proc, cgroups, kVersion1)});
}

}  // namespace layerfs
