// SPDX-License-Identifier: Apache-2.0
//
// What the callbacks of ops_*.cc share: the mount's context, conversions between the overlay's
// values and the kernel's, and replies. Every callback runs its body in answer(), which turns a
// failed Status, or an exception, into the error reply; a body that succeeds has replied itself.
#pragma once

#define FUSE_USE_VERSION 314
#include <fuse_lowlevel.h>

#include <exception>
#include <functional>
#include <new>
#include <string>

#include "fuse/identity.h"
#include "fuse/overlay.h"
#include "fuse/stats.h"
#include "layerdb/base/log.h"
#include "layerdb/base/result.h"

struct fuse_in_header;

namespace layerfs {

// Nobody but this daemon changes what it serves: what the kernel knows stays true.
inline constexpr double kForeverSeconds = 1e9;

// The session's user data. Outlives every request.
struct Mount {
  Overlay& overlay;
  Stats& stats;
  IdentityMap ids;
  bool keep_atime = false;            // noatime
  bool keep_directory_atime = false;  // nodiratime
  // Makes the kernel ask for the attributes again: they changed in a way that it does not expect of
  // the message being answered. Set by the session.
  std::function<void(Ino)> forget_attributes = {};
  // Deals with what the kernel has forgotten before it sent the message being answered
  // (late_forgets.h). Set by the session.
  std::function<void()> catch_up_with_forgets = {};
  // Has the kernel write back what it holds of [offset, end); end 0: all from offset on. Not by
  // workers (late_seeks.h). ENOSYS where that cannot be done. Set by the session.
  std::function<Status(Ino, uint64_t offset, uint64_t end)> write_back = {};
};

inline Mount& mount_of(fuse_req_t req) { return *static_cast<Mount*>(fuse_req_userdata(req)); }
Caller caller_of(fuse_req_t req);

// What a message says of its sender's CAP_FSETID: WRITE and SETATTR do, FALLOCATE and
// COPY_FILE_RANGE do not.
enum class Fsetid { has, lacks, not_told };
// Which of Linux's rules for set-id bits applies to the sender, who changes `file`. Looks at the
// process (sender.h) only if the file has such a bit; where it cannot, the message's ids
// decide.
Writer writer_of(fuse_req_t req, const Attributes& file, Fsetid fsetid);

// Notes that a program reads `ino` for the current READ, READDIR or READLINK, unless the mount or
// the descriptor (O_NOATIME) wants it otherwise.
void note_access(Mount& mount, Ino ino);

// The message that this thread is answering, for the flags that libfuse does not pass on.
const fuse_in_header* current_message();
void set_current_message(const fuse_in_header* message);

struct stat kernel_stat(const Mount& mount, const Stat& stat);
fuse_entry_param kernel_entry(const Mount& mount, const Stat& stat);

Status reply_ok(fuse_req_t req);
Status reply_entry(fuse_req_t req, const Stat& stat);  // gives the reference back if undeliverable
Status reply_attributes(fuse_req_t req, const Stat& stat);
Status reply_bytes(fuse_req_t req, const char* data, size_t size_bytes);
// EUCLEAN is logged with its sentence and answered as EIO.
int errno_for_kernel(const Error& error, Ino ino);

// What removed files may still hold is given back now.
void free_removed(Mount& mount);

// `body`, and once more if there was no space before that. (What failed has changed nothing.)
template <typename Body>
auto finding_space(Mount& mount, Body&& body) {
  auto result = body();
  if (result.ok() || result.error().code != ENOSPC) return result;
  free_removed(mount);
  return body();
}

template <typename Body>
void answer(fuse_req_t req, Ino ino, Body&& body) noexcept {
  int code = EIO;
  try {
    Mount& mount = mount_of(req);
    Status status = finding_space(mount, [&]() -> Status { return body(mount); });
    if (status.ok()) return;
    code = errno_for_kernel(status.error(), ino);
  } catch (const std::bad_alloc&) {
    code = ENOMEM;
  } catch (const std::exception& e) {
    log_error("inode {}: {}", ino, e.what());
  }
  fuse_reply_err(req, code);
}

// A thread's buffer for replies, as large as the largest request.
inline constexpr size_t kMaxRequestBytes = 1 << 20;
char* reply_buffer();
void release_reply_buffer() noexcept;

}  // namespace layerfs
