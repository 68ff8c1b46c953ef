// SPDX-License-Identifier: Apache-2.0
//
// Catalog records <-> their JSON values. Pure. Decoding: EUCLEAN when a field is missing or of the
// wrong kind; the key is part of the record (`id`).
#pragma once

#include <string>
#include <string_view>

#include "layerdb/store/catalog.h"

namespace layerfs {

std::string encode_layer(const LayerRecord& layer);
Result<LayerRecord> decode_layer(const Digest& id, std::string_view json);
std::string encode_chain(const ChainRecord& chain);
Result<ChainRecord> decode_chain(const Digest& id, std::string_view json);
std::string encode_image(const ImageRecord& image);
Result<ImageRecord> decode_image(const Digest& id, std::string_view json);

}  // namespace layerfs
