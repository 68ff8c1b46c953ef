// SPDX-License-Identifier: Apache-2.0
//
// Whether a container's changes make sense: every name leads to an inode of its type, link counts
// add up, contents are where records say. Reads all records of the upper and, where they refer to
// it, the lower. The upper must not change meanwhile.
#pragma once

#include <functional>
#include <string>

#include "layerdb/base/result.h"
#include "layerdb/upper/upper.h"
#include "layerdb/view/lower.h"

namespace layerfs {

using UpperProblem = std::function<void(const std::string& sentence)>;

// Reports each problem. Fails only when something cannot be read.
Status check_upper(Lower& lower, Upper& upper, const UpperProblem& report);

}  // namespace layerfs
