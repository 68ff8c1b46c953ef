// SPDX-License-Identifier: Apache-2.0
#include "layerdb/store/group_codec.h"

#include <fmt/format.h>
#include <zstd.h>
#include <zstd_errors.h>

#include <algorithm>
#include <memory>
#include <mutex>
#include <new>
#include <span>

#include "layerdb/base/coding.h"
#include "layerdb/store/chunk_store.h"

namespace layerfs {
namespace {

Error damaged(GroupId number, const char* what) {
  return {EUCLEAN, fmt::format("group {} is damaged: {}", number, what)};
}

std::string record_header(GroupCodec codec, GroupId number, size_t raw_bytes,
                          const std::vector<GroupId>& bases) {
  std::string out;
  put_u8(out, kGroupRecordVersion);
  put_u8(out, static_cast<uint8_t>(codec));
  put_varint(out, bases.size());
  for (GroupId base : bases) put_varint(out, number - base);
  put_varint(out, raw_bytes);
  return out;
}

// zstd's contexts; they throw std::bad_alloc as all else does.
struct FreeContext {
  void operator()(ZSTD_DCtx* context) const { ZSTD_freeDCtx(context); }
  void operator()(ZSTD_CCtx* context) const { ZSTD_freeCCtx(context); }
};
template <typename Context>
std::unique_ptr<Context, FreeContext> owned(Context* context) {
  if (context == nullptr) throw std::bad_alloc();
  return std::unique_ptr<Context, FreeContext>(context);
}

// As many as decode at the same time, 94 KiB each: a thread's own would outlast its last group.
class DecodeContexts {
 public:
  using Context = std::unique_ptr<ZSTD_DCtx, FreeContext>;
  Context take() {
    std::lock_guard lock(mutex_);
    if (unused_.empty()) return owned(ZSTD_createDCtx());
    Context context = std::move(unused_.back());
    unused_.pop_back();
    return context;
  }
  void give_back(Context context) {
    std::lock_guard lock(mutex_);
    unused_.push_back(std::move(context));
  }
  void release() {
    std::lock_guard lock(mutex_);
    unused_.clear();
  }

 private:
  std::mutex mutex_;
  std::vector<Context> unused_;
};

DecodeContexts& decode_contexts() {
  static DecodeContexts contexts;
  return contexts;
}

// Whether the payload decompresses to exactly so many bytes.
bool decompress(std::string_view payload, std::string_view prefix, std::span<char> out) {
  DecodeContexts::Context context = decode_contexts().take();
  ZSTD_DCtx_refPrefix(context.get(), prefix.data(), prefix.size());
  size_t size =
      ZSTD_decompressDCtx(context.get(), out.data(), out.size(), payload.data(), payload.size());
  decode_contexts().give_back(std::move(context));
  return !ZSTD_isError(size) && size == out.size();
}

}  // namespace

void release_decode_contexts() { decode_contexts().release(); }

Result<GroupRecord> parse_group(GroupId number, std::string_view record) {
  Reader in(record);
  uint8_t version = in.u8();
  uint8_t codec = in.u8();
  uint64_t base_count = in.varint();
  if (in.failed()) return damaged(number, "its record is cut short");
  if (version != kGroupRecordVersion || codec > static_cast<uint8_t>(GroupCodec::zstd))
    return damaged(number, "its record is of an unknown kind");
  if (base_count > kMaxBaseDepth) return damaged(number, "it names too many bases");
  GroupRecord out;
  out.codec = static_cast<GroupCodec>(codec);
  for (uint64_t i = 0; i < base_count && !in.failed(); ++i) {
    uint64_t back = in.varint();
    if (back == 0 || back >= number) return damaged(number, "it names an impossible base");
    out.bases.push_back(number - back);
  }
  uint64_t raw_bytes = in.varint();
  if (in.failed()) return damaged(number, "its record is cut short");
  if (raw_bytes == 0 || raw_bytes > kMaxGroupBytes)
    return damaged(number, "its length is impossible");
  out.raw_bytes = static_cast<uint32_t>(raw_bytes);
  out.payload = in.take(in.remaining());
  return out;
}

Result<std::string> decode_group(GroupId number, std::string_view record, const ReadBase& read) {
  GroupRecord parsed = TRY(parse_group(number, record));
  if (parsed.codec == GroupCodec::plain) {
    if (!parsed.bases.empty()) return damaged(number, "its record is of an unknown kind");
    if (parsed.payload.size() != parsed.raw_bytes)
      return damaged(number, "it does not have its length");
    return std::string(parsed.payload);
  }
  std::vector<GroupBytes> bases;
  size_t prefix_bytes = 0;
  for (GroupId base : parsed.bases) {
    Result<GroupBytes> raw = read(base);
    if (!raw.ok()) return raw.error().wrap(fmt::format("group {} builds on another", number));
    prefix_bytes += (*raw)->size();
    bases.push_back(*std::move(raw));
  }
  if (bases.size() <= 1) {
    std::string out(parsed.raw_bytes, '\0');
    std::string_view prefix = bases.empty() ? std::string_view() : *bases[0];
    if (!decompress(parsed.payload, prefix, out)) return damaged(number, "it does not decompress");
    return out;
  }
  // Several become one prefix, and the group goes right behind it: zstd is faster when its window
  // is in one piece.
  auto window = std::make_unique_for_overwrite<char[]>(prefix_bytes + parsed.raw_bytes);
  char* end = window.get();
  for (const GroupBytes& base : bases) end = std::copy(base->begin(), base->end(), end);
  if (!decompress(parsed.payload, {window.get(), prefix_bytes}, {end, parsed.raw_bytes}))
    return damaged(number, "it does not decompress");
  return std::string(end, parsed.raw_bytes);
}

// Two contexts: each keeps its tables at the size its windows need.
struct GroupEncoder::State {
  using Context = std::unique_ptr<ZSTD_CCtx, FreeContext>;
  Context alone, with_bases;
  std::vector<char> payload = std::vector<char>(kMaxGroupBytes);

  explicit State(int level) : alone(new_context(level)), with_bases(new_context(level)) {
    if (level != kImportLevel) return;
    // Tables for some 350 KiB instead of zstd's 2 MiB: a quarter less time, most of which goes into
    // filling them with the bases, for the same size.
    ZSTD_CCtx_setParameter(with_bases.get(), ZSTD_c_hashLog, 16);
    ZSTD_CCtx_setParameter(with_bases.get(), ZSTD_c_chainLog, 16);
  }
  static Context new_context(int level) {
    Context context = owned(ZSTD_createCCtx());
    ZSTD_CCtx_setParameter(context.get(), ZSTD_c_compressionLevel, level);
    ZSTD_CCtx_setParameter(context.get(), ZSTD_c_contentSizeFlag, 0);  // the record has it
    return context;
  }
};

GroupEncoder::GroupEncoder(int zstd_level) : state_(std::make_unique<State>(zstd_level)) {}
GroupEncoder::~GroupEncoder() = default;

Result<std::string> GroupEncoder::encode(GroupId number, std::string_view raw,
                                         const GroupBases& bases) {
  ZSTD_CCtx* context = (bases.bytes.empty() ? state_->alone : state_->with_bases).get();
  // A group that did not fit leaves the context amid a frame, where it refuses a prefix.
  ZSTD_CCtx_reset(context, ZSTD_reset_session_only);
  if (!bases.bytes.empty() &&
      ZSTD_isError(ZSTD_CCtx_refPrefix(context, bases.bytes.data(), bases.bytes.size())))
    return Error{EINVAL, "the bases are no prefix to zstd"};
  // Room for anything smaller than the plain bytes; whatever needs more is stored plain.
  char* payload = state_->payload.data();
  size_t room = std::min(raw.size(), state_->payload.size()) - 1;
  size_t size = ZSTD_compress2(context, payload, room, raw.data(), raw.size());
  if (ZSTD_isError(size) && ZSTD_getErrorCode(size) == ZSTD_error_memory_allocation)
    return Error{ENOMEM, "no memory to compress with"};
  bool fits = !ZSTD_isError(size);
  std::string out = fits ? record_header(GroupCodec::zstd, number, raw.size(), bases.numbers)
                         : record_header(GroupCodec::plain, number, raw.size(), {});
  out.reserve(out.size() + (fits ? size : raw.size()));
  return out.append(fits ? std::string_view(payload, size) : raw);
}

}  // namespace layerfs
