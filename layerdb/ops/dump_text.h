// SPDX-License-Identifier: Apache-2.0
//
// The text of single values in dumps. Pure.
#pragma once

#include <string>
#include <string_view>

#include "layerdb/object/types.h"

namespace layerfs {

std::string quote(std::string_view bytes);  // "…", with \" \\ and \xNN for all but printable ASCII
std::string hex_bytes(std::string_view bytes);  // 0x…
const char* type_name(FileType type);
std::string describe(const Timestamp& time);  // 1714557600.000000005
std::string describe(const Extent& extent);   // extent 0+4096 at 12:100
std::string describe(const Content& content);
std::string describe(const TreeRef& tree);
std::string describe(const Attributes& attributes);
std::string describe(const Entry& entry);

}  // namespace layerfs
