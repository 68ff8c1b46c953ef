// SPDX-License-Identifier: Apache-2.0
#include "layerdb/store/reference.h"

#include <algorithm>

#include "layerdb/store/catalog.h"

namespace layerfs {
namespace {

constexpr size_t kMaxRepositoryBytes = 255;
constexpr size_t kMaxTagBytes = 128;

bool is_lower(char c) { return c >= 'a' && c <= 'z'; }
bool is_digit(char c) { return c >= '0' && c <= '9'; }
bool is_alphanumeric(char c) { return is_lower(c) || is_digit(c) || (c >= 'A' && c <= 'Z'); }
bool is_hex(char c) { return is_digit(c) || (c >= 'a' && c <= 'f'); }

// [a-z0-9]+ joined by ".", "_", "__" or any number of "-".
bool valid_component(std::string_view part) {
  size_t i = 0;
  while (true) {
    size_t start = i;
    while (i < part.size() && (is_lower(part[i]) || is_digit(part[i]))) ++i;
    if (i == start) return false;
    if (i == part.size()) return true;
    if (part[i] == '-') {
      while (i < part.size() && part[i] == '-') ++i;
    } else if (part.substr(i, 2) == "__") {
      i += 2;
    } else if (part[i] == '.' || part[i] == '_') {
      ++i;
    } else {
      return false;
    }
  }
}

bool valid_port(std::string_view port) {
  return !port.empty() && std::all_of(port.begin(), port.end(), is_digit);
}

// Labels of letters, digits and inner '-' joined by '.', or [IPv6]; then an optional port.
bool valid_host(std::string_view host) {
  if (host.starts_with('[')) {
    size_t end = host.find(']');
    if (end == std::string_view::npos || end == 1) return false;
    for (char c : host.substr(1, end - 1))
      if (!is_hex(c) && c != ':' && !(c >= 'A' && c <= 'F')) return false;
    std::string_view rest = host.substr(end + 1);
    return rest.empty() || (rest[0] == ':' && valid_port(rest.substr(1)));
  }
  if (size_t colon = host.find(':'); colon != std::string_view::npos) {
    if (!valid_port(host.substr(colon + 1))) return false;
    host = host.substr(0, colon);
  }
  char previous = '.';
  for (char c : host) {
    bool at_start = previous == '.';
    if (c == '.' ? at_start || previous == '-' : c == '-' ? at_start : !is_alphanumeric(c))
      return false;
    previous = c;
  }
  return previous != '.' && previous != '-';
}

// A first component is a host when it could not be a path, as docker decides it.
bool looks_like_host(std::string_view first) {
  return first == "localhost" || first.find_first_of(".:[") != std::string_view::npos ||
         std::any_of(first.begin(), first.end(), [](char c) { return c >= 'A' && c <= 'Z'; });
}

bool valid_repository(std::string_view repository) {
  size_t slash = repository.find('/');
  if (slash != std::string_view::npos && looks_like_host(repository.substr(0, slash))) {
    if (!valid_host(repository.substr(0, slash))) return false;
    repository.remove_prefix(slash + 1);
  }
  while (true) {
    slash = repository.find('/');
    if (!valid_component(repository.substr(0, slash))) return false;
    if (slash == std::string_view::npos) return true;
    repository.remove_prefix(slash + 1);
  }
}

bool valid_tag(std::string_view tag) {
  if (tag.empty() || tag.size() > kMaxTagBytes || tag[0] == '.' || tag[0] == '-') return false;
  return std::all_of(tag.begin(), tag.end(),
                     [](char c) { return is_alphanumeric(c) || c == '_' || c == '.' || c == '-'; });
}

Error bad(std::string_view text, const std::string& why) {
  return {EINVAL, "'" + std::string(text) + "' is not an image reference: " + why};
}

// The image whose id starts with `prefix`.
Result<std::optional<Digest>> find_by_prefix(Catalog& catalog, std::string_view text,
                                             std::string_view prefix) {
  std::optional<Digest> found;
  for (const ImageRecord& image : TRY(catalog.images())) {
    if (!image.id.hex().starts_with(prefix)) continue;
    if (found)
      return Error{EINVAL, "'" + std::string(text) +
                               "' is ambiguous: several image ids begin with it; give more of it"};
    found = image.id;
  }
  return found;
}

// repo@sha256:…: the digest names the image by its id, or by what was recorded under this name.
Result<std::optional<Digest>> find_by_digest(Catalog& catalog, const Reference& reference) {
  Result<Digest> recorded = catalog.ref(reference.repository + "@" + reference.digest->to_string());
  if (recorded.ok()) return std::optional<Digest>(*recorded);
  if (recorded.error().code != ENOENT) return recorded.error();
  for (const auto& [name, image] : TRY(catalog.refs()))
    if (image == *reference.digest && name.starts_with(reference.repository + ":"))
      return std::optional<Digest>(image);
  return std::optional<Digest>();
}

}  // namespace

std::string Reference::to_string() const { return repository + ":" + tag; }

Result<Reference> parse_reference(std::string_view text) {
  Reference out;
  std::string_view rest = text;
  if (size_t at = rest.find('@'); at != std::string_view::npos) {
    std::string_view digest = rest.substr(at + 1);
    if (!digest.starts_with("sha256:")) return bad(text, "its digest is not sha256:<64 hex>");
    Result<Digest> parsed = Digest::parse(digest);
    if (!parsed.ok()) return bad(text, "its digest is not sha256:<64 hex>");
    out.digest = *parsed;
    rest = rest.substr(0, at);
  }
  size_t colon = rest.rfind(':');
  if (colon != std::string_view::npos && rest.find('/', colon) == std::string_view::npos) {
    out.tag = rest.substr(colon + 1);
    if (!valid_tag(out.tag))
      return bad(text,
                 "a tag is up to 128 letters, digits, '_', '.' and '-', and starts with "
                 "none of the last two");
    rest = rest.substr(0, colon);
  } else if (!out.digest) {
    out.tag = "latest";
  }
  if (rest.empty()) return bad(text, "its name is empty");
  if (rest.size() > kMaxRepositoryBytes) return bad(text, "its name is longer than 255 bytes");
  if (!valid_repository(rest))
    return bad(text,
               "a name is lower case letters and digits, with '.', '_', '-' between them and "
               "'/' between its parts, as in 'host:5000/team/app:1.0'");
  out.repository = rest;
  return out;
}

Result<Digest> resolve_image(Catalog& catalog, std::string_view text) {
  Result<Reference> reference = parse_reference(text);
  if (reference.ok() && reference->digest) {
    if (std::optional<Digest> found = TRY(find_by_digest(catalog, *reference))) return *found;
  } else if (reference.ok()) {
    Result<Digest> found = catalog.ref(reference->to_string());
    if (found.ok() || found.error().code != ENOENT) return found;
  }
  std::string_view prefix = text;
  if (prefix.starts_with("sha256:")) prefix.remove_prefix(7);
  bool is_id =
      !prefix.empty() && prefix.size() <= 64 && std::all_of(prefix.begin(), prefix.end(), is_hex);
  if (is_id)
    if (std::optional<Digest> found = TRY(find_by_prefix(catalog, text, prefix))) return *found;
  if (!reference.ok() && !is_id) return reference.error();
  return Error{ENOENT, "no image '" + std::string(text) + "'; `layerfs images` lists them"};
}

}  // namespace layerfs
