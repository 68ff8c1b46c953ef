// SPDX-License-Identifier: Apache-2.0
#include "layerdb/store/group_pool.h"

#include <fcntl.h>
#include <pthread.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <cstring>
#include <new>

#include "layerdb/store/chunk_store.h"

namespace layerfs {
namespace {

// 768 slots: some 40 MiB when full, as most groups have little more than kGroupFillBytes. The rest
// of a slot is address space, not memory.
constexpr size_t kSets = 96;
constexpr size_t kWays = 8;
constexpr size_t kSetBytes = kWays * kMaxGroupBytes;
constexpr uint64_t kMagic = 0x6c66'706f'6f6c'0001;  // "lfpool", version
constexpr char kMemoryName[] = "layerfs-groups";

uint64_t now_nanoseconds() {
  timespec now = {};
  ::clock_gettime(CLOCK_MONOTONIC, &now);
  return uint64_t(now.tv_sec) * 1'000'000'000 + uint64_t(now.tv_nsec);
}

void make_shared_mutex(pthread_mutex_t& mutex) {
  pthread_mutexattr_t attributes;
  ::pthread_mutexattr_init(&attributes);
  ::pthread_mutexattr_setpshared(&attributes, PTHREAD_PROCESS_SHARED);
  ::pthread_mutexattr_setrobust(&attributes, PTHREAD_MUTEX_ROBUST);
  ::pthread_mutex_init(&mutex, &attributes);
  ::pthread_mutexattr_destroy(&attributes);
}

}  // namespace

struct GroupPool::Set {
  struct Way {
    GroupId group = 0;  // 0: empty
    uint64_t used = 0;  // when, by now_nanoseconds()
    uint32_t size_bytes = 0;
  };
  pthread_mutex_t mutex;
  std::array<Way, kWays> ways;
};

struct GroupPool::Header {
  uint64_t magic = kMagic;
  uint64_t header_bytes = sizeof(Header);
  uint64_t identity = 0;
  std::atomic<uint64_t> used = 0;
  std::array<Set, kSets> sets;

  static constexpr size_t kBytes = 64 * 1024;  // with what pads it to whole pages
  static constexpr size_t kAllBytes = kBytes + kSets * kSetBytes;
};

// Tries; holds the set or not.
class GroupPool::SetLock {
 public:
  explicit SetLock(Set& set) : set_(set) {
    int status = ::pthread_mutex_trylock(&set.mutex);
    held_ = status == 0 || status == EOWNERDEAD;
    if (status != EOWNERDEAD) return;
    set.ways = {};
    ::pthread_mutex_consistent(&set.mutex);
  }
  ~SetLock() {
    if (held_) ::pthread_mutex_unlock(&set_.mutex);
  }
  SetLock(const SetLock&) = delete;
  SetLock& operator=(const SetLock&) = delete;
  bool held() const { return held_; }

 private:
  Set& set_;
  bool held_ = false;
};

GroupPool::Set& GroupPool::set_of(GroupId group) {
  return reinterpret_cast<Header*>(memory_)->sets[group % kSets];
}

char* GroupPool::slot(size_t set, size_t way) {
  return memory_ + Header::kBytes + set * kSetBytes + way * kMaxGroupBytes;
}

Result<std::unique_ptr<GroupPool>> GroupPool::join(const std::string& directory,
                                                   uint64_t identity) {
  static_assert(sizeof(Header) <= Header::kBytes);
  TRY(make_directories(directory, 0700));
  std::unique_ptr<GroupPool> pool(new GroupPool());
  for (const std::string& name : TRY(list_directory(directory))) {
    std::string link = directory + "/" + name;
    if (pool->enter(link, identity)) break;
    std::string process = "/proc/" + name.substr(0, name.find('-'));
    if (::access(process.c_str(), F_OK) != 0 && errno == ENOENT) ::unlink(link.c_str());
  }
  if (pool->memory_ == nullptr) TRY(pool->start(identity));
  TRY(pool->leave_link(directory));
  return pool;
}

// A number that went to another process names any file: only a pool's memory is opened.
bool GroupPool::enter(const std::string& link, uint64_t identity) {
  char target[64], memory[64];
  ssize_t length = ::readlink(link.c_str(), target, sizeof target - 1);
  if (length <= 0) return false;
  target[length] = '\0';
  length = ::readlink(target, memory, sizeof memory - 1);
  if (length <= 0) return false;
  memory[length] = '\0';
  if (std::string_view(memory) != std::string("/memfd:") + kMemoryName + " (deleted)") return false;
  UniqueFd fd(::open(target, O_RDWR | O_CLOEXEC | O_NONBLOCK));
  struct stat status = {};
  if (!fd.valid() || ::fstat(fd.get(), &status) != 0 ||
      status.st_size != off_t{Header::kAllBytes} || !map(std::move(fd)))
    return false;
  const auto& found = *reinterpret_cast<const Header*>(memory_);
  if (found.magic == kMagic && found.header_bytes == sizeof(Header) && found.identity == identity)
    return true;
  ::munmap(memory_, Header::kAllBytes);
  memory_ = nullptr;
  fd_.reset();
  return false;
}

Status GroupPool::start(uint64_t identity) {
  UniqueFd fd(::memfd_create(kMemoryName, MFD_CLOEXEC | MFD_ALLOW_SEALING));
  if (!fd.valid()) return errno_error("make memory for decoded groups");
  // Sealed: nobody can make it shorter under the others.
  if (::ftruncate(fd.get(), Header::kAllBytes) != 0 ||
      ::fcntl(fd.get(), F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) != 0 ||
      !map(std::move(fd)))
    return errno_error("make memory for decoded groups");
  auto* header = new (memory_) Header{.identity = identity, .sets = {}};
  for (Set& set : header->sets) make_shared_mutex(set.mutex);
  return {};
}

bool GroupPool::map(UniqueFd fd) {
  void* memory =
      ::mmap(nullptr, Header::kAllBytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd.get(), 0);
  if (memory == MAP_FAILED) return false;
  memory_ = static_cast<char*>(memory);
  fd_ = std::move(fd);
  return true;
}

Status GroupPool::leave_link(const std::string& directory) {
  std::string pid = std::to_string(::getpid()), number = std::to_string(fd_.get());
  std::string target = "/proc/" + pid + "/fd/" + number;
  link_ = directory + "/" + pid + "-" + number;
  ::unlink(link_.c_str());  // of a dead process that had our number
  if (::symlink(target.c_str(), link_.c_str()) != 0)
    return errno_error("make the link '" + link_ + "'");
  return {};
}

GroupPool::~GroupPool() {
  if (!link_.empty()) ::unlink(link_.c_str());
  if (memory_ != nullptr) ::munmap(memory_, Header::kAllBytes);
}

bool GroupPool::get(GroupId group, std::string& out) {
  Set& set = set_of(group);
  SetLock lock(set);
  if (!lock.held()) return false;
  auto way = std::ranges::find(set.ways, group, &Set::Way::group);
  if (way == set.ways.end()) return false;
  way->used = now_nanoseconds();
  reinterpret_cast<Header*>(memory_)->used = way->used;
  out.assign(slot(group % kSets, size_t(way - set.ways.begin())), way->size_bytes);
  return true;
}

void GroupPool::put(GroupId group, std::string_view raw) {
  Set& set = set_of(group);
  SetLock lock(set);
  if (!lock.held() || raw.size() > kMaxGroupBytes) return;
  auto way = std::ranges::find(set.ways, group, &Set::Way::group);
  if (way != set.ways.end()) return;
  way = std::ranges::min_element(set.ways, {}, &Set::Way::used);
  *way = {group, now_nanoseconds(), static_cast<uint32_t>(raw.size())};
  reinterpret_cast<Header*>(memory_)->used = way->used;
  std::memcpy(slot(group % kSets, size_t(way - set.ways.begin())), raw.data(), raw.size());
}

void GroupPool::release(double seconds) {
  auto& header = *reinterpret_cast<Header*>(memory_);
  uint64_t used = header.used;
  if (used == 0 || now_nanoseconds() - used < uint64_t(seconds * 1e9)) return;
  header.used = 0;
  for (size_t i = 0; i < kSets; ++i) {
    SetLock lock(header.sets[i]);
    if (!lock.held()) continue;
    header.sets[i].ways = {};
    ::fallocate(fd_.get(), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
                off_t(Header::kBytes + i * kSetBytes), off_t{kSetBytes});
  }
}

uint64_t GroupPool::memory_bytes() const {
  struct stat status = {};
  return ::fstat(fd_.get(), &status) == 0 ? uint64_t(status.st_blocks) * 512 : 0;
}

}  // namespace layerfs
