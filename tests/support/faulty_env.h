// SPDX-License-Identifier: Apache-2.0
//
// The host's files, with faults: the Nth write, sync or metadata call from now can fail (and all
// after it, as on a full disk), and what was not synced can be dropped as a power failure would.
// Models: appended bytes of a file are lost unless the file was synced after them; names (creation,
// rename, link, deletion) are kept, as a journaling filesystem does for synced files. Thread-safe.
#pragma once

#include <rocksdb/env.h>

#include <atomic>
#include <map>
#include <mutex>
#include <string>

namespace layerfs::test_support {

class FaultyEnv : public rocksdb::EnvWrapper {
 public:
  FaultyEnv() : EnvWrapper(rocksdb::Env::Default()) {}
  const char* Name() const override { return "FaultyEnv"; }

  // The call after `n` more succeeds last; the following ones fail with `error`.
  void fail_after(int64_t n, rocksdb::Status error) {
    error_ = error;
    budget_ = n;
  }
  void work_again() { budget_ = INT64_MAX; }
  bool failed() const { return budget_ <= 0; }

  // Copies what a power failure now would leave of `from` to `to` (flat directories).
  void copy_synced(const std::string& from, const std::string& to);

  rocksdb::Status NewWritableFile(const std::string& name,
                                  std::unique_ptr<rocksdb::WritableFile>* file,
                                  const rocksdb::EnvOptions& options) override;
  rocksdb::Status RenameFile(const std::string& from, const std::string& to) override;
  rocksdb::Status LinkFile(const std::string& from, const std::string& to) override;
  rocksdb::Status DeleteFile(const std::string& name) override;

  // For the files.
  rocksdb::Status spend();
  void synced(const std::string& name, uint64_t size);

 private:
  std::atomic<int64_t> budget_{INT64_MAX};
  rocksdb::Status error_;
  std::mutex mutex_;
  std::map<std::string, uint64_t> synced_bytes_;  // files made through this Env
};

}  // namespace layerfs::test_support
