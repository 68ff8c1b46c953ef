// SPDX-License-Identifier: Apache-2.0
#include "layerdb/store/group_codec.h"

#include <fmt/format.h>
#include <zstd.h>
#include <zstd_errors.h>

#include "layerdb/base/coding.h"
#include "layerdb/store/chunk_store.h"

namespace layerfs {
namespace {

Error damaged(GroupId number, const char* what) {
  return {EUCLEAN, fmt::format("group {} is damaged: {}", number, what)};
}

std::string record_header(GroupCodec codec, GroupId number, size_t raw_bytes,
                          const std::vector<GroupBase>& bases) {
  std::string out;
  put_u8(out, kGroupRecordVersion);
  put_u8(out, static_cast<uint8_t>(codec));
  put_varint(out, bases.size());
  for (const GroupBase& base : bases) put_varint(out, number - base.number);
  put_varint(out, raw_bytes);
  return out;
}

struct DecompressionContext {
  ZSTD_DCtx* zstd = ZSTD_createDCtx();
  ~DecompressionContext() { ZSTD_freeDCtx(zstd); }
};

}  // namespace

Result<GroupRecord> parse_group(GroupId number, std::string_view record) {
  Reader in(record);
  uint8_t version = in.u8();
  uint8_t codec = in.u8();
  uint64_t base_count = in.varint();
  if (in.failed()) return damaged(number, "its record is cut short");
  if (version != kGroupRecordVersion || codec > static_cast<uint8_t>(GroupCodec::zstd))
    return damaged(number, "its record is of an unknown kind");
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
  std::string prefix;
  for (GroupId base : parsed.bases) {
    Result<GroupBytes> raw = read(base);
    if (!raw.ok()) return raw.error().wrap(fmt::format("group {} builds on another", number));
    prefix += **raw;
  }
  thread_local DecompressionContext context;
  ZSTD_DCtx_refPrefix(context.zstd, prefix.data(), prefix.size());
  std::string out(parsed.raw_bytes, '\0');
  size_t size = ZSTD_decompressDCtx(context.zstd, out.data(), out.size(), parsed.payload.data(),
                                    parsed.payload.size());
  if (ZSTD_isError(size) || size != out.size()) return damaged(number, "it does not decompress");
  return out;
}

// Two contexts: each keeps its tables at the size its windows need.
struct GroupEncoder::State {
  ZSTD_CCtx* alone;
  ZSTD_CCtx* with_prefix;
  std::string prefix;

  explicit State(int level) : alone(new_context(level)), with_prefix(new_context(level)) {}
  ~State() {
    ZSTD_freeCCtx(alone);
    ZSTD_freeCCtx(with_prefix);
  }
  static ZSTD_CCtx* new_context(int level) {
    ZSTD_CCtx* context = ZSTD_createCCtx();
    ZSTD_CCtx_setParameter(context, ZSTD_c_compressionLevel, level);
    ZSTD_CCtx_setParameter(context, ZSTD_c_contentSizeFlag, 0);  // the record has it
    return context;
  }
  ZSTD_CCtx* context_for(const std::vector<GroupBase>& bases) {
    if (bases.empty()) return alone;
    prefix.clear();
    for (const GroupBase& base : bases) prefix += *base.raw;
    ZSTD_CCtx_refPrefix(with_prefix, prefix.data(), prefix.size());
    return with_prefix;
  }
};

GroupEncoder::GroupEncoder(int zstd_level) : state_(std::make_unique<State>(zstd_level)) {}
GroupEncoder::~GroupEncoder() = default;

Result<std::string> GroupEncoder::encode(GroupId number, std::string_view raw,
                                         const std::vector<GroupBase>& bases) {
  std::string out = record_header(GroupCodec::zstd, number, raw.size(), bases);
  size_t header_size = out.size();
  // Room for anything smaller than the plain bytes; whatever needs more is stored plain.
  out.resize(header_size + raw.size() - 1);
  size_t size = ZSTD_compress2(state_->context_for(bases), out.data() + header_size, raw.size() - 1,
                               raw.data(), raw.size());
  if (!ZSTD_isError(size)) {
    out.resize(header_size + size);
    out.shrink_to_fit();
    return out;
  }
  if (ZSTD_getErrorCode(size) == ZSTD_error_memory_allocation)
    return Error{ENOMEM, "no memory to compress with"};
  out = record_header(GroupCodec::plain, number, raw.size(), {});
  out += raw;
  return out;
}

}  // namespace layerfs
