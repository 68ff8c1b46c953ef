// SPDX-License-Identifier: Apache-2.0
//
// Content, reading: where bytes are, read, SEEK_DATA and SEEK_HOLE.
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <optional>

#include "fuse/overlay_impl.h"
#include "fuse/overlay_runs.h"

namespace layerfs {
namespace {

Result<uint64_t> seek_small(const InodeRecord& record, uint64_t offset, bool data) {
  uint64_t size = record.attributes.size_bytes;
  while (offset < size) {
    bool hole = (small_blocks(offset, offset + 1) & record.small_holes) != 0;
    if (hole != data) return offset;
    offset = (offset / kBlockBytes + 1) * kBlockBytes;
  }
  if (data) return Error{ENXIO, "no more data"};
  return size;
}

Result<uint64_t> seek_run(LowerRuns& runs, uint64_t offset, bool data) {
  LowerRuns::Run run = TRY(runs.find(offset));
  if (run.begin == LowerRuns::kNone) return Error{ENXIO, "past the lower's data"};
  if (data) return std::max(offset, run.begin);
  return offset < run.begin ? offset : run.end;
}

}  // namespace

// Splits [offset, offset+length) of a Body::lower or Body::file by where it is.
Result<std::vector<OverlayImpl::Segment>> OverlayImpl::segments(Ino ino, const InodeRecord& record,
                                                                uint64_t offset, uint64_t length) {
  std::vector<Segment> out;
  if (record.body == Body::lower) return std::vector{Segment{offset, length, false}};
  uint64_t at = offset;
  uint64_t end = offset + length;
  auto add = [&](uint64_t until, bool body) {
    if (until > at) out.push_back({at, until - at, body});
    at = std::max(at, until);
  };
  uint64_t lower_end = std::min(end, record.lower_size_bytes);
  if (at < lower_end) {
    auto ranges = TRY(upper_->ranges(ino, at, lower_end - at));
    for (const Range& range : ranges) {
      add(std::min(range.offset, lower_end), false);
      add(std::min(range.offset + range.length, lower_end), true);
    }
    add(lower_end, false);
  }
  add(end, true);
  return out;
}

Status OverlayImpl::read_lower(Ino ino, uint64_t offset, std::span<char> out) {
  auto file = TRY(lower_files_.open(lower_, ino));
  size_t done = TRY(file->read(offset, out));
  std::memset(out.data() + done, 0, out.size() - done);
  return {};
}

Result<std::string> OverlayImpl::small_content(Ino ino, const InodeRecord& record) {
  std::string bytes;
  if (record.attributes.size_bytes != 0) bytes = TRY(upper_->small_body(ino));
  bytes.resize(record.attributes.size_bytes);
  return bytes;
}

Result<size_t> OverlayImpl::read_record(Ino ino, const InodeRecord& record, uint64_t offset,
                                        std::span<char> out) {
  uint64_t size = record.attributes.size_bytes;
  if (offset >= size) return size_t{0};
  size_t length = std::min<uint64_t>(out.size(), size - offset);
  if (record.body == Body::small) {
    std::string bytes = TRY(small_content(ino, record));
    std::memcpy(out.data(), bytes.data() + offset, length);
    return length;
  }
  auto parts = TRY(segments(ino, record, offset, length));
  for (const Segment& part : parts) {
    std::span<char> into = out.subspan(part.offset - offset, part.length);
    if (!part.body) {
      TRY(read_lower(ino, part.offset, into));
      continue;
    }
    size_t done = TRY(upper_->read_body(ino, part.offset, into));
    std::memset(into.data() + done, 0, into.size() - done);
  }
  return length;
}

Result<size_t> OverlayImpl::read(Ino ino, uint64_t offset, std::span<char> out) {
  auto lock = locks_.shared(ino);
  auto record = TRY(find_record(ino));
  if (record) {
    TRY(check_file(record->attributes.type));
    return read_record(ino, *record, offset, out);
  }
  if (!in_lower(ino)) return Error{ENOENT, "no such inode"};
  auto file = lower_files_.open(lower_, ino);
  if (!file.ok()) {
    TRY(load_file(ino));
    return std::move(file).error();
  }
  return (*file)->read(offset, out);
}

Result<uint64_t> OverlayImpl::seek(Ino ino, uint64_t offset, int whence) {
  if (whence != SEEK_DATA && whence != SEEK_HOLE) return Error{EINVAL, "whence"};
  auto lock = locks_.shared(ino);
  InodeRecord record = TRY(load_file(ino));
  uint64_t size = record.attributes.size_bytes;
  bool data = whence == SEEK_DATA;
  if (offset >= size) return Error{ENXIO, "past the end"};
  if (record.body == Body::small) return seek_small(record, offset, data);
  auto parts = TRY(segments(ino, record, offset, size - offset));
  std::shared_ptr<const LowerFile> file;
  std::optional<LowerRuns> runs;
  for (const Segment& part : parts) {
    if (!part.body && !file) {
      file = TRY(lower_files_.open(lower_, ino));
      runs.emplace(*file);
    }
    Result<uint64_t> found = part.body ? upper_->seek_body(ino, part.offset, whence)
                                       : seek_run(*runs, part.offset, data);
    if (!found.ok()) {
      if (found.error().code != ENXIO) return found;
      // Past its end there is no data, and everything is a hole.
      if (!data) return part.offset;
      continue;
    }
    if (*found < part.offset + part.length) return *found;
  }
  if (data) return Error{ENXIO, "no more data"};
  return size;
}

}  // namespace layerfs
