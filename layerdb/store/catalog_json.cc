// SPDX-License-Identifier: Apache-2.0
#include "layerdb/store/catalog_json.h"

#include <nlohmann/json.hpp>

#include "layerdb/base/json.h"

namespace layerfs {
namespace {

using Json = nlohmann::json;

// Reads fields of one object and remembers the first that is not as it must be.
class Fields {
 public:
  Fields(std::string_view what, std::string_view text) : what_(what), json_(parse_json(text)) {
    if (!json_.is_object()) fail("it is no JSON object");
  }

  uint64_t number(const char* name) {
    const Json* field = find(name);
    if (field == nullptr) return 0;
    if (!field->is_number_unsigned()) return fail(name), 0;
    return field->get<uint64_t>();
  }
  int64_t seconds(const char* name) {
    const Json* field = find(name);
    if (field == nullptr) return 0;
    if (!field->is_number_integer()) return fail(name), 0;
    return field->get<int64_t>();
  }
  bool flag(const char* name) {  // absent: false
    if (!json_.is_object() || !json_.contains(name)) return false;
    const Json* field = find(name);
    if (field == nullptr) return false;
    if (!field->is_boolean()) return fail(name), false;
    return field->get<bool>();
  }
  ObjectId object(const char* name) { return ObjectId{number(name)}; }
  Digest digest(const char* name) {
    const Json* field = find(name);
    return field == nullptr ? Digest{} : digest_of(*field, name);
  }
  std::optional<Digest> optional_digest(const char* name) {
    if (!json_.is_object() || !json_.contains(name)) return std::nullopt;
    return digest(name);
  }
  std::vector<Digest> digests(const char* name) {
    std::vector<Digest> out;
    const Json* field = find(name);
    if (field == nullptr) return out;
    if (!field->is_array()) return fail(name), out;
    for (const Json& item : *field) out.push_back(digest_of(item, name));
    return out;
  }
  Content content(const char* name) {
    Content out;
    const Json* field = find(name);
    if (field == nullptr) return out;
    if (field->is_number_unsigned()) {
      out.map = ObjectId{field->get<uint64_t>()};
    } else if (field->is_array()) {
      for (const Json& item : *field) out.extents.push_back(extent_of(item, name));
    } else {
      fail(name);
    }
    return out;
  }

  template <typename Record>
  Result<Record> result(Record record) const {
    if (!problem_.empty())
      return Error{EUCLEAN, "the catalog's record of " + what_ + " is damaged: " + problem_};
    return record;
  }

 private:
  const Json* find(const char* name) {
    if (!problem_.empty()) return nullptr;
    auto it = json_.find(name);
    if (it != json_.end()) return &*it;
    fail(name);
    return nullptr;
  }
  Digest digest_of(const Json& item, const char* name) {
    Result<Digest> digest =
        item.is_string() ? Digest::parse(item.get_ref<const std::string&>()) : Error{EINVAL, ""};
    if (!digest.ok()) fail(name);
    return std::move(digest).value_or({});
  }
  Extent extent_of(const Json& item, const char* name) {
    bool good = item.is_array() && item.size() == 4;
    for (size_t i = 0; good && i < 4; ++i) good = item[i].is_number_unsigned();
    if (!good) return fail(name), Extent{};
    return {item[0].get<uint64_t>(), item[1].get<uint64_t>(), item[2].get<uint32_t>(),
            item[3].get<uint32_t>()};
  }
  void fail(const char* field) {
    if (problem_.empty()) problem_ = field;
  }

  std::string what_;
  Json json_;
  std::string problem_;
};

Json content_json(const Content& content) {
  if (content.map != ObjectId::none) return raw(content.map);
  Json out = Json::array();
  for (const Extent& e : content.extents)
    out.push_back({e.file_offset, e.group, e.group_offset, e.length});
  return out;
}

}  // namespace

std::string encode_layer(const LayerRecord& layer) {
  Json out{{"root", raw(layer.root)},
           {"links", raw(layer.links)},
           {"tar", content_json(layer.tar)},
           {"tar_bytes", layer.tar_bytes},
           {"entry_count", layer.entry_count},
           {"content_bytes", layer.content_bytes}};
  if (layer.links_below) out["links_below"] = true;
  if (layer.provisional) out["provisional"] = true;
  return json_text(out);
}

Result<LayerRecord> decode_layer(const Digest& id, std::string_view json) {
  Fields fields("layer " + id.to_string(), json);
  return fields.result(LayerRecord{.diff_id = id,
                                   .root = fields.object("root"),
                                   .links = fields.object("links"),
                                   .tar = fields.content("tar"),
                                   .tar_bytes = fields.number("tar_bytes"),
                                   .entry_count = fields.number("entry_count"),
                                   .content_bytes = fields.number("content_bytes"),
                                   .links_below = fields.flag("links_below"),
                                   .provisional = fields.flag("provisional")});
}

std::string encode_chain(const ChainRecord& chain) {
  Json out{{"diff_id", chain.diff_id.to_string()},
           {"root", raw(chain.root)},
           {"links", raw(chain.links)},
           {"content_bytes", chain.content_bytes}};
  if (chain.parent) out["parent"] = chain.parent->to_string();
  return json_text(out);
}

Result<ChainRecord> decode_chain(const Digest& id, std::string_view json) {
  Fields fields("chain " + id.to_string(), json);
  return fields.result(ChainRecord{.chain_id = id,
                                   .diff_id = fields.digest("diff_id"),
                                   .parent = fields.optional_digest("parent"),
                                   .root = fields.object("root"),
                                   .links = fields.object("links"),
                                   .content_bytes = fields.number("content_bytes")});
}

std::string encode_image(const ImageRecord& image) {
  Json diff_ids = Json::array();
  for (const Digest& diff_id : image.diff_ids) diff_ids.push_back(diff_id.to_string());
  return json_text(Json{{"diff_ids", diff_ids},
                        {"chain_id", image.chain_id.to_string()},
                        {"imported_at", image.imported_at}});
}

Result<ImageRecord> decode_image(const Digest& id, std::string_view json) {
  Fields fields("image " + id.to_string(), json);
  return fields.result(ImageRecord{.id = id,
                                   .diff_ids = fields.digests("diff_ids"),
                                   .chain_id = fields.digest("chain_id"),
                                   .imported_at = fields.seconds("imported_at")});
}

}  // namespace layerfs
