// SPDX-License-Identifier: Apache-2.0
#include "fuse/credentials.h"

#include <fmt/format.h>
#include <linux/capability.h>

#include <algorithm>
#include <charconv>
#include <fstream>
#include <iterator>

namespace layerfs {
namespace {

// What follows "KEY:" on its line.
std::optional<std::string_view> field(std::string_view text, std::string_view key) {
  size_t at = text.find(fmt::format("\n{}:", key));
  if (at == std::string_view::npos) return std::nullopt;
  std::string_view rest = text.substr(at + key.size() + 2);
  return rest.substr(0, rest.find('\n'));
}

}  // namespace

std::optional<Credentials> parse_credentials(std::string_view status) {
  auto groups = field(status, "Groups");
  auto effective = field(status, "CapEff");
  if (!groups || !effective) return std::nullopt;
  Credentials out;
  uint32_t group = 0;
  for (size_t at = 0; (at = groups->find_first_not_of(" \t", at)) != std::string_view::npos;) {
    auto [end, error] = std::from_chars(groups->data() + at, groups->end(), group);
    if (error != std::errc()) return std::nullopt;
    out.groups.push_back(group);
    at = end - groups->data();
  }
  uint64_t capabilities = 0;
  const char* digits =
      effective->data() + std::min(effective->find_first_not_of(" \t"), effective->size());
  if (std::from_chars(digits, effective->end(), capabilities, 16).ec != std::errc())
    return std::nullopt;
  out.fsetid = (capabilities >> CAP_FSETID & 1) != 0;
  return out;
}

std::optional<Credentials> credentials_of(pid_t pid) {
  std::ifstream file(fmt::format("/proc/{}/status", pid));
  return parse_credentials(std::string(std::istreambuf_iterator<char>(file), {}));
}

}  // namespace layerfs
