// SPDX-License-Identifier: Apache-2.0
#include "tests/model/driver.h"

#include <fmt/format.h>

#include <algorithm>

#include "tests/model/generator.h"

namespace layerfs {
namespace {

// Numbers of the two filesystems that stand for one inode, for as long as it exists.
class NumberPairs {
 public:
  std::string check(const std::map<std::string, Ino>& real,
                    const std::map<std::string, Ino>& model) {
    for (const auto& [path, number] : model) {
      auto it = real.find(path);
      if (it == real.end()) continue;
      auto [pair, fresh] = real_of_.try_emplace(number, it->second);
      auto [back, back_fresh] = model_of_.try_emplace(it->second, number);
      if (pair->second != it->second || back->second != number) {
        return fmt::format("{}: inode number {} was {}", path, it->second, pair->second);
      }
    }
    return "";
  }
  void forget_all() {
    real_of_.clear();
    model_of_.clear();
  }

 private:
  std::map<Ino, Ino> real_of_;
  std::map<Ino, Ino> model_of_;
};

const std::string& changed_path(const std::vector<std::string>& words) {
  return words[0] == "copy" ? words[3] : words[1];
}

class SideBySide {
 public:
  explicit SideBySide(Subject& subject)
      : subject_(subject),
        model_(subject.rules(), [this] { return began_ ? subject_.now() : Timestamp{}; }) {
    for (const Command& command : lower_script()) {
      std::string result = model_runner_.run(model_, command);
      if (result != "ok") broken_ = script_text({command}) + "gives " + result;
    }
    model_.commit();
    began_ = true;
  }

  std::string step(const Command& command) {
    if (!broken_.empty()) return broken_;
    subject_.tick();
    const std::string& name = command.words[0];
    if (name == "remount" || name == "crash" || name == "commit") return restart(name);
    if (name == "fault") return with_fault(command);
    std::string real = real_runner_.run(subject_.fs(), command);
    std::string model = model_runner_.run(model_, command);
    if (name != "seek" && real != model) return differ(real, model);
    if (!command.expected.empty() && real != command.expected) {
      return fmt::format("gives {}, not {}", real, command.expected);
    }
    return "";
  }

  std::string compare() {
    std::map<std::string, Ino> real_inos;
    std::map<std::string, Ino> model_inos;
    bool exact = subject_.rules() == ModelFs::Rules::filesystem;
    auto real = snapshot(subject_.fs(), exact, &real_inos);
    auto model = snapshot(model_, exact, &model_inos);
    for (const auto& [path, text] : model) {
      auto it = real.find(path);
      if (it == real.end()) return fmt::format("{} is missing: {}", path, text);
      if (it->second != text) {
        return fmt::format("{}:\n   real {}\n  model {}", path, it->second, text);
      }
    }
    for (const auto& [path, text] : real) {
      if (model.count(path) == 0) return fmt::format("{} should not be: {}", path, text);
    }
    if (!subject_.keeps_numbers()) pairs_.forget_all();
    return pairs_.check(real_inos, model_inos);
  }

 private:
  static std::string differ(const std::string& real, const std::string& model) {
    return fmt::format("gives {}, the model {}", real, model);
  }

  std::string restart(const std::string& how) {
    real_runner_.forget_all();
    model_runner_.forget_all();
    Status status = how == "remount" ? subject_.remount()
                    : how == "crash" ? subject_.crash()
                                     : subject_.commit();
    if (!status.ok()) return how + ": " + status.error().message;
    if (how == "commit") {
      model_.commit();
      pairs_.forget_all();
    } else {
      model_.forget_all();
    }
    return compare();
  }

  // An operation that the host's failing made fail changed nothing, except that a file's bytes in
  // the range it was to change may be old or new ones.
  std::string with_fault(const Command& command) {
    Command inner{{command.words.begin() + 2, command.words.end()}, ""};
    subject_.break_host(std::strtoll(command.words[1].c_str(), nullptr, 10));
    std::string real = real_runner_.run(subject_.fs(), inner);
    subject_.heal_host();
    if (!command.expected.empty() && real != command.expected) {
      return fmt::format("gives {}, not {}", real, command.expected);
    }
    bool host_failed = real == "ENOSPC" || real == "EIO";
    if (!host_failed) {
      std::string model = model_runner_.run(model_, inner);
      return real == model ? "" : differ(real, model);
    }
    const std::string& path = changed_path(inner.words);
    auto before = model_runner_.content(model_, path);
    auto now = real_runner_.content(subject_.fs(), path);
    if (!before.ok() || !now.ok() || *now == *before) return "";
    ModelFs changed = model_;
    ScriptRunner runner = model_runner_;
    std::string result = runner.run(changed, inner);
    auto after = runner.content(changed, path);
    if (result != "ok" || !after.ok() || now->size() != before->size()) return "changed in failing";
    for (size_t i = 0; i < now->size(); ++i) {
      bool known = (*now)[i] == (*before)[i] || (i < after->size() && (*now)[i] == (*after)[i]);
      if (!known) return fmt::format("changed byte {} in failing", i);
    }
    model_.replace_content(path_ino(path), *now);
    return "";
  }

  Ino path_ino(const std::string& path) {
    return model_runner_.number_of(model_, path).value_or(0);
  }

  Subject& subject_;
  ModelFs model_;
  ScriptRunner real_runner_;
  ScriptRunner model_runner_;
  NumberPairs pairs_;
  bool began_ = false;  // the lower script ran with a clock at 0
  std::string broken_;
};

}  // namespace

std::optional<Failure> run_script(Subject& subject, const std::vector<Command>& script) {
  SideBySide both(subject);
  for (size_t i = 0; i < script.size(); ++i) {
    std::string what = both.step(script[i]);
    if (!what.empty()) return Failure{i, what};
  }
  std::string what = both.compare();
  if (!what.empty()) return Failure{script.size(), what};
  return std::nullopt;
}

// Takes away ever smaller parts for as long as what remains still fails.
std::vector<Command> shrink(const RunsScript& runs, std::vector<Command> script) {
  auto cut = [&] {
    auto failure = runs(script);
    if (failure) script.resize(std::min(script.size(), failure->step + 1));
    return failure.has_value();
  };
  if (!cut()) return script;
  for (size_t part = std::max<size_t>(script.size() / 2, 1);; part /= 2) {
    for (size_t at = 0; at < script.size();) {
      std::vector<Command> kept = script;
      script.erase(script.begin() + at, script.begin() + std::min(at + part, script.size()));
      if (cut()) continue;
      script = std::move(kept);
      at += part;
    }
    if (part == 1) return script;
  }
}

std::string explain_failure(const RunsScript& runs, const std::vector<Command>& script) {
  auto failure = runs(script);
  if (!failure) return "";
  auto small = shrink(runs, script);
  auto again = runs(small);
  return fmt::format("after this script:\n{}{}", script_text(small),
                     again ? again->what : "(it does not fail again) " + failure->what);
}

}  // namespace layerfs
