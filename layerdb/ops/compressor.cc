// SPDX-License-Identifier: Apache-2.0
#include "layerdb/ops/compressor.h"

#include <zlib.h>
#include <zstd.h>

#include <algorithm>
#include <deque>
#include <future>
#include <string>
#include <thread>

#include "layerdb/base/coding.h"

namespace layerfs {
namespace {

constexpr size_t kGzipBlockBytes = 512 * 1024;
constexpr size_t kGzipWindowBytes = 32 * 1024;
constexpr int kZstdLevel = 3;
// Two workers whatever the machine has: the output depends on there being workers, not on how many.
constexpr int kZstdWorkers = 2;

class Plain : public Compressor {
 public:
  explicit Plain(ByteSink sink) : sink_(std::move(sink)) {}
  Status write(std::string_view bytes) override { return sink_(bytes); }
  Status finish() override { return {}; }

 private:
  ByteSink sink_;
};

// One block as raw deflate data that ends on a byte boundary.
Result<std::string> deflate_block(const std::string& window, const std::string& block, bool last) {
  z_stream stream{};
  if (deflateInit2(&stream, Z_DEFAULT_COMPRESSION, Z_DEFLATED, -MAX_WBITS, 8, Z_DEFAULT_STRATEGY) !=
      Z_OK)
    return Error{ENOMEM, "gzip: no memory"};
  if (!window.empty())
    deflateSetDictionary(&stream, reinterpret_cast<const Bytef*>(window.data()),
                         static_cast<uInt>(window.size()));
  std::string out(deflateBound(&stream, block.size()) + 16, '\0');
  stream.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(block.data()));
  stream.avail_in = static_cast<uInt>(block.size());
  stream.next_out = reinterpret_cast<Bytef*>(out.data());
  stream.avail_out = static_cast<uInt>(out.size());
  int code = deflate(&stream, last ? Z_FINISH : Z_SYNC_FLUSH);
  bool complete = stream.avail_in == 0 && (last ? code == Z_STREAM_END : code == Z_OK);
  out.resize(out.size() - stream.avail_out);
  deflateEnd(&stream);
  if (!complete) return Error{EIO, "gzip: zlib did not finish a block"};
  return out;
}

class Gzip : public Compressor {
 public:
  explicit Gzip(ByteSink sink) : sink_(std::move(sink)) {}

  Status write(std::string_view bytes) override {
    checksum_ = crc32_z(checksum_, reinterpret_cast<const Bytef*>(bytes.data()), bytes.size());
    size_ += bytes.size();
    while (!bytes.empty()) {
      if (block_.size() == kGzipBlockBytes) TRY(start(false));
      size_t take = std::min(bytes.size(), kGzipBlockBytes - block_.size());
      block_.append(bytes.substr(0, take));
      bytes.remove_prefix(take);
    }
    return {};
  }

  Status finish() override {
    TRY(start(true));
    while (!running_.empty()) TRY(collect());
    std::string trailer;
    put_u32(trailer, static_cast<uint32_t>(checksum_));
    put_u32(trailer, static_cast<uint32_t>(size_));
    return sink_(trailer);
  }

 private:
  Status start(bool last) {
    if (!header_written_) {
      static constexpr char kHeader[] = "\x1f\x8b\x08\0\0\0\0\0\0\xff";  // no name, no time, any OS
      TRY(sink_(std::string_view(kHeader, 10)));
      header_written_ = true;
    }
    if (running_.size() > std::max(2u, std::thread::hardware_concurrency())) TRY(collect());
    std::string next_window =
        block_.substr(block_.size() - std::min(block_.size(), kGzipWindowBytes));
    running_.push_back(
        std::async(std::launch::async, [window = std::move(window_), block = std::move(block_),
                                        last] { return deflate_block(window, block, last); }));
    window_ = std::move(next_window);
    block_.clear();
    return {};
  }

  Status collect() {
    Result<std::string> block = running_.front().get();
    running_.pop_front();
    if (!block.ok()) return block.error();
    return sink_(*block);
  }

  ByteSink sink_;
  bool header_written_ = false;
  uLong checksum_ = crc32_z(0, nullptr, 0);
  uint64_t size_ = 0;
  std::string window_;
  std::string block_;
  std::deque<std::future<Result<std::string>>> running_;
};

class Zstd : public Compressor {
 public:
  Zstd(ByteSink sink, ZSTD_CCtx* context)
      : sink_(std::move(sink)),
        context_(context, ZSTD_freeCCtx),
        out_(ZSTD_CStreamOutSize(), '\0') {}

  Status write(std::string_view bytes) override {
    ZSTD_inBuffer in{bytes.data(), bytes.size(), 0};
    while (in.pos < in.size) TRY(step(in, ZSTD_e_continue));
    return {};
  }

  Status finish() override {
    ZSTD_inBuffer in{nullptr, 0, 0};
    size_t left;
    do left = TRY(step(in, ZSTD_e_end));
    while (left != 0);
    return {};
  }

 private:
  Result<size_t> step(ZSTD_inBuffer& in, ZSTD_EndDirective directive) {
    ZSTD_outBuffer out{out_.data(), out_.size(), 0};
    size_t left = ZSTD_compressStream2(context_.get(), &out, &in, directive);
    if (ZSTD_isError(left)) return Error{EIO, std::string("zstd: ") + ZSTD_getErrorName(left)};
    TRY(sink_(std::string_view(out_.data(), out.pos)));
    return left;
  }

  ByteSink sink_;
  std::unique_ptr<ZSTD_CCtx, decltype(&ZSTD_freeCCtx)> context_;
  std::string out_;
};

}  // namespace

Result<std::unique_ptr<Compressor>> make_compressor(LayerCompression compression, ByteSink sink) {
  if (compression == LayerCompression::none)
    return std::unique_ptr<Compressor>(std::make_unique<Plain>(std::move(sink)));
  if (compression == LayerCompression::gzip)
    return std::unique_ptr<Compressor>(std::make_unique<Gzip>(std::move(sink)));
  ZSTD_CCtx* context = ZSTD_createCCtx();
  if (context == nullptr) return Error{ENOMEM, "zstd: no memory"};
  auto out = std::make_unique<Zstd>(std::move(sink), context);
  ZSTD_CCtx_setParameter(context, ZSTD_c_compressionLevel, kZstdLevel);
  ZSTD_CCtx_setParameter(context, ZSTD_c_checksumFlag, 1);
  ZSTD_CCtx_setParameter(context, ZSTD_c_nbWorkers,
                         kZstdWorkers);  // refused by single-threaded builds
  return std::unique_ptr<Compressor>(std::move(out));
}

}  // namespace layerfs
