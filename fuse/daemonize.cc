// SPDX-License-Identifier: Apache-2.0
#include "fuse/daemonize.h"

#include <fcntl.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/lsan_interface.h>
#endif

#include "layerdb/base/caught.h"
#include "layerdb/base/coding.h"
#include "layerdb/base/log.h"
#include "layerdb/base/sys.h"

namespace layerfs {
namespace {

// On the pipe: u32 errno (0: ready), then the announced result or the error's sentence.
void tell(UniqueFd& pipe, int code, const std::string& text) {
  std::string bytes;
  put_u32(bytes, static_cast<uint32_t>(code));
  Status written = write_full(pipe.get(), bytes + text);
  if (!written.ok()) log_warning("nobody waits for this mount: {}", written.error().message);
  pipe.reset();
}

Status point_at(int fd, const char* path, int flags) {
  UniqueFd file = TRY(open_file(path, flags, 0600));
  if (::dup2(file.get(), fd) < 0) return errno_error("redirect to '" + std::string(path) + "'");
  return {};
}

int run_child(UniqueFd pipe, const std::function<Status(const Announce&)>& body) {
  ::setsid();
  [[maybe_unused]] int changed = ::chdir("/");
  Announce announce = [&pipe](const std::string& result, const std::string& log_path) -> Status {
    TRY(point_at(STDIN_FILENO, "/dev/null", O_RDONLY));
    TRY(point_at(STDOUT_FILENO, "/dev/null", O_WRONLY));
    TRY(point_at(STDERR_FILENO, log_path.c_str(), O_WRONLY | O_CREAT | O_APPEND));
    tell(pipe, 0, result);
    return {};
  };
  Status status = call_and_catch([&] { return body(announce); });
  if (status.ok()) return 0;
  if (pipe.valid())
    tell(pipe, status.error().code, status.error().message);
  else
    log_error("{}", status.error().message);
  return 1;
}

}  // namespace

Result<std::string> run_in_background(const std::function<Status(const Announce&)>& body) {
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) != 0) return errno_error("make a pipe");
  UniqueFd read_end(ends[0]), write_end(ends[1]);
  pid_t child = ::fork();
  if (child < 0) return errno_error("start the daemon");
  if (child == 0) {
    read_end.reset();
    int status = run_child(std::move(write_end), body);
#ifdef __SANITIZE_ADDRESS__
    __lsan_do_leak_check();  // at exit() otherwise
#endif
    ::_exit(status);  // what the caller had not written yet is the caller's
  }
  write_end.reset();
  std::string told;
  char buffer[4096];
  ssize_t size;
  while ((size = ::read(read_end.get(), buffer, sizeof buffer)) > 0 || (size < 0 && errno == EINTR))
    if (size > 0) told.append(buffer, static_cast<size_t>(size));
  Reader reader(told);
  int code = static_cast<int>(reader.u32());
  std::string text(reader.take(reader.remaining()));
  if (!reader.failed() && code == 0) return text;
  int status = 0;
  ::waitpid(child, &status, 0);
  if (!reader.failed()) return Error{code, text};
  return Error{EIO, WIFSIGNALED(status)
                        ? std::string("the daemon was killed by ") + ::strsignal(WTERMSIG(status)) +
                              " before the mount answered"
                        : "the daemon ended before the mount answered"};
}

}  // namespace layerfs
