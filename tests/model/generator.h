// SPDX-License-Identifier: Apache-2.0
//
// Random scripts: few names, so that operations meet; some at the limits.
#pragma once

#include <random>
#include <vector>

#include "tests/model/script.h"

namespace layerfs {

struct ScriptMix {
  bool faults = false;    // `fault` steps
  bool crashes = false;   // `crash` steps
  bool commits = false;   // `commit` steps
  bool whiteouts = true;  // RENAME_WHITEOUT; when it fails, ext4 may have changed times
};
std::vector<Command> random_script(std::mt19937_64& random, size_t steps, const ScriptMix& mix);

// What the lower layer holds before a script begins, as a script:
//   a/ a/b/ (02775) a/b/c/ b/   a/a = b/f "small" (04755)   a/b/d = d 100000 x   a/b/c/e "deep"
//   b/a 40000 y (02644)   b/e 17000 z (user.a, security.capability)   c empty   e -> a/b   b/c 0:0
//   f/ (a default ACL)   f/a 300000, mostly holes   f/b (an ACL)   f/d/ a fifo and 20 names
const std::vector<Command>& lower_script();

}  // namespace layerfs
