// SPDX-License-Identifier: Apache-2.0
//
// A removed file holds its space until the kernel forgets it. The kernel does so before unlink(2),
// or the close(2) of the last descriptor, returns, but only puts a FORGET into its queue: what the
// program sends next may be read before it (while both kinds wait, the kernel gives out 8 other
// messages, then 16 FORGETs), or while another worker is still removing the file. So before it
// answers ENOSPC, or how much space there is, a worker catches up with all that was forgotten.
//
// The queue is one for all messages, so others come along: they are set aside, and answered by the
// same worker once it is done with its own. Thread-safe: a Reader's members belong to its worker,
// but for what it tells others. Waits for nobody who could wait for it.
#pragma once

#include <atomic>
#include <cstddef>
#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <vector>

struct fuse_in_header;

namespace layerfs {

class LateForgets {
 public:
  struct Message {
    std::unique_ptr<char[]> bytes;
    size_t size_bytes = 0;
  };
  class Reader {
   public:
    // Around every read(2) of the device: what was read may be a FORGET until it is known not to
    // be, and is until it has been dealt with.
    void will_read() { may_hold_ = true; }
    void has_read(const char* message, size_t size_bytes);  // 0: nothing
    void done() { may_hold_.store(false, std::memory_order_release); }
    std::optional<Message> next_set_aside();

   private:
    friend class LateForgets;
    int device_ = -1;
    std::atomic<bool> may_hold_{false};
    std::deque<Message> set_aside_;
  };

  explicit LateForgets(size_t message_bytes) : message_bytes_(message_bytes) {}
  // Before any worker starts. `reader` must outlive this.
  void add(Reader& reader, int device);

  // By the worker of `self`, which is answering something else: gives FORGETs that wait in the
  // queue to `deal_with` if `any` may be there, and waits for those that other workers have.
  using DealWith = std::function<void(const Message&)>;
  void catch_up(Reader& self, bool any, const DealWith& deal_with);

 private:
  void read_queue(Reader& self, const DealWith& deal_with);

  const size_t message_bytes_;
  std::vector<Reader*> readers_;
};

}  // namespace layerfs
