// SPDX-License-Identifier: Apache-2.0
//
// A fingerprint as the 16 byte key of an index family.
#pragma once

#include <string>

#include "layerdb/base/coding.h"
#include "layerdb/base/hash.h"

namespace layerfs {

inline std::string fingerprint_key(const Fingerprint& f) {
  std::string key;
  put_be64(key, f.high);
  put_be64(key, f.low);
  return key;
}

}  // namespace layerfs
