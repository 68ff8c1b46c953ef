// SPDX-License-Identifier: Apache-2.0
//
// Messages that libfuse 3.14 does not decode.
#include <fcntl.h>
#include <linux/fuse.h>
#include <sys/stat.h>

#include <cstring>

#include "fuse/ops.h"

namespace layerfs {
namespace {

template <typename T>
void append_bytes(std::string& out, const T& value) {
  out.append(reinterpret_cast<const char*>(&value), sizeof value);
}

fuse_attr raw_attributes(const struct stat& from) {
  fuse_attr out = {};
  out.ino = from.st_ino;
  out.size = static_cast<uint64_t>(from.st_size);
  out.blocks = static_cast<uint64_t>(from.st_blocks);
  out.atime = static_cast<uint64_t>(from.st_atim.tv_sec);
  out.mtime = static_cast<uint64_t>(from.st_mtim.tv_sec);
  out.ctime = static_cast<uint64_t>(from.st_ctim.tv_sec);
  out.atimensec = static_cast<uint32_t>(from.st_atim.tv_nsec);
  out.mtimensec = static_cast<uint32_t>(from.st_mtim.tv_nsec);
  out.ctimensec = static_cast<uint32_t>(from.st_ctim.tv_nsec);
  out.mode = from.st_mode;
  out.nlink = static_cast<uint32_t>(from.st_nlink);
  out.uid = from.st_uid;
  out.gid = from.st_gid;
  out.blksize = static_cast<uint32_t>(from.st_blksize);
  return out;
}

Result<std::string> answer_tmpfile(Mount& mount, const fuse_in_header* message, size_t size_bytes) {
  fuse_create_in in = {};
  if (size_bytes < sizeof *message + sizeof in) return Error{EIO, "short TMPFILE message"};
  std::memcpy(&in, message + 1, sizeof in);
  Caller caller{mount.ids.map_uid(message->uid), mount.ids.map_gid(message->gid), in.umask};
  bool linkable = (in.flags & O_EXCL) == 0;
  Stat made = TRY(mount.overlay.make_unnamed(message->nodeid, in.mode & 07777, linkable, caller));
  fuse_entry_out entry = {};
  entry.nodeid = made.ino;
  entry.entry_valid = entry.attr_valid = static_cast<uint64_t>(kForeverSeconds);
  entry.attr = raw_attributes(kernel_stat(mount, made));
  fuse_open_out open = {};
  open.open_flags = FOPEN_KEEP_CACHE;
  std::string out;
  append_bytes(out, entry);
  append_bytes(out, open);
  return out;
}

// In the form of FUSE_SETXATTR_EXT.
Result<std::string> answer_setxattr(Mount& mount, const fuse_in_header* message,
                                    size_t size_bytes) {
  fuse_setxattr_in in = {};
  if (size_bytes < sizeof *message + sizeof in) return Error{EIO, "short SETXATTR message"};
  std::memcpy(&in, message + 1, sizeof in);
  std::string_view rest(reinterpret_cast<const char*>(message) + sizeof *message + sizeof in,
                        size_bytes - sizeof *message - sizeof in);
  size_t name_end = rest.find('\0');
  if (name_end == rest.npos || rest.size() - name_end - 1 < in.size)
    return Error{EIO, "short SETXATTR message"};
  bool clear_sgid = (in.setxattr_flags & FUSE_SETXATTR_ACL_KILL_SGID) != 0;
  TRY(mount.overlay.set_xattr(message->nodeid, std::string(rest.substr(0, name_end)),
                              rest.substr(name_end + 1, in.size), static_cast<int>(in.flags),
                              clear_sgid));
  return std::string();
}

// STATX came with protocol 7.39, after the headers that we build with. Its fuse_statx is statx(2)'s
// struct. The kernel asks when the time of birth is wanted and attributes are to be fetched anyway.
constexpr uint32_t kOpcodeStatx = 52;
struct StatxOut {
  uint64_t attr_valid = 0;
  uint32_t attr_valid_nsec = 0;
  uint32_t flags = 0;
  uint64_t spare[2] = {};
  struct statx stat = {};
};

statx_timestamp raw_time(Timestamp time) {
  statx_timestamp out = {};
  out.tv_sec = time.seconds;
  out.tv_nsec = time.nanoseconds;
  return out;
}

Result<std::string> answer_statx(Mount& mount, const fuse_in_header* message, size_t) {
  Stat found = TRY(mount.overlay.stat(message->nodeid));
  struct stat from = kernel_stat(mount, found);
  StatxOut out;
  out.attr_valid = static_cast<uint64_t>(kForeverSeconds);
  out.stat.stx_mask = STATX_BASIC_STATS | STATX_BTIME;
  out.stat.stx_blksize = static_cast<uint32_t>(from.st_blksize);
  out.stat.stx_nlink = static_cast<uint32_t>(from.st_nlink);
  out.stat.stx_uid = from.st_uid;
  out.stat.stx_gid = from.st_gid;
  out.stat.stx_mode = static_cast<uint16_t>(from.st_mode);
  out.stat.stx_ino = from.st_ino;
  out.stat.stx_size = static_cast<uint64_t>(from.st_size);
  out.stat.stx_blocks = static_cast<uint64_t>(from.st_blocks);
  out.stat.stx_atime = raw_time(found.atime);
  out.stat.stx_btime = raw_time(found.btime);
  out.stat.stx_ctime = raw_time(found.ctime);
  out.stat.stx_mtime = raw_time(found.attributes.mtime);
  out.stat.stx_rdev_major = found.attributes.rdev_major;
  out.stat.stx_rdev_minor = found.attributes.rdev_minor;
  std::string bytes;
  append_bytes(bytes, out);
  return bytes;
}

}  // namespace

Result<std::string> passing_entry(Mount& mount, Ino ino) {
  Stat found = TRY(mount.overlay.stat(ino));
  mount.overlay.refer(ino);
  fuse_entry_out entry = {};
  entry.nodeid = ino;
  entry.attr_valid = static_cast<uint64_t>(kForeverSeconds);
  entry.attr = raw_attributes(kernel_stat(mount, found));
  std::string out;
  append_bytes(out, entry);
  return out;
}

RawAnswer raw_answer(uint32_t opcode, bool setxattr_ext) {
  switch (opcode) {
    case FUSE_TMPFILE:
      return answer_tmpfile;
    case FUSE_SETXATTR:
      return setxattr_ext ? answer_setxattr : nullptr;
    case kOpcodeStatx:
      return answer_statx;
    default:
      return nullptr;
  }
}

}  // namespace layerfs
