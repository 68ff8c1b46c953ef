// SPDX-License-Identifier: Apache-2.0
#include "layerdb/store/read_ahead.h"

#include <algorithm>
#include <exception>
#include <iterator>
#include <system_error>
#include <unordered_set>
#include <utility>

namespace layerfs {

namespace {

// Hints are not worth a failure: without memory for one there is none.
template <typename Action>
void try_to(Action&& action) noexcept {
  try {
    action();
  } catch (const std::exception&) {
  }
}

}  // namespace

ReadAhead::ReadAhead(ReadHistory history, Actions actions)
    : history_(std::move(history)), actions_(std::move(actions)) {}

ReadAhead::~ReadAhead() {
  pause();
  {
    std::lock_guard lock(mutex_);
    leaving_ = true;  // whatever was asked for after that
    changed_.notify_all();
  }
  for (Worker& worker : workers_)
    if (worker.thread.joinable()) worker.thread.join();
}

void ReadAhead::asked(GroupId group, bool goes_on) noexcept {
  if (last_.exchange(group, std::memory_order_relaxed) == group) return;
  try_to([&] {
    std::lock_guard lock(mutex_);
    if (noted_.add(group)) return;
    note(group);
    if (!follow(group, goes_on)) begin(group);
  });
}

void ReadAhead::needed(GroupId group, GroupId base) noexcept {
  try_to([&] {
    std::lock_guard lock(mutex_);
    if (built_on_.size() < kPartBases) built_on_.push_back({group, base});
  });
}

void ReadAhead::note(GroupId group) {
  if (run_.capacity() == 0) run_.reserve(kPartGroups);
  run_.push_back(group);
  if (run_.size() == kPartGroups) hand_over(true);
}

// What was asked for goes to a thread, which writes it. If no thread has taken the part before yet,
// this one is forgotten: nobody waits for a disk to remember.
void ReadAhead::hand_over(bool more_follows) {
  bool follows = std::exchange(follows_, more_follows);
  if (!part_)
    part_ = Part{std::exchange(run_, {}), std::exchange(built_on_, {}), follows, more_follows};
  run_.clear();
  built_on_.clear();
  wake(1);
}

// Workers ask in nearly the order of the messages, and a program in nearly that of the last time:
// some groups that were passed over, or not yet come to, do not end a stream.
bool ReadAhead::follow(GroupId group, bool goes_on) {
  for (Stream& stream : streams_) {
    auto place = [&](size_t i) { return stream.window.begin() + static_cast<ptrdiff_t>(i); };
    auto last = place(std::min(stream.end, stream.next + kSeen));
    auto found = std::find(place(stream.next - std::min(stream.next, kBehind)), last, group);
    if (found == last) continue;
    stream.last_use = ++clock_;
    size_t next = static_cast<size_t>(found - place(0)) + 1;
    if (next > stream.next) advance(stream, next, goes_on);
    return true;
  }
  return false;
}

// The stream was right once more, and at the cost of the others. The rest of the request that it
// began with says nothing.
void ReadAhead::advance(Stream& stream, size_t next, bool goes_on) {
  stream.next = next;
  stream.fetched = std::max(stream.fetched, next);
  if (goes_on && stream.depth == 0) return refill(stream);
  for (Stream& other : streams_)
    if (&other != &stream) other.depth /= 2;
  stream.depth = std::clamp(stream.depth + 1, kFirstDepth, kDeepest);
  refill(stream);
  // Woken seldom: they go on until they are as far ahead as they may be.
  if (stream.behind() && stream.fetched <= stream.next + stream.depth / 2) wake(kThreads);
}

void ReadAhead::begin(GroupId group) {
  std::optional<ReadHistory::Place> place = history_.after(group);
  if (!place) return;
  Stream& stream =
      *std::min_element(streams_.begin(), streams_.end(),
                        [](const Stream& a, const Stream& b) { return a.last_use < b.last_use; });
  stream.next = stream.end = stream.fetched = stream.prepared = stream.depth = 0;
  stream.place = *place;
  stream.last_use = ++clock_;
  refill(stream);
}

void ReadAhead::refill(Stream& stream) const {
  if (stream.end - stream.next >= kWindow / 2) return;
  size_t drop = stream.next - std::min(stream.next, kBehind);
  std::copy(stream.window.begin() + static_cast<ptrdiff_t>(drop),
            stream.window.begin() + static_cast<ptrdiff_t>(stream.end), stream.window.begin());
  stream.prepared = std::max(stream.prepared, stream.fetched);
  for (size_t* index : {&stream.end, &stream.next, &stream.fetched, &stream.prepared})
    *index -= drop;
  stream.end += history_.read(stream.place, std::span(stream.window).subspan(stream.end)).size();
}

ReadAhead::Stream* ReadAhead::waiting() {
  Stream* latest = nullptr;
  for (Stream& stream : streams_)
    if (stream.behind() && (latest == nullptr || stream.last_use > latest->last_use))
      latest = &stream;
  return latest;
}

// So many of them at least; none where it cannot be had.
void ReadAhead::wake(size_t threads) {
  leaving_ = false;
  changed_.notify_all();
  for (Worker& worker : std::span(workers_).first(threads)) {
    if (worker.running) continue;
    if (worker.thread.joinable()) worker.thread.join();  // it has ended but for its last step
    try {
      worker.thread = std::thread([this, &worker] { run(worker.running); });
      worker.running = true;
    } catch (const std::system_error&) {
      if (std::ranges::none_of(workers_, &Worker::running)) part_.reset();
    }
  }
}

// Along with the next one that is fetched.
std::array<ReadAhead::ToPrepare, ReadAhead::kPreparedAtOnce> ReadAhead::to_prepare(
    Stream& stream) const {
  size_t first = std::max(stream.prepared, stream.fetched + 1);
  size_t until = std::min({stream.end, stream.fetched + kPrepared, first + kPreparedAtOnce});
  stream.prepared = std::max(first, until);
  std::array<ToPrepare, kPreparedAtOnce> out = {};
  for (size_t i = first; i < stream.prepared; ++i)
    out[i - first] = {stream.window[i], is_in_order(stream, i)};
  return out;
}

// Whether three of the numbers before it are close before it.
bool ReadAhead::is_in_order(const Stream& stream, size_t index) {
  constexpr size_t kClose = 8, kInOrder = 3;
  auto before = std::span(stream.window).first(index).last(std::min(index, kClose));
  auto follows = [&](GroupId earlier) {
    return earlier < stream.window[index] && stream.window[index] - earlier <= kInOrder;
  };
  return std::ranges::count_if(before, follows) >= static_cast<ptrdiff_t>(kInOrder);
}

void ReadAhead::run(bool& running) {
  std::unique_lock lock(mutex_);
  while (true) {
    Stream* stream = waiting();
    if (part_ && !writing_) {
      write_part(lock);
    } else if (stream != nullptr) {
      std::array<ToPrepare, kPreparedAtOnce> prepare = to_prepare(*stream);
      GroupId group = stream->window[stream->fetched++];
      lock.unlock();
      for (const auto& [later, in_order] : prepare)
        if (later != 0) try_to([&] { actions_.prepare(later, in_order); });
      try_to([&] { actions_.fetch(group); });  // who asks for it says what is wrong
      lock.lock();
    } else if (leaving_) {
      break;
    } else {
      changed_.wait(lock);
    }
  }
  running = false;
}

void ReadAhead::write_part(std::unique_lock<std::mutex>& lock) {
  Part part = *std::exchange(part_, std::nullopt);
  writing_ = true;
  lock.unlock();
  try_to([&] { remember(std::move(part)); });
  lock.lock();
  writing_ = false;
}

void ReadAhead::remember(Part part) {
  bool known = history_.append(part.groups, part.more_follows, part.built_on);
  if (!known || part.follows || part.more_follows || !actions_.copy) return;
  std::unordered_set<GroupId> differences;
  for (const ReadHistory::BuiltOn& pair : part.built_on) differences.insert(pair.group);
  std::vector<GroupId> wanted;  // in the order in which they are asked for
  std::ranges::copy_if(part.groups, std::back_inserter(wanted),
                       [&](GroupId group) { return differences.erase(group) > 0; });
  if (wanted.empty()) return;
  std::vector<GroupId> copied = actions_.copy(wanted);
  if (copied.empty()) return;
  // What they build on is to be read ahead no more.
  std::erase_if(part.built_on, [&](const ReadHistory::BuiltOn& pair) {
    return std::ranges::find(copied, pair.group) != copied.end();
  });
  (void)history_.replace(part.groups, part.built_on);
}

void ReadAhead::pause() noexcept {
  if (last_.exchange(0, std::memory_order_relaxed) == 0) return;
  try_to([&] {
    std::lock_guard lock(mutex_);
    for (Stream& stream : streams_) stream = {};
    noted_.clear();
    hand_over(false);
    leaving_ = true;
  });
}

}  // namespace layerfs
