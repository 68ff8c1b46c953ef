// SPDX-License-Identifier: Apache-2.0
#include "fuse/session.h"

#include <fcntl.h>
#include <linux/fuse.h>
#include <sched.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstring>
#include <mutex>
#include <thread>

#include "fuse/held_messages.h"
#include "fuse/late_forgets.h"
#include "fuse/late_seeks.h"
#include "fuse/listeners.h"
#include "fuse/message_buffer.h"
#include "fuse/negotiation.h"
#include "fuse/ops.h"
#include "fuse/stay_awake.h"
#include "layerdb/base/caught.h"
#include "layerdb/base/sys.h"

namespace layerfs {
namespace {

constexpr size_t kMessageBytes = kMaxRequestBytes + 64 * 1024;  // header and arguments of a WRITE
constexpr int kRestMilliseconds = 1000;

unsigned usable_processors() {
  cpu_set_t set;
  if (::sched_getaffinity(0, sizeof set, &set) != 0) return std::thread::hardware_concurrency();
  return static_cast<unsigned>(CPU_COUNT(&set));
}

// The device through which this thread's current message came.
thread_local int t_device = -1;
thread_local LateForgets::Reader* t_reader = nullptr;  // a worker's

class FuseSession : public Session {
 public:
  FuseSession(Mount& mount, Options options) : mount_(mount), options_(std::move(options)) {}
  ~FuseSession() override {
    join();
    if (session_ == nullptr) return;
    fuse_session_unmount(session_);  // what is not unmounted yet; and libfuse frees its path here
    fuse_session_destroy(session_);
  }

  Status open();
  int ended_fd() const override { return ended_.get(); }
  void join() override;
  Status freeze(pid_t client) override;
  void let_dying_go() override;
  void thaw() override;

  void negotiate(fuse_conn_info* connection) const {
    choose_capabilities(*connection, options_.writeback, options_.posix_acl);
  }
  ssize_t send(iovec* parts, int count);

 private:
  struct Worker {
    UniqueFd device;  // its own clone
    UniqueFd epoll;
    std::atomic<uint64_t> turns{0};
    Polling polling{Polling::kPatience};
    Pace pace;
    Listeners::Spare spare;
    LateForgets::Reader reader;
    int in_a_row = 0;  // messages that were there already when the one before was done
    MessageBuffer buffer{kMessageBytes};
    std::thread thread;

    void give_memory_back() {  // by its own thread
      buffer.release();
      release_reply_buffer();
    }
  };

  Status mount();
  Status answer_init();
  Status start_workers();
  Status add_worker();
  Polling::Clock::duration patience() const;
  void serve(Worker& worker);
  bool take_turn(Worker& worker);
  void take_message(Worker& worker, const char* message, size_t size_bytes);
  void catch_up_with_forgets();
  void wait_for_message(Worker& worker);
  void dispatch(int device, const char* message, size_t size_bytes);
  bool hold_back(int device, const char* message, size_t size_bytes);
  void answer(int device, const char* message, size_t size_bytes);
  void answer_here(RawAnswer answer, const fuse_in_header* message, size_t size_bytes);
  Status write_back(Ino ino, uint64_t offset, uint64_t end);
  template <typename Body>
  void reply_here(int device, const fuse_in_header& message, const Body& body);
  void send_reply(int device, uint64_t unique, int code, std::string_view body = {});
  void send_inval(Ino ino);
  void wait_for_turns();
  void answer_held();

  Mount& mount_;
  Options options_;
  fuse_session* session_ = nullptr;
  int device_ = -1;  // owned by session_
  UniqueFd ended_{::eventfd(0, EFD_CLOEXEC)};
  Barrier barrier_;
  std::vector<std::unique_ptr<Worker>> workers_;
  Listeners listeners_;
  const unsigned processors_ = usable_processors();
  StayAwake stay_awake_{StayAwake::kDevice, ::sysconf(_SC_NPROCESSORS_ONLN), mount_.stats};
  LateForgets late_forgets_{kMessageBytes};
  std::atomic<bool> rested_{true};                // on_idle was called since the last message
  const fuse_in_header* init_message_ = nullptr;  // while INIT is being answered
  bool setxattr_ext_ = false;                     // SETXATTR has a form that libfuse does not know

  bool waits_for_pages_ = false;  // the kernel's sync_file_range() on us

  HeldMessages held_;
  std::mutex thaw_mutex_;  // held while what was held back is being answered
  LateSeeks late_seeks_{[this](int device, const std::string& message) {
    answer(device, message.data(), message.size());
  }};
};

// What libfuse says while mounting goes into the error sentence, later into the log.
thread_local std::string* t_libfuse_said = nullptr;
void hear_libfuse(fuse_log_level, const char* format, va_list arguments) {
  char line[1024];
  std::vsnprintf(line, sizeof line, format, arguments);
  std::string_view text(line);
  while (text.ends_with('\n')) text.remove_suffix(1);
  if (t_libfuse_said == nullptr) return log_warning("{}", text);
  if (!t_libfuse_said->empty()) *t_libfuse_said += "; ";
  *t_libfuse_said += text;
}

// The library passes one pointer to callbacks and to custom I/O: the Mount. This finds its session.
thread_local FuseSession* t_session = nullptr;

ssize_t session_writev(int, iovec* parts, int count, void*) {
  return t_session->send(parts, count);
}
ssize_t session_read(int fd, void* buffer, size_t size, void*) { return ::read(fd, buffer, size); }

void on_init(void*, fuse_conn_info* connection) noexcept { t_session->negotiate(connection); }

Status FuseSession::open() {
  std::string said;
  t_libfuse_said = &said;
  Status status = mount();
  if (status.ok()) status = answer_init();
  t_libfuse_said = nullptr;
  if (!status.ok() && !said.empty()) status.error().message += " (" + said + ")";
  TRY(std::move(status));
  mount_.forget_attributes = [this](Ino ino) { send_inval(ino); };
  mount_.catch_up_with_forgets = [this] { catch_up_with_forgets(); };
  mount_.write_back = [this](Ino ino, uint64_t offset, uint64_t end) {
    return write_back(ino, offset, end);
  };
  status = start_workers();
  if (!status.ok()) fuse_session_unmount(session_);  // those that have started end
  return status;
}

Status FuseSession::mount() {
  fuse_lowlevel_ops ops = {};
  ops.init = on_init;
  add_meta_callbacks(ops);
  add_directory_callbacks(ops);
  add_io_callbacks(ops);

  fuse_set_log_func(hear_libfuse);
  fuse_args args = FUSE_ARGS_INIT(0, nullptr);
  fuse_opt_add_arg(&args, "layerfs");
  for (const std::string& option : options_.mount_options) {
    fuse_opt_add_arg(&args, "-o");
    fuse_opt_add_arg(&args, option.c_str());
  }
  session_ = fuse_session_new(&args, &ops, sizeof ops, &mount_);
  fuse_opt_free_args(&args);
  bool mounted =
      session_ != nullptr && fuse_session_mount(session_, options_.mountpoint.c_str()) == 0;
  if (!mounted) return Error{EPERM, "cannot mount at '" + options_.mountpoint + "'"};
  device_ = fuse_session_fd(session_);
  fuse_custom_io io = {};
  io.writev = session_writev;
  io.read = session_read;
  if (fuse_session_custom_io(session_, &io, device_) != 0)
    return Error{EIO, "libfuse refuses custom I/O"};
  return {};
}

// The first message, read here so that a mount that cannot be negotiated fails in front of the
// user.
Status FuseSession::answer_init() {
  std::unique_ptr<char[]> buffer(new char[kMessageBytes]);
  ssize_t size;
  do {
    size = ::read(device_, buffer.get(), kMessageBytes);
  } while (size < 0 && errno == EINTR);
  if (size < static_cast<ssize_t>(sizeof(fuse_in_header)))
    return errno_error("read the kernel's first message from /dev/fuse");
  init_message_ = reinterpret_cast<const fuse_in_header*>(buffer.get());
  constexpr uint32_t kMinorOfLinux616 = 44;
  waits_for_pages_ =
      reinterpret_cast<const fuse_init_in*>(init_message_ + 1)->minor >= kMinorOfLinux616;
  answer(device_, buffer.get(), static_cast<size_t>(size));
  mount_.stats.count_message(FUSE_INIT);
  init_message_ = nullptr;
  if (fuse_session_exited(session_)) return Error{EPROTO, "libfuse and the kernel do not agree"};
  return {};
}

ssize_t FuseSession::send(iovec* parts, int count) {
  if (init_message_ != nullptr)
    setxattr_ext_ = add_init_flags(init_message_, parts, count) & FUSE_SETXATTR_EXT;
  const auto& reply = *static_cast<const fuse_out_header*>(parts[0].iov_base);
  if (reply.error < 0) barrier_.failed(*current_message(), -reply.error);
  return ::writev(t_device, parts, count);
}

Status FuseSession::start_workers() {
  unsigned count = std::clamp(processors_, 2u, 4u);
  for (unsigned i = 0; i < count; ++i) TRY(add_worker());
  return call_and_catch([&]() -> Status {
    for (auto& worker : workers_)
      worker->thread = std::thread([this, &worker = *worker] { serve(worker); });
    return {};
  });
}

// On one processor, who would send the next message waits for the poller to sleep.
Polling::Clock::duration FuseSession::patience() const {
  if (processors_ < 2) return {};
  return stay_awake_.available() ? Polling::kPatienceAwake : Polling::kPatience;
}

Status FuseSession::add_worker() {
  auto worker = std::make_unique<Worker>();
  worker->device = TRY(open_file("/dev/fuse", O_RDWR | O_NONBLOCK));
  uint32_t master = static_cast<uint32_t>(device_);
  if (::ioctl(worker->device.get(), FUSE_DEV_IOC_CLONE, &master) != 0)
    return errno_error("clone /dev/fuse");
  worker->polling = Polling(patience());
  worker->epoll = UniqueFd(::epoll_create1(EPOLL_CLOEXEC));
  epoll_event event = {};
  event.events = EPOLLIN | EPOLLEXCLUSIVE;  // one message wakes one worker
  if (!worker->epoll.valid() ||
      ::epoll_ctl(worker->epoll.get(), EPOLL_CTL_ADD, worker->device.get(), &event) != 0)
    return errno_error("watch /dev/fuse");
  TRY(listeners_.add(worker->spare, worker->device.get(),
                     {kRestMilliseconds, [w = worker.get()] { w->give_memory_back(); }}));
  late_forgets_.add(worker->reader, worker->device.get());
  workers_.push_back(std::move(worker));
  return {};
}

void FuseSession::serve(Worker& worker) {
  t_session = this;
  t_reader = &worker.reader;
  listeners_.join();
  while (take_turn(worker)) {
  }
  listeners_.end();
  uint64_t one = 1;
  [[maybe_unused]] ssize_t written = ::write(ended_.get(), &one, sizeof one);
}

// Answers one message, or waits for one. False: the connection has ended.
bool FuseSession::take_turn(Worker& worker) {
  worker.turns.fetch_add(1);
  worker.reader.will_read();
  ssize_t size = ::read(worker.device.get(), worker.buffer.data(), kMessageBytes);
  int code = size < 0 ? errno : 0;
  worker.reader.has_read(worker.buffer.data(), size < 0 ? 0 : static_cast<size_t>(size));
  if (size >= static_cast<ssize_t>(sizeof(fuse_in_header)))
    take_message(worker, worker.buffer.data(), static_cast<size_t>(size));
  worker.reader.done();
  while (std::optional<LateForgets::Message> message = worker.reader.next_set_aside())
    take_message(worker, message->bytes.get(), message->size_bytes);
  worker.turns.fetch_add(1);
  if (code == 0 || code == EINTR || code == ENOENT) return true;  // ENOENT: message was withdrawn
  if (code == EAGAIN) {
    wait_for_message(worker);
    return true;
  }
  if (code != ENODEV) log_error("{}", errno_error("read /dev/fuse", code).message);
  return false;
}

void FuseSession::take_message(Worker& worker, const char* message, size_t size_bytes) {
  constexpr int kBacklog = 3;
  const auto& header = *reinterpret_cast<const fuse_in_header*>(message);
  worker.polling.received(Polling::Clock::now());
  if (rested_) rested_ = false;
  Listeners::Spare* called =
      listeners_.leave(++worker.in_a_row > kBacklog || may_last(header, size_bytes));
  dispatch(worker.device.get(), message, size_bytes);
  listeners_.come_back(called);
  Polling::Clock::time_point now = Polling::Clock::now();
  worker.polling.replied(now);
  if (worker.pace.is_fast(now)) stay_awake_.ask(now);
}

void FuseSession::catch_up_with_forgets() {
  if (t_reader == nullptr) return;  // the message was held back, and so were FORGETs
  const fuse_in_header* message = current_message();
  late_forgets_.catch_up(*t_reader, mount_.overlay.awaits_forgets(),
                         [this, device = t_device](const LateForgets::Message& forget) {
                           dispatch(device, forget.bytes.get(), forget.size_bytes);
                         });
  set_current_message(message);
}

void FuseSession::wait_for_message(Worker& worker) {
  worker.in_a_row = 0;
  if (listeners_.sleep_if_spare(worker.spare)) return worker.polling.slept();
  if (worker.polling.goes_on(Polling::Clock::now())) return;
  epoll_event event;
  int ready = ::epoll_wait(worker.epoll.get(), &event, 1, rested_ ? -1 : kRestMilliseconds);
  if (ready != 0 || rested_.exchange(true)) return;
  worker.give_memory_back();
  if (options_.on_idle) options_.on_idle();
}

void FuseSession::dispatch(int device, const char* message, size_t size_bytes) {
  const auto* header = reinterpret_cast<const fuse_in_header*>(message);
  mount_.stats.count_message(header->opcode);
  if (std::optional<Barrier::Answer> reply = barrier_.answer(*header, size_bytes)) {
    if (reply->wanted) send_reply(device, header->unique, reply->code, reply->body);
    return;
  }
  if (std::optional<Ino> ino = barrier_.inode_of(*header, size_bytes))
    return reply_here(device, *header, [&] { return passing_entry(mount_, *ino); });
  if (header->opcode == FUSE_LSEEK) {
    Status taken = late_seeks_.take(device, message, size_bytes);
    if (!taken.ok()) send_reply(device, header->unique, taken.error().code);
    return;
  }
  if (held_.holding() && hold_back(device, message, size_bytes)) return;
  answer(device, message, size_bytes);
}

// True: the message is dealt with, or waits.
bool FuseSession::hold_back(int device, const char* message, size_t size_bytes) {
  const auto* header = reinterpret_cast<const fuse_in_header*>(message);
  if (header->opcode == FUSE_INTERRUPT && held_.interrupt(*header)) {
    let_dying_go();
    return true;
  }
  auto outcome = HeldMessages::Outcome::held;
  Status kept = call_and_catch([&]() -> Status {
    outcome = held_.offer(device, message, size_bytes);
    return {};
  });
  if (!kept.ok()) {
    barrier_.failed(*header, ENOMEM);
    send_reply(device, header->unique, ENOMEM);
  }
  if (outcome == HeldMessages::Outcome::refuse) send_reply(device, header->unique, EDEADLK);
  return outcome != HeldMessages::Outcome::answer_it;
}

void FuseSession::let_dying_go() {
  (void)call_and_catch([&]() -> Status {  // without memory: the next time
    while (std::optional<HeldMessages::Held> held = held_.take_dying()) {
      const auto* about = reinterpret_cast<const fuse_in_header*>(held->message.data());
      send_reply(held->device, about->unique, EINTR);
    }
    return {};
  });
}

void FuseSession::answer(int device, const char* message, size_t size_bytes) {
  const auto* header = reinterpret_cast<const fuse_in_header*>(message);
  t_session = this;
  t_device = device;
  set_current_message(header);
  if (RawAnswer raw = raw_answer(header->opcode, setxattr_ext_))
    return answer_here(raw, header, size_bytes);
  fuse_buf buffer = {};
  buffer.size = size_bytes;
  buffer.mem = const_cast<char*>(message);
  fuse_session_process_buf(session_, &buffer);
}

void FuseSession::answer_here(RawAnswer answer, const fuse_in_header* message, size_t size_bytes) {
  reply_here(t_device, *message, [&] {
    return finding_space(mount_, [&] { return answer(mount_, message, size_bytes); });
  });
}

// What `body` makes, a Result<std::string>.
template <typename Body>
void FuseSession::reply_here(int device, const fuse_in_header& message, const Body& body) {
  Result<std::string> made = Error{EIO, ""};
  try {
    made = body();
  } catch (const std::exception& e) {
    log_error("inode {}: {}", message.nodeid, e.what());
  }
  if (made.ok()) return send_reply(device, message.unique, 0, *made);
  send_reply(device, message.unique, errno_for_kernel(made.error(), message.nodeid));
}

Status FuseSession::write_back(Ino ino, uint64_t offset, uint64_t end) {
  if (!options_.writeback) return {};  // read-only
  TRY(barrier_.write_back(options_.mountpoint, ino, offset, end, waits_for_pages_));
  if (waits_for_pages_) return {};
  wait_for_turns();
  // What a worker had may be held back.
  while (held_.holding() && !late_seeks_.stopped())
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  std::lock_guard answering(thaw_mutex_);
  return {};
}

void FuseSession::send_reply(int device, uint64_t unique, int code, std::string_view body) {
  fuse_out_header header = {};
  header.len = static_cast<uint32_t>(sizeof header + body.size());
  header.error = -code;
  header.unique = unique;
  iovec parts[] = {{&header, sizeof header}, {const_cast<char*>(body.data()), body.size()}};
  // Fails only when the connection has ended or the caller is gone: then nobody waits for it.
  [[maybe_unused]] ssize_t written = ::writev(device, parts, 2);
}

// Of attributes only, which never waits for anything.
void FuseSession::send_inval(Ino ino) { fuse_lowlevel_notify_inval_inode(session_, ino, -1, 0); }

// Returns when every message that a worker held at the call has been answered or set aside.
void FuseSession::wait_for_turns() {
  for (auto& worker : workers_) {
    uint64_t turn = worker->turns.load();
    if (turn % 2 == 0) continue;
    while (worker->turns.load() == turn)
      std::this_thread::sleep_for(std::chrono::microseconds(100));
  }
}

Status FuseSession::freeze(pid_t client) {
  // A name that was made is in the state that is frozen, and so is all that was written before it:
  // content that the kernel had not written back by then comes while names wait.
  Status written = barrier_.write_back_twice(
      options_.mountpoint, [&] { held_.start(client, HeldMessages::What::names); });
  if (!written.ok()) {
    answer_held();
    return written;
  }
  wait_for_turns();
  held_.start(client, HeldMessages::What::all);
  wait_for_turns();
  mount_.overlay.freeze();
  return {};
}

void FuseSession::thaw() {
  mount_.overlay.thaw();
  answer_held();
}

void FuseSession::answer_held() {
  std::lock_guard answering(thaw_mutex_);
  for (const HeldMessages::Held& held : held_.stop())
    answer(held.device, held.message.data(), held.message.size());
}

void FuseSession::join() {
  for (auto& worker : workers_)
    if (worker->thread.joinable()) worker->thread.join();
  late_seeks_.stop();
}

}  // namespace

Result<std::unique_ptr<Session>> Session::start(Mount& mount, Options options) {
  auto session = std::make_unique<FuseSession>(mount, std::move(options));
  TRY(session->open());
  return std::unique_ptr<Session>(std::move(session));
}

}  // namespace layerfs
