// SPDX-License-Identifier: Apache-2.0
#include "fuse/sender.h"

#include <fmt/format.h>
#include <linux/capability.h>

#include <algorithm>
#include <charconv>
#include <csignal>
#include <fstream>
#include <iterator>

namespace layerfs {
namespace {

// What follows "KEY:" and blanks on its line.
std::optional<std::string_view> field(std::string_view text, std::string_view key) {
  size_t at = text.find(fmt::format("\n{}:", key));
  if (at == std::string_view::npos) return std::nullopt;
  std::string_view rest = text.substr(at + key.size() + 2);
  rest = rest.substr(0, rest.find('\n'));
  return rest.substr(std::min(rest.find_first_not_of(" \t"), rest.size()));
}

template <typename Number>
std::optional<Number> number(std::optional<std::string_view> text, int base) {
  Number out = 0;
  if (!text || std::from_chars(text->begin(), text->end(), out, base).ec != std::errc())
    return std::nullopt;
  return out;
}

}  // namespace

std::optional<Sender> parse_sender(std::string_view status) {
  auto groups = field(status, "Groups");
  auto process = number<pid_t>(field(status, "Tgid"), 10);
  auto pending = number<uint64_t>(field(status, "SigPnd"), 16);
  auto capabilities = number<uint64_t>(field(status, "CapEff"), 16);
  if (!groups || !process || !pending || !capabilities) return std::nullopt;
  Sender out;
  for (size_t at = 0; (at = groups->find_first_not_of(" \t", at)) != std::string_view::npos;) {
    auto group = number<uint32_t>(groups->substr(at), 10);
    if (!group) return std::nullopt;
    out.groups.push_back(*group);
    at = groups->find_first_of(" \t", at);
  }
  out.process = *process;
  out.fsetid = (*capabilities >> CAP_FSETID & 1) != 0;
  out.dying = (*pending >> (SIGKILL - 1) & 1) != 0;
  return out;
}

std::optional<Sender> sender_of(uint32_t thread) {
  std::ifstream file(fmt::format("/proc/{}/status", thread));
  return parse_sender(std::string(std::istreambuf_iterator<char>(file), {}));
}

}  // namespace layerfs
