// SPDX-License-Identifier: Apache-2.0
//
// Whole images from OCI layouts, docker-archives and directories, and layers that are stacked more
// than once. What a tar's entries become is import_tar_test's matter.
#include "layerdb/ops/image_import.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>
#include <zlib.h>

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "layerdb/ops/fsck.h"
#include "layerdb/view/store_lower.h"
#include "tests/support/result_matchers.h"
#include "tests/support/tar_bytes.h"
#include "tests/support/temp_dir.h"

namespace layerfs {
namespace {

using nlohmann::json;
using test_support::tar_end;
using test_support::tar_entry;
using test_support::TempDir;

void put_file(const std::string& path, const std::string& bytes) {
  std::filesystem::create_directories(std::filesystem::path(path).parent_path());
  std::ofstream(path, std::ios::binary) << bytes;
}

std::string gzipped(const std::string& bytes) {
  z_stream stream{};
  deflateInit2(&stream, 6, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY);
  std::string out(deflateBound(&stream, bytes.size()), '\0');
  stream.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(bytes.data()));
  stream.avail_in = bytes.size();
  stream.next_out = reinterpret_cast<Bytef*>(out.data());
  stream.avail_out = out.size();
  EXPECT_EQ(deflate(&stream, Z_FINISH), Z_STREAM_END);
  out.resize(stream.total_out);
  deflateEnd(&stream);
  return out;
}

std::string member(const std::string& name, const std::string& body) {
  return tar_entry({.name = name, .body = body});
}
std::string hard_link(const std::string& name, const std::string& target) {
  return tar_entry({.name = name, .type = '1', .link = target});
}

std::string config_of(const std::vector<std::string>& tars) {
  json diff_ids = json::array();
  for (const std::string& tar : tars) diff_ids.push_back(sha256(tar).to_string());
  return json{{"architecture", host_architecture()},
              {"os", "linux"},
              {"rootfs", {{"type", "layers"}, {"diff_ids", diff_ids}}}}
      .dump();
}

// An OCI layout in a directory, blob by blob.
class Layout {
 public:
  explicit Layout(std::string directory) : directory_(std::move(directory)) {
    put_file(directory_ + "/oci-layout", R"({"imageLayoutVersion":"1.0.0"})");
  }
  json blob(const std::string& bytes) {
    put_file(path(bytes), bytes);
    return {{"digest", sha256(bytes).to_string()}, {"size", bytes.size()}};
  }
  std::string path(const std::string& bytes) const {
    return directory_ + "/blobs/sha256/" + sha256(bytes).hex();
  }
  // The layers as blobs (`packed` is what lies there), with config and manifest; its descriptor.
  json image(const std::vector<std::string>& tars, const std::vector<std::string>& packed) {
    json layers = json::array();
    for (const std::string& bytes : packed) layers.push_back(blob(bytes));
    return blob(
        json{{"schemaVersion", 2}, {"config", blob(config_of(tars))}, {"layers", layers}}.dump());
  }
  void index(const json& manifests) {
    put_file(directory_ + "/index.json", json{{"manifests", manifests}}.dump());
  }

 private:
  std::string directory_;
};

json named(json descriptor, const std::string& name) {
  descriptor["annotations"]["org.opencontainers.image.ref.name"] = name;
  return descriptor;
}

class ImageImportTest : public ::testing::Test {
 protected:
  ImageImportTest() : store_(VALUE(Store::open(directory_ / "store"))) {}
  void TearDown() override {
    for (const Finding& finding : VALUE(check_store(*store_)).findings)
      ADD_FAILURE() << finding.to_string();
  }

  Result<ImportResult> import(const std::string& source) {
    return import_image(*store_, source, {});
  }
  void expect_refused(const std::string& source, const std::string& part) {
    Result<ImportResult> result = import(source);
    ASSERT_FALSE(result.ok()) << part;
    EXPECT_EQ(result.error().code, EINVAL) << result.error().message;
    EXPECT_NE(result.error().message.find(part), std::string::npos) << result.error().message;
    EXPECT_TRUE(VALUE(store_->catalog().images()).empty());
  }

  // The lower of an image.
  std::unique_ptr<Lower> look(const Digest& image) {
    ImageRecord record = VALUE(store_->catalog().image(image));
    return VALUE(open_store_lower(*store_, VALUE(store_->catalog().chain(record.chain_id))));
  }
  static LowerNode at(Lower& lower, const std::string& path) {
    LowerNode node{kRootIno, {}};
    for (size_t start = 0; start < path.size();) {
      size_t end = std::min(path.find('/', start), path.size());
      node = VALUE(lower.lookup(node.ino, path.substr(start, end - start)));
      start = end + 1;
    }
    return node;
  }
  static std::string read(Lower& lower, const std::string& path) {
    LowerNode node = at(lower, path);
    std::string bytes(node.attributes.size_bytes, '\0');
    EXPECT_EQ(VALUE(VALUE(lower.open(node.ino))->read(0, bytes)), bytes.size());
    return bytes;
  }

  TempDir directory_;
  std::unique_ptr<Store> store_;
};

TEST_F(ImageImportTest, OciLayout) {
  std::string bottom = member("a", "bottom") + member("b", "stays") + tar_end();
  std::string top = member("a", "top") + tar_end();
  Layout layout(directory_ / "oci");
  layout.index(json::array({named(layout.image({bottom, top}, {gzipped(bottom), top}), "demo:1")}));
  ImportResult result = VALUE(import(directory_ / "oci"));
  ASSERT_EQ(result.images.size(), 1u);
  EXPECT_EQ(result.images[0], sha256(config_of({bottom, top})));
  EXPECT_EQ(result.references, std::vector<std::string>{"demo:1"});
  EXPECT_EQ(result.layers_new, 2u);
  auto lower = look(result.images[0]);
  EXPECT_EQ(read(*lower, "a"), "top");
  EXPECT_EQ(read(*lower, "b"), "stays");

  std::filesystem::remove(layout.path(top));  // known: not read
  EXPECT_EQ(VALUE(import(directory_ / "oci")).layers_known, 2u);
}

TEST_F(ImageImportTest, OciIndexes) {
  std::string tar = member("mine", "") + tar_end(), other = member("other", "") + tar_end();
  Layout layout(directory_ / "oci");
  auto variant = [](json descriptor, const std::string& os, const std::string& architecture) {
    descriptor["platform"] = {{"os", os}, {"architecture", architecture}};
    return descriptor;
  };
  json attestation = variant(layout.blob("{}"), "unknown", "unknown");
  json inner =
      layout.blob(json{{"manifests",
                        {attestation, variant(layout.image({other}, {other}), "linux", "pdp11"),
                         variant(layout.image({tar}, {tar}), "linux", host_architecture())}}}
                      .dump());
  layout.index({named(inner, "demo:many"), named(layout.image({other}, {other}), "demo:other")});
  ImportResult result = VALUE(import(directory_ / "oci"));
  ASSERT_EQ(result.images.size(), 2u);
  EXPECT_EQ(at(*look(result.images[0]), "mine").attributes.type, FileType::regular);
  EXPECT_EQ(at(*look(result.images[1]), "other").attributes.type, FileType::regular);
  EXPECT_EQ(VALUE(store_->catalog().ref("demo:other")), result.images[1]);
}

TEST_F(ImageImportTest, DamagedOciLayouts) {
  std::string tar = member("a", "x") + tar_end();
  Layout layout(directory_ / "oci");
  json good = layout.image({tar}, {tar});
  layout.index(json::array({good}));
  put_file(layout.path(tar), tar.substr(0, 512));
  expect_refused(directory_ / "oci", "blobs/sha256/" + sha256(tar).hex());
  std::filesystem::remove(layout.path(tar));
  expect_refused(directory_ / "oci", "a layer is missing");
  put_file(layout.path(config_of({tar})), "{}");
  expect_refused(directory_ / "oci", "the config is damaged");
  layout.index(json::array({layout.image({tar}, {})}));
  expect_refused(directory_ / "oci", "the same number of layers");
  layout.index(json::array({json{{"digest", "md5:00"}, {"size", 1}}}));
  expect_refused(directory_ / "oci", "no sha256 digest");
  layout.index(json::array());
  expect_refused(directory_ / "oci", "lists no images");
  put_file(directory_ / "oci/index.json", "[]");
  expect_refused(directory_ / "oci", "not a JSON object");
}

TEST_F(ImageImportTest, IndexesThatNestTooDeeply) {
  Layout layout(directory_ / "oci");
  json entry = layout.image({tar_end()}, {tar_end()});
  for (int i = 0; i < 20; ++i)
    entry = layout.blob(json{{"manifests", json::array({entry})}}.dump());
  layout.index(json::array({entry}));
  expect_refused(directory_ / "oci", "nested too deeply");
}

TEST_F(ImageImportTest, DockerArchive) {
  std::string tar = member("a", "1") + tar_end();
  std::string config = config_of({tar}), twice = config_of({tar, tar});
  std::string name = sha256(config).hex() + ".json";
  std::string manifest = R"([{"Config": ")" + name +
                         R"(", "RepoTags": ["demo:a", "demo:b"], "Layers": ["one/layer.tar"]},
      {"Config": "second", "Layers": ["one/layer.tar", "one/layer.tar"]}])";
  put_file(directory_ / "docker.tar", member(name, config) + member("one/layer.tar", tar) +
                                          member("second", twice) +
                                          member("manifest.json", manifest) + tar_end());
  ImportResult result = VALUE(import(directory_ / "docker.tar"));
  EXPECT_EQ(result.images, (std::vector{sha256(config), sha256(twice)}));
  EXPECT_EQ(result.references, (std::vector<std::string>{"demo:a", "demo:b"}));
  EXPECT_EQ(result.layers_new, 1u);
  EXPECT_EQ(read(*look(result.images[1]), "a"), "1");
}

TEST_F(ImageImportTest, DamagedDockerArchives) {
  std::string tar = member("a", "1") + tar_end();
  std::string config = config_of({tar});
  std::string named = std::string(64, '0') + ".json";
  auto refused = [&](const std::string& manifest, const std::string& part) {
    put_file(directory_ / "docker.tar", member("manifest.json", manifest) +
                                            member("config", config) + member("l.tar", tar) +
                                            member(named, config) + tar_end());
    expect_refused(directory_ / "docker.tar", part);
  };
  refused("[]", "lists no images");
  refused(R"([{"Layers": ["l.tar"]}])", "without a config");
  refused(R"([{"Config": "none"}])", "'none' is missing");
  refused(R"([{"Config": ")" + named + R"(", "Layers": ["l.tar"]}])", "is damaged");
  refused(R"([{"Config": "config", "Layers": ["no.tar"]}])", "'no.tar' is missing");
  refused(R"([{"Config": "config", "Layers": [7]}])", "not a list of strings");
  refused(R"([{"Config": "config", "Layers": ["config"]}])", "config");
}

TEST_F(ImageImportTest, Directory) {
  std::string tree = directory_ / "tree";
  put_file(tree + "/d/file", "content");
  put_file(tree + "/empty", "");
  ASSERT_EQ(::link((tree + "/d/file").c_str(), (tree + "/link").c_str()), 0);
  ASSERT_EQ(::symlink("d/file", (tree + "/soft").c_str()), 0);
  ASSERT_EQ(::mkfifo((tree + "/fifo").c_str(), 0600), 0);
  ASSERT_EQ(::chmod((tree + "/d/file").c_str(), 04751), 0);
  ASSERT_EQ(::setxattr((tree + "/d").c_str(), "user.x", "value", 5, 0), 0);
  struct timespec times[] = {{1, 2}, {-5, 999999999}};
  ASSERT_EQ(::utimensat(AT_FDCWD, (tree + "/empty").c_str(), times, 0), 0);

  ImportResult result = VALUE(import(tree));
  auto lower = look(result.images.at(0));
  EXPECT_EQ(read(*lower, "d/file"), "content");
  EXPECT_EQ(at(*lower, "link").ino, at(*lower, "d/file").ino);
  EXPECT_EQ(at(*lower, "link").attributes.nlink, 2u);
  EXPECT_EQ(at(*lower, "link").attributes.mode, 04751);
  EXPECT_EQ(VALUE(lower->readlink(at(*lower, "soft").ino)), "d/file");
  EXPECT_EQ(at(*lower, "fifo").attributes.type, FileType::fifo);
  EXPECT_EQ(VALUE(lower->xattrs(at(*lower, "d").ino)), (Xattrs{{"user.x", "value"}}));
  EXPECT_EQ(at(*lower, "empty").attributes.mtime, (Timestamp{-5, 999999999}));
  EXPECT_EQ(VALUE(import(tree)).layers_known, 1u);
  EXPECT_ERRNO(import(tree + "/none"), ENOENT);
}

TEST_F(ImageImportTest, DirectoryKeepsHoles) {
  constexpr uint64_t kMib = 1 << 20;
  std::string tree = directory_ / "tree";
  std::string long_name(150, 'n');
  put_file(tree + "/middle", "begin");
  put_file(tree + "/" + long_name, "");
  int fd = ::open((tree + "/middle").c_str(), O_WRONLY);
  ASSERT_EQ(::pwrite(fd, "end", 3, 8 * kMib), 3);
  ::close(fd);
  ASSERT_EQ(::truncate((tree + "/" + long_name).c_str(), 3 * kMib + 1), 0);
  ASSERT_EQ(::setxattr((tree + "/middle").c_str(), "user.x", "value", 5, 0), 0);

  ImportResult result = VALUE(import(tree));
  auto lower = look(result.images.at(0));
  std::string content = "begin";
  content.resize(8 * kMib);
  EXPECT_EQ(read(*lower, "middle"), content + "end");
  EXPECT_EQ(read(*lower, long_name), std::string(3 * kMib + 1, '\0'));
  EXPECT_EQ(VALUE(lower->xattrs(at(*lower, "middle").ino)), (Xattrs{{"user.x", "value"}}));
  auto middle = VALUE(lower->open(at(*lower, "middle").ino));
  uint64_t hole = VALUE(middle->seek_hole(0));
  EXPECT_LE(hole, kMib);
  EXPECT_GE(VALUE(middle->seek_data(hole)), 7 * kMib);
  auto empty = VALUE(lower->open(at(*lower, long_name).ino));
  EXPECT_ERRNO(empty->seek_data(0), ENXIO);
  EXPECT_EQ(VALUE(import(tree)).layers_known, 1u);  // the same tar again
}

// A hard link to a name of the layers below is looked up in the stack that the layer is on, whether
// or not the layer was read on another one before.
TEST_F(ImageImportTest, HardLinksToLayersBelow) {
  std::string one = member("a", "of one") + tar_end();
  std::string two = member("a", "of two") + hard_link("b", "a") + tar_end();
  std::string links = hard_link("c", "a") + tar_end();
  Layout layout(directory_ / "oci");
  std::vector<json> images;
  for (const std::string& bottom : {one, two, one}) {
    images.push_back(layout.image({bottom, links}, {bottom, links}));
    layout.index(json::array({images.back()}));
    ImportResult result = VALUE(import(directory_ / "oci"));
    auto lower = look(result.images.at(0));
    EXPECT_EQ(read(*lower, "c"), bottom == one ? "of one" : "of two");
    EXPECT_EQ(at(*lower, "c").ino, at(*lower, "a").ino);
    EXPECT_EQ(at(*lower, "c").attributes.nlink, bottom == one ? 2u : 3u);
  }
  // Both in one import, and the layer a second time on top of itself.
  std::string three = member("a", "of three") + tar_end();
  layout.index(json::array({layout.image({three, links, links}, {three, links, links})}));
  auto lower = look(VALUE(import(directory_ / "oci")).images.at(0));
  EXPECT_EQ(read(*lower, "c"), "of three");
  EXPECT_EQ(at(*lower, "c").attributes.nlink, 2u);
  // Where the name is missing, the layer is refused as if it were new.
  std::string none = member("x", "") + tar_end();
  layout.index(json::array({layout.image({none, links}, {none, links})}));
  EXPECT_ERRNO(import(directory_ / "oci"), EINVAL);
}

// A name below does not come back because the layer that deletes its directory links to it first.
TEST_F(ImageImportTest, ALinkDoesNotBringBackWhatItsLayerHides) {
  std::string below = member("d/f", "data") + member("d/k", "k") + tar_end();
  std::string link = hard_link("g", "d/f");
  for (const std::string& hiding : {member(".wh.d", ""), member("d/.wh..wh..opq", "")}) {
    Layout layout(directory_ / "oci");
    std::string above = link + hiding + tar_end();
    layout.index(json::array({layout.image({below, above}, {below, above})}));
    auto lower = look(VALUE(import(directory_ / "oci")).images.at(0));
    EXPECT_EQ(read(*lower, "g"), "data");
    EXPECT_EQ(at(*lower, "g").attributes.nlink, 1u);
    size_t left = 0;
    Result<LowerNode> directory = lower->lookup(kRootIno, "d");
    auto count = [&](std::string_view, const LowerNode&) { return ++left > 0; };
    if (directory.ok()) {
      EXPECT_TRUE(lower->list(directory->ino, "", count).ok());
    }
    EXPECT_EQ(left, 0u);
  }
}

}  // namespace
}  // namespace layerfs
