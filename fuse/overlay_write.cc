// SPDX-License-Identifier: Apache-2.0
//
// Content, writing: write, truncate. Bytes reach the body before the transaction that shows them;
// what a body holds beyond the file's size is garbage of something that failed or was cut off
// half-way, so it is cut away (clean_tail) before the file grows over it.
#include <algorithm>

#include "fuse/overlay_impl.h"
#include "layerdb/base/log.h"

namespace layerfs {
Status check_file(FileType type) {
  if (type == FileType::directory) return Error{EISDIR, "a directory"};
  if (type != FileType::regular) return Error{EINVAL, "not a regular file"};
  return {};
}

uint8_t small_blocks(uint64_t begin, uint64_t end) {
  uint8_t blocks = 0;
  end = std::min<uint64_t>(end, kSmallBodyBytes);
  if (begin >= end) return blocks;
  for (uint64_t at = begin / kBlockBytes; at * kBlockBytes < end; ++at) blocks |= 1u << at;
  return blocks;
}

void set_small_size(InodeRecord& record, uint64_t size_bytes) {
  uint64_t& size = record.attributes.size_bytes;
  uint8_t before = small_blocks(0, size), after = small_blocks(0, size_bytes);
  record.small_holes = (record.small_holes & after) | (after & ~before);
  size = size_bytes;
}

Result<InodeRecord> OverlayImpl::load_file(Ino ino) {
  InodeRecord record = TRY(load(ino));
  TRY(check_file(record.attributes.type));
  return record;
}

Status OverlayImpl::clean_tail(Ino ino, const InodeRecord& record) {
  if (nodes_.has(ino, kTailClean)) return {};
  TRY(upper_->truncate_body(ino, record.attributes.size_bytes));
  nodes_.set(ino, kTailClean);
  return {};
}

// From lower or small to Body::file, with the same content.
Status OverlayImpl::to_body_file(Transaction& tx, Ino ino, InodeRecord& record) {
  if (record.body == Body::file) return {};
  nodes_.clear(ino, kTailClean);
  if (record.body == Body::small) {
    std::string bytes = TRY(small_content(ino, record));
    TRY(upper_->truncate_body(ino, 0));
    uint64_t step = record.small_holes == 0 ? kSmallBodyBytes : kBlockBytes;
    for (uint64_t at = 0; at < bytes.size(); at += step) {
      if (small_blocks(at, at + 1) & record.small_holes) continue;
      TRY(upper_->write_body(ino, at, std::string_view(bytes).substr(at, step)));
    }
    tx.delete_small_body(ino);
    record.small_holes = 0;
    record.lower_size_bytes = 0;
    nodes_.set(ino, kTailClean);
  }
  record.body = Body::file;
  return {};
}

Status OverlayImpl::place(Transaction& tx, Ino ino, InodeRecord& record, uint64_t offset,
                          std::string_view bytes) {
  uint64_t& size = record.attributes.size_bytes;
  uint64_t end = offset + bytes.size();
  uint64_t new_size = std::max(size, end);
  if (record.body != Body::file && new_size <= kSmallBodyBytes) {
    std::string content(size, '\0');
    TRY(read_record(ino, record, 0, content));
    content.resize(new_size);
    content.replace(offset, bytes.size(), bytes);
    tx.put_small_body(ino, content);
    record.body = Body::small;
    record.lower_size_bytes = 0;
    set_small_size(record, new_size);
    record.small_holes &= ~small_blocks(offset, end);
    return {};
  }
  TRY(to_body_file(tx, ino, record));
  if (end > size) TRY(clean_tail(ino, record));
  TRY(upper_->write_body(ino, offset, bytes));
  if (offset < record.lower_size_bytes) {
    tx.add_range(ino, {offset, std::min(end, record.lower_size_bytes) - offset});
  }
  size = new_size;
  return {};
}

Result<OverlayImpl::After> OverlayImpl::resize(Transaction& tx, Ino ino, InodeRecord& record,
                                               uint64_t size_bytes) {
  uint64_t& size = record.attributes.size_bytes;
  if (size_bytes > kMaxFileBytes) return Error{EFBIG, "file too large"};
  if (size_bytes <= size) tx.makes_room();  // perhaps of what the kernel could not write
  if (size_bytes == size) return After::nothing;
  bool shrink = size_bytes < size;
  bool had_body_file = record.body == Body::file;
  if (had_body_file && size_bytes == 0) {
    tx.clear_ranges(ino, 0);
    tx.drop_body(ino);
    record.body = Body::small;
    record.lower_size_bytes = size = 0;
    return After::remove_body;
  }
  if (record.body != Body::file && size_bytes <= kSmallBodyBytes) {
    std::string content(std::min(size, size_bytes), '\0');
    TRY(read_record(ino, record, 0, content));
    content.resize(size_bytes);
    tx.put_small_body(ino, content);
    record.body = Body::small;
    record.lower_size_bytes = 0;
    set_small_size(record, size_bytes);
    return After::nothing;
  }
  TRY(to_body_file(tx, ino, record));
  if (!shrink) TRY(clean_tail(ino, record));
  if (size_bytes < record.lower_size_bytes) {
    record.lower_size_bytes = size_bytes;
    tx.clear_ranges(ino, size_bytes);
  }
  size = size_bytes;
  return shrink && had_body_file ? After::truncate_body : After::nothing;
}

// What shrinking leaves behind goes after the transaction; if that fails, it is garbage.
Status OverlayImpl::apply_content(std::unique_ptr<Transaction> tx, Ino ino,
                                  const InodeRecord& record, After after) {
  if (after != After::nothing) nodes_.clear(ino, kTailClean);
  if (Status status = apply(std::move(tx)); !status.ok()) {
    nodes_.clear(ino, kTailClean);
    return status;
  }
  Status cut;
  if (after == After::truncate_body) {
    cut = upper_->truncate_body(ino, record.attributes.size_bytes);
    if (cut.ok()) nodes_.set(ino, kTailClean);
  } else if (after == After::remove_body) {
    cut = upper_->remove_body(ino);
  }
  if (!cut.ok()) log_warning("cut content keeps its space: {}", cut.error().message);
  return {};
}

Result<size_t> OverlayImpl::write(Ino ino, uint64_t offset, std::string_view bytes,
                                  const WriterOf& writer_of, Times times) {
  if (offset > kMaxFileBytes || bytes.size() > kMaxFileBytes - offset) {
    return Error{EFBIG, "file too large"};
  }
  Mutation mutation = TRY(begin_mutation());
  auto lock = locks_.exclusive({ino});
  InodeRecord record = TRY(load_file(ino));
  if (bytes.empty()) return size_t{0};
  auto tx = upper_->begin();
  // What a body file needs beyond the record was, or is, asked of it.
  bool in_place =
      record.body == Body::file ||
      (record.body == Body::small && offset + bytes.size() <= record.attributes.size_bytes);
  if (in_place) tx->replaces();
  Status placed = place(*tx, ino, record, offset, bytes);
  if (!placed.ok()) {
    nodes_.clear(ino, kTailClean);
    return std::move(placed).error();
  }
  TRY(kill_privileges(*tx, ino, record, writer_of));
  if (times == Times::now) record.attributes.mtime = record.ctime = now();
  tx->put_inode(ino, record);
  TRY(apply_content(std::move(tx), ino, record, After::nothing));
  return bytes.size();
}

}  // namespace layerfs
