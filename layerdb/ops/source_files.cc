// SPDX-License-Identifier: Apache-2.0
#include "layerdb/ops/source_files.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <utility>

#include "layerdb/base/sys.h"
#include "layerdb/ops/layer_writer.h"
#include "layerdb/ops/tar_reader.h"

namespace layerfs {
namespace {

constexpr size_t kMaxDocumentBytes = 16 << 20;
constexpr int kPollMilliseconds = 200;

// A range of an open file that the source shares.
ByteSource range_source(std::shared_ptr<UniqueFd> fd, uint64_t offset, uint64_t size_bytes,
                        const std::string& name) {
  return [=, done = uint64_t{0}](char* buffer, size_t size) mutable -> Result<size_t> {
    size_t want = std::min<uint64_t>(size, size_bytes - done);
    size_t n = TRY(pread_full(fd->get(), {buffer, want}, offset + done));
    if (n < want) return Error{EINVAL, "'" + name + "' is cut short"};
    done += n;
    return n;
  };
}

class DirectoryFiles : public SourceFiles {
 public:
  explicit DirectoryFiles(std::string directory) : directory_(std::move(directory)) {}

  bool exists(const std::string& path) const override { return path_exists(full(path)); }
  Result<uint64_t> size_bytes(const std::string& path) const override {
    struct stat st;
    if (::stat(full(path).c_str(), &st) != 0) return errno_error("'" + full(path) + "'");
    return static_cast<uint64_t>(st.st_size);
  }
  Result<ByteSource> open(const std::string& path) const override {
    return file_source(TRY(open_file(full(path), O_RDONLY)), full(path), nullptr);
  }

 private:
  std::string full(const std::string& path) const { return directory_ + "/" + path; }
  std::string directory_;
};

class ArchiveFiles : public SourceFiles {
 public:
  struct Place {
    uint64_t offset = 0;
    uint64_t size_bytes = 0;
  };
  std::string name;
  std::shared_ptr<UniqueFd> fd;
  std::map<std::string, Place> files;
  std::map<std::string, std::string> links;  // docker's old archives share layers so

  bool exists(const std::string& path) const override { return find(path) != nullptr; }
  Result<uint64_t> size_bytes(const std::string& path) const override {
    return TRY(place(path)).size_bytes;
  }
  Result<ByteSource> open(const std::string& path) const override {
    Place at = TRY(place(path));
    return range_source(fd, at.offset, at.size_bytes, name + ":" + path);
  }

 private:
  const Place* find(std::string path) const {
    for (int depth = 0; depth < 40; ++depth) {
      if (auto it = files.find(path); it != files.end()) return &it->second;
      auto link = links.find(path);
      if (link == links.end()) return nullptr;
      path = link->second;
    }
    return nullptr;
  }
  Result<Place> place(const std::string& path) const {
    const Place* found = find(path);
    if (found == nullptr) return Error{ENOENT, "'" + name + "' has no '" + path + "'"};
    return *found;
  }
};

// "a/b" and "../c/d" -> "c/d"; empty when it leaves the archive.
std::string resolve_link(const std::string& path, const std::string& target) {
  std::vector<std::string> parts;
  std::string all = target.starts_with('/') ? target : path.substr(0, path.rfind('/') + 1) + target;
  size_t start = 0;
  while (start <= all.size()) {
    size_t end = std::min(all.find('/', start), all.size());
    std::string part = all.substr(start, end - start);
    start = end + 1;
    if (part.empty() || part == ".") continue;
    if (part != "..") {
      parts.push_back(part);
    } else if (parts.empty()) {
      return "";
    } else {
      parts.pop_back();
    }
  }
  std::string out;
  for (const std::string& part : parts) out += (out.empty() ? "" : "/") + part;
  return out;
}

}  // namespace

ByteSource file_source(UniqueFd fd, const std::string& name, const std::atomic<bool>* cancelled) {
  struct stat st;
  bool waits = ::fstat(fd.get(), &st) != 0 || !S_ISREG(st.st_mode);
  auto shared = std::make_shared<UniqueFd>(std::move(fd));
  return [=](char* buffer, size_t size) -> Result<size_t> {
    for (;;) {
      if (cancelled && *cancelled) return Error{EINTR, "interrupted"};
      if (waits) {
        struct pollfd ready {
          shared->get(), POLLIN, 0
        };
        if (::poll(&ready, 1, kPollMilliseconds) == 0) continue;
      }
      ssize_t n = ::read(shared->get(), buffer, size);
      if (n >= 0) return static_cast<size_t>(n);
      if (errno != EINTR && errno != EAGAIN) return errno_error("read '" + name + "'");
    }
  };
}

ByteSource with_progress(ByteSource source, uint64_t total_bytes, const std::string& what,
                         const Progress& progress) {
  if (!progress) return source;
  using Clock = std::chrono::steady_clock;
  return [=, done = uint64_t{0}, last = Clock::time_point()](
             char* buffer, size_t size) mutable -> Result<size_t> {
    size_t n = TRY(source(buffer, size));
    done += n;
    if (Clock::time_point now = Clock::now();
        n == 0 || now - last > std::chrono::milliseconds(200)) {
      last = now;
      progress(done, total_bytes, what);
    }
    return n;
  };
}

ByteSource with_digest(ByteSource source, const Digest& digest, uint64_t size_bytes,
                       const std::string& name) {
  struct Check {
    Sha256 hash;
    uint64_t done = 0;
    bool ended = false;
  };
  auto check = std::make_shared<Check>();
  return [=](char* buffer, size_t size) mutable -> Result<size_t> {
    size_t n = TRY(source(buffer, size));
    check->hash.update({buffer, n});
    check->done += n;
    if (n > 0 || check->ended) return n;
    check->ended = true;
    if (check->done != size_bytes) {
      return Error{EINVAL, "'" + name + "' has " + std::to_string(check->done) +
                               " bytes instead of " + std::to_string(size_bytes)};
    }
    Digest found = check->hash.finish();
    if (found != digest) {
      return Error{EINVAL, "'" + name + "' is damaged: its digest is " + found.to_string() +
                               " instead of " + digest.to_string()};
    }
    return n;
  };
}

Result<std::string> SourceFiles::read(const std::string& path) const {
  if (TRY(size_bytes(path)) > kMaxDocumentBytes) {
    return Error{EINVAL, "'" + path + "' is too large for a JSON document"};
  }
  ByteSource source = TRY(open(path));
  std::string out;
  char buffer[64 * 1024];
  while (size_t n = TRY(source(buffer, sizeof buffer))) {
    out.append(buffer, n);
    if (out.size() > kMaxDocumentBytes) {
      return Error{EINVAL, "'" + path + "' is too large for a JSON document"};
    }
  }
  return out;
}

std::unique_ptr<SourceFiles> open_directory_files(const std::string& directory) {
  return std::make_unique<DirectoryFiles>(directory);
}

Result<std::unique_ptr<SourceFiles>> open_archive_files(InputStream& input, ArchiveInput archive) {
  auto files = std::make_unique<ArchiveFiles>();
  files->name = archive.name;
  bool spool = !archive.in_place.valid();
  if (spool) archive.in_place = TRY(open_unnamed_file(archive.spool_directory));
  files->fd = std::make_shared<UniqueFd>(std::move(archive.in_place));
  uint64_t spooled = 0;
  TarReader reader(input, archive.name, [](std::string_view) -> Status { return {}; });
  TarEntry entry;
  while (TRY(reader.next(entry))) {
    std::string path = TRY(normalise_path(entry.path));
    FileType type = entry.entry.attributes.type;
    if (type == FileType::symlink || entry.hard_link) {
      const std::string& target =
          type == FileType::symlink ? entry.entry.symlink_target : "/" + entry.link_target;
      files->links[path] = resolve_link(path, target);
      continue;
    }
    if (type != FileType::regular) continue;
    if (entry.segments.size() > 1 || entry.body_bytes != entry.entry.attributes.size_bytes) {
      return Error{EINVAL, "'" + archive.name + "': '" + path + "' is a sparse file"};
    }
    files->files[path] = {spool ? spooled : input.position(), entry.body_bytes};
    for (;;) {
      std::string_view piece = TRY(reader.body());
      if (piece.empty()) break;
      if (!spool) continue;
      TRY(pwrite_full(files->fd->get(), piece, spooled));
      spooled += piece.size();
    }
  }
  TRY(reader.finish());
  return std::unique_ptr<SourceFiles>(std::move(files));
}

}  // namespace layerfs
