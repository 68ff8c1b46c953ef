// SPDX-License-Identifier: Apache-2.0
//
// Random scripts, Overlay against the model. LAYERFS_TEST_SEED repeats a run, LAYERFS_MODEL_STEPS
// sets its length.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>

#include "tests/model/driver.h"

namespace layerfs {
namespace {

uint64_t from_env(const char* name, uint64_t otherwise) {
  const char* value = std::getenv(name);
  return value == nullptr ? otherwise : std::strtoull(value, nullptr, 10);
}

TEST(ModelTest, RandomScriptsDoWhatTheModelDoes) {
  constexpr size_t kScriptSteps = 2000;
  uint64_t seed = from_env("LAYERFS_TEST_SEED", std::random_device()());
  uint64_t steps = from_env("LAYERFS_MODEL_STEPS", 200000);
  std::cout << "LAYERFS_TEST_SEED=" << seed << " LAYERFS_MODEL_STEPS=" << steps << '\n';
  auto lower = model_lower();
  std::mt19937_64 random(seed);
  for (uint64_t done = 0; done < steps; done += kScriptSteps) {
    auto script = random_script(random, std::min<uint64_t>(kScriptSteps, steps - done));
    if (!run_script(*lower, script)) continue;
    script = shrink(*lower, script);
    auto failure = run_script(*lower, script);
    FAIL() << "after this script:\n"
           << script_text(script) << (failure ? failure->what : "it does not fail again");
  }
}

}  // namespace
}  // namespace layerfs
