// SPDX-License-Identifier: Apache-2.0
#include "layerdb/store/group_pool.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <pthread.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <cstdio>
#include <new>
#include <optional>
#include <span>
#include <vector>

#include "layerdb/store/chunk_store.h"

namespace layerfs {
namespace {

// 768 slots to begin with: some 40 MiB when full, as most groups have little more than
// kGroupFillBytes; 96 MiB at most. The rest of a slot is a hole. Grown: eight times as much.
constexpr size_t kSets = 96;
constexpr uint32_t kFirstWays = 8;
constexpr uint32_t kMaxWays = 64;
constexpr uint32_t kMoreWays = 4;  // that a set gets at once
// Of the memory that is available, grown to a quarter; what is more than a half goes.
constexpr uint64_t kPlentyDivisor = 4, kScarceDivisor = 2;
constexpr uint64_t kUnusedNanoseconds = 10'000'000'000;  // then a way that was added goes again
constexpr size_t kSetBytes = kMaxWays * kMaxGroupBytes;
constexpr size_t kHeaderBytes = 256 * 1024;  // with what pads it to whole pages
constexpr size_t kAllBytes = kHeaderBytes + kSets * kSetBytes;
constexpr uint64_t kMagic = 0x6c66'706f'6f6c'0003;  // "lfpool", version
constexpr char kMemoryName[] = "layerfs-groups";
constexpr int kSeals = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL;

// What a link's name says.
struct Member {
  pid_t pid = 0;
  int number = 0;

  std::string name() const { return fmt::format("{}-{}", pid, number); }
  std::string descriptor() const { return fmt::format("/proc/{}/fd/{}", pid, number); }
  // Also for who sees other processes than /proc shows.
  bool is_gone() const {
    return ::kill(pid, 0) != 0 && errno == ESRCH && !path_exists(fmt::format("/proc/{}", pid));
  }
};

std::optional<Member> parse_link(const std::string& name) {
  Member member;
  if (std::sscanf(name.c_str(), "%d-%d", &member.pid, &member.number) != 2 || member.pid <= 0 ||
      name != member.name())
    return std::nullopt;
  return member;
}

uint64_t slot_offset(size_t set, size_t way) {
  return kHeaderBytes + set * kSetBytes + way * kMaxGroupBytes;
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
    uint64_t used = 0;  // when, by the clock
    uint32_t size_bytes = 0;
  };
  pthread_mutex_t mutex;
  uint32_t way_count = kFirstWays;
  uint32_t next_gone = 0;
  std::array<GroupId, kMaxWays> gone = {};  // given away last, a ring
  std::array<Way, kMaxWays> all = {};

  // What is in use. Another process wrote the count.
  std::span<Way> ways() { return {all.data(), std::min<size_t>(way_count, kMaxWays)}; }
  size_t index(const Way& way) const { return size_t(&way - all.data()); }
  bool was_given_away(GroupId group) const { return std::ranges::count(gone, group) != 0; }
  void grow(uint64_t now) {
    for (uint32_t i = 0; i < kMoreWays && way_count < kMaxWays; ++i) all[way_count++] = {0, now, 0};
  }
  // An empty way, or the longest unused.
  Way& make_room() {
    auto way = std::ranges::find(ways(), GroupId{0}, &Way::group);
    if (way == ways().end()) way = std::ranges::min_element(ways(), {}, &Way::used);
    if (way->group != 0) gone[next_gone++ % kMaxWays] = way->group;
    return *way;
  }
};

struct GroupPool::Header {
  uint64_t magic = kMagic;
  uint64_t header_bytes = sizeof(Header);
  uint64_t identity = 0;
  std::atomic<uint64_t> used = 0;
  std::atomic<uint64_t> next_sweep = 0;
  std::atomic<size_t> swept = 0;
  std::atomic<uint32_t> members = 0;
  std::array<Set, kSets> sets;
};

// Tries; holds the set or not.
class GroupPool::SetLock {
 public:
  explicit SetLock(Set& set) : set_(set) {
    int status = ::pthread_mutex_trylock(&set.mutex);
    held_ = status == 0 || status == EOWNERDEAD;
    if (status != EOWNERDEAD) return;
    set.all = {};
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

uint64_t GroupPool::Host::monotonic_nanoseconds() {
  timespec now = {};
  ::clock_gettime(CLOCK_MONOTONIC, &now);
  return uint64_t(now.tv_sec) * 1'000'000'000 + uint64_t(now.tv_nsec);
}

Result<std::unique_ptr<GroupPool>> GroupPool::join(const std::string& directory, uint64_t identity,
                                                   Host host) {
  static_assert(sizeof(Header) <= kHeaderBytes);
  static_assert(std::atomic<uint64_t>::is_always_lock_free);
  rlimit limit = {};
  if (::getrlimit(RLIMIT_FSIZE, &limit) == 0 && limit.rlim_cur < kAllBytes)
    return Error{EFBIG, "the limit of file sizes is too small for it"};
  TRY(make_directories(directory, 0700));
  std::unique_ptr<GroupPool> pool(new GroupPool(host));
  std::vector<Member> members;
  for (const std::string& name : TRY(list_directory(directory)))
    if (std::optional<Member> member = parse_link(name)) members.push_back(*member);
  for (const Member& member : members)
    if (pool->enter(member.descriptor(), identity)) break;
  if (pool->header_ == nullptr) TRY(pool->start(identity));
  TRY(pool->leave_link(directory));
  uint32_t others = 0;
  for (const Member& member : members) {
    std::string link = directory + "/" + member.name();
    if (member.is_gone()) ::unlink(link.c_str());
    if (link != pool->link_ && pool->is_of(member.descriptor())) ++others;
  }
  pool->header_->members = others + 1;
  return pool;
}

// A number that went to another process names any file: only a pool's memory is opened, and only
// what is sealed, as no file but a memfd can be, and this user's is believed to be one.
bool GroupPool::enter(const std::string& descriptor, uint64_t identity) {
  char memory[64];
  ssize_t length = ::readlink(descriptor.c_str(), memory, sizeof memory);
  if (length <= 0 ||
      std::string_view(memory, size_t(length)) != fmt::format("/memfd:{} (deleted)", kMemoryName))
    return false;
  UniqueFd fd(::open(descriptor.c_str(), O_RDWR | O_CLOEXEC | O_NONBLOCK));
  struct stat status = {};
  if (!fd.valid() || ::fstat(fd.get(), &status) != 0 || status.st_uid != ::geteuid() ||
      status.st_size != off_t{kAllBytes} || (::fcntl(fd.get(), F_GET_SEALS) & kSeals) != kSeals ||
      !map(std::move(fd)))
    return false;
  if (header_->magic == kMagic && header_->header_bytes == sizeof(Header) &&
      header_->identity == identity)
    return true;
  ::munmap(header_, kHeaderBytes);
  header_ = nullptr;
  fd_.reset();
  return false;
}

// Whether a descriptor is this memory; in doubt it is.
bool GroupPool::is_of(const std::string& descriptor) const {
  struct stat ours = {}, status = {};
  if (::stat(descriptor.c_str(), &status) != 0) return errno == EACCES || errno == EPERM;
  return ::fstat(fd_.get(), &ours) == 0 && status.st_dev == ours.st_dev &&
         status.st_ino == ours.st_ino;
}

// The header has its memory from here on, and nobody can make the rest shorter under the others.
Status GroupPool::start(uint64_t identity) {
  UniqueFd fd(::memfd_create(kMemoryName, MFD_CLOEXEC | MFD_ALLOW_SEALING));
  if (!fd.valid() || ::ftruncate(fd.get(), kAllBytes) != 0 ||
      ::fallocate(fd.get(), 0, 0, kHeaderBytes) != 0 ||
      ::fcntl(fd.get(), F_ADD_SEALS, kSeals) != 0 || !map(std::move(fd)))
    return errno_error("make memory for decoded groups");
  new (header_) Header{.identity = identity, .sets = {}};
  for (Set& set : header_->sets) make_shared_mutex(set.mutex);
  return {};
}

bool GroupPool::map(UniqueFd fd) {
  void* memory = ::mmap(nullptr, kHeaderBytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd.get(), 0);
  if (memory == MAP_FAILED) return false;
  header_ = static_cast<Header*>(memory);
  fd_ = std::move(fd);
  return true;
}

Status GroupPool::leave_link(const std::string& directory) {
  Member self{::getpid(), fd_.get()};
  std::string link = directory + "/" + self.name();
  ::unlink(link.c_str());  // of a dead process that had our number
  if (::symlink(self.descriptor().c_str(), link.c_str()) != 0)
    return errno_error("make the link '" + link + "'");
  link_ = std::move(link);
  return {};
}

// The link goes last: who joins meanwhile may count one too many, never one too few.
GroupPool::~GroupPool() {
  if (!link_.empty()) {
    --header_->members;
    ::unlink(link_.c_str());
  }
  if (header_ == nullptr) return;
  if (last_use_ != 0 && last_use_ == header_->used) empty();
  ::munmap(header_, kHeaderBytes);
}

bool GroupPool::has_others() const { return header_->members > 1; }

bool GroupPool::get(GroupId group, std::string& out) {
  return with_slot(group, [&](size_t size_bytes, uint64_t slot) {
    out.resize(size_bytes);
    return copy(slot, out);
  });
}

bool GroupPool::read(GroupId group, uint64_t offset, std::span<char> out) {
  return with_slot(group, [&](size_t size_bytes, uint64_t slot) {
    return offset <= size_bytes && out.size() <= size_bytes - offset && copy(slot + offset, out);
  });
}

bool GroupPool::may_have(GroupId group) {
  Set& set = header_->sets[group % kSets];
  SetLock lock(set);
  return !lock.held() || std::ranges::find(set.ways(), group, &Set::Way::group) != set.ways().end();
}

bool GroupPool::copy(uint64_t at, std::span<char> out) const {
  Result<size_t> done = pread_full(fd_.get(), out, at);
  return done.ok() && *done == out.size();
}

// What `use` returns while the set is held, or false when the group cannot be had.
template <typename Use>  // bool(size_bytes, where it is in the memory)
bool GroupPool::with_slot(GroupId group, Use&& use) {
  uint64_t now = host_.now();
  sweep(now);
  Set& set = header_->sets[group % kSets];
  SetLock lock(set);
  if (group == 0 || !lock.held()) return false;
  auto way = std::ranges::find(set.ways(), group, &Set::Way::group);
  if (way == set.ways().end() || way->size_bytes > kMaxGroupBytes) return false;
  used(way->used = now);
  return use(way->size_bytes, slot_offset(group % kSets, set.index(*way)));
}

void GroupPool::put(GroupId group, std::string_view raw) {
  uint64_t now = host_.now();
  sweep(now);
  Set& set = header_->sets[group % kSets];
  SetLock lock(set);
  if (group == 0 || !lock.held() || raw.size() > kMaxGroupBytes) return;
  if (std::ranges::find(set.ways(), group, &Set::Way::group) != set.ways().end()) return;
  if (set.was_given_away(group) && memory(now) == Memory::plenty) set.grow(now);
  Set::Way& way = set.make_room();
  way = {group, now, static_cast<uint32_t>(raw.size())};
  used(now);
  if (!pwrite_full(fd_.get(), raw, slot_offset(group % kSets, set.index(way))).ok())
    way = {};  // no memory
}

// Whoever comes by shrinks a set, one after the other, each once in kUnusedNanoseconds.
void GroupPool::sweep(uint64_t now) {
  uint64_t due = header_->next_sweep;
  if (now < due) return;
  if (!header_->next_sweep.compare_exchange_strong(due, now + kUnusedNanoseconds / kSets)) return;
  size_t number = header_->swept++ % kSets;
  SetLock lock(header_->sets[number]);
  if (lock.held()) shrink(number, now);
}

// Of what was added to the set, the end that nobody uses any more; all, when memory is scarce.
void GroupPool::shrink(size_t number, uint64_t now) {
  Set& set = header_->sets[number];
  set.way_count = std::min(set.way_count, kMaxWays);
  if (set.way_count <= kFirstWays) return;
  bool scarce = memory(now) == Memory::scarce;
  while (set.way_count > kFirstWays &&
         (scarce || set.ways().back().used + kUnusedNanoseconds <= now)) {
    set.all[--set.way_count] = {};
    free_slots(number, set.way_count, 1);
  }
}

GroupPool::Memory GroupPool::memory(uint64_t now) {
  constexpr uint64_t kStaleNanoseconds = 100'000'000;
  if (now - memory_checked_ > kStaleNanoseconds) {
    memory_checked_ = now;
    uint64_t available = host_.available_bytes(), ours = memory_bytes();
    memory_ = ours < available / kPlentyDivisor   ? Memory::plenty
              : ours > available / kScarceDivisor ? Memory::scarce
                                                  : Memory::enough;
  }
  return memory_;
}

void GroupPool::used(uint64_t when) {
  last_use_ = when;
  header_->used = when;
}

void GroupPool::release(double seconds) {
  uint64_t used = header_->used;
  if (used != 0 && host_.now() - used >= uint64_t(seconds * 1e9)) empty();
}

void GroupPool::empty() {
  bool all = true;
  for (size_t i = 0; i < kSets; ++i) {
    SetLock lock(header_->sets[i]);
    all = all && lock.held();
    if (!lock.held()) continue;
    Set& set = header_->sets[i];
    set.all = {};
    set.gone = {};
    set.way_count = kFirstWays;
    free_slots(i, 0, kMaxWays);
  }
  if (all) header_->used = 0;
}

void GroupPool::free_slots(size_t set, size_t first, size_t count) {
  ::fallocate(fd_.get(), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, off_t(slot_offset(set, first)),
              off_t(count * kMaxGroupBytes));
}

uint64_t GroupPool::memory_bytes() const {
  struct stat status = {};
  return ::fstat(fd_.get(), &status) == 0 ? uint64_t(status.st_blocks) * 512 : 0;
}

}  // namespace layerfs
