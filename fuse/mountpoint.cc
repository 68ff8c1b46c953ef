// SPDX-License-Identifier: Apache-2.0
#include "fuse/mountpoint.h"

#include <dirent.h>
#include <fcntl.h>
#include <spawn.h>
#include <stdlib.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <functional>
#include <memory>
#include <sstream>
#include <thread>
#include <vector>

#include "layerdb/base/log.h"
#include "layerdb/base/sys.h"

namespace layerfs {
namespace {

// mountinfo writes space, tab, newline and backslash as three octal digits.
std::string unescape(const std::string& text) {
  std::string out;
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '\\' && i + 3 < text.size()) {
      out.push_back(static_cast<char>((text[i + 1] - '0') * 64 + (text[i + 2] - '0') * 8 +
                                      (text[i + 3] - '0')));
      i += 3;
    } else {
      out.push_back(text[i]);
    }
  }
  return out;
}

// Runs a program to its end with its standard error in `said`.
Result<int> run_program(const std::vector<std::string>& words, std::string& said) {
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) != 0) return errno_error("make a pipe");
  UniqueFd read_end(ends[0]), write_end(ends[1]);
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_adddup2(&actions, write_end.get(), STDERR_FILENO);
  std::vector<char*> arguments;
  for (const std::string& word : words) arguments.push_back(const_cast<char*>(word.c_str()));
  arguments.push_back(nullptr);
  pid_t pid = 0;
  int code = ::posix_spawnp(&pid, arguments[0], &actions, nullptr, arguments.data(), environ);
  posix_spawn_file_actions_destroy(&actions);
  write_end.reset();
  if (code != 0) return errno_error("run " + words[0], code);
  char buffer[512];
  ssize_t size;
  while ((size = ::read(read_end.get(), buffer, sizeof buffer)) > 0 || (size < 0 && errno == EINTR))
    if (size > 0) said.append(buffer, static_cast<size_t>(size));
  while (!said.empty() && said.back() == '\n') said.pop_back();
  int status = 0;
  while (::waitpid(pid, &status, 0) < 0 && errno == EINTR) {
  }
  return status;
}

Error busy(const std::string& mountpoint) {
  return Error{EBUSY, "'" + mountpoint +
                          "' is in use: end the programs that have files open there (`fuser -vm`)"};
}

Status detach_once(const std::string& mountpoint, bool lazy) {
  if (::umount2(mountpoint.c_str(), UMOUNT_NOFOLLOW | (lazy ? MNT_DETACH : 0)) == 0) return {};
  if (errno == EBUSY) return busy(mountpoint);
  if (errno != EPERM) return errno_error("unmount '" + mountpoint + "'");
  std::vector<std::string> words = {"fusermount3", "-u"};
  if (lazy) words.push_back("-z");
  words.insert(words.end(), {"--", mountpoint});
  std::string said;
  int status = TRY(run_program(words, said));
  if (WIFEXITED(status) && WEXITSTATUS(status) == 0) return {};
  if (said.find("busy") != std::string::npos) return busy(mountpoint);
  return Error{EPERM, "unmount '" + mountpoint + "': " + (said.empty() ? "refused" : said)};
}

bool is_empty_directory(const std::string& path) {
  std::unique_ptr<DIR, int (*)(DIR*)> directory(::opendir(path.c_str()), ::closedir);
  if (!directory) return true;  // whether it may be used, mounting will say
  while (const dirent* entry = ::readdir(directory.get())) {
    std::string_view name(entry->d_name);
    if (name != "." && name != "..") return false;
  }
  return true;
}

}  // namespace

namespace {

// Every mount, until `visit` has seen them all; later ones lie on top.
Status for_each_mount(
    const std::function<void(const std::string& path, const MountEntry& entry)>& visit) {
  std::istringstream lines(TRY(read_file("/proc/self/mountinfo")));
  for (std::string line; std::getline(lines, line);) {
    std::istringstream fields(line);
    std::string skipped, path, field;
    fields >> skipped >> skipped >> skipped >> skipped >> path;
    while (fields >> field && field != "-") {
    }
    MountEntry entry;
    fields >> entry.type >> entry.source;
    entry.source = unescape(entry.source);
    visit(unescape(path), entry);
  }
  return {};
}

}  // namespace

Result<std::optional<MountEntry>> find_mount(const std::string& mountpoint) {
  std::optional<MountEntry> found;
  TRY(for_each_mount([&](const std::string& path, const MountEntry& entry) {
    if (path == mountpoint) found = entry;
  }));
  return found;
}

Result<std::optional<std::string>> find_mountpoint(const std::string& container_directory) {
  std::optional<std::string> found;
  TRY(for_each_mount([&](const std::string& path, const MountEntry& entry) {
    if (entry.type == kMountType && entry.source == container_directory) found = path;
  }));
  return found;
}

Result<std::string> resolve_mountpoint(const std::string& path) {
  std::string trimmed = path;
  while (trimmed.size() > 1 && trimmed.back() == '/') trimmed.pop_back();
  std::unique_ptr<char, void (*)(void*)> real(::realpath(trimmed.c_str(), nullptr), ::free);
  if (real) return std::string(real.get());
  if (errno != ENOTCONN) return errno_error("'" + path + "'");
  size_t slash = trimmed.rfind('/');
  std::string parent = slash == std::string::npos ? "." : trimmed.substr(0, slash + 1);
  real.reset(::realpath(parent.c_str(), nullptr));
  if (!real) return errno_error("'" + path + "'");
  std::string out(real.get());
  if (out != "/") out += '/';
  return out + (slash == std::string::npos ? trimmed : trimmed.substr(slash + 1));
}

bool is_dead_mount(const std::string& mountpoint) {
  struct statfs unused;
  return ::statfs(mountpoint.c_str(), &unused) != 0 && errno == ENOTCONN;
}

Status check_mountpoint(const std::string& mountpoint) {
  if (is_dead_mount(mountpoint)) {
    log_warning("'{}' was left mounted by a daemon that died; unmounting it first", mountpoint);
    TRY(detach_mount(mountpoint, true));
  }
  struct stat attributes;
  if (::stat(mountpoint.c_str(), &attributes) != 0)
    return errno_error("mount point '" + mountpoint + "'");
  if (!S_ISDIR(attributes.st_mode))
    return Error{ENOTDIR, "mount point '" + mountpoint + "' is not a directory"};
  std::optional<MountEntry> existing = TRY(find_mount(mountpoint));
  if (existing && existing->type == kMountType)
    return Error{EBUSY, "'" + mountpoint + "' is a layerfs mount already (container '" +
                            existing->source.substr(existing->source.rfind('/') + 1) +
                            "'); unmount it first"};
  if (!is_empty_directory(mountpoint))
    return Error{ENOTEMPTY, "mount point '" + mountpoint +
                                "' is not empty, and mounting would hide what is in it; choose an "
                                "empty directory"};
  return {};
}

// Whoever asks for the free space of all filesystems (df, a monitor) is in this one for a moment.
Status detach_mount(const std::string& mountpoint, bool lazy) {
  constexpr int kMoreTries = 50;
  constexpr std::chrono::milliseconds kBetween(10);
  for (int tries = kMoreTries;; --tries) {
    Status status = detach_once(mountpoint, lazy);
    if (status.ok() || status.error().code != EBUSY || tries == 0) return status;
    std::this_thread::sleep_for(kBetween);
  }
}

}  // namespace layerfs
