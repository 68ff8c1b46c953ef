// SPDX-License-Identifier: Apache-2.0
#include "tests/model/driver.h"

#include <fmt/format.h>

#include <algorithm>

#include "tests/model/model_fs.h"
#include "tests/support/overlay_rig.h"

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

 private:
  std::map<Ino, Ino> real_of_;
  std::map<Ino, Ino> model_of_;
};

class SideBySide {
 public:
  explicit SideBySide(MemoryLower& lower)
      : rig_(lower), model_(lower, [this] { return rig_.now(); }) {}

  std::string step(const Command& command) {
    rig_.tick();
    if (command.words[0] == "remount") {
      rig_.remount();
      model_.forget_all();
      real_runner_.forget_all();
      model_runner_.forget_all();
      return compare();
    }
    std::string real = real_runner_.run(rig_.overlay(), command);
    std::string model = model_runner_.run(model_, command);
    if (command.words[0] != "seek" && real != model) {
      return fmt::format("gives {}, the model {}", real, model);
    }
    if (!command.expected.empty() && real != command.expected) {
      return fmt::format("gives {}, not {}", real, command.expected);
    }
    return "";
  }

  std::string compare() {
    std::map<std::string, Ino> real_inos;
    std::map<std::string, Ino> model_inos;
    auto real = ScriptRunner::snapshot(rig_.overlay(), &real_inos);
    auto model = ScriptRunner::snapshot(model_, &model_inos);
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
    return pairs_.check(real_inos, model_inos);
  }

 private:
  OverlayRig rig_;
  ModelFs model_;
  ScriptRunner real_runner_;
  ScriptRunner model_runner_;
  NumberPairs pairs_;
};

// Few names, so that operations meet; some at the limits.
class Generator {
 public:
  explicit Generator(std::mt19937_64& random) : random_(random) {}

  Command next() {
    static const std::vector<std::string> kCommands{
        "mkdir",  "mkdir", "create", "create",   "create",   "symlink",     "mknod",    "tmpfile",
        "link",   "link",  "unlink", "unlink",   "rmdir",    "rename",      "rename",   "rename",
        "rename", "write", "write",  "write",    "put",      "truncate",    "truncate", "copy",
        "chmod",  "chown", "utimes", "setxattr", "setxattr", "removexattr", "getxattr", "stat",
        "read",   "read",  "list",   "hold",     "release",  "fallocate",   "seek"};
    if (below(400) == 0) return {{"remount"}, ""};
    std::string name = pick(kCommands);
    Command command{{name}, ""};
    for (std::string& word : arguments(name)) command.words.push_back(std::move(word));
    return command;
  }

 private:
  uint64_t below(uint64_t n) { return random_() % n; }
  std::string pick(const std::vector<std::string>& from) { return from[below(from.size())]; }
  std::string text(uint64_t n) { return std::to_string(n); }
  std::string handle() { return pick({"h", "i", "j"}); }

  std::string path() {
    static const std::vector<std::string> kNames{"a", "b", "c", "d", "e", "f"};
    uint64_t kind = below(40);
    if (kind == 0) return "@" + handle();
    if (kind == 1) return "@" + handle() + "/" + pick(kNames);
    std::string out = pick(kNames);
    for (uint64_t depth = below(3); depth > 0; --depth) out += "/" + pick(kNames);
    if (kind == 2) out += pick({"/%*61:255", "/%*61:256", "/%ff%20x"});
    return out;
  }
  std::string offset() {
    switch (below(4)) {
      case 0:
        return text(below(64));
      case 1:
        return text(4096 * below(20));
      case 2:
        return text(16384 - 32 + below(64));
      default:
        return text(below(70000));
    }
  }
  std::string length() { return text(1 + below(below(3) == 0 ? 30000 : 300)); }
  std::string mode() { return pick({"644", "755", "600", "4755", "2775", "6711", "2644", "1777"}); }
  std::string xattr() { return pick({"user.a", "user.b", "security.capability", "trusted.x"}); }

  std::vector<std::string> arguments(const std::string& name) {
    if (name == "mkdir" || name == "create" || name == "chmod") return {path(), mode()};
    if (name == "symlink") return {pick({"a", "b/c", "%*78:4000"}), path()};
    if (name == "mknod") {
      return {path(), pick({"fifo", "socket", "char", "block"}), mode(), text(below(3)),
              text(below(3))};
    }
    if (name == "tmpfile") return {handle(), path(), mode()};
    if (name == "rename") {
      std::vector<std::string> words{path(), path()};
      if (below(3) == 0) words.push_back(pick({"noreplace", "exchange", "whiteout"}));
      return words;
    }
    if (name == "link") return {path(), path()};
    if (name == "hold") return {handle(), path()};
    if (name == "release") return {handle()};
    if (name == "write") {
      std::vector<std::string> words{path(), offset(), length(), text(below(1000))};
      if (below(3) == 0) words.push_back("kill");
      return words;
    }
    if (name == "put") return {path(), "text" + text(below(100))};
    if (name == "truncate") return {path(), below(3) == 0 ? "0" : offset()};
    if (name == "fallocate") {
      return {path(), pick({"alloc", "keep", "punch", "punch", "zero", "zerokeep"}), offset(),
              length()};
    }
    if (name == "seek") return {path(), pick({"data", "hole"}), offset()};
    if (name == "copy") return {path(), offset(), path(), offset(), length()};
    if (name == "chown") return {path(), text(below(3)), text(below(3))};
    if (name == "utimes") return {path(), text(below(5000)), text(below(5000))};
    if (name == "setxattr") {
      std::vector<std::string> words{path(), xattr(), "v" + text(below(1000))};
      if (below(3) == 0) words.push_back(pick({"create", "replace"}));
      return words;
    }
    if (name == "removexattr" || name == "getxattr") return {path(), xattr()};
    return {path()};  // unlink, rmdir, stat, read, list
  }

  std::mt19937_64& random_;
};

}  // namespace

std::unique_ptr<MemoryLower> model_lower() {
  auto lower = std::make_unique<MemoryLower>();
  lower->add_directory("a");
  lower->add_directory("a/b", 02775);
  lower->add_directory("a/b/c");
  lower->add_directory("b");
  lower->add_file("a/a", "small", 04755);
  lower->add_file("a/b/d", std::string(100000, 'x'));
  lower->add_file("a/b/c/e", "deep");
  lower->add_file("b/a", std::string(40000, 'y'), 02644);
  lower->add_file("c", "");
  lower->add_link("d", "a/b/d");
  lower->add_link("b/f", "a/a");
  lower->add_symlink("e", "a/b");
  MemoryLower::Node node;
  node.attributes.type = FileType::char_device;
  node.attributes.mode = 0600;
  lower->add("b/c", node);
  node.attributes.type = FileType::regular;
  node.content = std::string(17000, 'z');
  node.xattrs = {{"user.a", "1"}, {"security.capability", "cap"}};
  node.attributes.mtime = {77, 88};
  lower->add("b/e", node);
  lower->seal();
  return lower;
}

std::optional<Failure> run_script(MemoryLower& lower, const std::vector<Command>& script) {
  SideBySide both(lower);
  for (size_t i = 0; i < script.size(); ++i) {
    std::string what = both.step(script[i]);
    if (!what.empty()) return Failure{i, what};
  }
  std::string what = both.compare();
  if (!what.empty()) return Failure{script.size(), what};
  return std::nullopt;
}

std::vector<Command> random_script(std::mt19937_64& random, size_t steps) {
  Generator generator(random);
  std::vector<Command> script;
  while (script.size() < steps) script.push_back(generator.next());
  return script;
}

// Takes away ever smaller parts for as long as what remains still fails.
std::vector<Command> shrink(MemoryLower& lower, std::vector<Command> script) {
  auto cut = [&] {
    auto failure = run_script(lower, script);
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

}  // namespace layerfs
