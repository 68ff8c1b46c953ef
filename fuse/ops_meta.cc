// SPDX-License-Identifier: Apache-2.0
#include <linux/fuse.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include "fuse/ops.h"
#include "layerdb/object/file_type.h"

namespace layerfs {
namespace {

Status reply_made(fuse_req_t req, fuse_ino_t parent, const char* name, const NewNode& node) {
  return reply_entry(req, TRY(mount_of(req).overlay.make(parent, name, node, caller_of(req))));
}

void on_lookup(fuse_req_t req, fuse_ino_t parent, const char* name) noexcept {
  answer(req, parent, [&](Mount& mount) -> Status {
    Result<Stat> found = mount.overlay.lookup(parent, name);
    if (found.ok()) return reply_entry(req, *found);
    if (found.error().code != ENOENT) return std::move(found).error();
    fuse_entry_param missing = {};
    missing.entry_timeout = kForeverSeconds;
    fuse_reply_entry(req, &missing);
    return {};
  });
}

void on_forget(fuse_req_t req, fuse_ino_t ino, uint64_t count) noexcept {
  mount_of(req).overlay.forget(ino, count);
  fuse_reply_none(req);
}

void on_forget_multi(fuse_req_t req, size_t count, fuse_forget_data* forgets) noexcept {
  for (size_t i = 0; i < count; ++i)
    mount_of(req).overlay.forget(forgets[i].ino, forgets[i].nlookup);
  fuse_reply_none(req);
}

void on_getattr(fuse_req_t req, fuse_ino_t ino, fuse_file_info*) noexcept {
  answer(req, ino, [&](Mount& mount) -> Status {
    return reply_attributes(req, TRY(mount.overlay.stat(ino)));
  });
}

Timestamp now() {
  timespec time = {};
  clock_gettime(CLOCK_REALTIME, &time);
  return {time.tv_sec, static_cast<uint32_t>(time.tv_nsec)};
}

Timestamp timestamp(const timespec& time) {
  return {time.tv_sec, static_cast<uint32_t>(time.tv_nsec)};
}

void on_setattr(fuse_req_t req, fuse_ino_t ino, struct stat* values, int which,
                fuse_file_info*) noexcept {
  answer(req, ino, [&](Mount& mount) -> Status {
    SetAttributes changes;
    if (which & FUSE_SET_ATTR_MODE) changes.mode = values->st_mode & 07777;
    if (which & FUSE_SET_ATTR_UID) changes.uid = mount.ids.map_uid(values->st_uid);
    if (which & FUSE_SET_ATTR_GID) changes.gid = mount.ids.map_gid(values->st_gid);
    if (which & FUSE_SET_ATTR_SIZE) changes.size_bytes = static_cast<uint64_t>(values->st_size);
    if (which & FUSE_SET_ATTR_ATIME) changes.atime = timestamp(values->st_atim);
    if (which & FUSE_SET_ATTR_MTIME) changes.mtime = timestamp(values->st_mtim);
    if (which & FUSE_SET_ATTR_CTIME) changes.ctime = timestamp(values->st_ctim);
    if (which & FUSE_SET_ATTR_ATIME_NOW) changes.atime = now();
    if (which & FUSE_SET_ATTR_MTIME_NOW) changes.mtime = now();
    bool kill = (which & FATTR_KILL_SUIDGID) != 0;
    bool given_away = changes.uid || changes.gid;  // then the kernel always says kill
    if (kill || given_away) {
      changes.writer_of = [=](const Attributes& file) {
        return writer_of(req, file, given_away ? Fsetid::not_told : Fsetid::lacks);
      };
    }
    return reply_attributes(req, TRY(mount.overlay.set_attributes(ino, changes, caller_of(req))));
  });
}

void on_readlink(fuse_req_t req, fuse_ino_t ino) noexcept {
  answer(req, ino, [&](Mount& mount) -> Status {
    note_access(mount, ino);
    std::string target = TRY(mount.overlay.readlink(ino));
    return reply_bytes(req, target.data(), target.size());
  });
}

void on_mknod(fuse_req_t req, fuse_ino_t parent, const char* name, mode_t mode,
              dev_t device) noexcept {
  answer(req, parent, [&](Mount&) {
    NewNode node;
    node.type = file_type_of(mode);
    node.mode = mode & 07777;
    node.rdev_major = major(device);
    node.rdev_minor = minor(device);
    return reply_made(req, parent, name, node);
  });
}

void on_mkdir(fuse_req_t req, fuse_ino_t parent, const char* name, mode_t mode) noexcept {
  answer(req, parent, [&](Mount&) {
    NewNode node;
    node.type = FileType::directory;
    node.mode = mode & 07777;
    return reply_made(req, parent, name, node);
  });
}

void on_symlink(fuse_req_t req, const char* target, fuse_ino_t parent, const char* name) noexcept {
  answer(req, parent, [&](Mount&) {
    NewNode node;
    node.type = FileType::symlink;
    node.mode = 0777;
    node.symlink_target = target;
    return reply_made(req, parent, name, node);
  });
}

void on_link(fuse_req_t req, fuse_ino_t ino, fuse_ino_t parent, const char* name) noexcept {
  answer(req, ino, [&](Mount& mount) -> Status {
    return reply_entry(req, TRY(mount.overlay.link(ino, parent, name)));
  });
}

void on_unlink(fuse_req_t req, fuse_ino_t parent, const char* name) noexcept {
  answer(req, parent, [&](Mount& mount) -> Status {
    TRY(mount.overlay.unlink(parent, name));
    return reply_ok(req);
  });
}

void on_rmdir(fuse_req_t req, fuse_ino_t parent, const char* name) noexcept {
  answer(req, parent, [&](Mount& mount) -> Status {
    TRY(mount.overlay.rmdir(parent, name));
    return reply_ok(req);
  });
}

void on_rename(fuse_req_t req, fuse_ino_t from, const char* from_name, fuse_ino_t to,
               const char* to_name, unsigned flags) noexcept {
  answer(req, from, [&](Mount& mount) -> Status {
    TRY(mount.overlay.rename(from, from_name, to, to_name, flags));
    return reply_ok(req);
  });
}

// Replies to getxattr and listxattr: a size when the caller's buffer is empty, else the bytes.
Status reply_sized(fuse_req_t req, const std::string& bytes, size_t capacity) {
  if (capacity == 0) {
    fuse_reply_xattr(req, bytes.size());
    return {};
  }
  if (bytes.size() > capacity) return Error{ERANGE, "the buffer is too small"};
  return reply_bytes(req, bytes.data(), bytes.size());
}

void on_getxattr(fuse_req_t req, fuse_ino_t ino, const char* name, size_t size) noexcept {
  answer(req, ino, [&](Mount& mount) -> Status {
    return reply_sized(req, TRY(mount.overlay.get_xattr(ino, name)), size);
  });
}

void on_listxattr(fuse_req_t req, fuse_ino_t ino, size_t size) noexcept {
  answer(req, ino, [&](Mount& mount) -> Status {
    std::string list;
    std::vector<std::string> names = TRY(mount.overlay.list_xattrs(ino));
    for (const std::string& name : names) list.append(name.c_str(), name.size() + 1);
    return reply_sized(req, list, size);
  });
}

void on_setxattr(fuse_req_t req, fuse_ino_t ino, const char* name, const char* value, size_t size,
                 int flags) noexcept {
  answer(req, ino, [&](Mount& mount) -> Status {
    TRY(mount.overlay.set_xattr(ino, name, {value, size}, flags, false));
    return reply_ok(req);
  });
}

void on_removexattr(fuse_req_t req, fuse_ino_t ino, const char* name) noexcept {
  answer(req, ino, [&](Mount& mount) -> Status {
    TRY(mount.overlay.remove_xattr(ino, name));
    return reply_ok(req);
  });
}

void on_statfs(fuse_req_t req, fuse_ino_t ino) noexcept {
  answer(req, ino, [&](Mount& mount) -> Status {
    mount.catch_up_with_forgets();
    struct statvfs values = TRY(mount.overlay.statfs());
    fuse_reply_statfs(req, &values);
    return {};
  });
}

}  // namespace

void add_meta_callbacks(fuse_lowlevel_ops& ops) {
  ops.lookup = on_lookup;
  ops.forget = on_forget;
  ops.forget_multi = on_forget_multi;
  ops.getattr = on_getattr;
  ops.setattr = on_setattr;
  ops.readlink = on_readlink;
  ops.mknod = on_mknod;
  ops.mkdir = on_mkdir;
  ops.symlink = on_symlink;
  ops.link = on_link;
  ops.unlink = on_unlink;
  ops.rmdir = on_rmdir;
  ops.rename = on_rename;
  ops.getxattr = on_getxattr;
  ops.listxattr = on_listxattr;
  ops.setxattr = on_setxattr;
  ops.removexattr = on_removexattr;
  ops.statfs = on_statfs;
}

}  // namespace layerfs
