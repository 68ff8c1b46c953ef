// SPDX-License-Identifier: Apache-2.0
#include "layerdb/base/assured_memory.h"

#include <sys/mman.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <new>
#include <string_view>

#include "layerdb/base/caught.h"

namespace layerfs {

namespace {

constexpr size_t kPieces = AssuredMemory::kBytes / AssuredMemory::kPieceBytes;
std::array<std::atomic<void*>, kPieces> pieces;
std::atomic<size_t> pieces_held = 0;
thread_local int scopes = 0;

bool hold_all_pieces() {
  for (std::atomic<void*>& piece : pieces) {
    if (piece != nullptr) continue;
    void* memory = ::mmap(nullptr, AssuredMemory::kPieceBytes, PROT_READ | PROT_WRITE,
                          MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) return false;
    void* none = nullptr;
    if (piece.compare_exchange_strong(none, memory))
      ++pieces_held;
    else
      ::munmap(memory, AssuredMemory::kPieceBytes);
  }
  return true;
}

bool give_one_piece() {
  for (std::atomic<void*>& piece : pieces)
    if (void* memory = piece.exchange(nullptr)) {
      --pieces_held;
      ::munmap(memory, AssuredMemory::kPieceBytes);
      return true;
    }
  return false;
}

}  // namespace

AssuredMemory::AssuredMemory() {
  if (pieces_held < kPieces && !hold_all_pieces()) status_ = Error{ENOMEM, caught_reason()};
  ++scopes;
}

AssuredMemory::~AssuredMemory() { --scopes; }

void AssuredMemory::give() {
  if (scopes == 0) throw std::bad_alloc();
  if (give_one_piece()) return;
  static constexpr std::string_view kWhy =
      "layerfs: error: no memory is left amid a write to the database; what was done before is "
      "safe. Raise the limit (ulimit -v) and mount the container again\n";
  (void)!::write(STDERR_FILENO, kWhy.data(), kWhy.size());
  ::_exit(1);
}

}  // namespace layerfs
