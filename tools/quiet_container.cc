// SPDX-License-Identifier: Apache-2.0
#include "tools/quiet_container.h"

#include <chrono>
#include <nlohmann/json.hpp>
#include <thread>

#include "layerdb/store/catalog.h"
#include "layerdb/view/store_lower.h"

namespace layerfs {

// Between a daemon's taking the lock and its answering (and the reverse at its end) there is a
// moment in which neither way works.
Status QuietContainer::hold(const Container& container) {
  static constexpr int kTries = 50;
  static constexpr auto kPause = std::chrono::milliseconds(20);
  Error last;
  for (int i = 0; i < kTries; ++i) {
    Result<UniqueFd> lock = try_lock_file_to_read(container.directory + "/lock");
    if (lock.ok()) {
      lock_ = std::move(*lock);
      return {};
    }
    if (lock.error().code != EWOULDBLOCK) return lock.error();
    Result<std::unique_ptr<ControlClient>> daemon = ControlClient::connect(container);
    if (daemon.ok()) {
      Result<nlohmann::json> reply = (*daemon)->call({{"op", "freeze"}});
      if (!reply.ok()) return reply.error();
      daemon_ = std::move(*daemon);
      return {};
    }
    last = daemon.error();
    std::this_thread::sleep_for(kPause);
  }
  return last.wrap("container '" + container.name + "' is mounted, but its daemon does not answer");
}

Status QuietContainer::keep() {
  if (daemon_ != nullptr) TRY(daemon_->call({{"op", "freeze"}}));
  return {};
}

Progress QuietContainer::keeping(Progress progress) {
  return [this, progress, asked = std::chrono::steady_clock::now()](
             uint64_t done, uint64_t total, const std::string& what) mutable {
    auto now = std::chrono::steady_clock::now();
    if (now - asked > std::chrono::seconds(5)) {
      [[maybe_unused]] Status kept = keep();  // asked again before it matters
      asked = now;
    }
    if (progress) progress(done, total, what);
  };
}

Result<std::unique_ptr<QuietContainer>> QuietContainer::open(Store& store,
                                                             const Container& container) {
  std::unique_ptr<QuietContainer> out(new QuietContainer);
  TRY(out->hold(container));
  ChainRecord chain = TRY(store.catalog().chain(container.chain_id));
  out->lower_ = TRY(open_store_lower(store, chain));
  Upper::Options options;
  options.read_only = true;
  out->upper_ = TRY(Upper::open(container.directory, out->lower_->inode_limit(), options));
  return out;
}

}  // namespace layerfs
