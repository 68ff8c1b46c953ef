// SPDX-License-Identifier: Apache-2.0
#include "layerdb/ops/input_stream.h"

#include <archive.h>
#include <archive_entry.h>

#include <algorithm>
#include <thread>
#include <utility>
#include <vector>

#include "layerdb/ops/bounded_queue.h"
#include "layerdb/ops/gunzip.h"
#include "layerdb/ops/tar_header.h"
#include "layerdb/ops/tar_reader.h"

namespace layerfs {
namespace {

constexpr size_t kReadAheadBlocks = 4;
constexpr size_t kInputReadBytes = 256 * 1024;

struct Bytes {
  std::unique_ptr<char[]> data = std::make_unique_for_overwrite<char[]>(kInputBlockBytes);
  size_t size = 0;
  std::string_view view() const { return {data.get(), size}; }
};
using Block = std::shared_ptr<const Bytes>;

struct ArchiveDeleter {
  void operator()(struct archive* a) const { archive_read_free(a); }
};
using ArchivePointer = std::unique_ptr<struct archive, ArchiveDeleter>;

// libarchive as a decompressor: every filter it has built in (none that runs a program), except
// gzip, which comes from gunzip.h. A tar that is not compressed goes past it, uncopied.
class Decompressor {
 public:
  Decompressor(ByteSource source, const std::string& name)
      : source_(gunzip_source(std::move(source), name)), name_(name), input_(kInputReadBytes) {}

  Status open() {
    while (first_bytes_ < kTarBlockBytes) {
      size_t n = TRY(source_(input_.data() + first_bytes_, input_.size() - first_bytes_));
      if (n == 0) break;
      first_bytes_ += n;
    }
    if (first_bytes_ >= kTarBlockBytes &&
        TarHeader({input_.data(), kTarBlockBytes}).checksum_ok()) {
      return {};
    }
    return open_archive();
  }

  // Fills `out`; short only at the end.
  Result<size_t> read(char* out, size_t size) {
    size_t have = 0;
    while (have < size && !ended_) {
      size_t n = TRY(archive_ ? read_archive(out + have, size - have)
                              : read_source(out + have, size - have));
      if (n == 0) ended_ = true;
      have += n;
    }
    if (ended_) TRY(drain());
    return have;
  }

 private:
  Status open_archive() {
    archive_.reset(archive_read_new());
    struct archive* a = archive_.get();
    if (a == nullptr) return Error{ENOMEM, "out of memory"};
    archive_read_support_filter_zstd(a);
    archive_read_support_filter_xz(a);
    archive_read_support_filter_bzip2(a);
    archive_read_support_filter_lz4(a);
    archive_read_support_filter_lzma(a);
    archive_read_support_filter_lzip(a);
    archive_read_support_filter_compress(a);
    archive_read_support_format_raw(a);
    archive_read_support_format_empty(a);
    if (archive_read_open2(a, this, nullptr, read_input, nullptr, nullptr) != ARCHIVE_OK) {
      return failure();
    }
    struct archive_entry* entry = nullptr;
    int status = archive_read_next_header(a, &entry);
    if (status == ARCHIVE_EOF) {
      ended_ = true;
    } else if (status != ARCHIVE_OK) {
      return failure();
    }
    return {};
  }

  Result<size_t> read_archive(char* out, size_t size) {
    la_ssize_t n = archive_read_data(archive_.get(), out, size);
    if (n < 0) return failure();
    return static_cast<size_t>(n);
  }

  Result<size_t> read_source(char* out, size_t size) {
    if (first_bytes_ == 0) return source_(out, size);
    size_t n = std::min(size, first_bytes_);
    std::copy_n(input_.data(), n, out);
    input_.erase(input_.begin(), input_.begin() + static_cast<ptrdiff_t>(n));
    first_bytes_ -= n;
    return n;
  }

  // What a filter leaves unread counts for the source's own check of its bytes.
  Status drain() {
    while (TRY(source_(input_.data(), input_.size())) > 0) {
    }
    return {};
  }

  static la_ssize_t read_input(struct archive* a, void* self, const void** buffer) {
    auto& me = *static_cast<Decompressor*>(self);
    *buffer = me.input_.data();
    if (me.first_bytes_ > 0) return static_cast<la_ssize_t>(std::exchange(me.first_bytes_, 0));
    Result<size_t> n = me.source_(me.input_.data(), me.input_.size());
    if (!n.ok()) {
      me.source_error_ = std::move(n).error();
      archive_set_error(a, me.source_error_.code, "%s", me.source_error_.message.c_str());
      return -1;
    }
    return static_cast<la_ssize_t>(*n);
  }

  Error failure() const {
    if (!source_error_.message.empty()) return source_error_;
    const char* reason = archive_error_string(archive_.get());
    return {EINVAL, "cannot decompress '" + name_ + "': " + (reason ? reason : "damaged data")};
  }

  ByteSource source_;
  const std::string& name_;
  std::vector<char> input_;
  size_t first_bytes_ = 0;  // at the start of input_, read to see what they are
  ArchivePointer archive_;
  Error source_error_;
  bool ended_ = false;
};

}  // namespace

struct InputStream::State {
  State(std::string n, const std::atomic<bool>* c) : name(std::move(n)), cancelled(c) {}

  const std::string name;
  const std::atomic<bool>* const cancelled;
  BoundedQueue<Block> to_caller{kReadAheadBlocks};
  BoundedQueue<Block> to_hash{kReadAheadBlocks};
  Status read_status;  // written by the reader before it closes the queues
  Sha256 hash;
  std::thread reader;
  std::thread hasher;

  Block block;
  size_t offset = 0;  // in block
  uint64_t position = 0;

  Status read_all(ByteSource source) {
    Decompressor input(std::move(source), name);
    TRY(input.open());
    for (;;) {
      auto bytes = std::make_shared<Bytes>();
      bytes->size = TRY(input.read(bytes->data.get(), kInputBlockBytes));
      if (bytes->size == 0) return {};
      if (!to_hash.push(bytes) || !to_caller.push(bytes)) return {};
      if (bytes->size < kInputBlockBytes) return {};
    }
  }
  void hash_all() {
    while (std::optional<Block> next = to_hash.pop()) hash.update((*next)->view());
  }
};

InputStream::InputStream(ByteSource source, std::string name, const std::atomic<bool>* cancelled)
    : state_(std::make_unique<State>(std::move(name), cancelled)) {
  State* s = state_.get();
  s->reader = std::thread([s, source = std::move(source)]() mutable {
    s->read_status = s->read_all(std::move(source));
    s->to_hash.close();
    s->to_caller.close();
  });
  s->hasher = std::thread([s] { s->hash_all(); });
}

InputStream::~InputStream() {
  state_->to_caller.close();
  state_->to_hash.close();
  state_->reader.join();
  if (state_->hasher.joinable()) state_->hasher.join();
}

Result<std::string_view> InputStream::peek() {
  State& s = *state_;
  if (s.block && s.offset < s.block->size) return s.block->view().substr(s.offset);
  if (s.cancelled && *s.cancelled) return Error{EINTR, "interrupted"};
  std::optional<Block> next = s.to_caller.pop();
  s.block = next ? std::move(*next) : nullptr;
  s.offset = 0;
  if (s.block) return s.block->view();
  if (!s.read_status.ok()) return s.read_status.error();
  return std::string_view();
}

void InputStream::consume(size_t size_bytes) {
  state_->offset += size_bytes;
  state_->position += size_bytes;
}

uint64_t InputStream::position() const { return state_->position; }

Digest InputStream::digest() {
  state_->hasher.join();
  return state_->hash.finish();
}

}  // namespace layerfs
