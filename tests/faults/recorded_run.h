// SPDX-License-Identifier: Apache-2.0
//
// A random script run on a container's filesystem while every call to the host is written down,
// with what could be seen after each step; and the judgement of what a crash left of it.
//
// After a crash the tree must be what it was after some step: after a kill, the last one that had
// returned (or the one under way, whole); after a power failure, one not earlier than the last
// sync. Contents of large files are bodies beside the database, so of these a power failure may
// leave what was written since their own sync old, new or zero, but never what was synced.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "fuse/overlay.h"
#include "tests/faults/crashing_disk.h"
#include "tests/faults/host_calls.h"
#include "tests/model/script_runner.h"
#include "tests/support/memory_lower.h"
#include "tests/support/random.h"

namespace layerfs::test_support {

struct SeenFile {
  Ino ino = 0;
  std::string attributes;  // all but the content
  std::string lasting;     // of these, what fdatasync(2) must keep
  std::shared_ptr<const std::string> content;
};
using SeenTree = std::map<std::string, SeenFile>;
SeenTree look_at(Overlay& overlay);

// The filesystem over `lower` with its upper in `directory`.
struct Opened {
  std::unique_ptr<Upper> upper;
  std::unique_ptr<Overlay> overlay;  // destroyed first
};
Result<Opened> open_container(Lower& lower, const std::string& directory, int64_t* clock);

// The lower of these tests: directories, files small and large, hard links, a device.
std::unique_ptr<MemoryLower> crash_lower();

// Random steps, among them `sync PATH`, `datasync PATH`, `sync` (everything) and `remount`.
std::vector<Command> crash_script(Random& random, size_t steps);

class RecordedRun {
 public:
  // `directory` must exist and be empty.
  RecordedRun(MemoryLower& lower, const std::string& directory, const std::vector<Command>& script);

  const std::vector<HostCall>& calls() const { return calls_; }
  // What is wrong with `tree`, found after a crash before the call `at`; "": nothing.
  std::string judge(const SeenTree& tree, size_t at, bool power_failed) const;
  size_t syncs() const { return syncs_; }

 private:
  struct Step {
    SeenTree tree;
    Ino synced = 0;          // this step was an fsync of it
    bool data_only = false;  // or an fdatasync
    bool synced_all = false;
    std::string text;
  };
  struct Window {
    size_t first = 0;  // steps whose states may be found
    size_t last = 0;
  };
  Window window(size_t at, bool power_failed) const;
  std::string compare(const SeenTree& found, size_t step, const Window& window,
                      bool power_failed) const;
  std::string compare_content(const std::string& path, const SeenFile& found, const Window& window,
                              bool power_failed) const;

  std::vector<HostCall> calls_;
  std::vector<Step> steps_;    // [0]: before the first
  std::vector<size_t> marks_;  // marks_[i]: calls before step i had returned
  size_t syncs_ = 0;
};

}  // namespace layerfs::test_support
