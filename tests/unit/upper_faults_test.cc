// SPDX-License-Identifier: Apache-2.0
//
// The upper's database on a disk that fails now and then.
#include <gtest/gtest.h>
#include <rocksdb/env.h>
#include <rocksdb/file_system.h>

#include <atomic>

#include "tests/support/temp_dir.h"
#include "tests/support/upper_fixture.h"

namespace layerfs {
namespace {

// Fails appends to log files while `code` is set.
class FaultyFile final : public rocksdb::FSWritableFileOwnerWrapper {
 public:
  FaultyFile(std::unique_ptr<rocksdb::FSWritableFile> file, std::atomic<int>& fault)
      : FSWritableFileOwnerWrapper(std::move(file)), fault_(fault) {}
  rocksdb::IOStatus Append(const rocksdb::Slice& data, const rocksdb::IOOptions& options,
                           rocksdb::IODebugContext* context) override {
    if (fault_ != 0) {
      // As a full disk does: a part of the record is there.
      rocksdb::Slice part(data.data(), data.size() / 2);
      (void)FSWritableFileOwnerWrapper::Append(part, options, context);
      return fault_ == ENOSPC ? rocksdb::IOStatus::NoSpace() : rocksdb::IOStatus::IOError();
    }
    return FSWritableFileOwnerWrapper::Append(data, options, context);
  }

 private:
  std::atomic<int>& fault_;
};

class FaultyFileSystem final : public rocksdb::FileSystemWrapper {
 public:
  FaultyFileSystem() : FileSystemWrapper(rocksdb::FileSystem::Default()) {}
  const char* Name() const override { return "FaultyFileSystem"; }
  rocksdb::IOStatus NewWritableFile(const std::string& name, const rocksdb::FileOptions& options,
                                    std::unique_ptr<rocksdb::FSWritableFile>* result,
                                    rocksdb::IODebugContext* context) override {
    if (fault != 0 && open_fails)
      return fault == ENOSPC ? rocksdb::IOStatus::NoSpace() : rocksdb::IOStatus::IOError();
    rocksdb::IOStatus status = FileSystemWrapper::NewWritableFile(name, options, result, context);
    if (status.ok()) *result = std::make_unique<FaultyFile>(std::move(*result), fault);
    return status;
  }
  std::atomic<int> fault = 0;
  std::atomic<bool> open_fails = false;
};

// The error, and whether no file can be made meanwhile either.
class UpperFaults : public ::testing::TestWithParam<std::pair<int, bool>> {
 protected:
  UpperFaults() { faults_->open_fails = GetParam().second; }

  test_support::TempDir dir_;
  const std::shared_ptr<FaultyFileSystem> faults_ = std::make_shared<FaultyFileSystem>();
  const std::unique_ptr<rocksdb::Env> env_ = rocksdb::NewCompositeEnv(faults_);
};

TEST_P(UpperFaults, FailedApplyChangesNothingAndLaterOnesSucceed) {
  const int code = GetParam().first;
  auto upper = open_upper(dir_.path(), {.env = env_.get()});
  auto put = [&](const std::string& name) {
    return apply(*upper, [&](Upper::Transaction& t) {
      t.put_name(1, name, {9, FileType::regular});
      t.put_inode(9, regular(Body::small, name.size()));
      t.put_small_body(9, name);
    });
  };
  ASSERT_TRUE(put("before").ok());
  for (int round = 0; round < 3; ++round) {
    faults_->fault = code;
    for (int i = 0; i < 3; ++i) {
      Status failed = put("never");
      ASSERT_FALSE(failed.ok());
      EXPECT_EQ(failed.error().code, code) << failed.error().message;
      EXPECT_FALSE(upper->name(1, "never")->has_value());
      EXPECT_TRUE(upper->name(1, "before")->has_value());
    }
    faults_->fault = 0;
    Status good = put("after" + std::to_string(round));
    ASSERT_TRUE(good.ok()) << good.error().message;
    EXPECT_TRUE(upper->sync(0).ok());
  }
  std::vector<std::string> expected = {"after0", "after1", "after2", "before"};
  EXPECT_EQ(names(*upper, 1), expected);
  upper.reset();
  upper = open_upper(dir_.path());
  EXPECT_EQ(names(*upper, 1), expected);
  EXPECT_EQ(*upper->small_body(9), "after2");
}

// RocksDB ends the process when a log is synced that could not be written.
TEST_P(UpperFaults, SyncingTheLogAfterAFailedChangeMendsItFirst) {
  const int code = GetParam().first;
  auto upper = open_upper(dir_.path(), {.env = env_.get()});
  Ino ino = upper->allocate_ino();
  auto put = [&](const std::string& name) {
    return apply(*upper, [&](Upper::Transaction& t) {
      t.put_name(1, name, {ino, FileType::regular});
      t.put_inode(ino, regular(Body::file, 5));
    });
  };
  ASSERT_TRUE(upper->write_body(ino, 0, "bytes").ok());
  ASSERT_TRUE(put("before").ok());
  upper.reset();
  upper =
      open_upper(dir_.path(), {.env = env_.get()});  // its body may be durable: cutting it syncs
  faults_->fault = code;
  EXPECT_FALSE(put("never").ok());
  Status cut = upper->truncate_body(ino, 2);
  EXPECT_EQ(cut.ok() ? 0 : cut.error().code, code);
  faults_->fault = 0;
  EXPECT_TRUE(upper->truncate_body(ino, 1).ok());
  ASSERT_TRUE(put("after").ok());
  upper.reset();
  upper = open_upper(dir_.path());
  EXPECT_EQ(names(*upper, 1), (std::vector<std::string>{"after", "before"}));
}

INSTANTIATE_TEST_SUITE_P(All, UpperFaults,
                         ::testing::Values(std::pair(ENOSPC, false), std::pair(EIO, false),
                                           std::pair(ENOSPC, true), std::pair(EIO, true)));

}  // namespace
}  // namespace layerfs
