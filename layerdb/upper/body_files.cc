// SPDX-License-Identifier: Apache-2.0
#include "layerdb/upper/body_files.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <linux/fiemap.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <vector>

#include "layerdb/base/caught.h"

namespace layerfs {

namespace {
// Above this many dirty bodies one syncfs(2) is cheaper than an fdatasync(2) each.
constexpr size_t kSyncfsThreshold = 64;
}  // namespace

Result<uint64_t> allocated_bytes_below(const std::string& directory) {
  uint64_t sum = 0;
  std::error_code code;
  std::filesystem::recursive_directory_iterator it(directory, code);
  if (code == std::errc::no_such_file_or_directory) return sum;
  for (; !code && it != std::filesystem::recursive_directory_iterator(); it.increment(code)) {
    struct stat st;
    if (::lstat(it->path().c_str(), &st) == 0 && S_ISREG(st.st_mode))
      sum += static_cast<uint64_t>(st.st_blocks) * 512;
  }
  // Files come and go while we look; a directory that just went is no error either.
  if (code && code != std::errc::no_such_file_or_directory)
    return Error{code.value(), "list '" + directory + "': " + code.message()};
  return sum;
}

std::string BodyFiles::fanout(Ino ino) const {
  return fmt::format("{}/{:02x}", directory_, ino & 0xff);
}
std::string BodyFiles::path(Ino ino) const { return fmt::format("{}/{:x}", fanout(ino), ino); }

Result<UniqueFd> BodyFiles::open_evicting(const std::string& path, int flags) {
  Result<UniqueFd> fd = open_file(path, flags, 0600);
  if (!fd.ok() && (fd.error().code == EMFILE || fd.error().code == ENFILE)) {
    forget_oldest(kOpenFiles / 8);
    fd = open_file(path, flags, 0600);
  }
  return fd;
}

void BodyFiles::forget_oldest(size_t keep) {
  std::vector<File> closing;  // close(2) outside the lock
  std::lock_guard lock(mutex_);
  while (open_.size() > keep) {
    auto oldest = open_.find(ages_.back());
    closing.push_back(std::move(oldest->second.file));
    open_.erase(oldest);
    ages_.pop_back();
  }
}

// Not what may have been removed since it was opened.
void BodyFiles::remember(Ino ino, File file, std::optional<uint64_t> removals) {
  {
    std::lock_guard lock(mutex_);
    if (removals && *removals != removals_) return;
    auto [it, added] = open_.try_emplace(ino);
    if (added) {
      ages_.push_front(ino);
      it->second.age = ages_.begin();
    }
    it->second.file = std::move(file);
  }
  forget_oldest(kOpenFiles);
}

Result<BodyFiles::File> BodyFiles::open(Ino ino) {
  uint64_t removals;
  {
    std::lock_guard lock(mutex_);
    removals = removals_;
    auto it = open_.find(ino);
    if (it != open_.end()) {
      ages_.splice(ages_.begin(), ages_, it->second.age);
      return it->second.file;
    }
  }
  UniqueFd fd = TRY(open_evicting(path(ino), read_only_ ? O_RDONLY : O_RDWR));
  File file = std::make_shared<UniqueFd>(std::move(fd));
  remember(ino, file, removals);
  return file;
}

bool BodyFiles::is_open(Ino ino) {
  std::lock_guard lock(mutex_);
  return open_.contains(ino);
}

Status BodyFiles::create(Ino ino) {
  Result<File> present = open(ino);
  if (present.ok()) return {};
  if (present.error().code != ENOENT) return std::move(present).error();
  constexpr int kFlags = O_RDWR | O_CREAT | O_EXCL;
  Result<UniqueFd> fd = open_evicting(path(ino), kFlags);
  if (!fd.ok() && fd.error().code == ENOENT) {
    TRY(make_directories(fanout(ino), 0700));
    fd = open_evicting(path(ino), kFlags);
  }
  if (!fd.ok()) return std::move(fd).error();
  remember(ino, std::make_shared<UniqueFd>(std::move(*fd)));
  std::lock_guard lock(mutex_);
  dirty_[ino] = true;
  return {};
}

void BodyFiles::mark_dirty(Ino ino) {
  std::lock_guard lock(mutex_);
  dirty_.try_emplace(ino, false);
}

uint64_t BodyFiles::allocated(int fd) const {
  struct stat st;
  return counted_ && ::fstat(fd, &st) == 0 ? static_cast<uint64_t>(st.st_blocks) * 512 : 0;
}

template <typename Change>
Status BodyFiles::changing(Ino ino, Change change) {
  File file = TRY(open(ino));
  mark_dirty(ino);
  uint64_t before = allocated(file->get());
  Status status = change(file->get());
  allocated_bytes_ += static_cast<int64_t>(allocated(file->get()) - before);
  return status;
}

Result<size_t> BodyFiles::read(Ino ino, uint64_t offset, std::span<char> out) {
  File file = TRY(open(ino));
  return pread_full(file->get(), out, offset);
}

Status BodyFiles::write(Ino ino, uint64_t offset, std::string_view bytes) {
  return changing(ino, [&](int fd) { return pwrite_full(fd, bytes, offset); });
}

Status BodyFiles::truncate(Ino ino, uint64_t size_bytes) {
  return changing(ino, [&](int fd) -> Status {
    if (::ftruncate(fd, static_cast<off_t>(size_bytes)) != 0)
      return errno_error("truncate '" + path(ino) + "'");
    return {};
  });
}

Status BodyFiles::punch(Ino ino, uint64_t offset, uint64_t length) {
  return changing(ino, [&](int fd) -> Status {
    if (::fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, static_cast<off_t>(offset),
                    static_cast<off_t>(length)) == 0)
      return {};
    if (errno != EOPNOTSUPP) return errno_error("punch a hole into '" + path(ino) + "'");
    // The host's filesystem has no holes to punch: zeros read the same.
    struct stat st;
    if (::fstat(fd, &st) != 0) return errno_error("stat '" + path(ino) + "'");
    uint64_t end = std::min(offset + length, static_cast<uint64_t>(st.st_size));
    static constexpr char kZeros[64 * 1024] = {};
    while (offset < end) {
      size_t step = std::min<uint64_t>(end - offset, sizeof kZeros);
      TRY(pwrite_full(fd, {kZeros, step}, offset));
      offset += step;
    }
    return {};
  });
}

Status BodyFiles::allocate(Ino ino, uint64_t offset, uint64_t length) {
  return changing(ino, [&](int fd) -> Status {
    if (::fallocate(fd, 0, static_cast<off_t>(offset), static_cast<off_t>(length)) != 0)
      return errno_error("allocate space in '" + path(ino) + "'");
    return {};
  });
}

Result<uint64_t> BodyFiles::seek(Ino ino, uint64_t offset, int whence) {
  File file = TRY(open(ino));
  off_t found = ::lseek(file->get(), static_cast<off_t>(offset), whence);
  if (found < 0) return errno_error("seek in '" + path(ino) + "'");
  return static_cast<uint64_t>(found);
}

Result<uint64_t> BodyFiles::blocks(Ino ino) {
  File file = TRY(open(ino));
  struct stat st;
  if (::fstat(file->get(), &st) != 0) return errno_error("stat '" + path(ino) + "'");
  return static_cast<uint64_t>(st.st_blocks);
}

Result<uint64_t> BodyFiles::size_bytes(Ino ino) {
  File file = TRY(open(ino));
  struct stat st;
  if (::fstat(file->get(), &st) != 0) return errno_error("stat '" + path(ino) + "'");
  return static_cast<uint64_t>(st.st_size);
}

Result<bool> BodyFiles::is_allocated(Ino ino, uint64_t offset, uint64_t length) {
  File file = TRY(open(ino));
  constexpr size_t kExtents = 32;
  alignas(fiemap) char buffer[sizeof(fiemap) + kExtents * sizeof(fiemap_extent)];
  for (uint64_t at = offset, end = offset + length; at < end;) {
    std::memset(buffer, 0, sizeof buffer);
    auto* map = reinterpret_cast<fiemap*>(buffer);
    map->fm_start = at;
    map->fm_length = end - at;
    map->fm_extent_count = kExtents;
    if (::ioctl(file->get(), FS_IOC_FIEMAP, map) != 0) {
      off_t hole = ::lseek(file->get(), static_cast<off_t>(at), SEEK_HOLE);
      return hole >= 0 && static_cast<uint64_t>(hole) >= end;
    }
    uint64_t before = at;
    for (uint32_t i = 0; i < map->fm_mapped_extents; ++i) {
      const fiemap_extent& extent = map->fm_extents[i];
      if (extent.fe_logical > at) return false;
      at = std::max<uint64_t>(at, extent.fe_logical + extent.fe_length);
    }
    if (at == before) return false;
  }
  return true;
}

// The name goes first: who opens it meanwhile, to look at its blocks say, would keep what is gone.
Status BodyFiles::remove(Ino ino) {
  struct stat st {};
  bool counting = counted_ && ::stat(path(ino).c_str(), &st) == 0;
  int code = ::unlink(path(ino).c_str()) == 0 ? 0 : errno;
  File closing;
  {
    std::lock_guard lock(mutex_);
    ++removals_;  // who opened it before remembers it no more
    dirty_.erase(ino);
    auto it = open_.find(ino);
    if (it != open_.end()) {
      closing = std::move(it->second.file);
      ages_.erase(it->second.age);
      open_.erase(it);
    }
  }
  if (code == ENOENT) return {};
  if (code != 0) return errno_error("remove '" + path(ino) + "'", code);
  if (counting) allocated_bytes_ -= static_cast<int64_t>(st.st_blocks) * 512;
  return {};
}

Status BodyFiles::sync_one(Ino ino, bool new_name) {
  Result<File> file = open(ino);
  if (!file.ok() && file.error().code == ENOENT) return {};  // removed meanwhile
  if (!file.ok()) return std::move(file).error();
  if (::fdatasync((*file)->get()) != 0) return errno_error("sync '" + path(ino) + "'");
  if (!new_name) return {};
  TRY(sync_directory(fanout(ino)));
  return sync_directory(directory_);
}

// Whoever syncs what another thread is syncing waits for it: its own caller, too, is promised that
// it is on the disk.
Status BodyFiles::sync(Ino ino) {
  bool new_name;
  std::unique_lock lock(mutex_);
  synced_.wait(lock, [&] { return !syncing_all_ && !syncing_.contains(ino); });
  auto it = dirty_.find(ino);
  if (it == dirty_.end()) return {};
  new_name = it->second;
  syncing_.insert(ino);
  dirty_.erase(it);  // before the sync: a write during it makes the body dirty again
  lock.unlock();
  Status status = call_and_catch([&] { return sync_one(ino, new_name); });
  lock.lock();
  syncing_.erase(ino);
  synced_.notify_all();
  if (!status.ok()) dirty_[ino] |= new_name;
  return status;
}

Status BodyFiles::sync_all() {
  std::unordered_map<Ino, bool> dirty;
  std::unique_lock lock(mutex_);
  synced_.wait(lock, [&] { return !syncing_all_ && syncing_.empty(); });
  syncing_all_ = true;
  dirty.swap(dirty_);
  lock.unlock();
  Status status = call_and_catch([&] { return sync_these(dirty); });
  lock.lock();
  syncing_all_ = false;
  synced_.notify_all();
  if (!status.ok())
    for (auto [ino, new_name] : dirty) dirty_[ino] |= new_name;
  return status;
}

Status BodyFiles::sync_these(const std::unordered_map<Ino, bool>& dirty) {
  if (dirty.size() > kSyncfsThreshold) {
    UniqueFd fd = TRY(open_file(directory_, O_RDONLY | O_DIRECTORY));
    if (::syncfs(fd.get()) != 0) return errno_error("sync '" + directory_ + "'");
    return {};
  }
  for (auto [ino, new_name] : dirty) TRY(sync_one(ino, new_name));
  return {};
}

bool BodyFiles::all_synced() {
  std::lock_guard lock(mutex_);
  return dirty_.empty();
}

Result<uint64_t> BodyFiles::allocated_bytes() {
  if (!counted_) {
    std::lock_guard lock(mutex_);
    allocated_bytes_ = static_cast<int64_t>(TRY(allocated_bytes_below(directory_)));
    counted_ = true;
  }
  return static_cast<uint64_t>(std::max<int64_t>(allocated_bytes_, 0));
}

}  // namespace layerfs
