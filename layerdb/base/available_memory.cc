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

std::optional<uint64_t> number_in(const std::filesystem::path& path) {
  Result<std::string> text = read_file(path);
  if (!text.ok() || text->empty() || (*text)[0] < '0' || (*text)[0] > '9') return std::nullopt;
  return std::strtoull(text->c_str(), nullptr, 10);
}

// What follows `key` in its line.
std::optional<std::string> value_of(const std::string& path, const std::string& key) {
  Result<std::string> text = read_file(path);
  if (!text.ok()) return std::nullopt;
  std::istringstream lines(*text);
  for (std::string line; std::getline(lines, line);)
    if (line.starts_with(key)) return line.substr(key.size());
  return std::nullopt;
}

}  // namespace

uint64_t available_memory_bytes(const std::string& proc, const std::string& cgroups) {
  std::optional<std::string> kibibytes = value_of(proc + "/meminfo", "MemAvailable:");
  if (!kibibytes) return 0;
  uint64_t available = std::strtoull(kibibytes->c_str(), nullptr, 10) * 1024;
  std::filesystem::path group = value_of(proc + "/self/cgroup", "0::").value_or("/");
  for (;; group = group.parent_path()) {
    std::filesystem::path files = cgroups / group.relative_path();
    std::optional<uint64_t> limit = number_in(files / "memory.max");
    std::optional<uint64_t> used = number_in(files / "memory.current");
    if (limit && used) available = std::min(available, *limit - std::min(*limit, *used));
    if (!group.has_relative_path()) return available;
  }
}

}  // namespace layerfs
