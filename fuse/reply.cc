// SPDX-License-Identifier: Apache-2.0
#include "fuse/reply.h"

#include <fcntl.h>
#include <linux/fuse.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include <algorithm>
#include <memory>

#include "fuse/message_buffer.h"
#include "fuse/sender.h"
#include "layerdb/object/file_type.h"

namespace layerfs {
namespace {
thread_local const fuse_in_header* t_message = nullptr;
}

Caller caller_of(fuse_req_t req) {
  const fuse_ctx* context = fuse_req_ctx(req);
  const IdentityMap& ids = mount_of(req).ids;
  return {ids.map_uid(context->uid), ids.map_gid(context->gid), context->umask};
}

Writer writer_of(fuse_req_t req, const Attributes& file, Fsetid fsetid) {
  if (fsetid == Fsetid::has) return Writer::privileged;
  const IdentityMap& ids = mount_of(req).ids;
  const Caller caller = caller_of(req);
  std::optional<Sender> known;
  if ((file.mode & 06000) != 0) known = sender_of(fuse_req_ctx(req)->pid);
  if (fsetid == Fsetid::not_told && caller.uid == 0) {
    // An ordinary user's own mount shows that user as root, who has no such capability on the host.
    if (ids.uid != 0 || !known || known->fsetid) return Writer::privileged;
  }
  if (caller.gid == file.gid) return Writer::member;
  bool member = known && std::any_of(known->groups.begin(), known->groups.end(),
                                     [&](uint32_t g) { return ids.map_gid(g) == file.gid; });
  return member ? Writer::member : Writer::stranger;
}

const fuse_in_header* current_message() { return t_message; }
void set_current_message(const fuse_in_header* message) { t_message = message; }

void note_access(Mount& mount, Ino ino) {
  bool directory = t_message->opcode == FUSE_READDIR || t_message->opcode == FUSE_READDIRPLUS;
  if (directory ? mount.keep_directory_atime : mount.keep_atime) return;
  bool opened = t_message->opcode != FUSE_READLINK;
  if (opened && (reinterpret_cast<const fuse_read_in*>(t_message + 1)->flags & O_NOATIME)) return;
  mount.overlay.note_access(ino);
}

struct stat kernel_stat(const Mount& mount, const Stat& stat) {
  struct stat out = {};
  const Attributes& attributes = stat.attributes;
  out.st_ino = stat.ino;
  out.st_mode = file_type_bits(attributes.type) | attributes.mode;
  out.st_nlink = attributes.nlink;
  out.st_uid = mount.ids.map_uid(attributes.uid);
  out.st_gid = mount.ids.map_gid(attributes.gid);
  out.st_rdev = makedev(attributes.rdev_major, attributes.rdev_minor);
  out.st_size = static_cast<off_t>(attributes.size_bytes);
  out.st_blksize = 4096;
  out.st_blocks = static_cast<blkcnt_t>(stat.blocks);
  out.st_atim = {stat.atime.seconds, stat.atime.nanoseconds};
  out.st_mtim = {attributes.mtime.seconds, attributes.mtime.nanoseconds};
  out.st_ctim = {stat.ctime.seconds, stat.ctime.nanoseconds};
  return out;
}

fuse_entry_param kernel_entry(const Mount& mount, const Stat& stat) {
  fuse_entry_param out = {};
  out.ino = stat.ino;
  out.attr = kernel_stat(mount, stat);
  out.attr_timeout = kForeverSeconds;
  out.entry_timeout = kForeverSeconds;
  return out;
}

void free_removed(Mount& mount) {
  mount.catch_up_with_forgets();
  mount.overlay.free_removed();
}

Status reply_ok(fuse_req_t req) {
  fuse_reply_err(req, 0);
  return {};
}

Status reply_entry(fuse_req_t req, const Stat& stat) {
  Mount& mount = mount_of(req);  // before the reply, which frees the request
  fuse_entry_param entry = kernel_entry(mount, stat);
  if (fuse_reply_entry(req, &entry) != 0) mount.overlay.forget(stat.ino, 1);
  return {};
}

Status reply_attributes(fuse_req_t req, const Stat& stat) {
  struct stat out = kernel_stat(mount_of(req), stat);
  fuse_reply_attr(req, &out, kForeverSeconds);
  return {};
}

Status reply_bytes(fuse_req_t req, const char* data, size_t size_bytes) {
  fuse_reply_buf(req, data, size_bytes);
  return {};
}

int errno_for_kernel(const Error& error, Ino ino) {
  if (error.code != EUCLEAN) return error.code;
  log_error("inode {}: {}", ino, error.message);
  return EIO;
}

namespace {
thread_local std::unique_ptr<MessageBuffer> t_reply_buffer;
}

char* reply_buffer() {
  if (!t_reply_buffer) t_reply_buffer = std::make_unique<MessageBuffer>(kMaxRequestBytes);
  return t_reply_buffer->data();
}

void release_reply_buffer() noexcept {
  if (t_reply_buffer) t_reply_buffer->release();
}

}  // namespace layerfs
