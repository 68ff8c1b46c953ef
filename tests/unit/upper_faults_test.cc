// SPDX-License-Identifier: Apache-2.0
//
// The upper's database on a disk that fails now and then.
#include <gtest/gtest.h>
#include <rocksdb/env.h>
#include <rocksdb/file_system.h>

#include <atomic>
#include <filesystem>

#include "layerdb/base/sys.h"
#include "tests/support/result_matchers.h"
#include "tests/support/temp_dir.h"
#include "tests/support/upper_fixture.h"

namespace layerfs {
namespace {

// Fails appends to log files while `fault` is set, and syncing while `sync_fails` is.
class FaultyFile final : public rocksdb::FSWritableFileOwnerWrapper {
 public:
  FaultyFile(std::unique_ptr<rocksdb::FSWritableFile> file, std::atomic<int>& fault,
             std::atomic<bool>& sync_fails)
      : FSWritableFileOwnerWrapper(std::move(file)), fault_(fault), sync_fails_(sync_fails) {}
  rocksdb::IOStatus Sync(const rocksdb::IOOptions& options,
                         rocksdb::IODebugContext* context) override {
    if (sync_fails_) return rocksdb::IOStatus::IOError();
    return FSWritableFileOwnerWrapper::Sync(options, context);
  }
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
  std::atomic<bool>& sync_fails_;
};

class FaultyFileSystem final : public rocksdb::FileSystemWrapper {
 public:
  FaultyFileSystem() : FileSystemWrapper(rocksdb::FileSystem::Default()) {}
  const char* Name() const override { return "FaultyFileSystem"; }
  rocksdb::IOStatus NewWritableFile(const std::string& name, const rocksdb::FileOptions& options,
                                    std::unique_ptr<rocksdb::FSWritableFile>* result,
                                    rocksdb::IODebugContext* context) override {
    if (!full_beside.empty() && path_exists(full_beside)) return rocksdb::IOStatus::NoSpace();
    if (fault != 0 && open_fails)
      return fault == ENOSPC ? rocksdb::IOStatus::NoSpace() : rocksdb::IOStatus::IOError();
    rocksdb::IOStatus status = FileSystemWrapper::NewWritableFile(name, options, result, context);
    if (status.ok()) *result = std::make_unique<FaultyFile>(std::move(*result), fault, sync_fails);
    return status;
  }
  std::atomic<int> fault = 0;
  std::atomic<bool> open_fails = false;
  std::atomic<bool> sync_fails = false;
  std::string full_beside;  // no file can be made while this one is there
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

// As after write(2) failed amid a record: opening again makes a table of the log, on a full disk.
TEST(UpperOnAFailingDisk, TheReserveIsForOpeningAgain) {
  test_support::TempDir dir;
  auto faults = std::make_shared<FaultyFileSystem>();
  auto env = rocksdb::NewCompositeEnv(faults);
  auto upper = open_upper(dir.path(), {.env = env.get()});
  std::string reserve = dir / "reserve";
  auto put = [&](const std::string& name) {
    return apply(*upper, [&](Upper::Transaction& t) {
      t.put_name(1, name, {9, FileType::regular});
    });
  };
  ASSERT_OK(put("before"));
  ASSERT_TRUE(path_exists(reserve));
  faults->fault = ENOSPC;
  EXPECT_FALSE(put("never").ok());
  faults->fault = 0;
  faults->full_beside = reserve;
  ASSERT_OK(upper->sync(0));
  EXPECT_FALSE(path_exists(reserve));
  EXPECT_EQ(names(*upper, 1), std::vector<std::string>{"before"});
}

// A disk that fails may lose what the log said of a body. Who writes there again is not to be told
// that it is known already.
TEST(UpperOnAFailingDisk, RangesThatTheLogLostAreWrittenAgain) {
  test_support::TempDir dir;
  constexpr Ino kIno = 11;
  auto faults = std::make_shared<FaultyFileSystem>();
  auto env = rocksdb::NewCompositeEnv(faults);
  auto upper = open_upper(dir.path(), {.env = env.get()});
  auto write = [&](uint64_t offset) -> Status {
    TRY(upper->write_body(kIno, offset, std::string(4096, 'x')));
    return apply(*upper, [&](Upper::Transaction& t) {
      InodeRecord record = regular(Body::file, 1 << 20);
      record.lower_size_bytes = 1 << 20;
      t.put_inode(kIno, record);
      t.add_range(kIno, {offset, 4096});
    });
  };
  ASSERT_OK(write(0));
  ASSERT_OK(upper->sync(0));
  std::string log;
  for (const auto& file : std::filesystem::directory_iterator(dir.path() + "/upper"))
    if (file.path().extension() == ".log") log = std::max(log, file.path().string());
  auto kept_bytes = std::filesystem::file_size(log);
  ASSERT_OK(write(65536));
  faults->sync_fails = true;
  EXPECT_FALSE(upper->sync(kIno).ok());
  std::filesystem::resize_file(log, kept_bytes);  // the kernel gave up the pages
  faults->sync_fails = false;
  ASSERT_OK(upper->sync(kIno));
  ASSERT_OK(write(65536));
  ASSERT_OK(upper->sync(kIno));
  upper.reset();
  upper = open_upper(dir.path());
  EXPECT_EQ(upper->ranges(kIno, 65536, 4096)->size(), 1u);
}

}  // namespace
}  // namespace layerfs
