// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <bit>
#include <ctime>

#include "fuse/overlay_impl.h"
#include "fuse/overlay_runs.h"
#include "layerdb/base/log.h"
#include "layerdb/base/sys.h"

namespace layerfs {
namespace {

constexpr size_t kReapBatch = 32;
// Holes of smaller lower files are not looked for: that opens the file.
constexpr uint64_t kSparseBytes = 128 * 1024;

// Coarse, as the kernel's own file times are: with its write-back cache it sends them to us, and
// ours must not run ahead of them.
Timestamp real_time() {
  struct timespec time {};
  clock_gettime(CLOCK_REALTIME_COARSE, &time);
  return {time.tv_sec, static_cast<uint32_t>(time.tv_nsec)};
}

uint64_t blocks_of(uint64_t bytes) { return (bytes + kBlockBytes - 1) / kBlockBytes * 8; }

// A lower inode as it is before anything changed: the lower has one time only.
Stat stat_of(Ino ino, const Attributes& attributes) {
  Stat out{ino, attributes, attributes.mtime, attributes.mtime, attributes.mtime, 0};
  bool has_blocks = attributes.type == FileType::regular || attributes.type == FileType::directory;
  if (has_blocks) out.blocks = blocks_of(attributes.size_bytes);
  return out;
}

}  // namespace

Result<std::unique_ptr<Overlay>> Overlay::create(Lower& lower, Upper* upper, Options options) {
  if (upper == nullptr && !options.read_only) {
    return Error{EINVAL, "a writable overlay needs an upper"};
  }
  if (!options.clock) options.clock = real_time;
  return std::unique_ptr<Overlay>(std::make_unique<OverlayImpl>(lower, upper, std::move(options)));
}

OverlayImpl::OverlayImpl(Lower& lower, Upper* upper, Options options)
    : lower_(lower),
      upper_(upper),
      options_(std::move(options)),
      lower_limit_(lower.inode_limit()) {}

// What the kernel still referenced is referenced no more.
OverlayImpl::~OverlayImpl() {
  if (options_.read_only) return;
  for (Ino ino : nodes_.orphans()) queue_reap(ino);
  reap_queued();
  write_access_times(access_times_.all());
}

Result<OverlayImpl::Mutation> OverlayImpl::begin_mutation() {
  if (options_.read_only) return Error{EROFS, "mounted read-only"};
  gate_.enter();
  return Mutation(&gate_);
}

void OverlayImpl::freeze() { gate_.freeze(); }

void OverlayImpl::thaw() {
  gate_.thaw();
  reap_queued();
}

Result<std::optional<InodeRecord>> OverlayImpl::find_record(Ino ino) {
  if (upper_ == nullptr) return std::optional<InodeRecord>{};
  return upper_->inode(ino);
}

Result<InodeRecord> OverlayImpl::load(Ino ino) {
  std::optional<Timestamp> accessed = access_times_.find(ino);
  auto found = TRY(find_record(ino));
  if (found && accessed) found->atime = *accessed;
  if (found) return std::move(*found);
  if (!in_lower(ino)) return Error{ENOENT, "no such inode"};
  LowerNode node = TRY(lower_.get(ino));
  InodeRecord record;
  record.attributes = node.attributes;
  record.ctime = record.btime = node.attributes.mtime;
  record.atime = accessed.value_or(record.ctime);
  switch (node.attributes.type) {
    case FileType::directory:
      record.parent = ino == kRootIno ? kRootIno : TRY(lower_.locate(ino)).parent;
      break;
    case FileType::symlink:
      record.symlink_target = TRY(lower_.readlink(ino));
      break;
    case FileType::regular:
      record.body = Body::lower;
      record.lower_size_bytes = node.attributes.size_bytes;
      break;
    default:
      break;
  }
  return record;
}

Result<InodeRecord> OverlayImpl::load_directory(Ino ino, Timestamp when) {
  if (nodes_.orphan(ino)) return Error{ENOENT, "removed directory"};
  InodeRecord record = TRY(load(ino));
  if (record.attributes.type != FileType::directory) return Error{ENOTDIR, "not a directory"};
  record.attributes.mtime = record.ctime = when;
  return record;
}

Result<uint64_t> OverlayImpl::blocks(Ino ino, const InodeRecord& record) {
  const Attributes& attributes = record.attributes;
  if (attributes.type == FileType::directory) return blocks_of(attributes.size_bytes);
  if (attributes.type != FileType::regular) return uint64_t{0};
  if (record.body == Body::none) return blocks_of(attributes.size_bytes);
  if (record.body == Body::small) {
    int holes = std::popcount(record.small_holes);
    return blocks_of(attributes.size_bytes) - blocks_of(holes * kBlockBytes);
  }
  uint64_t lower_bytes = TRY(lower_data_bytes(ino, record));
  if (record.body == Body::lower) return blocks_of(lower_bytes);
  // Nothing fails for the sake of this number (a host out of descriptors).
  Result<uint64_t> body = upper_->body_blocks(ino);
  return blocks_of(lower_bytes) + (body.ok() ? *body : blocks_of(attributes.size_bytes));
}

// How much of what is still the lower's is not holes. Damage is for read to report: then all of it.
Result<uint64_t> OverlayImpl::lower_data_bytes(Ino ino, const InodeRecord& record) {
  uint64_t size = record.lower_size_bytes;
  if (size == 0) return uint64_t{0};  // nor has it ranges, which are not asked for in vain
  uint64_t own = record.body == Body::lower ? 0 : TRY(upper_->range_bytes(ino));
  uint64_t all = size - std::min(own, size);
  if (!has_holes(ino, size)) return all;
  auto parts = TRY(segments(ino, record, 0, size));
  auto file = lower_files_.open(lower_, ino);
  if (!file.ok()) return all;
  LowerRuns runs(**file);
  uint64_t sum = 0;
  for (const Segment& part : parts) {
    if (part.body) continue;
    uint64_t end = part.offset + part.length;
    for (uint64_t at = part.offset; at < end;) {
      auto run = runs.find(at);
      if (!run.ok()) return all;
      uint64_t begin = std::max(at, run->begin);
      at = std::min(run->end, end);
      if (begin < at) sum += at - begin;
    }
  }
  return sum;
}

bool OverlayImpl::has_holes(Ino ino, uint64_t size_bytes) {
  if (size_bytes < kSparseBytes) return false;
  auto hole = lower_files_.first_hole(lower_, ino);
  return hole.ok() && *hole < size_bytes;
}

Result<Stat> OverlayImpl::stat_record(Ino ino, const InodeRecord& record) {
  Timestamp atime = access_times_.find(ino).value_or(record.atime);
  return Stat{ino, record.attributes, atime, record.ctime, record.btime, TRY(blocks(ino, record))};
}

Result<Stat> OverlayImpl::stat_found(Ino ino, const LowerNode* lower_node) {
  auto record = TRY(find_record(ino));
  if (record) return stat_record(ino, *record);
  if (lower_node == nullptr && !in_lower(ino)) return Error{ENOENT, "no such inode"};
  Stat out = stat_of(ino, lower_node ? lower_node->attributes : TRY(lower_.get(ino)).attributes);
  if (auto accessed = access_times_.find(ino)) out.atime = *accessed;
  if (out.attributes.type == FileType::regular && out.attributes.size_bytes >= kSparseBytes) {
    InodeRecord all_lower;
    all_lower.body = Body::lower;
    all_lower.lower_size_bytes = out.attributes.size_bytes;
    out.blocks = blocks_of(TRY(lower_data_bytes(ino, all_lower)));
  }
  return out;
}

Status OverlayImpl::apply(std::unique_ptr<Transaction> transaction) {
  return upper_->apply(std::move(transaction));
}

void OverlayImpl::queue_reap(Ino ino) {
  std::lock_guard lock(reap_mutex_);
  reap_queue_.push_back(ino);
}

// A failure only leaves the orphan for the next open of the upper.
void OverlayImpl::reap_queued() {
  std::vector<Ino> inos;
  if (!gate_.try_enter()) return;  // thaw() comes back to it
  Mutation mutation(&gate_);
  {
    std::lock_guard lock(reap_mutex_);
    inos.swap(reap_queue_);
  }
  if (inos.empty()) return;
  auto tx = upper_->begin();
  std::vector<Ino> bodies;
  for (Ino ino : inos) {
    auto record = find_record(ino);
    bool has_body = record.ok() && record->has_value() && (*record)->body == Body::file;
    if (has_body) bodies.push_back(ino);
    tx->delete_inode(ino);
    tx->delete_orphan(ino);
  }
  Status status = apply(std::move(tx));
  if (!status.ok()) {
    log_warning("{} deleted files keep their space until the next mount: {}", inos.size(),
                status.error().message);
    return;
  }
  for (Ino ino : bodies) {
    if (Status removed = upper_->remove_body(ino); !removed.ok()) {
      log_warning("{}", removed.error().message);
    }
  }
}

void OverlayImpl::forget(Ino ino, uint64_t count) {
  switch (nodes_.forget(ino, count)) {
    case NodeTable::Forgotten::no:
      return;
    case NodeTable::Forgotten::yes:
      if (access_times_.find(ino)) write_access_times({ino});
      return;
    case NodeTable::Forgotten::orphan:
      break;
  }
  access_times_.erase(ino);
  if (options_.read_only) return;
  auto record = find_record(ino);
  queue_reap(ino);
  bool large = record.ok() && record->has_value() && (*record)->body == Body::file;
  bool many;
  {
    std::lock_guard lock(reap_mutex_);
    many = reap_queue_.size() >= kReapBatch;
  }
  if (large || many) reap_queued();
}

void OverlayImpl::free_removed() {
  if (options_.read_only || !gate_.try_enter()) return;
  Mutation mutation(&gate_);
  reap_queued();
  if (Status freed = upper_->free_removed(); !freed.ok())
    log_warning("deleted files keep their space: {}", freed.error().message);
}

Status OverlayImpl::sync(Ino ino, Sync what) {
  if (options_.read_only) return {};
  if (ino == 0) {
    reap_queued();
    write_access_times(access_times_.all());
  }
  return upper_->sync(ino, what);
}

Result<struct statvfs> OverlayImpl::statfs() {
  struct statvfs out {};
  free_removed();
  uint64_t limit = upper_ == nullptr ? 0 : upper_->size_limit_bytes();
  if (!options_.host_directory.empty()) {
    if (::statvfs(options_.host_directory.c_str(), &out) != 0) {
      return errno_error(options_.host_directory);
    }
  }
  if (limit != 0) {
    uint64_t used = TRY(upper_->stored_bytes());
    uint64_t host_free = options_.host_directory.empty() ? limit : out.f_bavail * out.f_frsize;
    out.f_blocks = limit / kBlockBytes;
    out.f_bfree = std::min(limit - std::min(limit, used), host_free) / kBlockBytes;
    out.f_bavail = out.f_bfree;
    out.f_bsize = out.f_frsize = kBlockBytes;
  } else if (options_.host_directory.empty()) {
    out.f_blocks = blocks_of(lower_.content_bytes()) / 8;
    out.f_bsize = out.f_frsize = kBlockBytes;
    out.f_files = lower_limit_ - 1;
  }
  out.f_namemax = 255;
  return out;
}

Result<std::shared_ptr<const LowerFile>> LowerFileCache::open(Lower& lower, Ino ino) {
  Slot& slot = slots_[ino % slots_.size()];
  {
    std::lock_guard lock(slot.mutex);
    if (slot.ino == ino) return slot.file;
  }
  auto file = TRY(lower.open(ino));
  std::lock_guard lock(slot.mutex);
  slot.ino = ino;
  slot.file = file;
  slot.first_hole.reset();
  return file;
}

Result<uint64_t> LowerFileCache::first_hole(Lower& lower, Ino ino) {
  auto file = TRY(open(lower, ino));
  Slot& slot = slots_[ino % slots_.size()];
  {
    std::lock_guard lock(slot.mutex);
    if (slot.ino == ino && slot.first_hole) return *slot.first_hole;
  }
  uint64_t found = TRY(file->seek_hole(0));
  std::lock_guard lock(slot.mutex);
  if (slot.ino == ino) slot.first_hole = found;
  return found;
}

}  // namespace layerfs
