// SPDX-License-Identifier: Apache-2.0
//
// Log lines for people, on stderr or (after daemonizing) in the container's log file.
// "layerfs: warning: sentence". Thread-safe; one write(2) a line.
#pragma once

#include <fmt/format.h>

#include <string_view>

namespace layerfs {

enum class LogLevel { debug, info, warning, error };

void set_log_level(LogLevel level);  // default info; warnings and errors are always shown
void log_line(LogLevel level, std::string_view message);

template <typename... Args>
void log_warning(fmt::format_string<Args...> format, Args&&... args) {
  log_line(LogLevel::warning, fmt::format(format, std::forward<Args>(args)...));
}
template <typename... Args>
void log_error(fmt::format_string<Args...> format, Args&&... args) {
  log_line(LogLevel::error, fmt::format(format, std::forward<Args>(args)...));
}
template <typename... Args>
void log_info(fmt::format_string<Args...> format, Args&&... args) {
  log_line(LogLevel::info, fmt::format(format, std::forward<Args>(args)...));
}

}  // namespace layerfs
