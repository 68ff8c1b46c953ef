// SPDX-License-Identifier: Apache-2.0
#include "layerdb/store/read_ahead.h"

#include <algorithm>
#include <exception>
#include <utility>

#include "layerdb/base/caught.h"

namespace layerfs {

ReadAhead::ReadAhead(ReadHistory history, std::function<void(GroupId)> fetch)
    : history_(std::move(history)), fetch_(std::move(fetch)) {}

ReadAhead::~ReadAhead() { pause(); }

// Hints are not worth a failure: without memory for one there is none.
void ReadAhead::asked(GroupId group) noexcept {
  if (last_.exchange(group, std::memory_order_relaxed) == group) return;
  try {
    bool full = false;
    {
      std::lock_guard lock(mutex_);
      if (!note(group)) return;
      if (!follow(group)) begin(group);
      full = run_.size() >= kPartGroups;
    }
    if (full) remember(true);
  } catch (const std::exception&) {
  }
}

bool ReadAhead::note(GroupId group) {
  if (noted_.add(group)) return false;
  if (run_.capacity() == 0) run_.reserve(kPartGroups);
  run_.push_back(group);
  return true;
}

// Workers ask in nearly the order of the messages, and a program in nearly that of the last time:
// some groups that were passed over, or not yet come to, do not end a stream.
bool ReadAhead::follow(GroupId group) {
  for (Stream& stream : streams_) {
    auto place = [&](size_t i) { return stream.window.begin() + static_cast<ptrdiff_t>(i); };
    auto last = place(std::min(stream.end, stream.next + kSeen));
    auto found = std::find(place(stream.next - std::min(stream.next, kBehind)), last, group);
    if (found == last) continue;
    stream.last_use = ++clock_;
    size_t next = static_cast<size_t>(found - place(0)) + 1;
    if (next > stream.next) advance(stream, next);
    return true;
  }
  return false;
}

// The stream was right once more, and at the cost of the others.
void ReadAhead::advance(Stream& stream, size_t next) {
  stream.next = next;
  stream.fetched = std::max(stream.fetched, next);
  for (Stream& other : streams_)
    if (&other != &stream) other.depth /= 2;
  stream.depth = std::clamp(stream.depth + 1, kFirstDepth, kDeepest);
  refill(stream);
  // Woken seldom: the thread goes on until it is as far ahead as it may be.
  if (!idle_ || !stream.behind() || stream.fetched > stream.next + stream.depth / 2) return;
  if (!thread_.joinable())
    thread_ = std::jthread([this](const std::stop_token& stop) { run(stop); });
  idle_ = false;
  changed_.notify_one();
}

void ReadAhead::begin(GroupId group) {
  std::optional<ReadHistory::Place> place = history_.after(group);
  if (!place) return;
  Stream& stream =
      *std::min_element(streams_.begin(), streams_.end(),
                        [](const Stream& a, const Stream& b) { return a.last_use < b.last_use; });
  stream.next = stream.end = stream.fetched = stream.depth = 0;
  stream.place = *place;
  stream.last_use = ++clock_;
  refill(stream);
}

void ReadAhead::refill(Stream& stream) const {
  if (stream.end - stream.next >= kWindow / 2) return;
  size_t drop = stream.next - std::min(stream.next, kBehind);
  std::copy(stream.window.begin() + static_cast<ptrdiff_t>(drop),
            stream.window.begin() + static_cast<ptrdiff_t>(stream.end), stream.window.begin());
  for (size_t* index : {&stream.end, &stream.next, &stream.fetched}) *index -= drop;
  stream.end += history_.read(stream.place, std::span(stream.window).subspan(stream.end)).size();
}

ReadAhead::Stream* ReadAhead::waiting() {
  Stream* latest = nullptr;
  for (Stream& stream : streams_)
    if (stream.behind() && (latest == nullptr || stream.last_use > latest->last_use))
      latest = &stream;
  return latest;
}

void ReadAhead::run(const std::stop_token& stop) {
  std::unique_lock lock(mutex_);
  while (true) {
    idle_ = true;
    Stream* stream = nullptr;
    changed_.wait(lock, stop, [&] { return (stream = waiting()) != nullptr; });
    if (stop.stop_requested()) return;
    idle_ = false;
    GroupId group = stream->window[stream->fetched++];
    lock.unlock();
    try {
      fetch_(group);
    } catch (const std::exception&) {  // no memory: who asks for it says so
    }
    lock.lock();
  }
}

void ReadAhead::pause() noexcept {
  if (last_.exchange(0) == 0) return;
  try {
    std::jthread ended;
    {
      std::lock_guard lock(mutex_);
      for (Stream& stream : streams_) stream = {};
      ended = std::exchange(thread_, std::jthread());
      idle_ = true;  // whatever it was just told
    }
    ended = std::jthread();  // joins
    remember(false);
  } catch (const std::exception&) {
  }
}

void ReadAhead::remember(bool more_follows) {
  std::lock_guard appending(appending_);
  std::vector<GroupId> run;
  {
    std::lock_guard lock(mutex_);
    if (more_follows && run_.size() < kPartGroups) return;  // another worker did it
    run.swap(run_);
    if (!more_follows) noted_.clear();
  }
  history_.append(run, more_follows);
}

}  // namespace layerfs
