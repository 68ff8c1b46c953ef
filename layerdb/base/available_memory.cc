// SPDX-License-Identifier: Apache-2.0
#include "layerdb/base/available_memory.h"

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <optional>
#include <sstream>

#include "layerdb/base/sys.h"

namespace layerfs {
namespace {

// What follows `key` in its line.
std::optional<std::string> value_of(const std::string& path, const std::string& key) {
  Result<std::string> text = read_file(path);
  if (!text.ok()) return std::nullopt;
  std::istringstream lines(*text);
  for (std::string line; std::getline(lines, line);)
    if (line.starts_with(key)) return line.substr(key.size());
  return std::nullopt;
}

std::optional<uint64_t> number_of(const std::string& path, const std::string& key) {
  std::optional<std::string> value = value_of(path, key);
  if (!value || value->find_first_of("0123456789") == std::string::npos) return std::nullopt;
  return std::strtoull(value->c_str(), nullptr, 10);
}

// What the group at `path` has left, its page cache counted as free; no limit: nothing.
std::optional<uint64_t> left_in_group(const std::string& path) {
  std::optional<uint64_t> limit = number_of(path + "/memory.max", "");
  std::optional<uint64_t> used = number_of(path + "/memory.current", "");
  if (!limit || !used) return std::nullopt;
  for (const char* cache : {"inactive_file ", "active_file "})
    *used -= std::min(*used, number_of(path + "/memory.stat", cache).value_or(0));
  return *limit - std::min(*limit, *used);
}

}  // namespace

uint64_t available_memory_bytes(const std::string& proc, const std::string& cgroups) {
  uint64_t available = number_of(proc + "/meminfo", "MemAvailable:").value_or(0) * 1024;
  std::filesystem::path group = value_of(proc + "/self/cgroup", "0::").value_or("/");
  for (;; group = group.parent_path()) {
    std::optional<uint64_t> left = left_in_group(cgroups / group.relative_path());
    available = std::min(available, left.value_or(available));
    if (!group.has_relative_path()) return available;
  }
}

}  // namespace layerfs
