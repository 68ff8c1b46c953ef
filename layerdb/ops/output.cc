// SPDX-License-Identifier: Apache-2.0
#include "layerdb/ops/output.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>
#include <vector>

namespace layerfs {
namespace {

constexpr size_t kOutputBufferBytes = 1 << 20;

// "dir/.name.layerfs-PID": hidden, on the same filesystem, and of nobody else while we live.
std::string temporary_name(const std::string& path) {
  size_t slash = path.rfind('/');
  size_t start = slash == std::string::npos ? 0 : slash + 1;
  return fmt::format("{}.{}.layerfs-{}", path.substr(0, start), path.substr(start), ::getpid());
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
  std::string temporary = temporary_name(path);
  Result<UniqueFd> fd = open_file(temporary, O_WRONLY | O_CREAT | O_TRUNC, 0666);
  if (!fd.ok()) return errno_error("create '" + path + "'", fd.error().code);
  out->fd_ = std::move(*fd);
  out->temporary_ = std::move(temporary);
  return out;
}

OutputFile::~OutputFile() {
  if (!temporary_.empty()) ::unlink(temporary_.c_str());
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
  if (::rename(temporary_.c_str(), path_.c_str()) != 0)
    return errno_error("rename to '" + path_ + "'");
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
  std::string temporary = temporary_name(out->path_);
  TRY(remove_tree(temporary));  // of a process that was killed and had our number
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
  std::string name = directory + "/.layerfs-spool-XXXXXX";
  UniqueFd fd(::mkostemp(name.data(), O_CLOEXEC));
  if (!fd.valid()) return errno_error("create a temporary file in '" + directory + "'");
  ::unlink(name.c_str());
  return Spool(std::move(fd));
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
