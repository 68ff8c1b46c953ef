// SPDX-License-Identifier: Apache-2.0
#include "fuse/held_messages.h"

#include <algorithm>
#include <cstring>

#include "fuse/sender.h"

namespace layerfs {
namespace {

bool is_mutation(uint32_t opcode) {
  switch (opcode) {
    case FUSE_SETATTR:
    case FUSE_SYMLINK:
    case FUSE_MKNOD:
    case FUSE_MKDIR:
    case FUSE_UNLINK:
    case FUSE_RMDIR:
    case FUSE_RENAME:
    case FUSE_RENAME2:
    case FUSE_LINK:
    case FUSE_WRITE:
    case FUSE_SETXATTR:
    case FUSE_REMOVEXATTR:
    case FUSE_FALLOCATE:
    case FUSE_COPY_FILE_RANGE:
    case FUSE_TMPFILE:
    case FUSE_FORGET:  // the last one removes an unlinked file
    case FUSE_BATCH_FORGET:
      return true;
    default:
      return false;
  }
}

bool changes_content(uint32_t opcode) {
  return opcode == FUSE_WRITE || opcode == FUSE_SETATTR || opcode == FUSE_FALLOCATE ||
         opcode == FUSE_COPY_FILE_RANGE;
}

bool is_held(HeldMessages::What what, uint32_t opcode) {
  if (what == HeldMessages::What::nothing || !is_mutation(opcode)) return false;
  return what == HeldMessages::What::all || !changes_content(opcode);
}

bool wants_reply(uint32_t opcode) { return opcode != FUSE_FORGET && opcode != FUSE_BATCH_FORGET; }

const fuse_in_header& header_of(const std::string& message) {
  return *reinterpret_cast<const fuse_in_header*>(message.data());
}

// True also when nobody can tell.
bool is_dying(const std::string& message) {
  std::optional<Sender> sender = sender_of(header_of(message).pid);
  return !sender || sender->dying;
}

}  // namespace

void HeldMessages::start(pid_t client, What what) {
  std::lock_guard lock(mutex_);
  client_ = client;
  what_ = what;
}

std::deque<HeldMessages::Held> HeldMessages::stop() {
  std::lock_guard lock(mutex_);
  what_ = What::nothing;
  return std::exchange(held_, {});
}

bool HeldMessages::from_client(const fuse_in_header& message) const {
  if (client_ <= 0 || message.pid == 0 || !wants_reply(message.opcode)) return false;
  std::optional<Sender> sender = sender_of(message.pid);
  return sender && sender->process == client_;
}

HeldMessages::Outcome HeldMessages::offer(int device, const char* message, size_t size_bytes) {
  const auto& header = *reinterpret_cast<const fuse_in_header*>(message);
  if (!is_held(what_, header.opcode)) return Outcome::answer_it;
  std::lock_guard lock(mutex_);
  if (!is_held(what_, header.opcode)) return Outcome::answer_it;  // thawed meanwhile
  if (from_client(header)) return Outcome::refuse;
  held_.push_back({device, std::string(message, size_bytes), false});
  return Outcome::held;
}

bool HeldMessages::interrupt(const fuse_in_header& interrupt) {
  fuse_interrupt_in in;
  std::memcpy(&in, &interrupt + 1, sizeof in);
  std::lock_guard lock(mutex_);
  auto it = std::find_if(held_.begin(), held_.end(), [&](const Held& held) {
    return header_of(held.message).unique == in.unique;
  });
  if (it == held_.end() || !wants_reply(header_of(it->message).opcode)) return false;
  it->interrupted = true;
  return true;
}

std::optional<HeldMessages::Held> HeldMessages::take_dying() {
  std::lock_guard lock(mutex_);
  auto it = std::find_if(held_.begin(), held_.end(), [](const Held& held) {
    return held.interrupted && is_dying(held.message);
  });
  if (it == held_.end()) return std::nullopt;
  Held out = std::move(*it);
  held_.erase(it);
  return out;
}

}  // namespace layerfs
