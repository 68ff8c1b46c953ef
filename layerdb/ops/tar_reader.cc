// SPDX-License-Identifier: Apache-2.0
#include "layerdb/ops/tar_reader.h"

#include <algorithm>
#include <optional>

#include "layerdb/ops/posix_acl.h"
#include "layerdb/ops/tar_header.h"

namespace layerfs {
namespace {

uint64_t padding_of(uint64_t size_bytes) { return -size_bytes & (kTarBlockBytes - 1); }

}  // namespace

TarReader::TarReader(InputStream& input, std::string source_name, LiteralSink literal)
    : input_(input), source_(std::move(source_name)), literal_(std::move(literal)) {}

Error TarReader::bad(const std::string& what) const {
  std::string where = current_.empty() ? "" : " at '" + current_ + "'";
  return {EINVAL, "'" + source_ + "'" + where + ": " + what};
}

Result<std::string_view> TarReader::peek_block() {
  std::string_view bytes = TRY(input_.peek());
  if (!bytes.empty() && bytes.size() < kTarBlockBytes) return bad("the archive is cut short");
  return bytes.substr(0, kTarBlockBytes);
}

// Makes the next bytes literal; copies them to `copy` when it is not null.
Status TarReader::skip(uint64_t size_bytes, std::string* copy) {
  while (size_bytes > 0) {
    std::string_view bytes = TRY(input_.peek());
    if (bytes.empty()) return bad("the archive is cut short");
    bytes = bytes.substr(0, std::min<uint64_t>(bytes.size(), size_bytes));
    TRY(literal_(bytes));
    if (copy) copy->append(bytes);
    input_.consume(bytes.size());
    size_bytes -= bytes.size();
  }
  return {};
}

Result<std::string_view> TarReader::body() {
  if (!piece_.empty()) {
    input_.consume(piece_.size());
    body_left_ -= piece_.size();
    piece_ = {};
  }
  if (body_left_ == 0) return std::string_view();
  piece_ = TRY(input_.peek());
  if (piece_.empty()) {
    return bad("the archive is cut short, " + std::to_string(body_left_) + " bytes are missing");
  }
  piece_ = piece_.substr(0, std::min<uint64_t>(piece_.size(), body_left_));
  return piece_;
}

Result<std::string> TarReader::read_extension(std::string_view header) {
  std::optional<int64_t> size = TarHeader(header).size_bytes();
  if (!size || *size < 0) return bad("an extension header without a valid size");
  if (static_cast<uint64_t>(*size) > kMaxExtensionBytes) {
    return bad("an extension header of " + std::to_string(*size) + " bytes is too long");
  }
  std::string out;
  TRY(skip(static_cast<uint64_t>(*size), &out));
  TRY(skip(padding_of(static_cast<uint64_t>(*size)), nullptr));
  return out;
}

// "LENGTH KEY=VALUE\n" …
Status TarReader::parse_pax(std::string_view body, PaxRecords& out) const {
  while (!body.empty()) {
    size_t space = body.find(' ');
    std::optional<int64_t> length = parse_decimal(body.substr(0, std::min(space, body.size())));
    if (space == std::string_view::npos || !length || *length <= static_cast<int64_t>(space) + 1 ||
        static_cast<uint64_t>(*length) > body.size() || body[*length - 1] != '\n') {
      return bad("a damaged pax header");
    }
    std::string_view record = body.substr(space + 1, *length - space - 2);
    size_t equals = record.find('=');
    if (equals == 0 || equals == std::string_view::npos) return bad("a damaged pax header");
    out.emplace_back(record.substr(0, equals), record.substr(equals + 1));
    body.remove_prefix(*length);
  }
  return {};
}

// True when `header` was only about the entry that follows.
Result<bool> TarReader::read_extension_header(const std::string& header, Extensions& extensions) {
  auto text = [](std::string body) {
    body.resize(std::min(body.find('\0'), body.size()));
    return body;
  };
  switch (header[156]) {
    case 'x':
    case 'X':
      TRY(parse_pax(TRY(read_extension(header)), extensions.pax));
      break;
    case 'g':
      TRY(parse_pax(TRY(read_extension(header)), global_pax_));
      return true;  // of no one entry
    case 'L':
      extensions.long_name = text(TRY(read_extension(header)));
      break;
    case 'K':
      extensions.long_link = text(TRY(read_extension(header)));
      break;
    case 'A':  // Solaris ACL
    case 'V':  // a volume's name
      TRY(read_extension(header));
      return true;
    case 'M':
      return bad("it continues on another volume; join the volumes first");
    default:
      return false;
  }
  extensions.any = true;
  return true;
}

Result<bool> TarReader::next(TarEntry& entry) {
  while (!TRY(body()).empty()) TRY(literal_(piece_));
  TRY(skip(padding_, nullptr));
  padding_ = 0;
  Extensions extensions;
  for (;;) {
    std::string_view block = TRY(peek_block());
    if (block.empty()) {
      if (extensions.any) return bad("the archive is cut short after an extension header");
      if (!any_header_) return bad("it is empty");
      return false;
    }
    TarHeader view(block);
    if (view.all_zero()) {
      if (extensions.any) return bad("the archive ends after an extension header");
      end_marker_seen_ = true;
      return false;
    }
    if (!view.checksum_ok()) {
      if (!any_header_) {
        current_.clear();
        return bad("not a tar archive, nor one compressed with gzip, zstd, xz, bzip2 or lz4");
      }
      std::string after = current_.empty() ? "" : " after '" + current_ + "'";
      current_.clear();
      return bad("a damaged header at byte " + std::to_string(input_.position()) + after);
    }
    any_header_ = true;
    std::string header(block);
    TRY(skip(kTarBlockBytes, nullptr));
    if (TRY(read_extension_header(header, extensions))) continue;
    TRY(decode_header(header, extensions, entry));
    return true;
  }
}

// The size field of links, directories and devices is mostly noise. A body follows only if what
// comes next cannot be a header.
Status TarReader::drop_phantom_body(TarEntry& entry) {
  std::string_view block = TRY(input_.peek());
  block = block.substr(0, kTarBlockBytes);
  TarHeader next(block);
  if (block.size() < kTarBlockBytes || next.all_zero() || next.checksum_ok()) entry.body_bytes = 0;
  return {};
}

Status TarReader::finish() {
  for (;;) {
    std::string_view bytes = TRY(input_.peek());
    if (bytes.empty()) return {};
    TRY(literal_(bytes));
    input_.consume(bytes.size());
  }
}

}  // namespace layerfs
