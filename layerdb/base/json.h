// SPDX-License-Identifier: Apache-2.0
//
// JSON text in and out. Never throws: text that is not JSON parses to a discarded value (neither
// object nor array, so checking for the wanted kind is enough), and bytes that are not UTF-8 are
// written as U+FFFD. The parser and the writer are compiled here once, and nowhere else.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>

namespace layerfs {

nlohmann::json parse_json(std::string_view text);
nlohmann::ordered_json parse_ordered_json(std::string_view text);  // keeps the members' order

// On one line, or with `indent` columns a level.
std::string json_text(const nlohmann::json& json, int indent = -1);
std::string json_text(const nlohmann::ordered_json& json, int indent = -1);

}  // namespace layerfs
