// SPDX-License-Identifier: Apache-2.0
#include "tools/cli.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <pwd.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <charconv>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <filesystem>
#include <new>
#include <nlohmann/json.hpp>
#include <sstream>

#include "layerdb/base/caught.h"
#include "layerdb/base/json.h"
#include "layerdb/base/log.h"
#include "layerdb/base/sys.h"
#include "tools/text.h"

namespace layerfs {
namespace {

// The initial user namespace maps every id to itself.
bool in_initial_user_namespace() {
  Result<std::string> map = read_file("/proc/self/uid_map");
  if (!map.ok()) return true;  // a kernel without user namespaces
  std::istringstream fields(*map);
  uint64_t inside = 1, outside = 1, count = 0;
  fields >> inside >> outside >> count;
  return inside == 0 && outside == 0 && count == 4294967295;
}

std::string home_directory() {
  if (const char* home = std::getenv("HOME"); home != nullptr && home[0] == '/') return home;
  const passwd* entry = ::getpwuid(::getuid());
  return entry != nullptr ? entry->pw_dir : "/";
}

std::atomic<bool> g_cancelled{false};

void on_signal(int) { g_cancelled = true; }

// For exceptions that nobody can catch, in threads of ours or of RocksDB's: there was no memory, or
// no further thread. The process ends as one that was killed does, for which everything on the disk
// is made, but says why.
[[noreturn]] void say_why_and_exit() noexcept {
  for (std::string_view part : {"layerfs: ", caught_reason(), "\n"}) {
    [[maybe_unused]] ssize_t written = ::write(STDERR_FILENO, part.data(), part.size());
  }
  ::_exit(1);
}

[[noreturn]] void on_terminate() noexcept {
  // On its way an exception may destroy the object of a thread that runs.
  if (std::current_exception() == nullptr && std::uncaught_exceptions() == 0) std::abort();
  say_why_and_exit();
}

}  // namespace

std::string default_root() {
  if (::geteuid() == 0 && in_initial_user_namespace()) return "/var/lib/layerfs";
  const char* data = std::getenv("XDG_DATA_HOME");
  if (data != nullptr && data[0] == '/') return std::string(data) + "/layerfs";
  return home_directory() + "/.local/share/layerfs";
}

void Command::required(const std::string& names, std::string& value, const std::string& help,
                       const Choices& choices) {
  CLI::Option* option = app_->add_option(names, value, help)->required();
  if (!choices.empty()) option->check(CLI::IsMember(choices));
}

void Command::required(const std::string& names, std::vector<std::string>& values,
                       const std::string& help) {
  app_->add_option(names, values, help)->required();
}

void Command::optional(const std::string& names, std::string& value, const std::string& help,
                       const Choices& choices) {
  CLI::Option* option = app_->add_option(names, value, help);
  if (!choices.empty()) option->check(CLI::IsMember(choices))->capture_default_str();
}

void Command::optional(const std::string& names, std::vector<std::string>& values,
                       const std::string& help) {
  app_->add_option(names, values, help)->allow_extra_args(false);
}

void Command::optional_size(const std::string& names, uint64_t& bytes, const std::string& help) {
  // AsSizeValue would take -1, and what has too many digits, for the largest number.
  CLI::Validator is_number(
      [](std::string& text) {
        uint64_t number = 0;
        auto parsed = std::from_chars(text.data(), text.data() + text.size(), number);
        return parsed.ec == std::errc() ? std::string() : "'" + text + "' is not a size";
      },
      "SIZE");
  app_->add_option(names, bytes, help)
      ->transform(CLI::AsSizeValue(false))
      ->transform(is_number);  // comes first
}

void Command::flag(const std::string& names, bool& value, const std::string& help) {
  app_->add_flag(names, value, help);
}

CommandLine::CommandLine()
    : app_(std::make_unique<CLI::App>(
          "layerfs keeps container images as deduplicated layers and mounts them writable, "
          "without root.",
          "layerfs")) {
  std::set_terminate(on_terminate);
  // Unwinding through a RocksDB that opens or writes leaves its locks and threads in a state that
  // ends in assertions and worse. A daemon takes this back once it serves (fuse/mount.cc).
  std::set_new_handler(say_why_and_exit);
  globals_.root = default_root();
  app_->set_version_flag("--version", "layerfs " LAYERFS_VERSION);
  app_->set_help_flag("-h,--help", "Print help and exit");
  app_->add_option("--root", globals_.root, "Where the store and the containers are")
      ->envname("LAYERFS_ROOT")
      ->type_name("DIR")
      ->capture_default_str();
  app_->add_flag("--json", globals_.json, "Listings as JSON");
  app_->add_flag("-q,--quiet", globals_.quiet, "Only ids or names, no progress");
  app_->require_subcommand(1);
  app_->footer("`layerfs COMMAND --help` describes a command.");
}

Command CommandLine::add(const std::string& group, const std::string& name,
                         const std::string& summary, const std::vector<std::string>& examples,
                         Body body) {
  CLI::App* command = app_->add_subcommand(name, summary);
  command->group(group);
  command->fallthrough();  // global options after the command
  std::string footer = "Examples:\n";
  for (const std::string& example : examples) footer += "  " + example + "\n";
  command->footer(footer + "\nGlobal options: --root DIR (LAYERFS_ROOT), --json, -q --quiet");
  command->callback([this, body = std::move(body)] { chosen_ = body; });
  return Command(command);
}

CommandLine::~CommandLine() = default;

int CommandLine::usage_error(const CLI::Error& error) {
  auto parsed = app_->get_subcommands();
  std::string help = parsed.empty() ? "layerfs" : "layerfs " + parsed.front()->get_name();
  log_line(LogLevel::info, fmt::format("{}; see `{} --help`", error.what(), help));
  return 2;
}

// Where memory, or threads, run out the command is given up on the way out of it.
Status CommandLine::run_chosen() {
  return call_and_catch([&] { return chosen_(globals_); });
}

// Where the caller closed some, the first files that are opened would be taken for them: a daemon
// would put /dev/null in their place, and messages would go into them.
static void hold_standard_descriptors() {
  int fd;
  while ((fd = ::open("/dev/null", O_RDWR)) >= 0 && fd <= STDERR_FILENO) {
  }
  if (fd >= 0) ::close(fd);
}

int CommandLine::run(int argc, char** argv) {
  hold_standard_descriptors();
  // A reader that went away and a limit of file sizes are errors to report and clean up after.
  for (int number : {SIGPIPE, SIGXFSZ}) std::signal(number, SIG_IGN);
  prepare_for_many_files();  // all of a store's table files
  try {
    app_->parse(argc, argv);
  } catch (const CLI::Success& wanted) {  // --help, --version
    return app_->exit(wanted);
  } catch (const CLI::Error& error) {
    return usage_error(error);
  }
  if (globals_.root.empty()) {
    log_line(LogLevel::info, "--root is empty; name a directory");
    return 2;
  }
  std::error_code code;
  globals_.root = std::filesystem::absolute(globals_.root, code).lexically_normal().string();
  if (globals_.root.size() > 1 && globals_.root.back() == '/') globals_.root.pop_back();
  app_.reset();  // a daemon runs for long
  Status status = run_chosen();
  if (status.ok() && (std::fflush(stdout) != 0 || std::ferror(stdout) != 0))
    status = errno_error("write standard output");
  if (status.ok()) return 0;
  log_line(LogLevel::info, status.error().message);
  return 1;
}

Result<std::unique_ptr<Store>> open_store_to_read(const Globals& globals) {
  StoreOptions options;
  options.read_only = true;
  return Store::open(globals.root, std::move(options));
}

Result<std::unique_ptr<Store>> open_store_if_any(const Globals& globals) {
  Result<std::unique_ptr<Store>> store = open_store_to_read(globals);
  if (!store.ok() && store.error().code == ENOENT) return std::unique_ptr<Store>();
  return store;
}

Result<std::unique_ptr<Store>> open_store_to_write(const Globals& globals, WhenMissing missing) {
  StoreOptions options;
  options.create = missing == WhenMissing::create;
  options.on_wait = [&globals] {
    note(globals, "waiting for another layerfs that is writing to " + globals.root);
  };
  return Store::open(globals.root, std::move(options));
}

const std::atomic<bool>* cancelled_by_signal() {
  struct sigaction action {};
  action.sa_handler = on_signal;
  action.sa_flags = static_cast<int>(SA_RESETHAND);  // no SA_RESTART: blocked reads end with EINTR
  for (int signal : {SIGINT, SIGTERM, SIGHUP}) ::sigaction(signal, &action, nullptr);
  return &g_cancelled;
}

void print_line(std::string_view line) {
  std::fwrite(line.data(), 1, line.size(), stdout);
  if (!line.ends_with('\n')) std::fputc('\n', stdout);
}

void print_json(const nlohmann::json& document) { print_line(json_text(document, 2)); }

void note(const Globals& globals, std::string_view sentence) {
  if (!globals.quiet) log_line(LogLevel::info, sentence);
}

ProgressBar::ProgressBar(const Globals& globals)
    : enabled_(!globals.quiet && ::isatty(STDERR_FILENO) == 1) {}

ProgressBar::~ProgressBar() {
  if (!drawn_) return;
  std::fputs("\r\033[K", stderr);
  std::fflush(stderr);
}

Progress ProgressBar::callback() {
  if (!enabled_) return {};
  return
      [this](uint64_t done, uint64_t total, const std::string& what) { draw(done, total, what); };
}

void ProgressBar::draw(uint64_t done, uint64_t total, const std::string& what) {
  static constexpr size_t kBarColumns = 20;
  std::string line = human_size(done);
  if (total > 0) {
    size_t filled = static_cast<size_t>(std::min(1.0, double(done) / double(total)) * kBarColumns);
    line = fmt::format("[{}{}] {} / {}", std::string(filled, '='),
                       std::string(kBarColumns - filled, ' '), line, human_size(total));
  }
  line += "  " + printable(what);
  winsize window{};
  if (::ioctl(STDERR_FILENO, TIOCGWINSZ, &window) == 0 && window.ws_col > 0)
    line.resize(std::min<size_t>(line.size(), window.ws_col - 1));
  fmt::print(stderr, "\r\033[K{}", line);
  std::fflush(stderr);
  drawn_ = true;
}

}  // namespace layerfs
