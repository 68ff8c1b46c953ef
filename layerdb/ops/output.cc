// SPDX-License-Identifier: Apache-2.0
#include "layerdb/ops/output.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>
#include <vector>

namespace layerfs {
namespace {

constexpr size_t kOutputBufferBytes = 1 << 20;

// "dir/.name.layerfs-": hidden, on the same filesystem. Our number behind it makes it ours alone.
std::string temporary_prefix(const std::string& path) {
  size_t slash = path.rfind('/');
  size_t start = slash == std::string::npos ? 0 : slash + 1;
  return fmt::format("{}.{}.layerfs-", path.substr(0, start), path.substr(start));
}

std::string temporary_name(const std::string& path) {
  return temporary_prefix(path) + std::to_string(::getpid());
}

// What processes that were killed left of writing this very path.
void remove_leftovers(const std::string& path) {
  std::string prefix = temporary_prefix(path);
  std::string directory = parent_directory(path);
  Result<std::vector<std::string>> names = list_directory(directory);
  if (!names.ok()) return;  // creating will say why
  std::string hidden =
      prefix.substr(prefix.rfind('/') == std::string::npos ? 0 : prefix.rfind('/') + 1);
  for (const std::string& name : *names) {
    if (!name.starts_with(hidden)) continue;
    std::string number = name.substr(hidden.size());
    pid_t pid = number.size() > 9 ? 0 : static_cast<pid_t>(std::atoi(number.c_str()));
    if (number != std::to_string(pid) || pid <= 0) continue;
    bool alive = pid != ::getpid() && (::kill(pid, 0) == 0 || errno != ESRCH);
    if (!alive) (void)remove_tree(directory + "/" + name);
  }
}

}  // namespace

std::string parent_directory(const std::string& path) {
  size_t slash = path.rfind('/');
  return slash == std::string::npos ? "." : slash == 0 ? "/" : path.substr(0, slash);
}

Result<std::unique_ptr<OutputFile>> OutputFile::create(const std::string& path) {
  std::unique_ptr<OutputFile> out(new OutputFile);
  out->path_ = path;
  if (path == "-") {
    out->path_ = "standard output";
    out->fd_ = UniqueFd(::fcntl(STDOUT_FILENO, F_DUPFD_CLOEXEC, 0));
    if (!out->fd_.valid()) return errno_error("open standard output");
    return out;
  }
  struct stat st;
  bool exists = ::stat(path.c_str(), &st) == 0;
  if (exists && S_ISDIR(st.st_mode))
    return Error{EISDIR, "'" + path + "' is a directory; end it with '/' to export a directory"};
  if (exists && !S_ISREG(st.st_mode)) {
    out->fd_ = TRY(open_file(path, O_WRONLY));
    return out;
  }
  remove_leftovers(path);
  out->temporary_ = temporary_name(path);
  // Without a name until it is complete, where the filesystem can: a killed process leaves nothing.
  Result<UniqueFd> fd = open_file(parent_directory(path), O_WRONLY | O_TMPFILE, 0666);
  out->named_ = !fd.ok();
  if (!fd.ok()) fd = open_file(out->temporary_, O_WRONLY | O_CREAT | O_TRUNC, 0666);
  if (!fd.ok()) return errno_error("create '" + path + "'", fd.error().code);
  out->fd_ = std::move(*fd);
  return out;
}

OutputFile::~OutputFile() {
  if (named_) ::unlink(temporary_.c_str());
}

Status OutputFile::write(std::string_view bytes) {
  if (buffer_.size() + bytes.size() > kOutputBufferBytes) TRY(flush());
  if (bytes.size() < kOutputBufferBytes) {
    buffer_.append(bytes);
    return {};
  }
  Status written = write_full(fd_.get(), bytes);
  if (!written.ok()) return errno_error("write " + path_, written.error().code);
  return {};
}

Status OutputFile::flush() {
  Status written = write_full(fd_.get(), buffer_);
  buffer_.clear();
  if (!written.ok()) return errno_error("write " + path_, written.error().code);
  return {};
}

Status OutputFile::commit() {
  TRY(flush());
  if (temporary_.empty()) return {};
  TRY(sync_file(fd_.get(), path_));
  if (!named_) {
    std::string self = fmt::format("/proc/self/fd/{}", fd_.get());
    if (::linkat(AT_FDCWD, self.c_str(), AT_FDCWD, temporary_.c_str(), AT_SYMLINK_FOLLOW) != 0)
      return errno_error("name '" + path_ + "'");
    named_ = true;
  }
  if (::rename(temporary_.c_str(), path_.c_str()) != 0)
    return errno_error("rename to '" + path_ + "'");
  named_ = false;
  temporary_.clear();
  return sync_directory(parent_directory(path_));
}

Result<std::unique_ptr<OutputDirectory>> OutputDirectory::create(const std::string& path) {
  std::unique_ptr<OutputDirectory> out(new OutputDirectory);
  out->path_ = path;
  while (out->path_.size() > 1 && out->path_.back() == '/') out->path_.pop_back();
  std::vector<std::string> present;
  if (path_exists(out->path_)) present = TRY(list_directory(out->path_));
  if (!present.empty()) return Error{ENOTEMPTY, "directory '" + path + "' exists and is not empty"};
  remove_leftovers(out->path_);
  std::string temporary = temporary_name(out->path_);
  if (::mkdir(temporary.c_str(), 0777) != 0) return errno_error("create '" + path + "'");
  out->temporary_ = std::move(temporary);
  return out;
}

OutputDirectory::~OutputDirectory() {
  if (!temporary_.empty()) (void)remove_tree(temporary_);
}

Status OutputDirectory::commit() {
  TRY(sync_directory(temporary_));
  if (::rename(temporary_.c_str(), path_.c_str()) != 0)  // also over an empty directory
    return errno_error("rename to '" + path_ + "'");
  temporary_.clear();
  return sync_directory(parent_directory(path_));
}

Result<Spool> Spool::create(const std::string& directory) {
  return Spool(TRY(open_unnamed_file(directory)));
}

Status Spool::write(std::string_view bytes) {
  Status written = write_full(fd_.get(), bytes);
  if (!written.ok()) return errno_error("write a temporary file", written.error().code);
  size_bytes_ += bytes.size();
  return {};
}

Status Spool::copy_to(const ByteSink& sink) const {
  std::vector<char> buffer(kOutputBufferBytes);
  for (uint64_t offset = 0; offset < size_bytes_;) {
    size_t size = TRY(pread_full(fd_.get(), buffer, offset));
    if (size == 0) return Error{EIO, "a temporary file became shorter"};
    TRY(sink(std::string_view(buffer.data(), size)));
    offset += size;
  }
  return {};
}

}  // namespace layerfs
