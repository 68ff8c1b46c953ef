// SPDX-License-Identifier: Apache-2.0
//
// Runs scripts against a filesystem and ModelFs side by side, and shortens failing ones.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "tests/model/model_fs.h"
#include "tests/model/script_runner.h"

namespace layerfs {

// A filesystem under test, and the steps of a script that are not operations on it.
class Subject {
 public:
  virtual ~Subject() = default;
  virtual Overlay& fs() = 0;
  virtual ModelFs::Rules rules() const = 0;
  virtual Timestamp now() = 0;  // of the model's clock
  virtual void tick() {}

  // Each forgets what is held. Errors end the script.
  virtual Status remount() = 0;
  virtual Status crash() = 0;
  virtual Status commit() = 0;
  // From here on writes to the host fail after `calls` more, until heal().
  virtual void break_host(int64_t calls) = 0;
  virtual void heal_host() = 0;

  // Numbers stay as long as the inode exists and nothing is committed, and are not used again.
  virtual bool keeps_numbers() const = 0;
};

// What went wrong first, or nothing. Compares every result, and the whole tree after each remount,
// crash and commit and at the end. `subject` holds what lower_script() makes.
struct Failure {
  size_t step = 0;
  std::string what;
};
std::optional<Failure> run_script(Subject& subject, const std::vector<Command>& script);

// A shorter script that fails too. `runs` starts from a fresh subject each time.
using RunsScript = std::function<std::optional<Failure>(const std::vector<Command>&)>;
std::vector<Command> shrink(const RunsScript& runs, std::vector<Command> script);

// "" when it holds; else the shortened script and what is wrong.
std::string explain_failure(const RunsScript& runs, const std::vector<Command>& script);

}  // namespace layerfs
