// SPDX-License-Identifier: Apache-2.0
//
// Decoded groups that the mounts of one store share: twenty containers of one image that are
// mounted and start at once decode each group once and hold it once. The memory is a memfd's: it
// has no name, and goes with the last process that has it. Copies go in and come out; nobody points
// into it, and a host without memory for it fails a write, not the process. A copy has its price:
// members are counted, so that one that is alone may make fewer.
//
// Finding each other: every member leaves a link `<directory>/<pid>-<n>` -> /proc/<pid>/fd/<n>. A
// newcomer opens the first one that is the same user's, of the same store (`identity`) and of the
// same layout, removes links of processes that are no more, or starts a pool. Who cannot be found
// (other namespaces of users or processes, no /proc) is not shared with: sharing is for speed only.
//
// Slots are in sets; a group's set follows from its number, and the longest unused of its slots is
// given away. A set that is asked to take a group it gave away not long ago gets more slots, while
// the host and its cgroups have memory to spare: random reads of a database then decode each group
// once instead of at every read, and what is read once, one after the other, takes (nearly) no
// more. Slots that were added go when nobody used them for ten seconds, or memory is scarce. A
// set's mutex lies in the shared memory and is only ever *tried*: who is stopped or killed amid a
// copy holds up nobody, others miss meanwhile. A set whose holder died is emptied.
//
// Trust: only memory of this process's own user is entered, who could as well write to the store.
// A group's number must mean the same bytes for all members. Published groups never change and
// their numbers are not given again; only such may be put here. A store that is put back from a
// copy breaks this: no mount may run meanwhile (format.md).
//
// Thread-safety: all from any thread; join() by one process at a time for a directory.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "layerdb/base/available_memory.h"
#include "layerdb/base/result.h"
#include "layerdb/base/sys.h"
#include "layerdb/object/types.h"

namespace layerfs {

class GroupPool {
 public:
  struct Host {  // another one in tests only
    static uint64_t monotonic_nanoseconds();
    uint64_t (*now)() = &monotonic_nanoseconds;
    uint64_t (*available_bytes)() = [] { return available_memory_bytes(); };
  };
  static Result<std::unique_ptr<GroupPool>> join(const std::string& directory, uint64_t identity,
                                                 Host host);
  static Result<std::unique_ptr<GroupPool>> join(const std::string& directory, uint64_t identity) {
    return join(directory, identity, Host());
  }
  ~GroupPool();
  GroupPool(const GroupPool&) = delete;
  GroupPool& operator=(const GroupPool&) = delete;

  // False: it is not there, or cannot be had at once.
  bool get(GroupId group, std::string& out);
  // The same for a part; false, too, when the group ends before.
  bool read(GroupId group, uint64_t offset, std::span<char> out);
  // False: it is not there. True, too, while another thread or process uses its set.
  bool may_have(GroupId group);
  // At most kMaxGroupBytes. Not put where that would have to wait.
  void put(GroupId group, std::string_view raw);

  // Whether another process has it, too, as far as is known: who was killed counts until somebody
  // joins.
  bool has_others() const;

  // Gives the memory back unless a member has used it within the last `seconds`. A member that
  // leaves does so, too, if it was the last to use it.
  void release(double seconds);
  uint64_t memory_bytes() const;

 private:
  struct Header;
  struct Set;
  class SetLock;

  explicit GroupPool(Host host) : host_(host) {}
  Status start(uint64_t identity);
  bool enter(const std::string& descriptor, uint64_t identity);
  bool is_of(const std::string& descriptor) const;
  bool map(UniqueFd fd);
  Status leave_link(const std::string& directory);
  template <typename Use>
  bool with_slot(GroupId group, Use&& use);
  bool copy(uint64_t at, std::span<char> out) const;
  void used(uint64_t when);
  void sweep(uint64_t now);
  void shrink(size_t number, uint64_t now);
  enum class Memory { plenty, enough, scarce };
  Memory memory(uint64_t now);
  void free_slots(size_t set, size_t first, size_t count);
  void empty();

  const Host host_;
  UniqueFd fd_;
  Header* header_ = nullptr;  // the slots behind it are not mapped
  std::atomic<uint64_t> last_use_ = 0;
  std::atomic<uint64_t> memory_checked_ = 0;
  std::atomic<Memory> memory_ = Memory::enough;
  std::string link_;
};

}  // namespace layerfs
