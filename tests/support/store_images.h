// SPDX-License-Identifier: Apache-2.0
//
// Images in a real store, made from model trees: every regular file gets real content, every layer
// a tar that holds them.
#pragma once

#include <optional>
#include <string>

#include "layerdb/store/catalog.h"
#include "layerdb/store/store.h"
#include "tests/support/model_tree.h"

namespace layerfs {

// A regular file of `bytes`.
ModelNode model_file(Store& store, const std::string& bytes);
ModelNode model_directory();

// Publishes `diff` as a layer on top of `parent`, with an image of the whole stack.
ImageRecord publish_image(Store& store, const ModelTree& diff, const std::string& reference,
                          const std::optional<ImageRecord>& parent = {});

}  // namespace layerfs
