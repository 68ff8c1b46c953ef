// SPDX-License-Identifier: Apache-2.0
#include "layerdb/ops/container.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>

namespace layerfs {
namespace {

class ContainerTest : public testing::Test {
 protected:
  ContainerTest() {
    std::string pattern = std::filesystem::temp_directory_path() / "container_test.XXXXXX";
    root_ = ::mkdtemp(pattern.data());
  }
  ~ContainerTest() override { std::filesystem::remove_all(root_); }

  Result<Container> create(const std::string& name) {
    UniqueFd lock = TRY(lock_containers(root_));
    Container description;
    description.name = name;
    description.reference = "debian:12";
    description.image = sha256("image");
    description.chain_id = sha256("chain");
    description.created_at = 1700000000;
    description.size_limit_bytes = 1 << 30;
    return create_container(root_, description);
  }

  std::string root_;
};

TEST_F(ContainerTest, CreatedContainersAreFoundAndListed) {
  EXPECT_TRUE(list_containers(root_)->empty());
  ASSERT_TRUE(create("web").ok());
  ASSERT_TRUE(create("db.1").ok());
  Result<Container> again = create("web");
  ASSERT_FALSE(again.ok());
  EXPECT_EQ(again.error().code, EEXIST);
  Container found = *find_container(root_, "web");
  EXPECT_EQ(found.reference, "debian:12");
  EXPECT_EQ(found.image, sha256("image"));
  EXPECT_EQ(found.chain_id, sha256("chain"));
  EXPECT_EQ(found.created_at, 1700000000);
  EXPECT_EQ(found.size_limit_bytes, 1u << 30);
  EXPECT_EQ(found.directory, root_ + "/containers/web");
  std::vector<Container> all = *list_containers(root_);
  ASSERT_EQ(all.size(), 2u);
  EXPECT_EQ(all[0].name, "db.1");
  EXPECT_EQ(all[1].name, "web");
  ASSERT_TRUE(remove_container(found).ok());
  EXPECT_EQ(find_container(root_, "web").error().code, ENOENT);
  EXPECT_EQ(list_containers(root_)->size(), 1u);
}

TEST_F(ContainerTest, OnlyAHeldLockMeansMounted) {
  Container container = *create("c");
  EXPECT_FALSE(mounted(container)->has_value());
  {
    UniqueFd lock = *try_lock_file(container.directory + "/lock");
    EXPECT_FALSE(mounted(container)->has_value()) << "starting, not mounted yet";
    ASSERT_TRUE(record_mount(container, {4711, "/mnt/a b", true, 1700000001}).ok());
    std::optional<MountInfo> info = *mounted(container);
    ASSERT_TRUE(info.has_value());
    EXPECT_EQ(info->pid, 4711);
    EXPECT_EQ(info->mountpoint, "/mnt/a b");
    EXPECT_TRUE(info->read_only);
    EXPECT_EQ(info->mounted_at, 1700000001);
    EXPECT_EQ(remove_container(container).error().code, EBUSY);
  }
  EXPECT_FALSE(mounted(container)->has_value()) << "mount.json of a killed daemon counts";
  ASSERT_TRUE(forget_mount(container).ok());
  ASSERT_TRUE(forget_mount(container).ok());
  EXPECT_TRUE(remove_container(container).ok());
}

TEST_F(ContainerTest, NamesAreChecked) {
  for (const char* bad : {"", "-a", ".a", "_a", "a/b", "..", "a b", "\xc3\xa9"})
    EXPECT_EQ(create(bad).error().code, EINVAL) << bad;
  EXPECT_EQ(create(std::string(129, 'a')).error().code, EINVAL);
  EXPECT_EQ(find_container(root_, "../containers/x").error().code, ENOENT);
  for (int i = 0; i < 100; ++i) EXPECT_TRUE(valid_container_name(generate_container_name(root_)));
}

TEST_F(ContainerTest, DamagedRecordsAreNamed) {
  Container container = *create("c");
  ASSERT_TRUE(
      write_file_atomically(container.directory + "/container.json", "{\"version\":1").ok());
  EXPECT_EQ(find_container(root_, "c").error().code, EUCLEAN);
  ASSERT_TRUE(
      write_file_atomically(container.directory + "/container.json", "{\"version\":2}").ok());
  EXPECT_EQ(find_container(root_, "c").error().code, EPROTO);
}

}  // namespace
}  // namespace layerfs
