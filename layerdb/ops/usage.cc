// SPDX-License-Identifier: Apache-2.0
#include "layerdb/ops/usage.h"

#include <sys/stat.h>

#include <algorithm>
#include <cmath>
#include <unordered_map>

#include "layerdb/ops/reach.h"
#include "layerdb/store/group_copies.h"
#include "layerdb/store/maintenance.h"
#include "layerdb/store/read_history.h"

namespace layerfs {
namespace {

// A run of one group's decoded bytes that an image names.
struct Span {
  GroupId group;
  uint32_t begin;
  uint32_t end;
  uint32_t image;
};

bool by_position(const Span& a, const Span& b) {
  return a.group != b.group ? a.group < b.group : a.begin < b.begin;
}

// Sorts, and joins what overlaps or touches. All spans are of one image.
void normalise(std::vector<Span>& spans) {
  std::sort(spans.begin(), spans.end(), by_position);
  size_t kept = 0;
  for (const Span& span : spans) {
    if (kept > 0 && spans[kept - 1].group == span.group && spans[kept - 1].end >= span.begin) {
      spans[kept - 1].end = std::max(spans[kept - 1].end, span.end);
    } else {
      spans[kept++] = span;
    }
  }
  spans.resize(kept);
}

Result<std::vector<Span>> spans_of(Store& store, const ImageRecord& image, uint32_t index) {
  std::vector<Span> spans;
  Reach reach(store.objects(), [&](const Extent& e) {
    spans.push_back({e.group, e.group_offset, e.group_offset + e.length, index});
  });
  std::optional<Digest> chain;
  for (const Digest& diff_id : image.diff_ids) {
    TRY(reach.add_layer(TRY(store.catalog().layer(diff_id))));
    chain = chain_id_of(chain, diff_id);
    auto record = store.catalog().chain(*chain);
    if (!record.ok() && record.error().code == ENOENT) continue;  // only the top one must exist
    if (!record.ok()) return record.error();
    TRY(reach.add_chain(*record));
  }
  normalise(spans);
  return spans;
}

uint64_t bytes_on_disk(const std::string& path) {
  struct stat status = {};
  return ::lstat(path.c_str(), &status) == 0 ? static_cast<uint64_t>(status.st_blocks) * 512 : 0;
}

// Compressed bytes per decoded byte of each group.
using Densities = std::unordered_map<GroupId, double>;

// Sweeps over the spans of one group, sorted by begin, and credits every run of bytes to the images
// that name it.
class GroupSweep {
 public:
  explicit GroupSweep(Usage& usage) : usage_(usage), stored_(usage.images.size()) {}

  void add(const Span* first, const Span* last, double density) {
    std::vector<uint32_t> edges;
    for (const Span* span = first; span != last; ++span) {
      edges.push_back(span->begin);
      edges.push_back(span->end);
    }
    std::sort(edges.begin(), edges.end());
    edges.erase(std::unique(edges.begin(), edges.end()), edges.end());
    std::vector<const Span*> open;
    const Span* next = first;
    for (size_t i = 0; i + 1 < edges.size(); ++i) {
      for (; next != last && next->begin <= edges[i]; ++next) open.push_back(next);
      std::erase_if(open, [&](const Span* span) { return span->end <= edges[i]; });
      credit(open, edges[i + 1] - edges[i], density);
    }
  }

  void finish() {
    for (size_t i = 0; i < stored_.size(); ++i) {
      usage_.images[i].stored_bytes = std::llround(stored_[i].all);
      usage_.images[i].unique_stored_bytes = std::llround(stored_[i].unique);
    }
    usage_.stored_bytes = std::llround(total_stored_);
  }

 private:
  void credit(const std::vector<const Span*>& images, uint64_t bytes, double density) {
    if (images.empty()) return;
    double stored = static_cast<double>(bytes) * density;
    usage_.data_bytes += bytes;
    total_stored_ += stored;
    bool shared = images.size() > 1;
    if (shared) usage_.shared_bytes += bytes;
    for (const Span* span : images) {
      ImageUsage& image = usage_.images[span->image];
      (shared ? image.shared_bytes : image.unique_bytes) += bytes;
      stored_[span->image].all += stored;
      if (!shared) stored_[span->image].unique += stored;
    }
  }

  struct Stored {
    double all = 0;
    double unique = 0;
  };
  Usage& usage_;
  std::vector<Stored> stored_;
  double total_stored_ = 0;
};

}  // namespace

Result<Usage> measure_usage(Store& store) {
  Usage usage;
  auto images = TRY(store.catalog().images());
  std::sort(images.begin(), images.end(), [](const ImageRecord& a, const ImageRecord& b) {
    return a.imported_at != b.imported_at ? a.imported_at > b.imported_at : a.id < b.id;
  });
  auto references = TRY(store.catalog().refs());
  std::vector<Span> spans;
  for (const ImageRecord& image : images) {
    ImageUsage entry{.id = image.id};
    for (const auto& [reference, id] : references) {
      if (id == image.id) entry.references.push_back(reference);
    }
    for (const Digest& diff_id : image.diff_ids) {
      entry.logical_bytes += TRY(store.catalog().layer(diff_id)).content_bytes;
    }
    usage.logical_bytes += entry.logical_bytes;
    auto own = TRY(spans_of(store, image, static_cast<uint32_t>(usage.images.size())));
    spans.insert(spans.end(), own.begin(), own.end());
    usage.images.push_back(std::move(entry));
  }
  std::sort(spans.begin(), spans.end(), by_position);

  Densities densities;
  uint64_t group_bytes = 0;
  TRY(for_each_group(store.database(), [&](const GroupInfo& group) {
    group_bytes += group.stored_bytes;
    if (group.raw_bytes > 0) {
      densities[group.number] = static_cast<double>(group.stored_bytes) / group.raw_bytes;
    }
    return true;
  }));
  GroupSweep sweep(usage);
  for (size_t first = 0; first < spans.size();) {
    size_t last = first;
    while (last < spans.size() && spans[last].group == spans[first].group) ++last;
    sweep.add(&spans[first], spans.data() + last, densities[spans[first].group]);
    first = last;
  }
  sweep.finish();

  usage.unreferenced_bytes =
      group_bytes > usage.stored_bytes ? group_bytes - usage.stored_bytes : 0;
  for (const FamilySize& family : family_sizes(store.database())) {
    usage.disk_bytes += family.file_bytes;
    if (family.family != Family::groups) usage.metadata_bytes += family.file_bytes;
  }
  for (const std::string& path :
       {ReadHistory::path_in(store.root()), GroupCopies::path_in(store.root())})
    usage.hint_bytes += bytes_on_disk(path);
  usage.disk_bytes += usage.hint_bytes;
  return usage;
}

}  // namespace layerfs
