// SPDX-License-Identifier: Apache-2.0
//
// fallocate and copy_file_range.
#include <linux/falloc.h>

#include <algorithm>

#include "fuse/overlay_impl.h"

namespace layerfs {
namespace {

constexpr uint64_t kMaxFileBytes = uint64_t{1} << 62;
constexpr uint64_t kCopyBytes = 256 * 1024;
constexpr uint64_t kMaxCopyBytes = 64 << 20;  // a call ends in bearable time; callers go on

}  // namespace

// [offset, offset+length), inside the file, reads as zeros from now on.
Status OverlayImpl::zero(Transaction& tx, Ino ino, InodeRecord& record, uint64_t offset,
                         uint64_t length) {
  if (record.body != Body::file && record.attributes.size_bytes <= kSmallBodyBytes) {
    return place(tx, ino, record, offset, std::string(length, '\0'));
  }
  TRY(to_body_file(tx, ino, record));
  TRY(upper_->punch_body(ino, offset, length));
  if (offset < record.lower_size_bytes) {
    tx.add_range(ino, {offset, std::min(offset + length, record.lower_size_bytes) - offset});
  }
  return {};
}

Status OverlayImpl::allocate(Ino ino, int mode, uint64_t offset, uint64_t length, bool kill_priv) {
  bool keep_size = mode & FALLOC_FL_KEEP_SIZE;
  int what = mode & ~FALLOC_FL_KEEP_SIZE;
  if (length == 0) return Error{EINVAL, "no length"};
  if (what != 0 && what != FALLOC_FL_PUNCH_HOLE && what != FALLOC_FL_ZERO_RANGE) {
    return Error{EOPNOTSUPP, "fallocate mode"};
  }
  if (what == FALLOC_FL_PUNCH_HOLE && !keep_size) return Error{EOPNOTSUPP, "fallocate mode"};
  if (offset > kMaxFileBytes || length > kMaxFileBytes - offset) {
    return Error{EFBIG, "file too large"};
  }
  Mutation mutation = TRY(begin_mutation());
  auto lock = locks_.exclusive({ino});
  InodeRecord record = TRY(load(ino));
  if (record.attributes.type != FileType::regular) return Error{ENODEV, "not a regular file"};
  auto tx = upper_->begin();
  Status done = change_allocation(*tx, ino, record, {what, keep_size, offset, length});
  if (!done.ok()) {
    nodes_.clear(ino, kTailClean);
    return done;
  }
  TRY(kill_privileges(*tx, ino, record, kill_priv));
  record.attributes.mtime = record.ctime = now();
  tx->put_inode(ino, record);
  return apply_content(std::move(tx), ino, record, After::nothing);
}

Status OverlayImpl::change_allocation(Transaction& tx, Ino ino, InodeRecord& record,
                                      const Allocation& change) {
  uint64_t size = record.attributes.size_bytes;
  uint64_t end = change.offset + change.length;
  if (change.what != 0 && change.offset < size) {
    TRY(zero(tx, ino, record, change.offset, std::min(end, size) - change.offset));
  }
  if (change.what == FALLOC_FL_PUNCH_HOLE) return {};
  if (!change.keep_size && end > size) TRY(resize(tx, ino, record, end));
  if (record.body == Body::small || std::max(size, end) <= kSmallBodyBytes) return {};
  TRY(to_body_file(tx, ino, record));
  return upper_->allocate_body(ino, change.offset, change.length);
}

Result<size_t> OverlayImpl::copy_range(Ino from, uint64_t from_offset, Ino to, uint64_t to_offset,
                                       uint64_t length, bool kill_priv) {
  length = std::min(length, kMaxCopyBytes);
  std::string buffer(std::min(length, kCopyBytes), '\0');
  size_t copied = 0;
  while (copied < length) {
    std::span<char> part(buffer.data(), std::min<uint64_t>(buffer.size(), length - copied));
    auto got = read(from, from_offset + copied, part);
    if (!got.ok() && copied == 0) return std::move(got).error();
    if (!got.ok() || *got == 0) break;
    auto put = write(to, to_offset + copied, {buffer.data(), *got}, kill_priv);
    if (!put.ok() && copied == 0) return std::move(put).error();
    if (!put.ok()) break;
    copied += *got;
  }
  return copied;
}

}  // namespace layerfs
