// SPDX-License-Identifier: Apache-2.0
#include "tests/model/generator.h"

#include <fmt/format.h>

#include <algorithm>

namespace layerfs {
namespace {

// A security.capability that the kernel takes: version 2, effective, CAP_CHOWN.
const char* const kCapability = "%01%00%00%02%01%*00:15";

const std::vector<std::string> kAcls{
    "u::7,u:1:5,g::5,m::7,o::4", "u::6,u:1:7,u:2:0,g::4,g:3:7,m::5,o::0", "u::6,g::4,o::4",
    "u::7,g::7,m::2,o::1", "u::7,u:1:7,g::5,o::0"};  // the last one lacks its mask

class Generator {
 public:
  Generator(std::mt19937_64& random, const ScriptMix& mix) : random_(random), mix_(mix) {}

  Command next() {
    if (below(400) == 0) return {{"remount"}, ""};
    if (mix_.commits && below(2000) == 0) return {{"commit"}, ""};
    if (mix_.crashes && below(1500) == 0) return {{"crash"}, ""};
    Command command = operation();
    if (mix_.faults && below(150) == 0 && can_fail(command.words[0])) {
      command.words.insert(command.words.begin(), {"fault", text(below(4))});
    }
    return command;
  }

 private:
  Command operation() {
    static const std::vector<std::string> kCommands{
        "mkdir",    "mkdir",    "create",   "create",      "create",  "symlink", "mknod",
        "tmpfile",  "link",     "link",     "unlink",      "unlink",  "rmdir",   "rename",
        "rename",   "rename",   "rename",   "write",       "write",   "write",   "append",
        "put",      "truncate", "truncate", "copy",        "chmod",   "chown",   "utimes",
        "setxattr", "setxattr", "getxattr", "stat",        "read",    "read",    "list",
        "hold",     "release",  "seek",     "fallocate",   "opendir", "readdir", "closedir",
        "setacl",   "setacl",   "getacl",   "removexattr", "sync",    "as"};
    std::string name = pick(kCommands);
    Command command{{name}, ""};
    for (std::string& word : arguments(name)) command.words.push_back(std::move(word));
    return command;
  }

  // Fails whole or not at all; the driver knows what a failed change of content may leave.
  static bool can_fail(const std::string& name) {
    static const std::vector<std::string> kReaders{
        "hold", "release", "as",      "getxattr", "stat",     "read",    "list",
        "seek", "getacl",  "opendir", "readdir",  "closedir", "tmpfile", "copy"};
    return std::find(kReaders.begin(), kReaders.end(), name) == kReaders.end();
  }

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
    if (kind == 3) out = "f/d/n" + text(below(24));
    return out;
  }
  std::string directory() { return below(3) == 0 ? pick({".", "a", "b", "f/d"}) : path(); }
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
  std::string acl_kind() { return pick({"access", "default"}); }

  std::vector<std::string> arguments(const std::string& name) {
    if (name == "mkdir" || name == "create" || name == "chmod") return {path(), mode()};
    if (name == "symlink") return {pick({"a", "b/c", "%*78:4000"}), path()};
    if (name == "mknod") {
      return {path(), pick({"fifo", "socket", "char", "block"}), mode(), text(below(3)),
              text(below(3))};
    }
    if (name == "tmpfile") {
      std::vector<std::string> words{handle(), directory(), mode()};
      if (below(4) == 0) words.push_back("excl");
      return words;
    }
    if (name == "rename") {
      std::vector<std::string> words{path(), path()};
      std::string flag = pick({"noreplace", "exchange", "whiteout"});
      if (below(3) == 0 && (mix_.whiteouts || flag != "whiteout")) words.push_back(flag);
      return words;
    }
    if (name == "link") return {path(), path()};
    if (name == "hold") return {handle(), path()};
    if (name == "opendir") return {handle(), directory()};
    if (name == "release" || name == "closedir") return {handle()};
    if (name == "readdir") return {handle(), text(below(6))};
    if (name == "list") return {directory()};
    if (name == "as") return {text(below(3)), text(below(3)), pick({"0", "22", "77"})};
    if (name == "setacl") return {path(), acl_kind(), pick(kAcls)};
    if (name == "getacl") return {path(), acl_kind()};
    return of_content_and_xattrs(name);
  }

  std::vector<std::string> of_content_and_xattrs(const std::string& name) {
    if (name == "write") {
      std::vector<std::string> words{path(), offset(), length(), text(below(1000))};
      if (below(3) == 0) words.push_back(pick({"member", "stranger"}));
      return words;
    }
    if (name == "append") return {path(), length(), text(below(1000))};
    if (name == "put") return {path(), "text" + text(below(100))};
    if (name == "truncate") return {path(), below(3) == 0 ? "0" : offset()};
    if (name == "fallocate") {
      return {path(), pick({"alloc", "keep", "punch", "punch", "zero", "zerokeep"}), offset(),
              length(), pick({"member", "stranger"})};
    }
    if (name == "seek") return {path(), pick({"data", "hole"}), offset()};
    if (name == "copy") return {path(), offset(), path(), offset(), length()};
    if (name == "chown") return {path(), text(below(3)), text(below(3))};
    if (name == "utimes") return {path(), text(below(5000)), text(below(5000))};
    std::string xattr = pick({"user.a", "user.b", "security.capability", "trusted.x"});
    if (name == "setxattr") {
      std::string value = xattr[0] == 's' ? kCapability : "v" + text(below(1000));
      std::vector<std::string> words{path(), xattr, value};
      if (below(3) == 0) words.push_back(pick({"create", "replace"}));
      return words;
    }
    if (name == "removexattr" && below(3) == 0) {
      return {path(), pick({"system.posix_acl_access", "system.posix_acl_default"})};
    }
    if (name == "removexattr" || name == "getxattr") return {path(), xattr};
    return {path()};  // unlink, rmdir, stat, read, sync
  }

  std::mt19937_64& random_;
  const ScriptMix mix_;
};

std::string lower_text() {
  std::string out = R"(
      mkdir a 755
      mkdir a/b 755
      chmod a/b 2775
      mkdir a/b/c 755
      mkdir b 755
      create a/a 4755
      put a/a small
      link a/a b/f
      create a/b/d 644
      put a/b/d %*78:100000
      link a/b/d d
      create a/b/c/e 644
      put a/b/c/e deep
      create b/a 2644
      put b/a %*79:40000
      create b/e 644
      put b/e %*7a:17000
      setxattr b/e user.a 1
      create c 644
      symlink a/b e
      mknod b/c char 600 0 0
      mkdir f 755
      setacl f default u::7,u:1:5,g::5,m::7,o::4
      create f/a 644
      truncate f/a 300000
      write f/a 8000 5000 1
      write f/a 200000 30000 2
      create f/b 664
      setacl f/b access u::6,u:2:7,g::4,m::6,o::0
      mkdir f/d 1777
      mknod f/d/fifo fifo 600 0 0
  )";
  for (int i = 0; i < 20; ++i) out += fmt::format("create f/d/n{} 644\n", i);
  out += fmt::format("setxattr b/e security.capability {}\n", kCapability);
  out += "utimes b/e 77 77\n";
  return out;
}

}  // namespace

const std::vector<Command>& lower_script() {
  static const std::vector<Command> kScript = parse_script(lower_text());
  return kScript;
}

std::vector<Command> random_script(std::mt19937_64& random, size_t steps, const ScriptMix& mix) {
  Generator generator(random, mix);
  std::vector<Command> script;
  while (script.size() < steps) script.push_back(generator.next());
  return script;
}

}  // namespace layerfs
