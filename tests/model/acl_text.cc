// SPDX-License-Identifier: Apache-2.0
#include "tests/model/acl_text.h"

#include <fmt/format.h>

#include <cstdlib>
#include <sstream>

#include "layerdb/base/coding.h"

namespace layerfs {
namespace {

constexpr uint32_t kAclVersion = 2;
constexpr uint32_t kUndefinedId = ~0u;

bool has_id(uint16_t tag) { return tag == ModelAcl::user || tag == ModelAcl::named_group; }

void put_acl_entry(std::string& out, uint16_t tag, uint16_t perm, uint32_t id) {
  put_u16(out, tag);
  put_u16(out, perm);
  put_u32(out, has_id(tag) ? id : kUndefinedId);
}

}  // namespace

uint32_t ModelAcl::mode() const {
  Tag group_class = has(mask) ? mask : group;
  return entries.at({owner, 0}) << 6 | entries.at({group_class, 0}) << 3 | entries.at({other, 0});
}

void ModelAcl::set_mode(uint32_t mode) {
  Tag group_class = has(mask) ? mask : group;
  entries[{owner, 0}] = mode >> 6 & 7;
  entries[{group_class, 0}] = mode >> 3 & 7;
  entries[{other, 0}] = mode & 7;
}

std::string acl_bytes(const ModelAcl& acl) {
  std::string out;
  put_u32(out, kAclVersion);
  for (const auto& [key, perm] : acl.entries) put_acl_entry(out, key.first, perm, key.second);
  return out;
}

std::optional<ModelAcl> acl_from_bytes(const std::string& bytes) {
  Reader in(bytes);
  if (in.u32() != kAclVersion) return std::nullopt;
  ModelAcl acl;
  std::pair<uint16_t, uint32_t> last;
  while (!in.failed() && in.remaining() != 0) {
    uint16_t tag = in.u16();
    uint16_t perm = in.u16();
    uint32_t id = in.u32();
    std::pair<uint16_t, uint32_t> key{tag, has_id(tag) ? id : 0};
    bool ordered = key.first > last.first || (key.first == last.first && has_id(tag));
    if (!ordered || perm > 7) return std::nullopt;
    acl.entries[key] = perm;
    last = key;
  }
  bool named = false;
  for (const auto& [key, perm] : acl.entries) {
    named |= has_id(key.first);
    if ((key.first & (key.first - 1)) != 0 || key.first > ModelAcl::other) return std::nullopt;
  }
  bool complete = acl.has(ModelAcl::owner) && acl.has(ModelAcl::group) && acl.has(ModelAcl::other);
  if (in.failed() || !complete || (named && !acl.has(ModelAcl::mask))) return std::nullopt;
  return acl;
}

// An entry is TAG:[ID]:DIGIT.
std::string acl_bytes_of_text(const std::string& text) {
  std::string out;
  put_u32(out, kAclVersion);
  std::istringstream parts(text);
  for (std::string part; std::getline(parts, part, ',');) {
    size_t second = part.find(':', 2);
    std::string id = second > 2 ? part.substr(2, second - 2) : "";
    uint16_t tag = 0;
    switch (part[0]) {
      case 'u':
        tag = id.empty() ? ModelAcl::owner : ModelAcl::user;
        break;
      case 'g':
        tag = id.empty() ? ModelAcl::group : ModelAcl::named_group;
        break;
      case 'm':
        tag = ModelAcl::mask;
        break;
      case 'o':
        tag = ModelAcl::other;
        break;
    }
    put_acl_entry(out, tag, static_cast<uint16_t>(std::atoi(part.c_str() + second + 1)),
                  static_cast<uint32_t>(std::strtoul(id.c_str(), nullptr, 10)));
  }
  return out;
}

std::string acl_text(const std::string& bytes) {
  auto acl = acl_from_bytes(bytes);
  if (!acl) return "invalid";
  std::string out;
  for (const auto& [key, perm] : acl->entries) {
    char tag = key.first == ModelAcl::mask    ? 'm'
               : key.first == ModelAcl::other ? 'o'
               : key.first <= ModelAcl::user  ? 'u'
                                              : 'g';
    std::string id = has_id(key.first) ? std::to_string(key.second) : "";
    out += fmt::format("{}{}:{}:{}", out.empty() ? "" : ",", tag, id, perm);
  }
  return out;
}

}  // namespace layerfs
