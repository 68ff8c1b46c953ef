// SPDX-License-Identifier: Apache-2.0
//
// Random scripts, Overlay against the model, a million steps in parts that ctest runs side by side.
// LAYERFS_TEST_SEED repeats them, LAYERFS_MODEL_STEPS sets a part's length.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>

#include "tests/model/driver.h"
#include "tests/model/generator.h"
#include "tests/model/overlay_subject.h"
#include "tests/support/random.h"

namespace layerfs {
namespace {

#ifdef __SANITIZE_ADDRESS__  // about 20 times slower
constexpr uint64_t kPartSteps = 10'000;
#else
constexpr uint64_t kPartSteps = 125'000;
#endif

class ModelTest : public testing::TestWithParam<int> {};

TEST_P(ModelTest, RandomScriptsDoWhatTheModelDoes) {
  constexpr size_t kScriptSteps = 2000;
  uint64_t seed = test_support::test_seed();
  const char* given = std::getenv("LAYERFS_MODEL_STEPS");
  uint64_t steps = given == nullptr ? kPartSteps : std::strtoull(given, nullptr, 10);
  std::mt19937_64 random(seed + static_cast<uint64_t>(GetParam()) * 0x9e3779b97f4a7c15);
  auto runs = [](const std::vector<Command>& script) {
    OverlaySubject subject;
    return run_script(subject, script);
  };
  for (uint64_t done = 0; done < steps; done += kScriptSteps) {
    ScriptMix mix{.faults = random() % 2 == 0, .crashes = true, .commits = random() % 2 == 0};
    auto script = random_script(random, std::min<uint64_t>(kScriptSteps, steps - done), mix);
    std::string wrong = explain_failure(runs, script);
    if (!wrong.empty()) FAIL() << wrong;
  }
  EXPECT_EQ(check_model_store(), "");
}

INSTANTIATE_TEST_SUITE_P(Parts, ModelTest, testing::Range(0, 8));

}  // namespace
}  // namespace layerfs
