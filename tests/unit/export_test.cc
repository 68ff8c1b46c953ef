// SPDX-License-Identifier: Apache-2.0
#include "layerdb/ops/export.h"

#include <archive.h>
#include <archive_entry.h>
#include <gtest/gtest.h>

#include <map>
#include <memory>
#include <nlohmann/json.hpp>

#include "layerdb/base/sys.h"
#include "tests/support/random.h"
#include "tests/support/result_matchers.h"
#include "tests/support/stored_image.h"
#include "tests/support/temp_dir.h"

namespace layerfs {
namespace {

using nlohmann::json;
using test_support::make_entry;
using test_support::make_file;
using test_support::make_layer;

constexpr const char* kConfig = R"({ "architecture":"amd64", "os":"linux", "odd":"spacing" })";

// The regular files of an archive, or the bytes of a compressed stream under "data".
std::map<std::string, std::string> unpack(const std::string& bytes) {
  std::unique_ptr<archive, decltype(&archive_read_free)> reader(archive_read_new(),
                                                                archive_read_free);
  archive_read_support_filter_all(reader.get());
  archive_read_support_format_tar(reader.get());
  archive_read_support_format_raw(reader.get());
  EXPECT_EQ(archive_read_open_memory(reader.get(), bytes.data(), bytes.size()), ARCHIVE_OK);
  std::map<std::string, std::string> out;
  archive_entry* entry = nullptr;
  while (archive_read_next_header(reader.get(), &entry) == ARCHIVE_OK) {
    std::string& content = out[archive_entry_pathname(entry)];
    if (const char* target = archive_entry_hardlink(entry)) content = std::string("-> ") + target;
    char buffer[65536];
    for (la_ssize_t n; (n = archive_read_data(reader.get(), buffer, sizeof buffer)) > 0;)
      content.append(buffer, static_cast<size_t>(n));
  }
  return out;
}

class ExportTest : public ::testing::Test {
 protected:
  ExportTest() : store_(VALUE(Store::open(dir_ / "store"))) {
    layers_ = {make_layer(*store_, random_.text(3'000'000)),
               make_layer(*store_, random_.bytes(700'001))};
    test_support::publish_image(*store_, layers_, kConfig, {"app:1"});
  }

  ImageSource image() { return VALUE(load_image(*store_, sha256(kConfig))); }
  Status run(const ImageSource& source, ExportOptions options, const std::string& name) {
    options.output = dir_ / name;
    options.reference = "app:1";
    return export_image(*store_, source, options);
  }
  std::string read(const std::string& name) { return VALUE(read_file(dir_ / name)); }
  std::vector<std::string> files() { return VALUE(list_directory(dir_.path())); }
  std::string tar_of(const LayerRecord& layer) {
    ContentReader reader(store_->chunks(), store_->objects(), layer.tar, layer.tar_bytes);
    std::string out(layer.tar_bytes, '\0');
    EXPECT_EQ(VALUE(reader.read(0, out)), out.size());
    return out;
  }

  test_support::TempDir dir_;
  test_support::Random random_;
  std::unique_ptr<Store> store_;
  std::vector<LayerRecord> layers_;
};

TEST_F(ExportTest, OciDirectoryNamesEveryBlobByItsBytes) {
  for (auto [compression, suffix] :
       {std::pair{LayerCompression::gzip, "+gzip"}, std::pair{LayerCompression::zstd, "+zstd"},
        std::pair{LayerCompression::none, ""}}) {
    ASSERT_OK(run(image(), {.compression = compression}, "out/"));
    json index = json::parse(read("out/index.json"));
    EXPECT_EQ(index["manifests"][0]["annotations"]["org.opencontainers.image.ref.name"], "app:1");
    auto blob = [&](const json& descriptor) {
      Digest digest = VALUE(Digest::parse(descriptor["digest"].get<std::string>()));
      std::string bytes = read("out/blobs/sha256/" + digest.hex());
      EXPECT_EQ(sha256(bytes), digest);
      EXPECT_EQ(bytes.size(), descriptor["size"].get<uint64_t>());
      return bytes;
    };
    json manifest = json::parse(blob(index["manifests"][0]));
    EXPECT_EQ(blob(manifest["config"]), kConfig);
    ASSERT_EQ(manifest["layers"].size(), 2u);
    for (size_t i = 0; i < 2; ++i) {
      EXPECT_EQ(manifest["layers"][i]["mediaType"],
                std::string("application/vnd.oci.image.layer.v1.tar") + suffix);
      std::string bytes = blob(manifest["layers"][i]);
      if (compression != LayerCompression::none) bytes = unpack(bytes)["data"];
      EXPECT_EQ(sha256(bytes), layers_[i].diff_id);
    }
    EXPECT_EQ(VALUE(list_directory(dir_ / "out/blobs/sha256")).size(), 4u);
    ASSERT_OK(remove_tree(dir_ / "out"));
  }
}

TEST_F(ExportTest, OciArchiveHoldsTheSameFilesAndIsReproducible) {
  ASSERT_OK(run(image(), {}, "dir/"));
  ASSERT_OK(run(image(), {}, "a.tar"));
  ASSERT_OK(run(image(), {}, "b.tar"));
  EXPECT_EQ(read("a.tar"), read("b.tar"));
  auto archive = unpack(read("a.tar"));
  EXPECT_EQ(archive["index.json"], read("dir/index.json"));
  EXPECT_EQ(archive["oci-layout"], R"({"imageLayoutVersion":"1.0.0"})");
  for (const std::string& name : VALUE(list_directory(dir_ / "dir/blobs/sha256")))
    EXPECT_EQ(archive["blobs/sha256/" + name], read("dir/blobs/sha256/" + name)) << name;
}

TEST_F(ExportTest, DockerArchive) {
  ASSERT_OK(run(image(), {.format = ExportFormat::docker}, "docker.tar"));
  auto archive = unpack(read("docker.tar"));
  json manifest = json::parse(archive["manifest.json"]);
  EXPECT_EQ(manifest[0]["RepoTags"], json::array({"app:1"}));
  EXPECT_EQ(manifest[0]["Config"], sha256(kConfig).hex() + ".json");
  EXPECT_EQ(archive[manifest[0]["Config"]], kConfig);
  ASSERT_EQ(manifest[0]["Layers"].size(), 2u);
  for (size_t i = 0; i < 2; ++i) EXPECT_EQ(archive[manifest[0]["Layers"][i]], tar_of(layers_[i]));
  std::string top = chain_id_of(layers_[0].diff_id, layers_[1].diff_id).hex();
  EXPECT_EQ(json::parse(archive["repositories"]), json({{"app", {{"1", top}}}}));
  EXPECT_EQ(json::parse(archive[top + "/json"])["parent"], layers_[0].diff_id.hex());
  EXPECT_EQ(archive[top + "/VERSION"], "1.0");
}

TEST_F(ExportTest, ALayerThatComesTwiceIsWrittenOnce) {
  ImageSource twice = image();
  twice.layers.push_back(twice.layers[0]);
  ASSERT_OK(run(twice, {}, "out/"));
  EXPECT_EQ(VALUE(list_directory(dir_ / "out/blobs/sha256")).size(), 4u);
  ASSERT_OK(run(twice, {.format = ExportFormat::docker}, "docker.tar"));
  json manifest = json::parse(unpack(read("docker.tar"))["manifest.json"]);
  EXPECT_EQ(manifest[0]["Layers"].size(), 3u);
  EXPECT_EQ(manifest[0]["Layers"][0], manifest[0]["Layers"][2]);
}

TEST_F(ExportTest, AProvisionalIdIsReplacedByTheTarsOwn) {
  ImageSource source = image();
  json config = {{"odd", "spacing"}, {"rootfs", {{"type", "layers"}, {"diff_ids", json::array()}}}};
  for (const LayerRecord& layer : layers_)
    config["rootfs"]["diff_ids"].push_back(layer.diff_id.to_string());
  json expected = config;
  source.layers[1].diff_id = sha256("what changed");
  source.layers[1].provisional = true;
  config["rootfs"]["diff_ids"][1] = sha256("what changed").to_string();
  source.config = config.dump();

  ASSERT_OK(run(source, {.compression = LayerCompression::none}, "oci.tar"));
  auto oci = unpack(read("oci.tar"));
  auto blob = [&](const json& descriptor) {
    return json::parse(oci["blobs/" + descriptor["digest"].get<std::string>().replace(6, 1, "/")]);
  };
  json manifest = blob(json::parse(oci["index.json"])["manifests"][0]);
  EXPECT_EQ(blob(manifest["config"]), expected);
  EXPECT_EQ(manifest["layers"][1]["digest"], layers_[1].diff_id.to_string());

  ASSERT_OK(run(source, {.format = ExportFormat::docker}, "docker.tar"));
  auto docker = unpack(read("docker.tar"));
  json list = json::parse(docker["manifest.json"]);
  EXPECT_EQ(json::parse(docker[list[0]["Config"]]), expected);
  EXPECT_EQ(docker[list[0]["Layers"][1]], tar_of(layers_[1]));

  source.config = kConfig;  // lists no layers
  EXPECT_ERRNO(run(source, {}, "out.tar"), EUCLEAN);
}

TEST_F(ExportTest, ALayerWithAnotherHashIsAnErrorThatNamesItAndLeavesNothing) {
  ImageSource damaged = image();
  damaged.layers[1].diff_id = sha256("something else");
  for (auto [format, name] :
       {std::pair{ExportFormat::oci, "out/"}, std::pair{ExportFormat::oci, "out.tar"},
        std::pair{ExportFormat::docker, "out.tar"}}) {
    for (auto compression : {LayerCompression::none, LayerCompression::gzip}) {
      Status status = run(damaged, {.format = format, .compression = compression}, name);
      ASSERT_FALSE(status.ok());
      EXPECT_EQ(status.error().code, EUCLEAN);
      EXPECT_NE(status.error().message.find(sha256("something else").hex()), std::string::npos);
      EXPECT_EQ(files(), std::vector<std::string>{"store"});
    }
  }
}

TEST_F(ExportTest, CancellingLeavesNothing) {
  std::atomic<bool> cancelled{true};
  EXPECT_ERRNO(run(image(), {.cancelled = &cancelled}, "out.tar"), EINTR);
  ImageSource provisional = image();
  provisional.layers[0].provisional = provisional.layers[1].provisional = true;
  provisional.config = R"({"rootfs": {"diff_ids": ["", ""]}})";
  EXPECT_ERRNO(run(provisional, {.cancelled = &cancelled}, "out.tar"), EINTR);
  EXPECT_EQ(files(), std::vector<std::string>{"store"});
}

TEST_F(ExportTest, OnlyOciCanBeADirectory) {
  EXPECT_ERRNO(run(image(), {.format = ExportFormat::docker}, "out/"), EINVAL);
  EXPECT_ERRNO(run(image(), {.format = ExportFormat::tar}, "out/"), EINVAL);
}

TEST_F(ExportTest, FlattenedTreeWithLinksHolesAndASocket) {
  Entry linked = make_file(*store_, link_name(7), "shared");
  linked.attributes.nlink = 2;
  TreeRef links = test_support::make_tree(*store_, {linked});
  auto name_of = [](const char* name) {
    Entry entry = make_entry(name, FileType::regular);
    entry.link_id = 7;
    return entry;
  };
  Entry sparse = make_entry("sparse", FileType::regular);
  sparse.attributes.size_bytes = 2'500'000;
  sparse.content.extents = test_support::write_content(*store_, "tail").extents;
  sparse.content.extents[0].file_offset = 2'400'000;
  Entry symlink = make_entry("symlink", FileType::symlink, 0777);
  symlink.symlink_target = "d/link1";
  Entry directory = make_entry("d", FileType::directory, 0755);
  directory.tree =
      test_support::make_tree(*store_, {make_file(*store_, "file", "in d"), name_of("link1")});
  Entry root = make_entry("root", FileType::directory, 0755);
  root.tree = test_support::make_tree(
      *store_,
      {directory, name_of("link2"), make_entry("socket", FileType::socket), sparse, symlink});
  ImageSource source = image();
  source.chain.root = VALUE(put_root_page(store_->objects(), root));
  source.chain.links = links.page;

  ASSERT_OK(run(source, {.format = ExportFormat::tar}, "flat.tar"));
  auto archive = unpack(read("flat.tar"));
  std::string expected_sparse(2'500'000, '\0');
  expected_sparse.replace(2'400'000, 4, "tail");
  EXPECT_EQ(archive.size(), 7u);
  EXPECT_TRUE(archive.contains("./") && archive.contains("d/") && archive.contains("symlink"));
  EXPECT_EQ(archive["d/file"], "in d");
  EXPECT_EQ(archive["d/link1"], "shared");
  EXPECT_EQ(archive["link2"], "-> d/link1");
  EXPECT_EQ(archive["sparse"], expected_sparse);
}

}  // namespace
}  // namespace layerfs
