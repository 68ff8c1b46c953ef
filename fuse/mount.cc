// SPDX-License-Identifier: Apache-2.0
#include "fuse/mount.h"

#include <malloc.h>
#include <poll.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <time.h>
#include <unistd.h>

#include <memory>
#include <new>
#include <nlohmann/json.hpp>

#include "fuse/container_wait.h"
#include "fuse/control_server.h"
#include "fuse/daemonize.h"
#include "fuse/mount_options.h"
#include "fuse/mountpoint.h"
#include "fuse/session.h"
#include "layerdb/base/assured_memory.h"
#include "layerdb/base/caught.h"
#include "layerdb/base/log.h"
#include "layerdb/base/sys.h"
#include "layerdb/ops/container.h"
#include "layerdb/store/catalog.h"
#include "layerdb/store/chunk_store.h"
#include "layerdb/store/reference.h"
#include "layerdb/store/store.h"
#include "layerdb/upper/upper.h"
#include "layerdb/view/store_lower.h"

namespace layerfs {
namespace {

// Few arenas: memory that one worker freed serves the others. Decoded groups come and go: from the
// heap, where they need no fresh pages, and which malloc_trim() shrinks.
void keep_memory_small() {
  ::mallopt(M_ARENA_MAX, 1);
  ::mallopt(M_MMAP_THRESHOLD, 1 << 20);
}

// Signals arrive on the descriptor, in every thread started from now on.
Result<UniqueFd> take_signals() {
  sigset_t set;
  sigemptyset(&set);
  for (int number : {SIGTERM, SIGINT, SIGHUP}) sigaddset(&set, number);
  if (::sigprocmask(SIG_BLOCK, &set, nullptr) != 0) return errno_error("block signals");
  UniqueFd fd(::signalfd(-1, &set, SFD_CLOEXEC));
  if (!fd.valid()) return errno_error("receive signals");
  return fd;
}

// The kernel keeps what it was given: these need to hold only what neighbours will ask for, and the
// bases that neighbours share. The first is for a mount that cannot share groups with others.
constexpr size_t kGroupCacheBytes = 40 << 20;
constexpr size_t kPageCacheBytes = 8 << 20;

class Daemon {
 public:
  explicit Daemon(const MountRequest& request) : request_(request) {}

  Status run(const Announce& announce) {
    signals_ = TRY(take_signals());
    prepare_for_many_files();
    keep_memory_small();
    Status started = start_or_say_why();
    // From here on a message that finds no memory is answered so.
    std::set_new_handler(AssuredMemory::give);
    if (started.ok()) started = announce(container_.name, container_.directory + "/log");
    if (!started.ok()) {
      take_back();
      return started;
    }
    wait_until_unmounted();
    return finish();
  }

 private:
  Status start_or_say_why() {
    return call_and_catch([&] { return start(); });  // no memory, no further thread
  }

  Status start() {
    TRY(take_container());
    ChainRecord chain = TRY(store_->catalog().chain(container_.chain_id));
    lower_ = TRY(open_store_lower(*store_, chain));
    MountOptions options =
        choose_mount_options(request_.options, request_.read_only, container_.directory);
    TRY(open_upper(options.read_only));
    overlay_ = TRY(Overlay::create(
        *lower_, upper_.get(),
        {.read_only = options.read_only, .host_directory = container_.directory, .clock = {}}));
    mount_.reset(new Mount{.overlay = *overlay_,
                           .stats = stats_,
                           .ids = options.ids,
                           .keep_atime = options.keep_atime,
                           .keep_directory_atime = options.keep_directory_atime});
    session_ = TRY(Session::start(*mount_, {.mountpoint = request_.mountpoint,
                                            .mount_options = options.for_libfuse,
                                            .posix_acl = options.kernel_checks,
                                            .writeback = !options.read_only,
                                            .on_idle = [this] { give_memory_back(); }}));
    control_ = TRY(ControlServer::start(container_.directory, handlers()));
    return record_mount(container_, {.pid = ::getpid(),
                                     .mountpoint = request_.mountpoint,
                                     .read_only = options.read_only,
                                     .mounted_at = ::time(nullptr)});
  }

  // Finds or makes the container and locks it. Another mount's end is waited for without the
  // containers lock, which everybody needs; afterwards the container may be another one.
  Status take_container() {
    constexpr int kPatienceMilliseconds = 30000;
    for (int waited = 0;;) {
      Result<UniqueFd> lock = find_and_lock();
      if (lock.ok()) {
        lock_ = std::move(*lock);
        return {};
      }
      if (lock.error().code != EWOULDBLOCK) return std::move(lock).error();
      if (!TRY(wait_until_free(container_, waited, kPatienceMilliseconds)))
        return mounted_already();
    }
  }

  // EWOULDBLOCK: somebody else has the container's lock. The containers lock keeps the image from
  // vanishing between being resolved and being named.
  Result<UniqueFd> find_and_lock() {
    UniqueFd all = TRY(lock_containers(request_.root));
    store_ = TRY(Store::open(request_.root, {.read_only = true,
                                             .create = false,
                                             .group_cache_bytes = kGroupCacheBytes,
                                             .page_cache_bytes = kPageCacheBytes,
                                             .for_mount = true}));
    Result<Container> existing = Error{ENOENT, ""};
    if (made_ || request_.container) {
      existing = find_container(request_.root, made_ ? container_.name : *request_.container);
    }
    if (existing.ok()) {
      container_ = *existing;
      TRY(check_same_image());
    } else {
      if (existing.error().code != ENOENT) return std::move(existing).error();
      TRY(make_container());
    }
    return try_lock_file(container_.directory + "/lock");
  }

  Status make_container() {
    Container description;
    description.name =
        request_.container ? *request_.container : generate_container_name(request_.root);
    description.reference = request_.reference;
    description.image = TRY(resolve_image(store_->catalog(), request_.reference));
    description.chain_id = TRY(store_->catalog().image(description.image)).chain_id;
    description.created_at = ::time(nullptr);
    description.size_limit_bytes = request_.size_limit_bytes;
    container_ = TRY(create_container(request_.root, description));
    made_ = true;
    return {};
  }

  // A reference that has moved on since still names this container's image.
  Status check_same_image() {
    if (request_.reference == container_.reference) return {};
    Digest image = TRY(resolve_image(store_->catalog(), request_.reference));
    if (image == container_.image) return {};
    return Error{EINVAL, "container '" + container_.name + "' is of image '" +
                             container_.reference + "', not '" + request_.reference +
                             "'; give another container name"};
  }

  Error mounted_already() {
    Result<std::optional<MountInfo>> who = mounted(container_);
    std::string where = who.ok() && *who ? " at '" + (*who)->mountpoint + "' by process " +
                                               std::to_string((*who)->pid)
                                         : " or being mounted";
    return Error{EBUSY, "container '" + container_.name + "' is mounted already" + where};
  }

  Status open_upper(bool read_only) {
    if (read_only && !path_exists(container_.directory + "/upper")) {
      passing_ = made_ && !request_.container;
      return {};
    }
    upper_ = TRY(Upper::open(container_.directory, lower_->inode_limit(),
                             {.read_only = read_only,
                              .despite_damage = read_only,
                              .size_limit_bytes = container_.size_limit_bytes}));
    return {};
  }

  ControlServer::Handlers handlers() {
    return {.freeze = [this](pid_t client) { return session_->freeze(client); },
            .while_frozen = [this] { session_->let_dying_go(); },
            .thaw = [this] { session_->thaw(); },
            .stats = [this] { return stats_with_costs(); },
            .unmount = [this] { return detach(false); }};
  }

  void give_memory_back() {
    (void)call_and_catch([&]() -> Status {  // RocksDB takes some to give some back
      store_->drop_caches();
      if (upper_) upper_->drop_caches();
      return {};
    });
    ::malloc_trim(0);
  }

  // With what the answers cost so far: bytes read from the store and decompressed, time, memory.
  nlohmann::json stats_with_costs() {
    nlohmann::json out = stats_.to_json();
    ChunkStoreCounters chunks = store_->chunks().counters();
    out["compressed_read_bytes"] = chunks.compressed_bytes_read;
    out["decompressed_bytes"] = chunks.decoded_bytes;
    rusage usage = {};
    ::getrusage(RUSAGE_SELF, &usage);
    auto seconds = [](const timeval& t) { return double(t.tv_sec) + double(t.tv_usec) / 1e6; };
    out["cpu_seconds"] = seconds(usage.ru_utime) + seconds(usage.ru_stime);
    out["peak_memory_bytes"] = uint64_t(usage.ru_maxrss) * 1024;
    return out;
  }

  // Where it was mounted, unless a directory above it was renamed since.
  Status detach(bool lazy) {
    std::string path = request_.mountpoint;
    if (!TRY(find_mount(path))) path = TRY(find_mountpoint(container_.directory)).value_or(path);
    return detach_mount(path, lazy);
  }

  void wait_until_unmounted() {
    bool detached = false;
    for (;;) {
      pollfd watched[] = {{session_->ended_fd(), POLLIN, 0}, {signals_.get(), POLLIN, 0}};
      if (::poll(watched, 2, -1) < 0) continue;  // EINTR
      if (watched[0].revents != 0) return;
      signalfd_siginfo signal;
      if (::read(signals_.get(), &signal, sizeof signal) != sizeof signal) continue;
      if (detached) end_at_once();
      control_->end_freeze();  // or unmounting would wait for it
      Status status = detach(false);
      if (!status.ok() && status.error().code == EBUSY) {
        log_warning("{}; detached, it ends with its last user", status.error().message);
        status = detach(true);
      }
      if (!status.ok()) log_error("{}", status.error().message);
      detached = true;
    }
  }

  // The second signal: what was acknowledged is made durable; programs still inside get ENOTCONN.
  [[noreturn]] void end_at_once() {
    Status synced = upper_ ? overlay_->sync(0) : Status();
    if (!synced.ok()) log_error("{}", synced.error().message);
    [[maybe_unused]] Status forgotten = forget_mount(container_);
    ::_exit(synced.ok() ? 0 : 1);
  }

  Status finish() {
    control_->stop();
    session_->join();
    Status status = upper_ ? overlay_->sync(0) : Status();
    close_all();
    if (status.ok()) status = forget_mount(container_);
    if (passing_) status = remove_made_container();
    lock_.reset();
    control_->answer_unmounts(status);
    return status;
  }

  void close_all() {
    session_.reset();
    overlay_.reset();
    upper_.reset();
    lower_.reset();
    store_.reset();
  }

  // The mount did not come about: what was made for it goes.
  void take_back() {
    if (control_) control_->stop();
    if (session_) {
      [[maybe_unused]] Status detached = detach_mount(request_.mountpoint, true);
      session_->join();
    }
    close_all();
    if (made_) [[maybe_unused]]
      Status removed = remove_made_container();
  }

  Status remove_made_container() {
    lock_.reset();
    UniqueFd all = TRY(lock_containers(request_.root));
    return remove_container(container_);
  }

  const MountRequest& request_;
  UniqueFd signals_;
  Container container_;
  bool made_ = false;     // by this mount
  bool passing_ = false;  // goes with the mount: nothing was or could be written
  UniqueFd lock_;
  // Each uses those before it.
  std::unique_ptr<Store> store_;
  std::unique_ptr<Lower> lower_;
  std::unique_ptr<Upper> upper_;
  std::unique_ptr<Overlay> overlay_;
  Stats stats_;
  std::unique_ptr<Mount> mount_;
  std::unique_ptr<Session> session_;
  std::unique_ptr<ControlServer> control_;
};

}  // namespace

Status run_mount(const MountRequest& given,
                 const std::function<void(const std::string& container)>& mounted) {
  MountRequest request = given;
  request.mountpoint = TRY(resolve_mountpoint(given.mountpoint));
  TRY(check_mountpoint(request.mountpoint));
  auto serve = [&request](const Announce& announce) { return Daemon(request).run(announce); };
  if (request.foreground)
    return serve([&mounted](const std::string& name, const std::string&) -> Status {
      mounted(name);
      return {};
    });
  mounted(TRY(run_in_background(serve)));
  return {};
}

}  // namespace layerfs
