// SPDX-License-Identifier: Apache-2.0
//
// async_writer FILE SECONDS: writes the same blocks again and again, asynchronously (io_submit) and
// past the page cache (O_DIRECT), while two threads read them through it. What a write left there
// once it was complete is looked at then; prints what is old, or "written N times".
#include <fcntl.h>
#include <linux/aio_abi.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <thread>
#include <vector>

namespace {

constexpr size_t kBytes = 640 << 10, kPage = 4096;
using Buffer = std::unique_ptr<char, decltype(&std::free)>;

Buffer aligned() { return {static_cast<char*>(std::aligned_alloc(kPage, kBytes)), &std::free}; }

int fail(const char* what) {
  std::perror(what);
  return 2;
}

bool write_asynchronously(aio_context_t context, int fd, const char* bytes) {
  iocb block = {};
  block.aio_lio_opcode = IOCB_CMD_PWRITE;
  block.aio_fildes = static_cast<uint32_t>(fd);
  block.aio_buf = reinterpret_cast<uintptr_t>(bytes);
  block.aio_nbytes = kBytes;
  iocb* blocks[] = {&block};
  io_event event = {};
  return ::syscall(SYS_io_submit, context, 1, blocks) == 1 &&
         ::syscall(SYS_io_getevents, context, 1, 1, &event, nullptr) == 1 &&
         event.res == static_cast<int64_t>(kBytes);
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 3) return 2;
  int direct = ::open(argv[1], O_RDWR | O_CREAT | O_TRUNC | O_DIRECT, 0644);
  int cached = ::open(argv[1], O_RDONLY);
  aio_context_t context = 0;
  if (direct < 0 || cached < 0) return fail(argv[1]);
  if (::syscall(SYS_io_setup, 1, &context) != 0) return fail("io_setup");

  std::atomic<bool> done = false;
  std::vector<std::thread> readers;
  for (int i = 0; i < 2; ++i)
    readers.emplace_back([&] {
      Buffer bytes = aligned();
      while (!done) (void)!::pread(cached, bytes.get(), kBytes, 0);
    });

  Buffer bytes = aligned(), seen = aligned();
  auto end = std::chrono::steady_clock::now() + std::chrono::seconds(std::atoi(argv[2]));
  int status = 0, count = 0;
  while (status == 0 && std::chrono::steady_clock::now() < end) {
    char pattern = static_cast<char>('a' + ++count % 26);
    ::memset(bytes.get(), pattern, kBytes);
    if (!write_asynchronously(context, direct, bytes.get())) {
      status = fail("asynchronous write");
    } else if (::pread(cached, seen.get(), kBytes, 0) != static_cast<ssize_t>(kBytes)) {
      status = fail("read");
    } else if (::memcmp(seen.get(), bytes.get(), kBytes) != 0) {
      auto old = std::mismatch(seen.get(), seen.get() + kBytes, bytes.get()).first;
      std::printf("write %d: '%c' at %td, not '%c'\n", count, *old, old - seen.get(), pattern);
      status = 1;
    }
  }
  done = true;
  for (std::thread& reader : readers) reader.join();
  if (status == 0) std::printf("written %d times\n", count);
  return status;
}
