// SPDX-License-Identifier: Apache-2.0
//
// The command line: `layerfs [global options] COMMAND [options]`. Each command lives in its own
// tools/cmd_NAME.cc with one function add_NAME(CommandLine&), listed in the table of main.cc.
// Global options are accepted before and after the command.
//
// Exit status: 0 success, 1 a failed command ("layerfs: sentence" on standard error), 2 wrong
// usage. Standard output carries results only; messages and progress go to standard error.
#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "layerdb/base/result.h"
#include "layerdb/ops/import.h"
#include "layerdb/store/store.h"

namespace CLI {
class App;
class Error;
}  // namespace CLI

namespace layerfs {

struct Globals {
  std::string root;    // absolute
  bool json = false;   // listings: one JSON document on standard output
  bool quiet = false;  // only ids or names on standard output; no progress, no notes
};

// One command's options and positionals, in the order in which help shows them. Values must outlive
// CommandLine::run. (CLI11 itself is compiled once, in cli.cc.)
class Command {
 public:
  explicit Command(CLI::App* app) : app_(app) {}
  using Choices = std::vector<std::string>;

  void required(const std::string& names, std::string& value, const std::string& help,
                const Choices& choices = {});
  void required(const std::string& names, std::vector<std::string>& values,
                const std::string& help);  // one or more
  void optional(const std::string& names, std::string& value, const std::string& help,
                const Choices& choices = {});
  void optional(const std::string& names, std::vector<std::string>& values,
                const std::string& help);  // may be repeated
  void optional_size(const std::string& names, uint64_t& bytes, const std::string& help);  // "10G"
  void flag(const std::string& names, bool& value, const std::string& help);

 private:
  CLI::App* app_;
};

class CommandLine {
 public:
  using Body = std::function<Status(const Globals&)>;

  CommandLine();
  ~CommandLine();
  // Adds a command; options and positionals are then added to what is returned, stored in something
  // that `body` keeps alive. `group` is a heading of the help text, `examples` whole command lines.
  Command add(const std::string& group, const std::string& name, const std::string& summary,
              const std::vector<std::string>& examples, Body body);
  int run(int argc, char** argv);

 private:
  int usage_error(const CLI::Error& error);
  Status run_chosen();

  std::unique_ptr<CLI::App> app_;
  Globals globals_;
  Body chosen_;
};

// /var/lib/layerfs for the host's root, $XDG_DATA_HOME/layerfs or ~/.local/share/layerfs for
// everybody else, also for root of a user namespace (who owns nothing outside its user's home).
std::string default_root();

// The store for reading; null when there is none yet (a listing is then empty).
Result<std::unique_ptr<Store>> open_store_if_any(const Globals& globals);
// The store for reading; ENOENT when there is none.
Result<std::unique_ptr<Store>> open_store_to_read(const Globals& globals);
// The store for writing; says so when it has to wait for another writer.
enum class WhenMissing { create, fail };
Result<std::unique_ptr<Store>> open_store_to_write(const Globals& globals, WhenMissing missing);

// Set by the first SIGINT, SIGTERM or SIGHUP after this was first called, so that a command can
// stop and clean up; a second signal ends the process.
const std::atomic<bool>* cancelled_by_signal();

// Writes to standard output; main reports a failure when the command is done.
void print_line(std::string_view line);
void print_json(const nlohmann::json& document);  // indented; bytes that are not UTF-8 as U+FFFD
// A note on standard error, "layerfs: sentence", unless --quiet.
void note(const Globals& globals, std::string_view sentence);

// A progress bar on standard error when that is a terminal, else nothing. The line is wiped when
// the object goes. The callback must not outlive it.
class ProgressBar {
 public:
  explicit ProgressBar(const Globals& globals);
  ~ProgressBar();
  ProgressBar(const ProgressBar&) = delete;
  ProgressBar& operator=(const ProgressBar&) = delete;
  Progress callback();

 private:
  void draw(uint64_t done, uint64_t total, const std::string& what);
  bool enabled_;
  bool drawn_ = false;
};

}  // namespace layerfs
