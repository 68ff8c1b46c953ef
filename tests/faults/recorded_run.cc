// SPDX-License-Identifier: Apache-2.0
#include "tests/faults/recorded_run.h"

#include <fmt/format.h>

#include <algorithm>
#include <stdexcept>

#include "tests/model/generator.h"

namespace layerfs::test_support {
namespace {

template <typename T>
T must(Result<T> result) {
  if (!result.ok()) throw std::runtime_error(result.error().message);
  return std::move(*result);
}

std::string describe_attributes(Overlay& overlay, const Stat& stat) {
  const Attributes& a = stat.attributes;
  std::string out =
      fmt::format("type {} mode {:o} uid {} gid {} nlink {} size {} rdev {}:{}",
                  static_cast<int>(a.type), a.mode, a.uid, a.gid, a.nlink,
                  a.type == FileType::directory ? 0 : a.size_bytes, a.rdev_major, a.rdev_minor);
  std::vector<std::string> names = must(overlay.list_xattrs(stat.ino));
  std::sort(names.begin(), names.end());
  for (const std::string& name : names)
    out += " " + name + "=" + must(overlay.get_xattr(stat.ino, name));
  if (a.type == FileType::symlink) out += " -> " + must(overlay.readlink(stat.ino));
  return out;
}

void describe(Overlay& overlay, const Stat& stat, SeenFile& seen) {
  seen.ino = stat.ino;
  seen.lasting = describe_attributes(overlay, stat);
  seen.attributes =
      fmt::format("{} mtime {} atime {} ctime {}", seen.lasting, stat.attributes.mtime.seconds,
                  stat.atime.seconds, stat.ctime.seconds);
}

bool differ_in_times_only(const SeenTree& a, const SeenTree& b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end(), [](const auto& x, const auto& y) {
    return x.first == y.first && x.second.ino == y.second.ino &&
           x.second.lasting == y.second.lasting;
  });
}

void look_below(Overlay& overlay, Ino directory, const std::string& path, SeenTree& out) {
  std::vector<std::pair<std::string, Stat>> entries;
  Status listed = overlay.list_plus(directory, 0, [&](const DirectoryEntry& e, const Stat& stat) {
    entries.emplace_back(std::string(e.name), stat);
    return true;
  });
  if (!listed.ok()) throw std::runtime_error(listed.error().message);
  for (auto& [name, stat] : entries) {
    SeenFile& seen = out[path + name];
    describe(overlay, stat, seen);
    if (stat.attributes.type == FileType::regular) {
      std::string bytes(stat.attributes.size_bytes, '?');
      bytes.resize(must(overlay.read(stat.ino, 0, bytes)));
      seen.content = std::make_shared<const std::string>(std::move(bytes));
    }
    if (stat.attributes.type == FileType::directory)
      look_below(overlay, stat.ino, path + name + "/", out);
    overlay.forget(stat.ino, 1);
  }
}

}  // namespace

SeenTree look_at(Overlay& overlay) {
  SeenTree out;
  describe(overlay, must(overlay.stat(kRootIno)), out["."]);
  look_below(overlay, kRootIno, "", out);
  return out;
}

Result<Opened> open_container(Lower& lower, const std::string& directory, int64_t* clock) {
  Opened out;
  out.upper = TRY(Upper::open(directory, lower.inode_limit(), {}));
  Overlay::Options options;
  options.host_directory = directory;
  options.clock = [clock] { return Timestamp{(*clock)++, 0}; };
  out.overlay = TRY(Overlay::create(lower, out.upper.get(), options));
  return out;
}

std::unique_ptr<MemoryLower> crash_lower() {
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

std::vector<Command> crash_script(Random& random, size_t steps) {
  std::mt19937_64 engine(random.below(UINT64_MAX));
  std::vector<Command> script = random_script(engine, steps, {});
  const char* const names[] = {"a", "b", "c", "d", "a/a", "a/b/d", "b/a", "b/e", "e", "f"};
  for (Command& command : script) {
    if (random.one_in(60)) command.words = {"remount"};
    if (random.one_in(40)) command.words = {"sync"};
    if (random.one_in(12))
      command.words = {random.one_in(2) ? "datasync" : "sync",
                       names[random.below(std::size(names))]};
  }
  return script;
}

RecordedRun::RecordedRun(MemoryLower& lower, const std::string& directory,
                         const std::vector<Command>& script) {
  int64_t clock = 1000;
  HostCalls host(directory);
  Opened fs = must(open_container(lower, directory, &clock));
  ScriptRunner runner;
  steps_.push_back({look_at(*fs.overlay), 0, false, false, "start"});
  marks_.push_back(host.count());
  for (const Command& command : script) {
    Step step;
    step.text = script_text({command});
    if (command.words[0] == "remount") {
      runner.forget_all();
      fs.overlay.reset();
      fs.upper.reset();
      fs = must(open_container(lower, directory, &clock));
    } else if (command.words[0] == "sync" || command.words[0] == "datasync") {
      const SeenTree& tree = steps_.back().tree;
      auto it = command.words.size() > 1 ? tree.find(command.words[1]) : tree.end();
      step.synced_all = command.words.size() == 1;
      step.synced = it == tree.end() ? 0 : it->second.ino;
      step.data_only = command.words[0] == "datasync";
      Status synced;
      if (step.synced_all || step.synced != 0)
        synced = fs.overlay->sync(step.synced, step.data_only ? Sync::data : Sync::all);
      if (!synced.ok()) throw std::runtime_error(synced.error().message);
    } else {
      step.text += "  = " + runner.run(*fs.overlay, command);
    }
    step.tree = look_at(*fs.overlay);
    for (auto& [path, seen] : step.tree) {  // unchanged contents are kept once
      auto before = steps_.back().tree.find(path);
      if (before == steps_.back().tree.end() || !seen.content || !before->second.content) continue;
      if (*before->second.content == *seen.content) seen.content = before->second.content;
    }
    steps_.push_back(std::move(step));
    marks_.push_back(host.count());
  }
  calls_ = host.calls();
  for (const HostCall& call : calls_) syncs_ += call.syncs() ? 1 : 0;
}

RecordedRun::Window RecordedRun::window(size_t at, bool power_failed) const {
  // The last step that had returned.
  size_t done =
      static_cast<size_t>(std::upper_bound(marks_.begin(), marks_.end(), at) - marks_.begin());
  if (done > 0) --done;
  Window out{done, std::min(done + 1, steps_.size() - 1)};
  if (!power_failed) return out;
  while (out.first > 0 && steps_[out.first].synced == 0 && !steps_[out.first].synced_all)
    --out.first;
  if (steps_[out.first].data_only)  // times may be what they were, until something else changed
    while (out.first > 0 &&
           differ_in_times_only(steps_[out.first - 1].tree, steps_[out.first].tree))
      --out.first;
  return out;
}

std::string RecordedRun::compare_content(const std::string& path, const SeenFile& found,
                                         const Window& window, bool power_failed) const {
  // From the file's own sync on, whatever it held may be there.
  size_t first = window.last == 0 ? 0 : window.last - 1;
  if (power_failed)
    while (first > 0 && steps_[first].synced != found.ino && !steps_[first].synced_all) --first;
  std::vector<const std::string*> versions;
  for (size_t i = first; i <= window.last; ++i)
    for (const auto& [name, seen] : steps_[i].tree)
      if (seen.ino == found.ino && seen.content &&
          (versions.empty() || versions.back() != seen.content.get()))
        versions.push_back(seen.content.get());
  // Beside a byte that changed one may have been overwritten with what it was.
  constexpr size_t kNear = 16;
  size_t changed_until = 0;
  auto changes = [&](size_t at) {
    for (const std::string* version : versions)
      if (at >= version->size() || at >= versions.front()->size() ||
          (*version)[at] != (*versions.front())[at])
        return true;
    return versions.empty();
  };
  for (size_t at = 0; at < found.content->size(); ++at) {
    if (changes(at)) changed_until = std::max(changed_until, at + kNear);
    if (changes(at + kNear)) changed_until = at + 2 * kNear;
    char byte = (*found.content)[at];
    bool known = std::any_of(versions.begin(), versions.end(), [&](const std::string* version) {
      return at < version->size() && (*version)[at] == byte;
    });
    if (known || (power_failed && byte == 0 && (at < changed_until || changes(at)))) continue;
    return fmt::format("{} (inode {}): byte {} is {:02x}, which it never was since step {}", path,
                       found.ino, at, static_cast<unsigned char>(byte), first);
  }
  return "";
}

std::string RecordedRun::compare(const SeenTree& found, size_t step, const Window& window,
                                 bool power_failed) const {
  const SeenTree& expected = steps_[step].tree;
  for (const auto& [path, seen] : expected) {
    auto it = found.find(path);
    if (it == found.end()) return path + " is missing: " + seen.attributes;
    if (it->second.ino != seen.ino)
      return fmt::format("{} is inode {}, not {}", path, it->second.ino, seen.ino);
    if (it->second.attributes != seen.attributes)
      return fmt::format("{}:\n     {}\n not {}", path, it->second.attributes, seen.attributes);
  }
  for (const auto& [path, seen] : found)
    if (!expected.contains(path)) return path + " should not be: " + seen.attributes;
  for (const auto& [path, seen] : found) {
    if (!seen.content || *seen.content == *expected.at(path).content) continue;
    std::string wrong = compare_content(path, seen, window, power_failed);
    if (!wrong.empty()) return "content: " + wrong;
  }
  return "";
}

std::string RecordedRun::judge(const SeenTree& tree, size_t at, bool power_failed) const {
  Window allowed = window(at, power_failed);
  std::string wrong, content_wrong;
  for (size_t step = allowed.last + 1; step-- > allowed.first;) {
    std::string why = compare(tree, step, allowed, power_failed);
    if (why.empty()) return "";
    if (why.starts_with("content: ")) content_wrong = why;
    if (wrong.empty()) wrong = why;
  }
  std::string out = fmt::format("steps {} to {} may be found, but {}\n", allowed.first,
                                allowed.last, content_wrong.empty() ? wrong : content_wrong);
  for (size_t i = allowed.first > 40 ? allowed.first - 40 : 0; i <= allowed.last; ++i)
    out += fmt::format("  {}: {}\n", i, steps_[i].text);
  return out;
}

}  // namespace layerfs::test_support
