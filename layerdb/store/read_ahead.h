// SPDX-License-Identifier: Apache-2.0
//
// Decodes groups before they are asked for, in the order in which they were read another time
// (read_history.h). Where a group is asked for that the history knows, a stream begins behind it.
// Once something else is asked for that the stream foretold, threads begin to fetch what comes
// next, the further ahead the more often the stream was right, and has the disk read what will be
// fetched later. Several streams, because several programs read; the one that was right last goes
// first, and the others' depth shrinks. Who jumps about never confirms one, also not with requests
// of several groups that lie side by side in a file that was read in order, and costs a few small
// reads of a file. What was asked for already since the last pause says nothing: the kernel asks
// for a group several times.
//
// What was read a second time from one pause to the next, a program's start, say, will be read a
// third time: of its groups that build on others, copies are made. Not of what is longer than
// kPartGroups: who copies a tree waits for the disk.
//
// Thread-safety: all from any thread. The threads also write to the history; they run while there
// is something to do, and leave at a pause. One mutex, held for small reads of the history, never
// while fetching or writing.
#pragma once

#include <array>
#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <mutex>
#include <optional>
#include <span>
#include <thread>
#include <vector>

#include "layerdb/object/types.h"
#include "layerdb/store/read_history.h"
#include "layerdb/store/recent_numbers.h"

namespace layerfs {

class ReadAhead {
 public:
  // What is done with groups, by one thread each.
  struct Actions {
    // Has the disk begin to read the group, without waiting. In order: its number is close behind
    // those before, so the disk has it already, because the kernel reads ahead by itself, and in
    // larger pieces.
    std::function<void(GroupId, bool in_order)> prepare;
    // Has the group ready for whoever asks for it next.
    std::function<void(GroupId)> fetch;
    // Makes copies of groups that do not need what these build on. Returns those that have one now
    // and had none.
    std::function<std::vector<GroupId>(std::span<const GroupId>)> copy;
  };
  ReadAhead(ReadHistory history, Actions actions);
  ~ReadAhead();
  ReadAhead(const ReadAhead&) = delete;
  ReadAhead& operator=(const ReadAhead&) = delete;

  // Somebody asks for a group; `goes_on`: in one request with the one before. Waits neither for a
  // fetch nor to write. (These are hints, and not worth a failure: without memory for one there is
  // none.)
  void asked(GroupId group, bool goes_on = false) noexcept;
  // What `group` builds on, when it is decoded: it comes along the next time.
  void needed(GroupId group, GroupId base) noexcept;
  // Nobody reads for a while: what was read since the last pause is a run of the history. Does not
  // wait for it to be written.
  void pause() noexcept;

 private:
  static constexpr size_t kStreams = 4, kWindow = 256;
  // Groups fetched before they are asked for, at first and at most.
  static constexpr size_t kFirstDepth = 4, kDeepest = 32;
  // Groups prepared before they are fetched, and how many at most for each that is fetched.
  static constexpr size_t kPrepared = 64, kPreparedAtOnce = 8;
  // So far behind and before where it is expected a group is still the stream's.
  static constexpr size_t kBehind = 8, kSeen = 48;
  // One waits for the disk or decodes while the other does.
  static constexpr size_t kThreads = 2;
  // Of a run, handed to a thread at once.
  static constexpr size_t kPartGroups = 1024, kPartBases = 4096;

  // What is foretold: window[begin, end), of which what is before `next` was asked for or passed
  // over, what is before `fetched` was fetched, too, and what is before `prepared` was prepared.
  struct Stream {
    std::array<GroupId, kWindow> window;
    size_t end = 0, next = 0, fetched = 0, prepared = 0, depth = 0;
    ReadHistory::Place place = 0;  // what follows the window
    uint64_t last_use = 0;

    bool behind() const { return fetched < end && fetched < next + depth; }
  };

  // Of a run, on its way into the history.
  struct Part {
    std::vector<GroupId> groups;
    std::vector<ReadHistory::BuiltOn> built_on;
    bool follows, more_follows;
  };

  void note(GroupId group);
  void hand_over(bool more_follows);
  bool follow(GroupId group, bool goes_on);
  void advance(Stream& stream, size_t next, bool goes_on);
  void begin(GroupId group);
  void refill(Stream& stream) const;
  Stream* waiting();
  void wake(size_t threads);
  void run(bool& running);
  void write_part(std::unique_lock<std::mutex>& lock);
  void remember(Part part);
  struct ToPrepare {
    GroupId group = 0;  // none
    bool in_order = false;
  };
  std::array<ToPrepare, kPreparedAtOnce> to_prepare(Stream& stream) const;
  static bool is_in_order(const Stream& stream, size_t index);

  ReadHistory history_;
  const Actions actions_;
  std::atomic<GroupId> last_ = 0;

  std::mutex mutex_;
  std::condition_variable changed_;
  std::array<Stream, kStreams> streams_;
  uint64_t clock_ = 0;
  std::vector<GroupId> run_;          // asked for since the last pause, fewer than kPartGroups
  std::vector<ReadHistory::BuiltOn> built_on_;  // of what was decoded, kPartBases at most
  RecentNumbers<kPartGroups> noted_;  // those in it, and before
  bool follows_ = false;              // another part of the same run
  std::optional<Part> part_;          // for a thread
  bool writing_ = false;              // one is at the one before it
  bool leaving_ = false;              // they are to end when all is done
  struct Worker {
    std::thread thread;
    bool running = false;  // until its last step
  };
  std::array<Worker, kThreads> workers_;
};

}  // namespace layerfs
