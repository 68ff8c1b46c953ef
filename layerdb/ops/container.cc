// SPDX-License-Identifier: Apache-2.0
#include "layerdb/ops/container.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <nlohmann/json.hpp>
#include <random>

#include "layerdb/base/json.h"

namespace layerfs {

namespace {

using Json = nlohmann::json;

constexpr int kFormatVersion = 1;
constexpr size_t kMaxNameBytesOfContainer = 128;

// container.json and mount.json are read leniently: unknown fields are ignored, a missing or
// mistyped one makes the file damaged.
template <typename T>
Result<T> field(const Json& json, const char* name, const std::string& path) {
  auto it = json.find(name);
  if (it != json.end()) {
    if constexpr (std::is_same_v<T, std::string>) {
      if (it->is_string()) return it->template get<T>();
    } else if constexpr (std::is_same_v<T, bool>) {
      if (it->is_boolean()) return it->template get<T>();
    } else {
      if (it->is_number_integer()) return it->template get<T>();
    }
  }
  return Error{EUCLEAN, fmt::format("'{}' lacks a valid field '{}'", path, name)};
}

Result<Json> read_json(const std::string& path) {
  Json json = parse_json(TRY(read_file(path)));
  if (!json.is_object()) return Error{EUCLEAN, "'" + path + "' is not a JSON object"};
  return json;
}

// Names and mount points are bytes; JSON is UTF-8.
std::string to_text(const Json& json) {
  return json_text(json, 2) + "\n";
}

std::string containers_directory(const std::string& root) { return root + "/containers"; }

Result<Container> read_container(const std::string& root, const std::string& name) {
  Container out;
  out.name = name;
  out.directory = containers_directory(root) + "/" + name;
  std::string path = out.directory + "/container.json";
  Json json = TRY(read_json(path));
  int version = TRY(field<int>(json, "version", path));
  if (version > kFormatVersion)
    return Error{EPROTO, fmt::format("'{}' has format {}, made by a newer version of layerfs", path,
                                     version)};
  out.reference = TRY(field<std::string>(json, "reference", path));
  out.image = TRY(Digest::parse(TRY(field<std::string>(json, "image", path))));
  out.chain_id = TRY(Digest::parse(TRY(field<std::string>(json, "chain_id", path))));
  out.created_at = TRY(field<int64_t>(json, "created_at", path));
  out.size_limit_bytes = TRY(field<uint64_t>(json, "size_limit_bytes", path));
  return out;
}

}  // namespace

Result<UniqueFd> lock_containers(const std::string& root) {
  TRY(make_directories(containers_directory(root), 0700));
  return lock_file(root + "/containers.lock");
}

Result<Container> find_container(const std::string& root, const std::string& name) {
  // The check keeps "a/../b" from naming a directory elsewhere.
  if (valid_container_name(name)) {
    Result<Container> found = read_container(root, name);
    if (found.ok() || found.error().code != ENOENT) return found;
  }
  return Error{ENOENT, fmt::format("no container '{}'; `layerfs ps` lists them", name)};
}

Result<std::vector<Container>> list_containers(const std::string& root) {
  std::vector<Container> out;
  Result<std::vector<std::string>> names = list_directory(containers_directory(root));
  if (!names.ok() && names.error().code == ENOENT) return out;
  if (!names.ok()) return std::move(names).error();
  for (const std::string& name : *names) {
    if (!valid_container_name(name)) continue;  // being made or removed
    Result<Container> container = read_container(root, name);
    if (!container.ok() && container.error().code == ENOENT) continue;
    if (!container.ok()) return std::move(container).error();
    out.push_back(std::move(*container));
  }
  return out;
}

Result<Container> create_container(const std::string& root, Container description) {
  if (!valid_container_name(description.name))
    return Error{EINVAL,
                 fmt::format("'{}' is not a valid container name: it takes letters, digits, "
                             "'_', '.' and '-', and begins with a letter or digit",
                             description.name)};
  description.directory = containers_directory(root) + "/" + description.name;
  if (path_exists(description.directory))
    return Error{EEXIST, fmt::format("container '{}' exists already", description.name)};
  Json json = {{"version", kFormatVersion},
               {"reference", description.reference},
               {"image", description.image.to_string()},
               {"chain_id", description.chain_id.to_string()},
               {"created_at", description.created_at},
               {"size_limit_bytes", description.size_limit_bytes}};
  // Made under a name that is no container's, then renamed.
  std::string temporary = containers_directory(root) + "/.new-" + description.name;
  TRY(remove_tree(temporary));
  TRY(make_directories(temporary, 0700));
  TRY(write_file_atomically(temporary + "/container.json", to_text(json), 0600));
  if (::rename(temporary.c_str(), description.directory.c_str()) != 0)
    return errno_error("rename to '" + description.directory + "'");
  TRY(sync_directory(containers_directory(root)));
  return description;
}

Status remove_container(const Container& container) {
  Result<UniqueFd> lock = try_lock_file(container.directory + "/lock");
  if (!lock.ok() && lock.error().code == EWOULDBLOCK)
    return Error{EBUSY, fmt::format("container '{}' is mounted; `layerfs umount {}` first",
                                    container.name, container.name)};
  if (!lock.ok()) return std::move(lock).error();
  // Renamed first: what a crash leaves half removed is no container any more.
  std::string parent = container.directory.substr(0, container.directory.rfind('/'));
  std::string going = parent + "/.old-" + container.name;
  TRY(remove_tree(going));
  if (::rename(container.directory.c_str(), going.c_str()) != 0)
    return errno_error("rename '" + container.directory + "'");
  return remove_tree(going);
}

Result<std::optional<MountInfo>> mounted(const Container& container) {
  std::string lock_path = container.directory + "/lock";
  if (!path_exists(lock_path)) return std::optional<MountInfo>();
  Result<UniqueFd> lock = try_lock_file_to_read(lock_path);
  if (lock.ok()) return std::optional<MountInfo>();
  if (lock.error().code != EWOULDBLOCK) return std::move(lock).error();
  std::string path = container.directory + "/mount.json";
  Result<Json> json = read_json(path);
  // Locked, but not mounted yet: a daemon that is starting.
  if (!json.ok() && json.error().code == ENOENT) return std::optional<MountInfo>();
  if (!json.ok()) return std::move(json).error();
  MountInfo out;
  out.pid = TRY(field<int>(*json, "pid", path));
  out.mountpoint = TRY(field<std::string>(*json, "mountpoint", path));
  out.read_only = TRY(field<bool>(*json, "read_only", path));
  out.mounted_at = TRY(field<int64_t>(*json, "mounted_at", path));
  return std::optional(std::move(out));
}

Status record_mount(const Container& container, const MountInfo& mount) {
  Json json = {{"pid", mount.pid},
               {"mountpoint", mount.mountpoint},
               {"read_only", mount.read_only},
               {"mounted_at", mount.mounted_at}};
  // Not synced: it means nothing once the daemon is gone.
  std::string path = container.directory + "/mount.json";
  std::string temporary = path + ".tmp";
  UniqueFd fd = TRY(open_file(temporary, O_WRONLY | O_CREAT | O_TRUNC, 0600));
  TRY(write_full(fd.get(), to_text(json)));
  if (::rename(temporary.c_str(), path.c_str()) != 0)
    return errno_error("rename to '" + path + "'");
  return {};
}

Status forget_mount(const Container& container) {
  std::string path = container.directory + "/mount.json";
  if (::unlink(path.c_str()) != 0 && errno != ENOENT) return errno_error("remove '" + path + "'");
  return {};
}

std::string generate_container_name(const std::string& root) {
  static constexpr std::array kAdjectives = {
      "agile",  "amber",  "bold",    "brave",  "bright", "calm",   "clever", "cosmic",
      "crisp",  "daring", "eager",   "fair",   "fluent", "gentle", "golden", "happy",
      "humble", "jolly",  "keen",    "kind",   "lively", "lucid",  "mellow", "merry",
      "modest", "noble",  "patient", "placid", "polite", "proud",  "quick",  "quiet",
      "rapid",  "serene", "sharp",   "silent", "smart",  "steady", "sunny",  "swift",
      "tender", "tidy",   "upbeat",  "vivid",  "warm",   "wise",   "witty",  "zesty"};
  static constexpr std::array kSurnames = {
      "babbage",  "backus",    "bartik",   "boole",   "cerf",     "church",  "curie",    "dijkstra",
      "einstein", "engelbart", "euler",    "faraday", "fermi",    "feynman", "floyd",    "galileo",
      "gauss",    "goedel",    "hamilton", "hamming", "hoare",    "hopper",  "huffman",  "johnson",
      "kepler",   "kernighan", "knuth",    "lamport", "leibniz",  "liskov",  "lovelace", "maxwell",
      "mccarthy", "meitner",   "morse",    "naur",    "newton",   "noether", "pascal",   "perlman",
      "ritchie",  "shannon",   "tarjan",   "tesla",   "thompson", "turing",  "wirth",    "zuse"};
  std::random_device random;
  for (int attempt = 0;; ++attempt) {
    std::string name = fmt::format("{}_{}", kAdjectives[random() % kAdjectives.size()],
                                   kSurnames[random() % kSurnames.size()]);
    if (attempt >= 8) name += std::to_string(random() % 1000000);
    if (!path_exists(containers_directory(root) + "/" + name)) return name;
  }
}

bool valid_container_name(const std::string& name) {
  auto letter_or_digit = [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
  };
  if (name.empty() || name.size() > kMaxNameBytesOfContainer || !letter_or_digit(name[0]))
    return false;
  return std::all_of(name.begin(), name.end(), [&](char c) {
    return letter_or_digit(c) || c == '_' || c == '.' || c == '-';
  });
}

}  // namespace layerfs
