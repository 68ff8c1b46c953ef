// SPDX-License-Identifier: Apache-2.0
//
// How much memory caches may still take: what the kernel calls available (MemAvailable), and no
// more than any cgroup of this process has left below its limits. 0 where it cannot be told.
#pragma once

#include <cstdint>
#include <string>

namespace layerfs {

// The directories are others in tests only.
uint64_t available_memory_bytes(const std::string& proc = "/proc",
                                const std::string& cgroups = "/sys/fs/cgroup");

}  // namespace layerfs
