// SPDX-License-Identifier: Apache-2.0
#include "tests/model/script.h"

#include <fmt/format.h>
#include <linux/falloc.h>
#include <linux/fs.h>
#include <string.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <algorithm>
#include <sstream>

#include "layerdb/base/hash.h"

namespace layerfs {
namespace {

uint64_t number(const std::string& word, int base = 10) {
  return std::strtoull(word.c_str(), nullptr, base);
}

std::string pattern(uint64_t length, uint64_t seed) {
  std::string out(length, '\0');
  uint64_t state = seed * 2654435761u + 1;
  for (char& c : out) {
    state = state * 6364136223846793005u + 1442695040888963407u;
    c = static_cast<char>(state >> 56);
  }
  return out;
}

std::string describe(const Stat& stat) {
  const Attributes& a = stat.attributes;
  return fmt::format("type={} mode={:o} uid={} gid={} nlink={} size={} rdev={}:{}",
                     static_cast<int>(a.type), a.mode, a.uid, a.gid, a.nlink, a.size_bytes,
                     a.rdev_major, a.rdev_minor);
}

std::string times(const Stat& stat) {
  const Timestamp all[] = {stat.atime, stat.attributes.mtime, stat.ctime, stat.btime};
  std::string out = " times";
  for (const Timestamp& time : all) out += fmt::format(" {}.{}", time.seconds, time.nanoseconds);
  return out;
}

Result<std::string> content(Overlay& fs, Ino ino) {
  std::string out(TRY(fs.stat(ino)).attributes.size_bytes + 10, 'x');
  out.resize(TRY(fs.read(ino, 0, out)));
  return out;
}

std::string digest(const std::string& bytes) {
  return fmt::format("{}:{:x}", bytes.size(), checksum64(bytes));
}

// What SEEK_HOLE calls a hole must read as zeros.
Status check_holes(Overlay& fs, Ino ino, const std::string& bytes) {
  for (uint64_t at = 0; at < bytes.size();) {
    auto data = fs.seek(ino, at, SEEK_DATA);
    if (!data.ok() && data.error().code != ENXIO) return std::move(data).error();
    uint64_t data_at = data.ok() ? *data : bytes.size();
    if (data_at < at || data_at > bytes.size()) return Error{ERANGE, "SEEK_DATA"};
    for (uint64_t i = at; i < data_at; ++i) {
      if (bytes[i] != 0) return Error{ERANGE, "data in a hole"};
    }
    if (data_at == bytes.size()) break;
    at = TRY(fs.seek(ino, data_at, SEEK_HOLE));
    if (at <= data_at || at > bytes.size()) return Error{ERANGE, "SEEK_HOLE"};
  }
  return {};
}

Result<std::string> describe_all(Overlay& fs, Ino ino) {
  Stat stat = TRY(fs.stat(ino));
  std::string out = describe(stat) + times(stat);
  auto xattr_names = TRY(fs.list_xattrs(ino));
  for (const std::string& name : xattr_names) {
    out += fmt::format(" {}={}", name, digest(TRY(fs.get_xattr(ino, name))));
  }
  if (stat.attributes.type == FileType::symlink) out += " -> " + TRY(fs.readlink(ino));
  if (stat.attributes.type != FileType::regular) return out;
  std::string bytes = TRY(content(fs, ino));
  TRY(check_holes(fs, ino, bytes));
  return out + " content=" + digest(bytes);
}

void snapshot_directory(Overlay& fs, Ino directory, const std::string& path,
                        std::map<std::string, std::string>& out, std::map<std::string, Ino>* inos) {
  std::vector<std::pair<std::string, Ino>> entries;
  std::vector<Ino> listed;
  auto status = fs.list_plus(directory, 0, [&](const DirectoryEntry& entry, const Stat& stat) {
    if (stat.ino != entry.ino || stat.attributes.type != entry.type) {
      out[path + std::string(entry.name)] = "readdir and stat differ";
    }
    entries.emplace_back(entry.name, entry.ino);
    return true;
  });
  if (!status.ok()) out[path] += "list: " + status.error().message;
  for (auto& [name, ino] : entries) {
    std::string full = path + name;
    auto described = describe_all(fs, ino);
    std::string text = described.ok() ? *described : "error: " + described.error().message;
    if (!out.try_emplace(full, text).second) out[full] += " (listed twice)";
    if (inos != nullptr) (*inos)[full] = ino;
    auto found = fs.lookup(directory, name);
    if (!found.ok() || found->ino != ino) out[full] += " (lookup differs)";
    if (found.ok()) fs.forget(found->ino, 1);
    auto stat = fs.stat(ino);
    if (stat.ok() && stat->attributes.type == FileType::directory) {
      snapshot_directory(fs, ino, full + "/", out, inos);
    }
    fs.forget(ino, 1);
  }
}

const std::map<std::string, uint32_t> kRenameFlags{
    {"noreplace", RENAME_NOREPLACE}, {"exchange", RENAME_EXCHANGE}, {"whiteout", RENAME_WHITEOUT}};
const std::map<std::string, int> kAllocateModes{
    {"alloc", 0},
    {"keep", FALLOC_FL_KEEP_SIZE},
    {"punch", FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE},
    {"zero", FALLOC_FL_ZERO_RANGE},
    {"zerokeep", FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE}};
const std::map<std::string, FileType> kTypes{{"fifo", FileType::fifo},
                                             {"socket", FileType::socket},
                                             {"char", FileType::char_device},
                                             {"block", FileType::block_device}};
const std::map<std::string, int> kXattrFlags{{"create", XATTR_CREATE}, {"replace", XATTR_REPLACE}};

// How many words a command has, its own included, at least.
const std::map<std::string, size_t> kWords{
    {"mkdir", 3},    {"create", 3},   {"symlink", 3}, {"mknod", 6},    {"tmpfile", 4},
    {"link", 3},     {"unlink", 2},   {"rmdir", 2},   {"rename", 3},   {"as", 4},
    {"write", 5},    {"put", 3},      {"read", 2},    {"truncate", 3}, {"fallocate", 5},
    {"copy", 6},     {"seek", 4},     {"chmod", 3},   {"chown", 4},    {"utimes", 4},
    {"setxattr", 4}, {"getxattr", 3}, {"stat", 2},    {"mode", 2},     {"nlink", 2},
    {"size", 2},     {"list", 2},     {"hold", 3},    {"release", 2},  {"removexattr", 3}};

const Result<std::string> kOk{std::string("ok")};
const Result<std::string> kOther{std::string()};  // not one of this group's commands

}  // namespace

std::string unescape(const std::string& word) {
  std::string out;
  for (size_t i = 0; i < word.size();) {
    if (word[i] != '%') {
      out += word[i++];
    } else if (word[i + 1] == '*') {
      char c = static_cast<char>(number(word.substr(i + 2, 2), 16));
      size_t end = i + 5;
      while (end < word.size() && isdigit(word[end])) ++end;
      out.append(number(word.substr(i + 5, end - i - 5)), c);
      i = end;
    } else {
      out += static_cast<char>(number(word.substr(i + 1, 2), 16));
      i += 3;
    }
  }
  return out;
}

std::vector<Command> parse_script(std::string_view text) {
  std::vector<Command> script;
  std::istringstream lines{std::string(text)};
  for (std::string line; std::getline(lines, line);) {
    std::istringstream words(line.substr(0, line.find('#')));
    Command command;
    bool after = false;
    for (std::string word; words >> word;) {
      if (word == "=" && !after) {
        after = true;
      } else if (after) {
        command.expected += (command.expected.empty() ? "" : " ") + word;
      } else {
        command.words.push_back(word);
      }
    }
    if (!command.words.empty()) script.push_back(std::move(command));
  }
  return script;
}

std::string script_text(const std::vector<Command>& script) {
  std::string out;
  for (const Command& command : script) {
    out += fmt::format("{}", fmt::join(command.words, " "));
    if (!command.expected.empty()) out += " = " + command.expected;
    out += '\n';
  }
  return out;
}

std::map<std::string, std::string> ScriptRunner::snapshot(Overlay& fs,
                                                          std::map<std::string, Ino>* inos) {
  std::map<std::string, std::string> out;
  auto root = describe_all(fs, kRootIno);
  out["."] = root.ok() ? *root : root.error().message;
  snapshot_directory(fs, kRootIno, "", out, inos);
  return out;
}

Result<Ino> ScriptRunner::resolve(Overlay& fs, const std::string& path) {
  if (path == ".") return kRootIno;
  Ino at = kRootIno;
  std::istringstream parts(path);
  bool first = true;
  for (std::string part; std::getline(parts, part, '/'); first = false) {
    if (first && part[0] == '@') {
      auto it = held_.find(part.substr(1));
      if (it == held_.end()) return Error{EBADF, "not held"};
      at = it->second;
      continue;
    }
    if (TRY(fs.stat(at)).attributes.type != FileType::directory) return Error{ENOTDIR, "path"};
    at = TRY(fs.lookup(at, unescape(part))).ino;
    pinned_.push_back(at);
  }
  return at;
}

Result<ScriptRunner::Place> ScriptRunner::place(Overlay& fs, const std::string& path) {
  size_t slash = path.rfind('/');
  if (slash == std::string::npos) return Place{kRootIno, unescape(path)};
  Ino directory = TRY(resolve(fs, path.substr(0, slash)));
  if (TRY(fs.stat(directory)).attributes.type != FileType::directory) return Error{ENOTDIR, ""};
  return Place{directory, unescape(path.substr(slash + 1))};
}

std::string ScriptRunner::run(Overlay& fs, const Command& command) {
  auto it = kWords.find(command.words[0]);
  if (it == kWords.end() || command.words.size() < it->second) return "bad command";
  Result<std::string> result = execute(fs, command.words);
  for (Ino ino : pinned_) fs.forget(ino, 1);
  pinned_.clear();
  return result.ok() ? *result : strerrorname_np(result.error().code);
}

Result<std::string> ScriptRunner::execute(Overlay& fs, const Words& w) {
  if (w[0] == "as") {
    caller_ = {static_cast<uint32_t>(number(w[1])), static_cast<uint32_t>(number(w[2])),
               static_cast<uint32_t>(number(w[3], 8))};
    return kOk;
  }
  using Group = Result<std::string> (ScriptRunner::*)(Overlay&, const Words&);
  for (Group group : {&ScriptRunner::make, &ScriptRunner::change_names,
                      &ScriptRunner::change_content, &ScriptRunner::change_attributes}) {
    std::string result = TRY((this->*group)(fs, w));
    if (!result.empty()) return result;
  }
  return look(fs, w);
}

Result<std::string> ScriptRunner::make(Overlay& fs, const Words& w) {
  NewNode node;
  std::string path = w[1];
  if (w[0] == "tmpfile") {
    Ino directory = TRY(resolve(fs, w[2]));
    if (held_.count(w[1]) != 0) return Error{EBUSY, "held"};
    held_[w[1]] = TRY(fs.make_unnamed(directory, number(w[3], 8), true, caller_)).ino;
    return kOk;
  }
  if (w[0] == "symlink") {
    node.type = FileType::symlink;
    node.symlink_target = unescape(w[1]);
    path = w[2];
  } else if (w[0] == "mkdir" || w[0] == "create") {
    node.type = w[0] == "mkdir" ? FileType::directory : FileType::regular;
    node.mode = number(w[2], 8);
  } else if (w[0] == "mknod") {
    node.type = kTypes.at(w[2]);
    node.mode = number(w[3], 8);
    node.rdev_major = number(w[4]);
    node.rdev_minor = number(w[5]);
  } else {
    return kOther;
  }
  Place at = TRY(place(fs, path));
  Stat made = TRY(fs.make(at.directory, at.name, node, caller_));
  fs.forget(made.ino, 1);
  return kOk;
}

Result<std::string> ScriptRunner::change_names(Overlay& fs, const Words& w) {
  if (w[0] == "hold") {
    Place at = TRY(place(fs, w[2]));
    if (held_.count(w[1]) != 0) return Error{EBUSY, "held"};
    held_[w[1]] = TRY(fs.lookup(at.directory, at.name)).ino;
  } else if (w[0] == "release") {
    auto it = held_.find(w[1]);
    if (it == held_.end()) return Error{EBADF, "not held"};
    fs.forget(it->second, 1);
    held_.erase(it);
  } else if (w[0] == "link") {
    Ino ino = TRY(resolve(fs, w[1]));
    Place to = TRY(place(fs, w[2]));
    TRY(fs.link(ino, to.directory, to.name));
    fs.forget(ino, 1);
  } else if (w[0] == "unlink" || w[0] == "rmdir") {
    Place at = TRY(place(fs, w[1]));
    bool unlink = w[0] == "unlink";
    TRY(unlink ? fs.unlink(at.directory, at.name) : fs.rmdir(at.directory, at.name));
  } else if (w[0] == "rename") {
    Place from = TRY(place(fs, w[1]));
    Place to = TRY(place(fs, w[2]));
    uint32_t flags = w.size() > 3 ? kRenameFlags.at(w[3]) : 0;
    TRY(fs.rename(from.directory, from.name, to.directory, to.name, flags));
  } else {
    return kOther;
  }
  return kOk;
}

Result<std::string> ScriptRunner::change_content(Overlay& fs, const Words& w) {
  if (w[0] == "write") {
    bool kill = w.size() > 5;
    std::string bytes = pattern(number(w[3]), number(w[4]));
    TRY(fs.write(TRY(resolve(fs, w[1])), number(w[2]), bytes, kill));
  } else if (w[0] == "put") {
    TRY(fs.write(TRY(resolve(fs, w[1])), 0, unescape(w[2]), false));
  } else if (w[0] == "truncate") {
    SetAttributes changes;
    changes.size_bytes = number(w[2]);
    TRY(fs.set_attributes(TRY(resolve(fs, w[1])), changes, caller_));
  } else if (w[0] == "fallocate") {
    TRY(fs.allocate(TRY(resolve(fs, w[1])), kAllocateModes.at(w[2]), number(w[3]), number(w[4]),
                    true));
  } else if (w[0] == "copy") {
    Ino from = TRY(resolve(fs, w[1]));
    Ino to = TRY(resolve(fs, w[3]));
    if (from == to) return Error{EINVAL, "one file"};
    return std::to_string(
        TRY(fs.copy_range(from, number(w[2]), to, number(w[4]), number(w[5]), false)));
  } else {
    return kOther;
  }
  return kOk;
}

Result<std::string> ScriptRunner::change_attributes(Overlay& fs, const Words& w) {
  SetAttributes changes;
  if (w[0] == "chmod") {
    changes.mode = number(w[2], 8);
  } else if (w[0] == "chown") {
    changes.uid = number(w[2]);
    changes.gid = number(w[3]);
  } else if (w[0] == "utimes") {
    changes.atime = Timestamp{static_cast<int64_t>(number(w[2])), 5};
    changes.mtime = Timestamp{static_cast<int64_t>(number(w[3])), 7};
  } else if (w[0] == "setxattr") {
    int flags = w.size() > 4 ? kXattrFlags.at(w[4]) : 0;
    TRY(fs.set_xattr(TRY(resolve(fs, w[1])), w[2], unescape(w[3]), flags));
    return kOk;
  } else if (w[0] == "removexattr") {
    TRY(fs.remove_xattr(TRY(resolve(fs, w[1])), w[2]));
    return kOk;
  } else {
    return kOther;
  }
  TRY(fs.set_attributes(TRY(resolve(fs, w[1])), changes, caller_));
  return kOk;
}

Result<std::string> ScriptRunner::look(Overlay& fs, const Words& w) {
  Ino ino = TRY(resolve(fs, w[1]));
  if (w[0] == "getxattr") return TRY(fs.get_xattr(ino, w[2]));
  if (w[0] == "seek") {
    return std::to_string(TRY(fs.seek(ino, number(w[3]), w[2] == "data" ? SEEK_DATA : SEEK_HOLE)));
  }
  if (w[0] == "read") {
    std::string bytes = TRY(content(fs, ino));
    bool plain = !bytes.empty() && bytes.size() < 60 &&
                 std::all_of(bytes.begin(), bytes.end(), [](char c) { return isgraph(c); });
    return plain ? bytes : digest(bytes);
  }
  if (w[0] == "list") {
    if (TRY(fs.stat(ino)).attributes.type != FileType::directory) return Error{ENOTDIR, "list"};
    std::vector<std::string> names;
    TRY(fs.list(ino, 0, [&](const DirectoryEntry& entry) {
      names.emplace_back(entry.name);
      return true;
    }));
    std::sort(names.begin(), names.end());
    return names.empty() ? "nothing" : fmt::format("{}", fmt::join(names, " "));
  }
  Stat stat = TRY(fs.stat(ino));
  if (w[0] == "mode") return fmt::format("{:o}", stat.attributes.mode);
  if (w[0] == "nlink") return std::to_string(stat.attributes.nlink);
  if (w[0] == "size") return std::to_string(stat.attributes.size_bytes);
  return describe(stat);
}

}  // namespace layerfs
