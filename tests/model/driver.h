// SPDX-License-Identifier: Apache-2.0
//
// Runs scripts against Overlay (a real upper over model_lower()) and ModelFs side by side, makes
// random scripts, and shortens failing ones.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <random>
#include <string>
#include <vector>

#include "tests/model/script.h"
#include "tests/support/memory_lower.h"

namespace layerfs {

// Directories, files small and large, hard links, every other type.
std::unique_ptr<MemoryLower> model_lower();

// What went wrong first, or nothing. Compares every result, and the whole tree after each remount
// and at the end; inode numbers must not change while an inode exists.
struct Failure {
  size_t step = 0;
  std::string what;
};
std::optional<Failure> run_script(MemoryLower& lower, const std::vector<Command>& script);

std::vector<Command> random_script(std::mt19937_64& random, size_t steps);

// A shorter script that fails too.
std::vector<Command> shrink(MemoryLower& lower, std::vector<Command> script);

}  // namespace layerfs
