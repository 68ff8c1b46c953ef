// SPDX-License-Identifier: Apache-2.0
//
// A directory becomes a layer by way of its canonical tar: a thread walks it and writes the tar,
// the tar importer reads it. So there is one way into the store, and the layer leaves as that tar.
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <algorithm>
#include <map>
#include <thread>
#include <utility>

#include "layerdb/base/log.h"
#include "layerdb/base/sys.h"
#include "layerdb/object/file_type.h"
#include "layerdb/ops/bounded_queue.h"
#include "layerdb/ops/canonical_tar.h"
#include "layerdb/ops/image_import.h"
#include "layerdb/ops/tar_reader.h"

namespace layerfs {
namespace {

constexpr size_t kPartBytes = 256 * 1024;
constexpr size_t kQueuedParts = 4;

Result<Xattrs> read_xattrs(const std::string& path) {
  std::string names(64 * 1024, '\0');  // XATTR_LIST_MAX
  ssize_t size = ::llistxattr(path.c_str(), names.data(), names.size());
  if (size < 0 && errno == ENOTSUP) return Xattrs();
  if (size < 0) return errno_error("extended attributes of '" + path + "'");
  Xattrs out;
  std::string value(64 * 1024, '\0');  // XATTR_SIZE_MAX
  for (size_t at = 0; at < static_cast<size_t>(size);) {
    std::string name = names.c_str() + at;
    at += name.size() + 1;
    ssize_t n = ::lgetxattr(path.c_str(), name.c_str(), value.data(), value.size());
    if (n < 0 && errno == ENODATA) continue;
    if (n < 0) return errno_error("extended attribute '" + name + "' of '" + path + "'");
    out.emplace_back(std::move(name), value.substr(0, static_cast<size_t>(n)));
  }
  std::sort(out.begin(), out.end());
  return out;
}

bool has_holes(const struct stat& st) {
  return S_ISREG(st.st_mode) && st.st_blocks * 512 < st.st_size;
}

// Where a file is not a hole; the whole of it where the filesystem does not say, or it is in more
// parts than a reader takes.
std::vector<TarSegment> find_data(int fd, uint64_t size_bytes) {
  std::vector<TarSegment> out;
  for (uint64_t at = 0; at < size_bytes && out.size() < kMaxSparseSegments;) {
    off_t data = ::lseek(fd, static_cast<off_t>(at), SEEK_DATA);
    if (data < 0 && errno == ENXIO) return out;
    off_t hole = data < 0 ? -1 : ::lseek(fd, data, SEEK_HOLE);
    if (hole < 0 || hole <= data) return {{0, size_bytes}};
    uint64_t begin = static_cast<uint64_t>(data);
    at = std::min(static_cast<uint64_t>(hole), size_bytes);
    if (begin < at) out.push_back({begin, at - begin});
  }
  if (out.size() < kMaxSparseSegments) return out;
  return {{0, size_bytes}};
}

class DirectoryTar {
 public:
  explicit DirectoryTar(std::string directory)
      : directory_(std::move(directory)), parts_(kQueuedParts) {
    walker_ = std::thread([this] {
      status_ = walk_all();
      parts_.close();
    });
  }
  ~DirectoryTar() {
    parts_.close();
    walker_.join();
  }

  Result<size_t> read(char* buffer, size_t size) {
    if (at_ == part_.size()) {
      std::optional<std::string> next = parts_.pop();
      if (!next) {
        if (!status_.ok()) return status_.error();
        return size_t{0};
      }
      part_ = std::move(*next);
      at_ = 0;
    }
    size_t n = std::min(size, part_.size() - at_);
    part_.copy(buffer, n, at_);
    at_ += n;
    return n;
  }

 private:
  Status walk_all() {
    TRY(add(""));
    TRY(put(tar_trailer()));
    return push();
  }

  std::string full(const std::string& path) const {
    return path.empty() ? directory_ : directory_ + "/" + path;
  }

  Status add(const std::string& path) {
    struct stat st;
    auto lookup = path.empty() ? ::stat : ::lstat;  // the source itself may be a symbolic link
    if (lookup(full(path).c_str(), &st) != 0) return errno_error("'" + full(path) + "'");
    Entry entry = TRY(describe(path, st));
    if (!tar_can_hold(entry.attributes.type)) {
      log_warning("'{}' is a socket, which no layer can hold; left out", full(path));
      return {};
    }
    std::string link;
    if (st.st_nlink > 1 && !S_ISDIR(st.st_mode)) {
      auto [first, added] = links_.try_emplace({st.st_dev, st.st_ino}, path);
      if (!added) link = first->second;
    }
    if (S_ISREG(st.st_mode) && link.empty()) return put_file(path, entry, has_holes(st));
    TRY(put(TRY(encode_tar_header(path, entry, link))));
    if (!S_ISDIR(st.st_mode)) return {};
    for (const std::string& name : TRY(list_directory(full(path)))) {
      TRY(add(path.empty() ? name : path + "/" + name));
    }
    return {};
  }

  Result<Entry> describe(const std::string& path, const struct stat& st) const {
    Entry entry;
    Attributes& a = entry.attributes;
    a.type = file_type_of(st.st_mode);
    a.mode = st.st_mode & 07777;
    a.uid = st.st_uid;
    a.gid = st.st_gid;
    a.mtime = {st.st_mtim.tv_sec, static_cast<uint32_t>(st.st_mtim.tv_nsec)};
    if (a.type == FileType::regular) a.size_bytes = static_cast<uint64_t>(st.st_size);
    if (a.type == FileType::char_device || a.type == FileType::block_device) {
      a.rdev_major = major(st.st_rdev);
      a.rdev_minor = minor(st.st_rdev);
    }
    if (a.type == FileType::symlink) {
      std::string target(4096, '\0');
      ssize_t n = ::readlink(full(path).c_str(), target.data(), target.size());
      if (n < 0) return errno_error("'" + full(path) + "'");
      entry.symlink_target = target.substr(0, static_cast<size_t>(n));
      a.size_bytes = entry.symlink_target.size();
    }
    // By descriptor-free calls that follow no link; the source directory itself may be one.
    entry.xattrs = TRY(read_xattrs(path.empty() ? directory_ + "/." : full(path)));
    return entry;
  }

  Status put_file(const std::string& path, const Entry& entry, bool holes) {
    UniqueFd fd = TRY(open_file(full(path), O_RDONLY | O_NOFOLLOW));
    uint64_t size_bytes = entry.attributes.size_bytes;
    std::vector<TarSegment> data{{0, size_bytes}};
    if (holes) data = find_data(fd.get(), size_bytes);
    bool sparse = data.size() != 1 || data[0].length != size_bytes;
    TRY(put(TRY(sparse ? encode_sparse_header(path, entry, data)
                       : encode_tar_header(path, entry, ""))));
    uint64_t total = 0;
    for (const TarSegment& part : data) {
      TRY(put_part(path, fd.get(), part));
      total += part.length;
    }
    return put(std::string(tar_padding(total), '\0'));
  }

  Status put_part(const std::string& path, int fd, const TarSegment& part) {
    std::string buffer(std::min<uint64_t>(kPartBytes, part.length), '\0');
    for (uint64_t done = 0; done < part.length;) {
      size_t want = std::min<uint64_t>(buffer.size(), part.length - done);
      size_t n = TRY(pread_full(fd, {buffer.data(), want}, part.offset + done));
      if (n < want) return Error{EIO, "'" + full(path) + "' shrank while it was read"};
      TRY(put({buffer.data(), n}));
      done += n;
    }
    return {};
  }

  Status put(std::string_view bytes) {
    writing_.append(bytes);
    return writing_.size() < kPartBytes ? Status() : push();
  }

  Status push() {
    if (!parts_.push(std::exchange(writing_, {}))) return Error{EINTR, "interrupted"};
    return {};
  }

  const std::string directory_;
  BoundedQueue<std::string> parts_;
  std::map<std::pair<dev_t, ino_t>, std::string> links_;
  std::string writing_;
  Status status_;  // written before parts_ is closed
  std::string part_;
  size_t at_ = 0;
  std::thread walker_;
};

}  // namespace

Result<ByteSource> directory_tar_source(const std::string& directory) {
  auto tar = std::make_shared<DirectoryTar>(directory);
  return ByteSource([tar](char* buffer, size_t size) { return tar->read(buffer, size); });
}

}  // namespace layerfs
