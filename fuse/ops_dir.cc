// SPDX-License-Identifier: Apache-2.0
//
// Offsets: 0 starts, 1 follows ".", 2 follows "..", and the overlay's cookie c is c + 2.
#include <limits.h>
#include <linux/fuse.h>
#include <sys/stat.h>

#include <algorithm>
#include <cstring>
#include <vector>

#include "fuse/ops.h"
#include "layerdb/object/file_type.h"

namespace layerfs {
namespace {

constexpr uint64_t kDotsEnd = 2;

// Packs entries into the thread's reply buffer, up to what the kernel asked for.
class Listing {
 public:
  Listing(fuse_req_t req, size_t capacity)
      : req_(req), capacity_(std::min(capacity, kMaxRequestBytes)) {}

  bool add(std::string_view name, Ino ino, FileType type, uint64_t offset) {
    struct stat attributes = {};
    attributes.st_ino = ino;
    attributes.st_mode = file_type_bits(type);
    return took(fuse_add_direntry(req_, end(), left(), terminated(name), &attributes,
                                  static_cast<off_t>(offset)));
  }
  bool add_plus(std::string_view name, const fuse_entry_param& entry, uint64_t offset) {
    return took(fuse_add_direntry_plus(req_, end(), left(), terminated(name), &entry,
                                       static_cast<off_t>(offset)));
  }
  Status reply() { return reply_bytes(req_, reply_buffer(), used_); }
  bool empty() const { return used_ == 0; }

 private:
  char* end() { return reply_buffer() + used_; }
  size_t left() const { return capacity_ - used_; }
  bool took(size_t size_bytes) {
    if (size_bytes > left()) return false;
    used_ += size_bytes;
    return true;
  }
  const char* terminated(std::string_view name) {
    size_t length = std::min(name.size(), sizeof name_ - 1);
    std::memcpy(name_, name.data(), length);
    name_[length] = '\0';
    return name_;
  }

  fuse_req_t req_;
  size_t capacity_;
  size_t used_ = 0;
  char name_[NAME_MAX + 1];
};

// Adds "." and ".." where `offset` is before them; false when the buffer is full.
template <typename Add>
Result<bool> add_dots(Mount& mount, Ino directory, uint64_t& offset, const Add& add) {
  if (offset == 0) {
    if (!add(".", directory, 1)) return false;
    offset = 1;
  }
  if (offset == 1) {
    Result<Ino> parent = mount.overlay.parent(directory);  // a removed directory has none
    if (!add("..", parent.ok() ? *parent : directory, kDotsEnd)) return false;
    offset = kDotsEnd;
  }
  return true;
}

void on_readdir(fuse_req_t req, fuse_ino_t ino, size_t size, off_t start,
                fuse_file_info*) noexcept {
  answer(req, ino, [&](Mount& mount) -> Status {
    note_access(mount, ino);
    Listing listing(req, size);
    uint64_t offset = static_cast<uint64_t>(start);
    bool room = TRY(add_dots(mount, ino, offset, [&](const char* name, Ino dot, uint64_t next) {
      return listing.add(name, dot, FileType::directory, next);
    }));
    if (room)
      TRY(mount.overlay.list(ino, offset - kDotsEnd, [&](const DirectoryEntry& entry) {
        return listing.add(entry.name, entry.ino, entry.type, entry.cookie + kDotsEnd);
      }));
    return listing.reply();
  });
}

// The dots carry no node: the kernel takes their inode number and type only.
fuse_entry_param dot_entry(Ino ino) {
  fuse_entry_param out = {};
  out.attr.st_ino = ino;
  out.attr.st_mode = S_IFDIR;
  return out;
}

void on_readdirplus(fuse_req_t req, fuse_ino_t ino, size_t size, off_t start,
                    fuse_file_info*) noexcept {
  answer(req, ino, [&](Mount& mount) -> Status {
    note_access(mount, ino);
    Listing listing(req, size);
    uint64_t offset = static_cast<uint64_t>(start);
    bool room = TRY(add_dots(mount, ino, offset, [&](const char* name, Ino dot, uint64_t next) {
      return listing.add_plus(name, dot_entry(dot), next);
    }));
    if (!room) return listing.reply();
    Status listed = mount.overlay.list_plus(
        ino, offset - kDotsEnd, [&](const DirectoryEntry& entry, const Stat& stat) {
          return listing.add_plus(entry.name, kernel_entry(mount, stat), entry.cookie + kDotsEnd);
        });
    // What was listed before an error is delivered: it carries references. The next call meets it.
    if (!listed.ok() && listing.empty()) return listed;
    return listing.reply();
  });
}

}  // namespace

void add_directory_callbacks(fuse_lowlevel_ops& ops) {
  ops.readdir = on_readdir;
  ops.readdirplus = on_readdirplus;
}

}  // namespace layerfs
