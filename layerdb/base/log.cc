// SPDX-License-Identifier: Apache-2.0
#include "layerdb/base/log.h"

#include <unistd.h>

#include <atomic>

namespace layerfs {
namespace {
std::atomic<LogLevel> g_level{LogLevel::info};
}

void set_log_level(LogLevel level) { g_level = level; }

void log_line(LogLevel level, std::string_view message) {
  if (level < g_level && level < LogLevel::warning) return;
  static constexpr std::string_view kPrefix[] = {"layerfs: debug: ", "layerfs: ",
                                                 "layerfs: warning: ", "layerfs: error: "};
  std::string line = fmt::format("{}{}\n", kPrefix[static_cast<int>(level)], message);
  [[maybe_unused]] ssize_t written = ::write(STDERR_FILENO, line.data(), line.size());
}

}  // namespace layerfs
