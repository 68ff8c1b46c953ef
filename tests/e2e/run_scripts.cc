// SPDX-License-Identifier: Apache-2.0
//
// run_scripts DIRECTORY SCRIPTS STEPS [HOOK]: random scripts on a directory of a mounted filesystem
// against the model, through system calls. Without a hook, DIRECTORY is emptied and filled anew for
// each script. HOOK is a program that is called with what to do to the mount:
//   fresh     a new container, whose lower layer is what `lower` made an image of
//   lower     that image, of what the directory holds now
//   remount   unmount and mount again        crash    the same, but the daemon dies
//   commit    go on with a new container of an image of the present one
// LAYERFS_TEST_SEED repeats a run. Exits with 1 and a short script when something differs.
#include <fmt/format.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <filesystem>

#include "tests/model/driver.h"
#include "tests/model/generator.h"
#include "tests/model/real_fs.h"
#include "tests/support/random.h"

namespace layerfs {
namespace {

void must(const Status& status) {
  if (status.ok()) return;
  fmt::print(stderr, "run_scripts: {}\n", status.error().message);
  std::exit(2);
}

class RealSubject final : public Subject {
 public:
  RealSubject(std::string directory, std::string hook)
      : directory_(std::move(directory)), hook_(std::move(hook)), fs_(directory_) {
    if (hook_.empty()) {
      make_lower();
    } else {
      must(call("fresh"));
      must(fs_.open());
    }
  }

  // The image that every script with a hook starts from.
  static void make_lower_image(const std::string& directory, const std::string& hook) {
    RealSubject subject(directory, "");
    subject.fs_.close();
    subject.hook_ = hook;
    must(subject.call("lower"));
  }

  Overlay& fs() override { return fs_; }
  ModelFs::Rules rules() const override { return ModelFs::Rules::kernel; }
  Timestamp now() override { return {2000000, 0}; }  // not a time that utimes gives
  Status remount() override { return restart("remount"); }
  Status crash() override { return restart("crash"); }
  Status commit() override { return restart("commit"); }
  void break_host(int64_t) override {}
  void heal_host() override {}
  bool keeps_numbers() const override { return !hook_.empty(); }

 private:
  void make_lower() {
    for (const auto& entry : std::filesystem::directory_iterator(directory_))
      std::filesystem::remove_all(entry.path());
    must(fs_.open());
    ScriptRunner runner;
    for (const Command& command : lower_script()) {
      std::string result = runner.run(fs_, command);
      if (result != "ok") must(Error{EIO, script_text({command}) + "gives " + result});
    }
  }
  Status call(const char* what) {
    std::string command = fmt::format("'{}' {}", hook_, what);
    if (std::system(command.c_str()) != 0) return Error{EIO, command + " failed"};
    return {};
  }
  Status restart(const char* what) {
    fs_.close();
    if (!hook_.empty()) TRY(call(what));
    return fs_.open();
  }

  const std::string directory_;
  std::string hook_;
  RealFs fs_;
};

int run_all(const std::string& directory, int scripts, size_t steps, const std::string& hook) {
  std::mt19937_64 random(test_support::test_seed());
  std::fflush(stdout);
  if (!hook.empty()) RealSubject::make_lower_image(directory, hook);
  bool mount = !hook.empty();
  auto runs = [&](const std::vector<Command>& script) {
    RealSubject subject(directory, hook);
    return run_script(subject, script);
  };
  for (int i = 0; i < scripts; ++i) {
    auto script =
        random_script(random, steps, {.crashes = mount, .commits = mount, .whiteouts = mount});
    std::string wrong = explain_failure(runs, script);
    if (wrong.empty()) continue;
    fmt::print(stderr, "{}\n", wrong);
    return 1;
  }
  return 0;
}

}  // namespace
}  // namespace layerfs

int main(int argc, char** argv) {
  if (argc < 4 || argc > 5 || geteuid() != 0) {
    fmt::print(stderr, "usage, as root: run_scripts DIRECTORY SCRIPTS STEPS [HOOK]\n");
    return 2;
  }
  return layerfs::run_all(argv[1], std::atoi(argv[2]), std::strtoull(argv[3], nullptr, 10),
                          argc == 5 ? argv[4] : "");
}
