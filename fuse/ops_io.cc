// SPDX-License-Identifier: Apache-2.0
#include <linux/fuse.h>

#include <algorithm>

#include "fuse/ops.h"

namespace layerfs {
namespace {

void on_read(fuse_req_t req, fuse_ino_t ino, size_t size, off_t offset, fuse_file_info*) noexcept {
  answer(req, ino, [&](Mount& mount) -> Status {
    note_access(mount, ino);
    char* buffer = reply_buffer();
    size_t count = TRY(mount.overlay.read(ino, static_cast<uint64_t>(offset),
                                          {buffer, std::min(size, kMaxRequestBytes)}));
    mount.stats.add_read(count);
    return reply_bytes(req, buffer, count);
  });
}

uint32_t write_flags() {
  return reinterpret_cast<const fuse_write_in*>(current_message() + 1)->write_flags;
}

// Clearing setuid and setgid is left to us (HANDLE_KILLPRIV_V2), but where the content changes past
// the page cache the kernel does not look at the mode afterwards.
class ModeWatch {
 public:
  ModeWatch(fuse_req_t req, Fsetid fsetid) : req_(req), fsetid_(fsetid) {}
  WriterOf writer_of() {
    return [this](const Attributes& file) {
      Writer writer = layerfs::writer_of(req_, file, fsetid_);
      changes_ = writer != Writer::privileged;
      return writer;
    };
  }
  void changed(Ino ino) const {
    if (changes_) mount_of(req_).forget_attributes(ino);
  }

 private:
  fuse_req_t req_;
  Fsetid fsetid_;
  bool changes_ = false;
};

void on_write(fuse_req_t req, fuse_ino_t ino, const char* data, size_t size, off_t offset,
              fuse_file_info*) noexcept {
  answer(req, ino, [&](Mount& mount) -> Status {
    uint32_t flags = write_flags();
    bool kill = (flags & FUSE_WRITE_KILL_SUIDGID) != 0;
    ModeWatch watch(req, kill ? Fsetid::lacks : Fsetid::has);
    size_t count = TRY(mount.overlay.write(
        ino, static_cast<uint64_t>(offset), {data, size}, watch.writer_of(),
        (flags & FUSE_WRITE_CACHE) != 0 ? Overlay::Times::keep : Overlay::Times::now));
    mount.stats.add_written(count);
    watch.changed(ino);
    fuse_reply_write(req, count);
    return {};
  });
}

void on_fallocate(fuse_req_t req, fuse_ino_t ino, int mode, off_t offset, off_t length,
                  fuse_file_info*) noexcept {
  answer(req, ino, [&](Mount& mount) -> Status {
    ModeWatch watch(req, Fsetid::not_told);
    TRY(mount.overlay.allocate(ino, mode, static_cast<uint64_t>(offset),
                               static_cast<uint64_t>(length), watch.writer_of()));
    watch.changed(ino);
    return reply_ok(req);
  });
}

// A hole is one only when the kernel has no data for it either.
Result<uint64_t> seek(Mount& mount, Ino ino, uint64_t offset, int whence) {
  Overlay& overlay = mount.overlay;
  uint64_t written_back = 0;  // up to here the kernel has nothing that we do not know
  for (;;) {
    Result<uint64_t> found = overlay.seek(ino, offset, whence);
    if (!found.ok() && found.error().code != ENXIO) return found;
    if (whence == SEEK_DATA && found.ok() && *found == offset) return found;
    uint64_t hole = whence == SEEK_HOLE && found.ok() ? *found : offset;
    if (hole < written_back) return found;
    Result<uint64_t> data = overlay.seek(ino, hole, SEEK_DATA);
    // ENOSYS: from now on the kernel takes all of every file for data, which is never wrong.
    TRY(mount.write_back(ino, hole, data.ok() ? *data : 0));
    written_back = data.ok() ? *data : ~uint64_t{0};
  }
}

void on_lseek(fuse_req_t req, fuse_ino_t ino, off_t offset, int whence, fuse_file_info*) noexcept {
  answer(req, ino, [&](Mount& mount) -> Status {
    if (offset < 0) return Error{ENXIO, "before the beginning"};
    uint64_t found = TRY(seek(mount, ino, static_cast<uint64_t>(offset), whence));
    fuse_reply_lseek(req, static_cast<off_t>(found));
    return {};
  });
}

void on_copy_file_range(fuse_req_t req, fuse_ino_t from, off_t from_offset, fuse_file_info*,
                        fuse_ino_t to, off_t to_offset, fuse_file_info*, size_t length,
                        int) noexcept {
  answer(req, to, [&](Mount& mount) -> Status {
    ModeWatch watch(req, Fsetid::not_told);
    size_t count =
        TRY(mount.overlay.copy_range(from, static_cast<uint64_t>(from_offset), to,
                                     static_cast<uint64_t>(to_offset), length, watch.writer_of()));
    watch.changed(to);
    fuse_reply_write(req, count);
    return {};
  });
}

void on_fsync(fuse_req_t req, fuse_ino_t ino, int data_only, fuse_file_info*) noexcept {
  answer(req, ino, [&](Mount& mount) -> Status {
    TRY(mount.overlay.sync(ino, data_only != 0 ? Sync::data : Sync::all));
    return reply_ok(req);
  });
}

// Answered once; libfuse's own answer would be success, and the kernel would go on asking.
void on_open(fuse_req_t req, fuse_ino_t, fuse_file_info*) noexcept { fuse_reply_err(req, ENOSYS); }

}  // namespace

void add_io_callbacks(fuse_lowlevel_ops& ops) {
  ops.open = on_open;
  ops.opendir = on_open;
  ops.read = on_read;
  ops.write = on_write;
  ops.fallocate = on_fallocate;
  ops.lseek = on_lseek;
  ops.copy_file_range = on_copy_file_range;
  ops.fsync = on_fsync;
  ops.fsyncdir = on_fsync;
}

}  // namespace layerfs
