// SPDX-License-Identifier: Apache-2.0
#include "layerdb/ops/gunzip.h"

#include <zlib.h>

#include <algorithm>
#include <memory>
#include <utility>
#include <vector>

namespace layerfs {
namespace {

constexpr size_t kGunzipReadBytes = 256 * 1024;
constexpr int kGzipOnly = 16 + MAX_WBITS;

class Gunzip {
 public:
  Gunzip(ByteSource source, std::string name)
      : source_(std::move(source)), name_(std::move(name)), input_(kGunzipReadBytes) {}
  ~Gunzip() {
    if (mode_ == Mode::gzip) inflateEnd(&stream_);
  }

  Result<size_t> read(char* out, size_t size) {
    if (mode_ == Mode::unknown) TRY(look());
    if (mode_ == Mode::plain) return read_plain(out, size);
    return inflate_some(out, size);
  }

 private:
  enum class Mode { unknown, plain, gzip };

  Error damaged(const std::string& why) const {
    return {EINVAL, "cannot decompress '" + name_ + "': " + why};
  }

  // At least `bytes` of input at hand, unless it ends.
  Status fill(size_t bytes) {
    while (end_ - start_ < bytes && !ended_) {
      std::move(input_.begin() + start_, input_.begin() + end_, input_.begin());
      end_ -= start_;
      start_ = 0;
      size_t n = TRY(source_(input_.data() + end_, input_.size() - end_));
      if (n == 0) ended_ = true;
      end_ += n;
    }
    return {};
  }

  bool at_member() const {
    return end_ - start_ >= 2 && input_[start_] == '\x1f' && input_[start_ + 1] == '\x8b';
  }

  Status look() {
    TRY(fill(2));
    mode_ = at_member() ? Mode::gzip : Mode::plain;
    if (mode_ == Mode::gzip && inflateInit2(&stream_, kGzipOnly) != Z_OK) {
      mode_ = Mode::plain;
      return Error{ENOMEM, "out of memory"};
    }
    return {};
  }

  Result<size_t> read_plain(char* out, size_t size) {
    if (start_ == end_) return ended_ ? size_t{0} : source_(out, size);
    size_t n = std::min(size, end_ - start_);
    std::copy_n(input_.begin() + start_, n, out);
    start_ += n;
    return n;
  }

  // A file may be several members; what follows the last one is no data (gzip ignores it, too).
  Result<size_t> inflate_some(char* out, size_t size) {
    stream_.next_out = reinterpret_cast<Bytef*>(out);
    stream_.avail_out = static_cast<uInt>(size);
    while (stream_.avail_out == size && !finished_) {
      TRY(fill(1));
      stream_.next_in = reinterpret_cast<Bytef*>(input_.data() + start_);
      stream_.avail_in = static_cast<uInt>(end_ - start_);
      if (stream_.avail_in == 0) return damaged("the gzip data is cut short");
      int status = inflate(&stream_, Z_NO_FLUSH);
      start_ = end_ - stream_.avail_in;
      if (status == Z_STREAM_END) {
        TRY(fill(2));
        finished_ = !at_member();
        if (!finished_) inflateReset(&stream_);
      } else if (status != Z_OK && status != Z_BUF_ERROR) {
        return damaged(stream_.msg ? stream_.msg : "damaged gzip data");
      }
    }
    size_t n = size - stream_.avail_out;
    if (n == 0) TRY(drain());
    return n;
  }

  // The source's own checks come at its end.
  Status drain() {
    while (!ended_) {
      start_ = end_ = 0;
      TRY(fill(1));
    }
    return {};
  }

  ByteSource source_;
  std::string name_;
  std::vector<char> input_;
  size_t start_ = 0;  // input_[start_, end_) is not used yet
  size_t end_ = 0;
  bool ended_ = false;
  bool finished_ = false;
  Mode mode_ = Mode::unknown;
  z_stream stream_ = {};
};

}  // namespace

ByteSource gunzip_source(ByteSource source, const std::string& name) {
  auto gunzip = std::make_shared<Gunzip>(std::move(source), name);
  return [gunzip](char* out, size_t size) { return gunzip->read(out, size); };
}

}  // namespace layerfs
