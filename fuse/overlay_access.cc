// SPDX-License-Identifier: Apache-2.0
#include "fuse/overlay_access.h"

#include "fuse/overlay_impl.h"
#include "layerdb/base/log.h"

namespace layerfs {
namespace {

constexpr int64_t kDaySeconds = 24 * 60 * 60;

}  // namespace

std::optional<Timestamp> AccessTimes::find(Ino ino) const {
  const Shard& s = shard(ino);
  std::lock_guard lock(s.mutex);
  auto it = s.times.find(ino);
  return it == s.times.end() ? std::nullopt : std::optional(it->second);
}

void AccessTimes::set(Ino ino, Timestamp when) {
  Shard& s = shard(ino);
  std::lock_guard lock(s.mutex);
  s.times[ino] = when;
}

void AccessTimes::erase(Ino ino) {
  Shard& s = shard(ino);
  std::lock_guard lock(s.mutex);
  s.times.erase(ino);
}

std::vector<Ino> AccessTimes::all() const {
  std::vector<Ino> out;
  for (const Shard& s : shards_) {
    std::lock_guard lock(s.mutex);
    for (const auto& [ino, when] : s.times) out.push_back(ino);
  }
  return out;
}

// relatime's rule (Linux, relatime_need_update): only when the inode changed since the last access,
// or a day has passed. What has no record never changed, and was never read but for what is noted.
void OverlayImpl::note_access(Ino ino) {
  if (options_.read_only) return;
  auto found = find_record(ino);
  if (!found.ok()) return;  // reading will say it
  const std::optional<InodeRecord>& record = *found;
  std::optional<Timestamp> noted = access_times_.find(ino);
  if (!noted && record) noted = record->atime;
  Timestamp when = now();
  if (noted && when.seconds - noted->seconds < kDaySeconds) {
    bool changed = record && (*noted <= record->attributes.mtime || *noted <= record->ctime);
    if (!changed) return;
  }
  access_times_.set(ino, when);
}

void OverlayImpl::write_access_times(const std::vector<Ino>& inos) {
  if (inos.empty() || !gate_.try_enter()) return;  // frozen: the next time
  Mutation mutation(&gate_);
  for (Ino ino : inos) {
    auto lock = locks_.exclusive({ino});
    std::optional<Timestamp> when = access_times_.find(ino);
    auto record = find_record(ino);
    bool write = when && record.ok() && *record && (*record)->atime != *when;
    access_times_.erase(ino);
    if (!write) continue;
    (*record)->atime = *when;
    auto tx = upper_->begin();
    tx->put_inode(ino, **record);
    if (Status status = apply(std::move(tx)); !status.ok()) {
      log_warning("access times are lost: {}", status.error().message);
      return;
    }
  }
}

}  // namespace layerfs
