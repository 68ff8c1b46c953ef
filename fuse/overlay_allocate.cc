// SPDX-License-Identifier: Apache-2.0
//
// fallocate and copy_file_range.
#include <linux/falloc.h>

#include <algorithm>

#include "fuse/overlay_impl.h"
#include "layerdb/base/log.h"

namespace layerfs {
namespace {

constexpr uint64_t kCopyBytes = 256 * 1024;
constexpr uint64_t kMaxCopyBytes = 64 << 20;  // a call ends in bearable time; callers go on

// Blocks that lie whole in a punched range, and in the file, are holes then; others are none.
void mark_small(InodeRecord& record, const Allocation& change) {
  uint64_t size = record.attributes.size_bytes;
  uint64_t end = std::min(change.offset + change.length, size);
  if (change.offset >= end) return;
  if (change.what != FALLOC_FL_PUNCH_HOLE) {
    record.small_holes &= ~small_blocks(change.offset, end);
    return;
  }
  uint64_t first = (change.offset + kBlockBytes - 1) / kBlockBytes * kBlockBytes;
  if (end < size) end = end / kBlockBytes * kBlockBytes;
  if (first < end) record.small_holes |= small_blocks(first, end);
}

}  // namespace

Status OverlayImpl::allocate(Ino ino, int mode, uint64_t offset, uint64_t length,
                             const WriterOf& writer_of) {
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
  const uint64_t old_size = record.attributes.size_bytes;
  const bool had_body = record.body == Body::file;
  if (had_body) tx->replaces();
  Status done = change_allocation(*tx, ino, record, {what, keep_size, offset, length});
  if (!done.ok()) {
    // What the host did give before it was full must not stay: nobody could find and free it.
    nodes_.clear(ino, kTailClean);
    Status undone = had_body ? upper_->truncate_body(ino, old_size) : upper_->remove_body(ino);
    if (!undone.ok()) log_warning("failed allocation keeps space: {}", undone.error().message);
    return done;
  }
  TRY(kill_privileges(*tx, ino, record, writer_of));
  record.attributes.mtime = record.ctime = now();
  tx->put_inode(ino, record);
  return apply_content(std::move(tx), ino, record, After::nothing);
}

// A small body is read from the upper, so one transaction must put it once only.
Status OverlayImpl::change_allocation(Transaction& tx, Ino ino, InodeRecord& record,
                                      const Allocation& change) {
  uint64_t size = record.attributes.size_bytes;
  uint64_t end = change.offset + change.length;
  uint64_t new_size = change.keep_size ? size : std::max(size, end);
  uint64_t zero_end = change.what == 0 ? change.offset : std::min(end, new_size);
  bool zeroes = change.offset < zero_end;
  uint64_t reach = change.what == FALLOC_FL_PUNCH_HOLE ? new_size : std::max(new_size, end);
  if (record.body != Body::file && reach <= kSmallBodyBytes) {
    if (zeroes) {
      TRY(place(tx, ino, record, change.offset, std::string(zero_end - change.offset, '\0')));
    } else {
      TRY(resize(tx, ino, record, new_size));
    }
    if (record.body == Body::small) mark_small(record, change);
    return {};
  }
  TRY(to_body_file(tx, ino, record));
  TRY(resize(tx, ino, record, new_size));
  if (change.what == FALLOC_FL_PUNCH_HOLE) tx.makes_room();
  if (zeroes) {
    TRY(upper_->punch_body(ino, change.offset, zero_end - change.offset));
    uint64_t over_lower = std::min(zero_end, record.lower_size_bytes);
    if (change.offset < over_lower) {
      tx.add_range(ino, {change.offset, over_lower - change.offset});
    }
  }
  if (change.what == FALLOC_FL_PUNCH_HOLE) return {};
  return upper_->allocate_body(ino, change.offset, change.length);
}

Result<size_t> OverlayImpl::copy_range(Ino from, uint64_t from_offset, Ino to, uint64_t to_offset,
                                       uint64_t length, const WriterOf& writer_of) {
  length = std::min(length, kMaxCopyBytes);
  std::string buffer(std::min(length, kCopyBytes), '\0');
  size_t copied = 0;
  while (copied < length) {
    std::span<char> part(buffer.data(), std::min<uint64_t>(buffer.size(), length - copied));
    auto got = read(from, from_offset + copied, part);
    if (!got.ok() && copied == 0) return std::move(got).error();
    if (!got.ok() || *got == 0) break;
    auto put = write(to, to_offset + copied, {buffer.data(), *got}, writer_of, Times::now);
    if (!put.ok() && copied == 0) return std::move(put).error();
    if (!put.ok()) break;
    copied += *got;
  }
  return copied;
}

}  // namespace layerfs
