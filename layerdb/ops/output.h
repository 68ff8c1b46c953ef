// SPDX-License-Identifier: Apache-2.0
//
// Where exports go. A file is written without a name, or under a hidden one beside its own where the
// filesystem has no nameless files, as a directory is; it gets its name in commit(), complete and
// synced. What is not committed is removed by the destructor; what a killed process left, by the
// next export to the same path.
// Standard output and things that are not regular files (/dev/null, a fifo) are written directly.
// Errors name the path the user gave.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "layerdb/base/result.h"
#include "layerdb/base/sys.h"
#include "layerdb/ops/compressor.h"

namespace layerfs {

class OutputFile {
 public:
  static Result<std::unique_ptr<OutputFile>> create(const std::string& path);  // "-": stdout
  ~OutputFile();
  OutputFile(const OutputFile&) = delete;
  OutputFile& operator=(const OutputFile&) = delete;

  Status write(std::string_view bytes);  // buffered
  Status commit();
  bool direct() const { return temporary_.empty(); }  // no temporary name: no regular file

 private:
  OutputFile() = default;
  Status flush();

  std::string path_;       // as given
  std::string temporary_;  // empty: written directly
  bool named_ = false;     // temporary_ exists
  UniqueFd fd_;
  std::string buffer_;
};

class OutputDirectory {
 public:
  // An empty directory may exist already; ENOTEMPTY when it holds something.
  static Result<std::unique_ptr<OutputDirectory>> create(const std::string& path);
  ~OutputDirectory();
  OutputDirectory(const OutputDirectory&) = delete;
  OutputDirectory& operator=(const OutputDirectory&) = delete;

  const std::string& temporary() const { return temporary_; }  // fill this one
  Status commit();

 private:
  OutputDirectory() = default;

  std::string path_;
  std::string temporary_;
};

std::string parent_directory(const std::string& path);  // "." when there is no '/'

// A temporary file without a name in `directory`, to be read back once.
class Spool {
 public:
  static Result<Spool> create(const std::string& directory);
  Status write(std::string_view bytes);
  uint64_t size_bytes() const { return size_bytes_; }
  Status copy_to(const ByteSink& sink) const;

 private:
  explicit Spool(UniqueFd fd) : fd_(std::move(fd)) {}
  UniqueFd fd_;
  uint64_t size_bytes_ = 0;
};

}  // namespace layerfs
