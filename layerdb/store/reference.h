// SPDX-License-Identifier: Apache-2.0
//
// Docker's image references: [host[:port]/]path[:tag][@sha256:digest], default tag "latest".
// resolve_image also takes an image id, whole or any unambiguous prefix, with or without "sha256:".
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "layerdb/base/hash.h"
#include "layerdb/base/result.h"

namespace layerfs {

class Catalog;

struct Reference {
  std::string repository;        // as given, no default host is added
  std::string tag;               // "latest" when none was given and there is no digest
  std::optional<Digest> digest;
  std::string to_string() const;  // repository:tag
};

Result<Reference> parse_reference(std::string_view text);  // EINVAL names what is wrong
// ENOENT "no image 'x'; `layerfs images` lists them"; EINVAL when a prefix is ambiguous.
Result<Digest> resolve_image(Catalog& catalog, std::string_view text);

}  // namespace layerfs
