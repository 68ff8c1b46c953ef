// SPDX-License-Identifier: Apache-2.0
//
// compare_trees [OPTION...] EXPECTED ACTUAL: prints every difference between two directory trees
// and exits 1 when there is one (2 when they could not be read). Compared: names, types, modes,
// owners, sizes, mtimes to the nanosecond, device numbers, link targets, which names are hard links
// of each other and the link count, xattrs (all the caller may list) and every byte.
//   --no-owners        uid and gid are not compared (trees unpacked by an ordinary user)
//   --no-mtimes        nor mtimes
//   --no-link-counts   link counts only; which names share an inode still is
// Other mounts below the trees are not entered, but named.
#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <map>
#include <string>
#include <utility>
#include <vector>

namespace {

struct Options {
  bool owners = true;
  bool mtimes = true;
  bool link_counts = true;
};

struct Side {
  std::string root;
  dev_t device = 0;
  std::map<ino_t, std::string> first_name;  // of inodes with several links
  std::string absolute(const std::string& path) const { return root + path; }
};

Options options;
Side expected;
Side actual;
long differences = 0;
long compared = 0;

[[noreturn]] void die(const std::string& what) {
  std::fprintf(stderr, "compare_trees: %s: %s\n", what.c_str(), std::strerror(errno));
  std::exit(2);
}

std::string printable(const std::string& bytes) {
  std::string text;
  for (unsigned char c : bytes) {
    char escaped[8];
    std::snprintf(escaped, sizeof escaped, c >= 32 && c < 127 ? "%c" : "\\%03o", c);
    text += escaped;
  }
  return text;
}

void differ(const std::string& path, const std::string& what, const std::string& want,
            const std::string& got) {
  ++differences;
  std::printf("%s: %s: expected %s, is %s\n", path.empty() ? "/" : printable(path).c_str(),
              what.c_str(), want.c_str(), got.c_str());
}

void check(const std::string& path, const char* what, long long want, long long got,
           const char* format = "%lld") {
  if (want == got) return;
  const auto text = [format](long long number) {
    std::string out(32, '\0');
    out.resize(static_cast<size_t>(std::snprintf(out.data(), out.size(), format, number)));
    return out;
  };
  differ(path, what, text(want), text(got));
}

std::string type_name(mode_t mode) {
  switch (mode & S_IFMT) {
    case S_IFREG:
      return "file";
    case S_IFDIR:
      return "directory";
    case S_IFLNK:
      return "symlink";
    case S_IFCHR:
      return "character device";
    case S_IFBLK:
      return "block device";
    case S_IFIFO:
      return "fifo";
    case S_IFSOCK:
      return "socket";
    default:
      return "unknown";
  }
}

std::vector<std::string> names_in(const std::string& directory) {
  DIR* stream = opendir(directory.c_str());
  if (stream == nullptr) die(directory);
  std::vector<std::string> names;
  errno = 0;
  while (const dirent* entry = readdir(stream)) {
    const std::string name = entry->d_name;
    if (name != "." && name != "..") names.push_back(name);
    errno = 0;
  }
  if (errno != 0) die(directory);
  closedir(stream);
  std::sort(names.begin(), names.end());
  return names;
}

std::string read_link(const std::string& path) {
  std::string target(64 * 1024, '\0');
  const ssize_t length = readlink(path.c_str(), target.data(), target.size());
  if (length < 0) die(path);
  target.resize(static_cast<size_t>(length));
  return target;
}

std::map<std::string, std::string> read_xattrs(const std::string& path) {
  std::map<std::string, std::string> values;
  const ssize_t size = llistxattr(path.c_str(), nullptr, 0);
  if (size < 0 && errno == ENOTSUP) return values;
  if (size < 0) die(path);
  std::string list(static_cast<size_t>(size), '\0');
  const ssize_t got = llistxattr(path.c_str(), list.data(), list.size());
  if (got < 0) die(path);
  list.resize(static_cast<size_t>(got));
  for (size_t at = 0; at < list.size();) {
    const std::string name = list.c_str() + at;
    at += name.size() + 1;
    std::string value(64 * 1024, '\0');
    const ssize_t length = lgetxattr(path.c_str(), name.c_str(), value.data(), value.size());
    if (length < 0) die(path + " (" + name + ")");
    value.resize(static_cast<size_t>(length));
    values[name] = value;
  }
  return values;
}

void compare_xattrs(const std::string& path) {
  const auto want = read_xattrs(expected.absolute(path));
  const auto got = read_xattrs(actual.absolute(path));
  for (const auto& [name, value] : want) {
    const auto found = got.find(name);
    if (found == got.end()) {
      differ(path, "xattr " + name, "'" + printable(value) + "'", "missing");
    } else if (found->second != value) {
      differ(path, "xattr " + name, "'" + printable(value) + "'",
             "'" + printable(found->second) + "'");
    }
  }
  for (const auto& [name, value] : got) {
    if (!want.contains(name)) differ(path, "xattr " + name, "none", "'" + printable(value) + "'");
  }
}

size_t read_block(int fd, std::vector<char>& block, const std::string& path) {
  size_t filled = 0;
  while (filled < block.size()) {
    const ssize_t got = read(fd, block.data() + filled, block.size() - filled);
    if (got < 0) die(path);
    if (got == 0) break;
    filled += static_cast<size_t>(got);
  }
  return filled;
}

void compare_contents(const std::string& path) {
  static std::vector<char> want(1 << 20), got(1 << 20);
  const std::string names[2] = {expected.absolute(path), actual.absolute(path)};
  const int fds[2] = {open(names[0].c_str(), O_RDONLY | O_NOFOLLOW | O_CLOEXEC),
                      open(names[1].c_str(), O_RDONLY | O_NOFOLLOW | O_CLOEXEC)};
  if (fds[0] < 0) die(names[0]);
  if (fds[1] < 0) die(names[1]);
  for (unsigned long long offset = 0;;) {
    const size_t a = read_block(fds[0], want, names[0]);
    const size_t b = read_block(fds[1], got, names[1]);
    const auto first = std::mismatch(want.begin(), want.begin() + std::min(a, b), got.begin());
    if (a != b || first.first != want.begin() + std::min(a, b)) {
      differ(path, "content", "equal bytes",
             "different from byte " + std::to_string(offset + (first.first - want.begin())));
      break;
    }
    if (a == 0) break;
    offset += a;
  }
  close(fds[0]);
  close(fds[1]);
}

// Which names share an inode: both sides must give a path the same first name. True when the bytes
// were compared under that name already.
bool compare_links(const std::string& path, const struct stat& want, const struct stat& got) {
  if (options.link_counts) check(path, "link count", want.st_nlink, got.st_nlink);
  const auto name_of = [&path](Side& side, const struct stat& st) {
    return st.st_nlink > 1 ? side.first_name.try_emplace(st.st_ino, path).first->second : path;
  };
  const std::string a = name_of(expected, want);
  const std::string b = name_of(actual, got);
  if (a != b) differ(path, "hard link of", printable(a), printable(b));
  return a == b && a != path;
}

// False when the types differ and nothing below is worth a look.
bool compare_metadata(const std::string& path, const struct stat& want, const struct stat& got) {
  if ((want.st_mode & S_IFMT) != (got.st_mode & S_IFMT)) {
    differ(path, "type", type_name(want.st_mode), type_name(got.st_mode));
    return false;
  }
  check(path, "mode", want.st_mode & 07777, got.st_mode & 07777, "%04llo");
  if (options.owners) {
    check(path, "uid", want.st_uid, got.st_uid);
    check(path, "gid", want.st_gid, got.st_gid);
  }
  if (options.mtimes) {
    check(path, "mtime seconds", want.st_mtim.tv_sec, got.st_mtim.tv_sec);
    check(path, "mtime nanoseconds", want.st_mtim.tv_nsec, got.st_mtim.tv_nsec);
  }
  if (S_ISREG(want.st_mode)) check(path, "size", want.st_size, got.st_size);
  if (S_ISCHR(want.st_mode) || S_ISBLK(want.st_mode)) {
    check(path, "device major", major(want.st_rdev), major(got.st_rdev));
    check(path, "device minor", minor(want.st_rdev), minor(got.st_rdev));
  }
  if (S_ISLNK(want.st_mode)) {
    const std::string a = read_link(expected.absolute(path));
    const std::string b = read_link(actual.absolute(path));
    if (a != b) differ(path, "link target", printable(a), printable(b));
  }
  compare_xattrs(path);
  return true;
}

void compare(const std::string& path);

void compare_children(const std::string& path) {
  const auto want = names_in(expected.absolute(path));
  const auto got = names_in(actual.absolute(path));
  auto a = want.begin();
  auto b = got.begin();
  while (a != want.end() || b != got.end()) {
    if (b == got.end() || (a != want.end() && *a < *b)) {
      differ(path + "/" + *a++, "name", "there", "missing");
    } else if (a == want.end() || *b < *a) {
      differ(path + "/" + *b++, "name", "missing", "there");
    } else {
      compare(path + "/" + *a);
      ++a;
      ++b;
    }
  }
}

void compare(const std::string& path) {
  struct stat want, got;
  if (lstat(expected.absolute(path).c_str(), &want) != 0) die(expected.absolute(path));
  if (lstat(actual.absolute(path).c_str(), &got) != 0) die(actual.absolute(path));
  ++compared;
  if (want.st_dev != expected.device || got.st_dev != actual.device) {
    differ(path, "mount", "none", "another filesystem");
    return;
  }
  if (!compare_metadata(path, want, got)) return;
  if (S_ISDIR(want.st_mode)) return compare_children(path);
  const bool seen = compare_links(path, want, got);
  if (S_ISREG(want.st_mode) && !seen) compare_contents(path);
}

}  // namespace

int main(int argc, char** argv) {
  std::vector<std::string> roots;
  for (int i = 1; i < argc; ++i) {
    const std::string argument = argv[i];
    if (argument == "--no-owners") {
      options.owners = false;
    } else if (argument == "--no-mtimes") {
      options.mtimes = false;
    } else if (argument == "--no-link-counts") {
      options.link_counts = false;
    } else {
      roots.push_back(argument);
    }
  }
  if (roots.size() != 2) {
    std::fprintf(stderr, "usage: compare_trees [OPTION...] EXPECTED ACTUAL\n");
    return 2;
  }
  for (auto [side, root] : {std::pair{&expected, roots[0]}, std::pair{&actual, roots[1]}}) {
    struct stat st;
    if (lstat(root.c_str(), &st) != 0) die(root);
    side->root = root;
    side->device = st.st_dev;
  }
  compare("");
  std::printf("%ld entries compared, %ld differences\n", compared, differences);
  return differences == 0 ? 0 : 1;
}
