// SPDX-License-Identifier: Apache-2.0
#include "tests/model/script_runner.h"

#include <fmt/format.h>
#include <linux/falloc.h>
#include <linux/fs.h>
#include <string.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <algorithm>
#include <sstream>

#include "layerdb/base/hash.h"
#include "tests/model/acl_text.h"

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

std::string answer(const std::string& bytes) {
  bool plain = !bytes.empty() && bytes.size() < 60 &&
               std::all_of(bytes.begin(), bytes.end(), [](unsigned char c) { return isgraph(c); });
  return plain ? bytes : digest_of(bytes);
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

// The optional sixth word of write and of fallocate.
WriterOf writer(const std::vector<std::string>& words) {
  if (words.size() < 6) return {};
  bool stranger = words[5] == "stranger";
  return [=](const Attributes&) { return stranger ? Writer::stranger : Writer::member; };
}

const std::string& acl_name(const std::string& word) {
  return word == "default" ? kDefaultAclName : kAccessAclName;
}

const Result<std::string> kDone{std::string("ok")};
const Result<std::string> kOther{std::string()};  // not one of this group's commands

}  // namespace

std::string digest_of(const std::string& bytes) {
  return fmt::format("{}:{:x}", bytes.size(), checksum64(bytes));
}

void ScriptRunner::forget_all() {
  held_.clear();
  listings_.clear();
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
  if (!well_formed(command.words)) return "bad command";
  Result<std::string> result = execute(fs, command.words);
  unpin(fs);
  return result.ok() ? *result : strerrorname_np(result.error().code);
}

Result<std::string> ScriptRunner::execute(Overlay& fs, const Words& w) {
  if (w[0] == "as") {
    caller_ = {static_cast<uint32_t>(number(w[1])), static_cast<uint32_t>(number(w[2])),
               static_cast<uint32_t>(number(w[3], 8))};
    return kDone;
  }
  using Group = Result<std::string> (ScriptRunner::*)(Overlay&, const Words&);
  for (Group group :
       {&ScriptRunner::make, &ScriptRunner::change_names, &ScriptRunner::change_content,
        &ScriptRunner::change_attributes, &ScriptRunner::list_in_parts}) {
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
    bool linkable = w.size() < 5;
    held_[w[1]] = TRY(fs.make_unnamed(directory, number(w[3], 8), linkable, caller_)).ino;
    return kDone;
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
  name_changed(at);
  return kDone;
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
    name_changed(to);
  } else if (w[0] == "unlink" || w[0] == "rmdir") {
    Place at = TRY(place(fs, w[1]));
    bool unlink = w[0] == "unlink";
    TRY(unlink ? fs.unlink(at.directory, at.name) : fs.rmdir(at.directory, at.name));
    name_changed(at);
  } else if (w[0] == "rename") {
    Place from = TRY(place(fs, w[1]));
    Place to = TRY(place(fs, w[2]));
    uint32_t flags = w.size() > 3 ? kRenameFlags.at(w[3]) : 0;
    TRY(fs.rename(from.directory, from.name, to.directory, to.name, flags));
    name_changed(from);
    name_changed(to);
  } else {
    return kOther;
  }
  return kDone;
}

Result<std::string> ScriptRunner::change_content(Overlay& fs, const Words& w) {
  if (w[0] == "write") {
    std::string bytes = pattern(number(w[3]), number(w[4]));
    TRY(fs.write(TRY(resolve(fs, w[1])), number(w[2]), bytes, writer(w)));
  } else if (w[0] == "append") {
    Ino ino = TRY(resolve(fs, w[1]));
    Attributes attributes = TRY(fs.stat(ino)).attributes;
    uint64_t end = attributes.type == FileType::regular ? attributes.size_bytes : 0;
    TRY(fs.write(ino, end, pattern(number(w[2]), number(w[3]))));
  } else if (w[0] == "put") {
    TRY(fs.write(TRY(resolve(fs, w[1])), 0, unescape(w[2])));
  } else if (w[0] == "truncate") {
    SetAttributes changes;
    changes.size_bytes = number(w[2]);
    TRY(fs.set_attributes(TRY(resolve(fs, w[1])), changes, caller_));
  } else if (w[0] == "fallocate") {
    TRY(fs.allocate(TRY(resolve(fs, w[1])), kAllocateModes.at(w[2]), number(w[3]), number(w[4]),
                    writer(w)));
  } else if (w[0] == "copy") {
    Ino from = TRY(resolve(fs, w[1]));
    Ino to = TRY(resolve(fs, w[3]));
    if (from == to) return Error{EINVAL, "one file"};
    return std::to_string(TRY(fs.copy_range(from, number(w[2]), to, number(w[4]), number(w[5]))));
  } else if (w[0] == "sync") {
    TRY(fs.sync(TRY(resolve(fs, w[1]))));
  } else {
    return kOther;
  }
  return kDone;
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
  } else if (w[0] == "setxattr" || w[0] == "setacl") {
    bool acl = w[0] == "setacl";
    int flags = !acl && w.size() > 4 ? kXattrFlags.at(w[4]) : 0;
    TRY(fs.set_xattr(TRY(resolve(fs, w[1])), acl ? acl_name(w[2]) : w[2],
                     acl ? acl_bytes_of_text(w[3]) : unescape(w[3]), flags));
    return kDone;
  } else if (w[0] == "removexattr") {
    TRY(fs.remove_xattr(TRY(resolve(fs, w[1])), w[2]));
    return kDone;
  } else {
    return kOther;
  }
  TRY(fs.set_attributes(TRY(resolve(fs, w[1])), changes, caller_));
  return kDone;
}

void ScriptRunner::name_changed(const Place& place) {
  for (auto& [handle, listing] : listings_) {
    if (listing.directory == place.directory) listing.changed.insert(place.name);
  }
}

Status ScriptRunner::read_listing(Overlay& fs, Listing& listing, uint64_t count) {
  return fs.list(listing.directory, listing.cookie, [&](const DirectoryEntry& entry) {
    if (count-- == 0) return false;
    listing.seen.emplace(entry.name);
    listing.cookie = entry.cookie;
    return true;
  });
}

std::string ScriptRunner::judge(const Listing& listing) {
  for (const std::string& name : listing.at_first) {
    bool stayed = listing.changed.count(name) == 0;
    if (stayed && listing.seen.count(name) == 0) return "skipped " + escape(name);
  }
  for (const std::string& name : listing.seen) {
    bool stayed = listing.changed.count(name) == 0;
    if (stayed && listing.seen.count(name) > 1) return "repeated " + escape(name);
    if (stayed && listing.at_first.count(name) == 0) return "invented " + escape(name);
  }
  return "ok";
}

Result<std::string> ScriptRunner::list_in_parts(Overlay& fs, const Words& w) {
  if (w[0] == "opendir") {
    if (listings_.count(w[1]) != 0) return Error{EBUSY, "open"};
    // The listing keeps the reference that looking the path up took.
    if (w[2][0] == '@' && w[2].find('/') == std::string::npos) return Error{EINVAL, "a handle"};
    Ino directory = TRY(resolve(fs, w[2]));
    if (TRY(fs.stat(directory)).attributes.type != FileType::directory) return Error{ENOTDIR, ""};
    Listing all{.directory = directory};
    TRY(read_listing(fs, all, UINT64_MAX));
    if (!pinned_.empty() && pinned_.back() == directory) pinned_.pop_back();  // stays referenced
    Listing& listing = listings_[w[1]];
    listing.directory = directory;
    listing.at_first.insert(all.seen.begin(), all.seen.end());
    return kDone;
  }
  if (w[0] != "readdir" && w[0] != "closedir") return kOther;
  auto it = listings_.find(w[1]);
  if (it == listings_.end()) return Error{EBADF, "not open"};
  if (w[0] == "readdir") {
    TRY(read_listing(fs, it->second, number(w[2])));
    return kDone;
  }
  Listing listing = std::move(it->second);
  listings_.erase(it);
  Status status = read_listing(fs, listing, UINT64_MAX);
  if (listing.directory != kRootIno) pinned_.push_back(listing.directory);
  TRY(std::move(status));
  return judge(listing);
}

void ScriptRunner::unpin(Overlay& fs) {
  for (Ino ino : pinned_) fs.forget(ino, 1);
  pinned_.clear();
}

Result<Ino> ScriptRunner::number_of(Overlay& fs, const std::string& path) {
  auto ino = resolve(fs, path);
  unpin(fs);
  return ino;
}

Result<std::string> ScriptRunner::content(Overlay& fs, const std::string& path) {
  auto bytes = read_all(fs, path);
  unpin(fs);
  return bytes;
}

Result<std::string> ScriptRunner::read_all(Overlay& fs, const std::string& path) {
  Ino ino = TRY(resolve(fs, path));
  std::string out(TRY(fs.stat(ino)).attributes.size_bytes + 10, 'x');
  out.resize(TRY(fs.read(ino, 0, out)));
  return out;
}

Result<std::string> ScriptRunner::look(Overlay& fs, const Words& w) {
  if (w[0] == "read") return answer(TRY(read_all(fs, w[1])));
  Ino ino = TRY(resolve(fs, w[1]));
  if (w[0] == "getxattr") return answer(TRY(fs.get_xattr(ino, w[2])));
  if (w[0] == "getacl") return acl_text(TRY(fs.get_xattr(ino, acl_name(w[2]))));
  if (w[0] == "seek") {
    return std::to_string(TRY(fs.seek(ino, number(w[3]), w[2] == "data" ? SEEK_DATA : SEEK_HOLE)));
  }
  if (w[0] == "list") {
    if (TRY(fs.stat(ino)).attributes.type != FileType::directory) return Error{ENOTDIR, "list"};
    std::vector<std::string> names;
    TRY(fs.list(ino, 0, [&](const DirectoryEntry& entry) {
      names.push_back(escape(entry.name));
      return true;
    }));
    std::sort(names.begin(), names.end());
    return names.empty() ? "nothing" : fmt::format("{}", fmt::join(names, " "));
  }
  Attributes a = TRY(fs.stat(ino)).attributes;
  if (w[0] == "mode") return fmt::format("{:o}", a.mode);
  if (w[0] == "nlink") return std::to_string(a.nlink);
  if (w[0] == "size") return std::to_string(a.size_bytes);
  uint64_t size_bytes = a.type == FileType::directory ? 0 : a.size_bytes;
  return fmt::format("type={} mode={:o} uid={} gid={} nlink={} size={} rdev={}:{}",
                     static_cast<int>(a.type), a.mode, a.uid, a.gid, a.nlink, size_bytes,
                     a.rdev_major, a.rdev_minor);
}

}  // namespace layerfs
