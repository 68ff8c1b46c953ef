// SPDX-License-Identifier: Apache-2.0
//
// Removing images by name. A reference goes at once when the image has others; with its last one
// the image goes, too, and with it every layer and chain that no other image has. Only catalog
// records go: gc frees the space. An image that a container is based on stays (EBUSY names the
// container). One publish: all of it happens or none.
#pragma once

#include <string>
#include <vector>

#include "layerdb/base/hash.h"
#include "layerdb/base/result.h"
#include "layerdb/store/store.h"

namespace layerfs {

struct RemovedImage {
  std::vector<std::string> untagged;  // references
  std::vector<Digest> deleted;        // the image, if it went, and its layers' diffIDs, top first
};

// `name` is a reference or an image id; an id with several references is refused (EBUSY), since it
// does not say which one is meant. Takes the containers lock.
Result<RemovedImage> remove_image(Store& store, const std::string& name);

}  // namespace layerfs
