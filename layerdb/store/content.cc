// SPDX-License-Identifier: Apache-2.0
#include "layerdb/store/content.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <limits>

#include "layerdb/object/chunker.h"

namespace layerfs {
namespace {

// Collects extents in order; writes map pages as they fill, so memory does not grow with the file.
class ExtentCollector {
 public:
  explicit ExtentCollector(ObjectStore& objects) : objects_(objects) {}

  Status add(const Extent& extent) {
    if (!extents_.empty() && merge(extents_.back(), extent)) return {};
    // The last extent of a full page may still grow: only its successor completes the page.
    if (extents_.size() == kMaxMapExtents) TRY(write_leaf());
    extents_.push_back(extent);
    return {};
  }

  Result<Content> finish() {
    Content content;
    if (children_.empty() && extents_.size() <= kMaxInlineExtents) {
      content.extents = std::move(extents_);
    } else {
      TRY(write_leaf());
      content.map = TRY(write_index());
    }
    extents_.clear();
    children_.clear();
    return content;
  }

 private:
  static bool merge(Extent& last, const Extent& next) {
    bool adjacent = next.file_offset == last.file_offset + last.length &&
                    next.group == last.group &&
                    next.group_offset == last.group_offset + last.length;
    if (adjacent) last.length += next.length;
    return adjacent;
  }

  Status write_leaf() {
    ObjectId page = TRY(objects_.put(encode_map_leaf(extents_)));
    children_.push_back({extents_.front().file_offset, page});
    extents_.clear();
    return {};
  }

  // Index pages over `children_`, level by level, until one page is left.
  Result<ObjectId> write_index() {
    while (children_.size() > 1) {
      std::vector<MapChild> parents;
      for (size_t i = 0; i < children_.size(); i += kMaxMapExtents) {
        size_t end = std::min(i + kMaxMapExtents, children_.size());
        std::vector<MapChild> page(children_.begin() + static_cast<ptrdiff_t>(i),
                                   children_.begin() + static_cast<ptrdiff_t>(end));
        parents.push_back({page.front().first_offset, TRY(objects_.put(encode_map_index(page)))});
      }
      children_ = std::move(parents);
    }
    return children_.front().page;
  }

  ObjectStore& objects_;
  std::vector<Extent> extents_;
  std::vector<MapChild> children_;
};

uint64_t end_of(const Extent& extent) { return extent.file_offset + extent.length; }

}  // namespace

struct ContentWriter::State {
  ChunkStore& chunks;
  ExtentCollector extents;
  std::string buffer;         // bytes of the stream that are not yet cut
  size_t buffer_start = 0;    // the part of `buffer` before it is done
  uint64_t stored_bytes = 0;  // the offset of the buffered bytes in the content

  Status put_chunk(std::string_view chunk) {
    ChunkAddress address = TRY(chunks.put(chunk));
    TRY(extents.add(
        {stored_bytes, address.group, address.offset, static_cast<uint32_t>(chunk.size())}));
    stored_bytes += chunk.size();
    return {};
  }
  size_t buffered() const { return buffer.size() - buffer_start; }
  std::string_view pending() const { return std::string_view(buffer).substr(buffer_start); }
  void clear_buffer() {
    buffer.clear();
    buffer_start = 0;
  }

  Status append(std::string_view bytes);
  Status cut_buffer_with(std::string_view& bytes);
  Status cut_rest();
};

// Cuts straight from `bytes` wherever a whole kMaxChunkBytes is in sight; only what is left at the
// end is copied.
Status ContentWriter::State::append(std::string_view bytes) {
  if (buffered() > 0) TRY(cut_buffer_with(bytes));
  while (bytes.size() >= kMaxChunkBytes) {
    size_t size = next_chunk_size(bytes.substr(0, kMaxChunkBytes));
    TRY(put_chunk(bytes.substr(0, size)));
    bytes.remove_prefix(size);
  }
  buffer.append(bytes);
  return {};
}

// Cuts chunks that begin in the buffer, filling it up from `bytes`, until one ends in `bytes` (the
// buffer is empty then and `bytes` begins after it) or all of `bytes` is in the buffer.
Status ContentWriter::State::cut_buffer_with(std::string_view& bytes) {
  size_t borrowed = 0;  // bytes at the buffer's end that are also at the start of `bytes`
  while (buffered() > borrowed) {
    size_t missing = kMaxChunkBytes - std::min(buffered(), kMaxChunkBytes);
    size_t more = std::min(missing, bytes.size() - borrowed);
    buffer.append(bytes.substr(borrowed, more));
    borrowed += more;
    if (buffered() < kMaxChunkBytes) break;
    size_t size = next_chunk_size(pending().substr(0, kMaxChunkBytes));
    TRY(put_chunk(pending().substr(0, size)));
    buffer_start += size;
  }
  if (buffered() > borrowed) {  // all of `bytes` is in the buffer
    buffer.erase(0, buffer_start);
    buffer_start = 0;
    bytes = {};
  } else {
    bytes.remove_prefix(borrowed - buffered());
    clear_buffer();
  }
  return {};
}

// The stream ends here: cuts all that is buffered.
Status ContentWriter::State::cut_rest() {
  while (buffered() > 0) {
    size_t size = next_chunk_size(pending());
    TRY(put_chunk(pending().substr(0, size)));
    buffer_start += size;
  }
  clear_buffer();
  return {};
}

ContentWriter::ContentWriter(ChunkStore& chunks, ObjectStore& objects)
    : state_(new State{chunks, ExtentCollector(objects), {}}) {}
ContentWriter::~ContentWriter() = default;

uint64_t ContentWriter::size_bytes() const { return state_->stored_bytes + state_->buffered(); }

Status ContentWriter::append(std::string_view bytes) { return state_->append(bytes); }

Status ContentWriter::append_hole(uint64_t size_bytes) {
  TRY(state_->cut_rest());
  if (size_bytes > std::numeric_limits<uint64_t>::max() - state_->stored_bytes)
    return Error{EFBIG, "the content is larger than any file can be"};
  state_->stored_bytes += size_bytes;
  return {};
}

Status ContentWriter::append_extents(std::span<const Extent> extents, uint64_t source_offset,
                                     uint64_t size_bytes) {
  TRY(state_->cut_rest());
  if (size_bytes > std::numeric_limits<uint64_t>::max() - state_->stored_bytes)
    return Error{EFBIG, "the content is larger than any file can be"};
  uint64_t source_end = source_offset + size_bytes;
  for (const Extent& extent : extents) {
    uint64_t from = std::max(extent.file_offset, source_offset);
    uint64_t to = std::min(end_of(extent), source_end);
    if (from >= to) continue;
    TRY(state_->extents.add({state_->stored_bytes + (from - source_offset), extent.group,
                             extent.group_offset + static_cast<uint32_t>(from - extent.file_offset),
                             static_cast<uint32_t>(to - from)}));
  }
  state_->stored_bytes += size_bytes;
  return {};
}

Result<Content> ContentWriter::finish() {
  TRY(state_->cut_rest());
  state_->stored_bytes = 0;
  return state_->extents.finish();
}

Result<Content> put_content(ObjectStore& objects, const std::vector<Extent>& extents) {
  ExtentCollector collector(objects);
  for (const Extent& extent : extents) TRY(collector.add(extent));
  return collector.finish();
}

ContentReader::ContentReader(ChunkStore& chunks, ObjectStore& objects, Content content,
                             uint64_t size_bytes)
    : chunks_(chunks), objects_(objects), content_(std::move(content)), size_bytes_(size_bytes) {}

namespace {

constexpr int kMaxMapDepth = 8;  // 4096^5 extents is past any file

// The leaf page's extents that hold `offset` or come next after it in this page; `next` is where
// the following page begins. The page stays alive while the value does.
struct Leaf {
  std::shared_ptr<const MapPage> page;
  std::span<const Extent> extents;
  uint64_t next = std::numeric_limits<uint64_t>::max();
};

std::span<const Extent> from_offset(const std::vector<Extent>& extents, uint64_t offset) {
  auto it = std::partition_point(extents.begin(), extents.end(),
                                 [&](const Extent& e) { return end_of(e) <= offset; });
  return {it, extents.end()};
}

Result<Leaf> find_leaf(ObjectStore& objects, const Content& content, uint64_t offset) {
  Leaf leaf;
  if (content.map == ObjectId::none) {
    leaf.extents = from_offset(content.extents, offset);
    return leaf;
  }
  ObjectId id = content.map;
  for (int depth = 0; depth < kMaxMapDepth; ++depth) {
    leaf.page = TRY(objects.map_page(id));
    const std::vector<MapChild>& children = leaf.page->children;
    if (children.empty()) {
      leaf.extents = from_offset(leaf.page->extents, offset);
      return leaf;
    }
    auto after = std::partition_point(children.begin(), children.end(),
                                      [&](const MapChild& c) { return c.first_offset <= offset; });
    if (after != children.end()) leaf.next = std::min(leaf.next, after->first_offset);
    id = after == children.begin() ? after->page : std::prev(after)->page;
  }
  return Error{EUCLEAN, fmt::format("file map {} is too deep", raw(content.map))};
}

// Calls `visit` for the extents that end after `offset`, in order, until it returns false.
template <typename Visit>  // Result<bool>(const Extent&)
Status walk_extents(ObjectStore& objects, const Content& content, uint64_t offset, Visit&& visit) {
  while (true) {
    Leaf leaf = TRY(find_leaf(objects, content, offset));
    for (const Extent& extent : leaf.extents)
      if (!TRY(visit(extent))) return {};
    if (leaf.next == std::numeric_limits<uint64_t>::max()) return {};
    if (leaf.next <= offset) return Error{EUCLEAN, "a file map's pages are not in order"};
    offset = leaf.next;
  }
}

// Somewhere in a file, a few pages: the kernel asks so for random reads (others it makes larger).
Reuse expected_reuse(const Extent& extent, size_t asked_bytes) {
  constexpr size_t kFewBytes = 16 << 10, kSmallPart = 4;
  bool few = asked_bytes <= kFewBytes && asked_bytes <= extent.length / kSmallPart;
  return few ? Reuse::likely : Reuse::unlikely;
}

}  // namespace

Result<size_t> ContentReader::read(uint64_t offset, std::span<char> out) const {
  if (offset >= size_bytes_) return 0;
  uint64_t size = std::min<uint64_t>(out.size(), size_bytes_ - offset);
  uint64_t end = offset + size, done = offset;
  auto zero_until = [&](uint64_t to) {
    std::memset(out.data() + (done - offset), 0, to - done);
    done = to;
  };
  TRY(walk_extents(objects_, content_, offset, [&](const Extent& extent) -> Result<bool> {
    if (extent.file_offset >= end) return false;
    if (extent.file_offset > done) zero_until(extent.file_offset);
    uint64_t skip = done - extent.file_offset;
    uint64_t count = std::min(end, end_of(extent)) - done;
    TRY(chunks_.read(extent.group, extent.group_offset + skip, out.subspan(done - offset, count),
                     {.reuse = expected_reuse(extent, size), .goes_on = done > offset}));
    done += count;
    return done < end;
  }));
  zero_until(end);
  return size;
}

Result<std::vector<Extent>> ContentReader::extents(uint64_t offset, uint64_t size_bytes) const {
  std::vector<Extent> out;
  uint64_t end = size_bytes > std::numeric_limits<uint64_t>::max() - offset
                     ? std::numeric_limits<uint64_t>::max()
                     : offset + size_bytes;
  TRY(walk_extents(objects_, content_, offset, [&](const Extent& extent) -> Result<bool> {
    if (extent.file_offset >= end) return false;
    out.push_back(extent);
    return true;
  }));
  return out;
}

Result<uint64_t> ContentReader::seek_data(uint64_t offset) const {
  if (offset >= size_bytes_) return Error{ENXIO, "there is no data at or after this offset"};
  uint64_t found = size_bytes_;
  TRY(walk_extents(objects_, content_, offset, [&](const Extent& extent) -> Result<bool> {
    found = std::max(offset, extent.file_offset);
    return false;
  }));
  if (found >= size_bytes_) return Error{ENXIO, "there is no data at or after this offset"};
  return found;
}

Result<uint64_t> ContentReader::seek_hole(uint64_t offset) const {
  if (offset >= size_bytes_) return Error{ENXIO, "the offset is past the end"};
  uint64_t hole = offset;
  TRY(walk_extents(objects_, content_, offset, [&](const Extent& extent) -> Result<bool> {
    if (extent.file_offset > hole) return false;
    hole = end_of(extent);
    return true;
  }));
  return std::min(hole, size_bytes_);
}

}  // namespace layerfs
