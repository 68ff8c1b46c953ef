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
    TRY(put(TRY(encode_tar_header(path, entry, link))));
    if (S_ISREG(st.st_mode) && link.empty()) return put_body(path, entry.attributes.size_bytes);
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

  Status put_body(const std::string& path, uint64_t size_bytes) {
    UniqueFd fd = TRY(open_file(full(path), O_RDONLY | O_NOFOLLOW));
    std::string buffer(kPartBytes, '\0');
    for (uint64_t done = 0; done < size_bytes;) {
      size_t want = std::min<uint64_t>(buffer.size(), size_bytes - done);
      size_t n = TRY(pread_full(fd.get(), {buffer.data(), want}, done));
      if (n < want) return Error{EIO, "'" + full(path) + "' shrank while it was read"};
      TRY(put({buffer.data(), n}));
      done += n;
    }
    return put(std::string(tar_padding(size_bytes), '\0'));
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
