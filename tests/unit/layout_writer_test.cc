// SPDX-License-Identifier: Apache-2.0
#include "layerdb/ops/layout_writer.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <unistd.h>

#include <string>

#include "layerdb/base/sys.h"
#include "layerdb/ops/output.h"
#include "tests/support/temp_dir.h"

namespace layerfs {
namespace {

class LayoutWriterTest : public ::testing::Test {
 protected:
  LayoutWriterTest() { EXPECT_TRUE(make_directories(directory_ + "/spool").ok()); }

  std::unique_ptr<LayoutWriter> create(const std::string& name) {
    return *create_layout(directory_ + "/" + name, directory_ + "/spool");
  }
  std::vector<std::string> files() { return *list_directory(directory_); }
  std::string content(const std::string& name) { return *read_file(directory_ + "/" + name); }

  test_support::TempDir temporary_;
  const std::string& directory_ = temporary_.path();
};

Status hello(const ByteSink& sink) { return sink("hello"); }

Status fill(LayoutWriter& layout) {
  TRY(layout.add_directory("blobs"));
  TRY(layout.add_file("index", "{}"));
  TRY(layout.add_stream("blobs/five", 5, hello));
  Blob blob = TRY(layout.add_blob("blobs", hello));
  EXPECT_EQ(blob.size_bytes, 5u);
  EXPECT_EQ(blob.digest, sha256("hello"));
  return layout.commit();
}

TEST_F(LayoutWriterTest, DirectoryAppearsComplete) {
  auto layout = create("out/");
  EXPECT_FALSE(path_exists(directory_ + "/out"));
  ASSERT_TRUE(fill(*layout).ok());
  EXPECT_EQ(*list_directory(directory_ + "/out/blobs"),
            (std::vector<std::string>{sha256("hello").hex(), "five"}));
  EXPECT_EQ(content("out/blobs/" + sha256("hello").hex()), "hello");
  EXPECT_EQ(content("out/index"), "{}");
  EXPECT_EQ(files(), (std::vector<std::string>{"out", "spool"}));
}

TEST_F(LayoutWriterTest, EmptyDirectoryIsFilledAndAFullOneRefused) {
  ASSERT_TRUE(make_directories(directory_ + "/out").ok());
  ASSERT_TRUE(fill(*create("out/")).ok());
  Result<std::unique_ptr<LayoutWriter>> again = create_layout(directory_ + "/out/", "");
  ASSERT_FALSE(again.ok());
  EXPECT_EQ(again.error().code, ENOTEMPTY);
  EXPECT_EQ(content("out/index"), "{}");
}

TEST_F(LayoutWriterTest, TarIsDeterministicAndReplacesAtomically) {
  ASSERT_TRUE(write_file_atomically(directory_ + "/a.tar", "old").ok());
  auto layout = create("a.tar");
  ASSERT_TRUE(layout->add_file("x", "y").ok());
  EXPECT_EQ(content("a.tar"), "old");
  layout.reset();  // not committed
  EXPECT_EQ(content("a.tar"), "old");
  ASSERT_TRUE(fill(*create("a.tar")).ok());
  ASSERT_TRUE(fill(*create("b.tar")).ok());
  EXPECT_EQ(content("a.tar"), content("b.tar"));
  EXPECT_EQ(content("a.tar").size() % 512, 0u);
  EXPECT_EQ(files(), (std::vector<std::string>{"a.tar", "b.tar", "spool"}));
}

TEST_F(LayoutWriterTest, FailuresLeaveNothing) {
  for (const char* name : {"out/", "out.tar"}) {
    auto layout = create(name);
    EXPECT_FALSE(layout->add_stream("short", 6, hello).ok());
    layout.reset();
    layout = create(name);
    EXPECT_FALSE(layout->add_stream("long", 4, hello).ok());
    layout.reset();
    layout = create(name);
    ASSERT_TRUE(layout->add_directory("blobs").ok());
    Result<Blob> blob = layout->add_blob("blobs", [](const ByteSink& sink) -> Status {
      TRY(sink("part"));
      return Error{EUCLEAN, "damaged"};
    });
    ASSERT_FALSE(blob.ok());
    EXPECT_EQ(blob.error().code, EUCLEAN);
    layout.reset();
    EXPECT_EQ(files(), (std::vector<std::string>{"spool"}));
    EXPECT_TRUE(list_directory(directory_ + "/spool")->empty());
  }
}

TEST_F(LayoutWriterTest, WhatIsNoRegularFileIsWrittenInPlace) {
  EXPECT_TRUE(fill(**create_layout("/dev/null", directory_ + "/spool")).ok());
  struct stat st;
  ASSERT_EQ(::stat("/dev/null", &st), 0);
  EXPECT_TRUE(S_ISCHR(st.st_mode));
  Result<std::unique_ptr<OutputFile>> out = OutputFile::create(directory_);
  ASSERT_FALSE(out.ok());
  EXPECT_EQ(out.error().code, EISDIR);
  EXPECT_FALSE(OutputFile::create(directory_ + "/missing/x").ok());
}

// Or an export that is killed at that moment leaves it.
TEST_F(LayoutWriterTest, ATemporaryFileNeverHasAName) {
  if (!open_file(directory_, O_TMPFILE | O_RDWR, 0600).ok())
    GTEST_SKIP() << "no O_TMPFILE in " << directory_;
  UniqueFd names(::inotify_init1(IN_NONBLOCK | IN_CLOEXEC));
  ASSERT_GE(::inotify_add_watch(names.get(), directory_.c_str(), IN_CREATE), 0);
  EXPECT_TRUE(Spool::create(directory_)->write("bytes").ok());
  char event[512];
  EXPECT_EQ(::read(names.get(), event, sizeof event), -1);
  EXPECT_EQ(errno, EAGAIN);
}

TEST_F(LayoutWriterTest, AFullDeviceIsReported) {
  if (!path_exists("/dev/full")) GTEST_SKIP() << "no /dev/full";
  auto layout = *create_layout("/dev/full", directory_ + "/spool");
  Status status = fill(*layout);
  ASSERT_FALSE(status.ok());
  EXPECT_EQ(status.error().code, ENOSPC);
}

}  // namespace
}  // namespace layerfs
