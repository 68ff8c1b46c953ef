// SPDX-License-Identifier: Apache-2.0
#include "layerdb/ops/layout_writer.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "layerdb/ops/canonical_tar.h"
#include "layerdb/ops/output.h"

namespace layerfs {
namespace {

Error wrong_size(const std::string& path) {
  return {EIO, "the bytes of '" + path + "' are not as many as announced"};
}

class TarLayout : public LayoutWriter {
 public:
  TarLayout(std::unique_ptr<OutputFile> out, std::string spool_directory)
      : out_(std::move(out)), spool_directory_(std::move(spool_directory)) {}

  Status add_directory(const std::string& path) override {
    Entry entry;
    entry.attributes.type = FileType::directory;
    entry.attributes.mode = 0755;
    std::string header = TRY(encode_tar_header(path, entry, ""));
    return out_->write(header);
  }

  Status add_stream(const std::string& path, uint64_t size_bytes,
                    const Producer& produce) override {
    Entry entry;
    entry.attributes.type = FileType::regular;
    entry.attributes.mode = 0644;
    entry.attributes.size_bytes = size_bytes;
    std::string header = TRY(encode_tar_header(path, entry, ""));
    TRY(out_->write(header));
    uint64_t written = 0;
    TRY(produce([&](std::string_view bytes) -> Status {
      written += bytes.size();
      if (written > size_bytes) return wrong_size(path);
      return out_->write(bytes);
    }));
    if (written != size_bytes) return wrong_size(path);
    return out_->write(std::string(tar_padding(size_bytes), '\0'));
  }

  Result<Blob> add_blob(const std::string& directory, const Producer& produce) override {
    Spool spool = TRY(Spool::create(spool_directory_));
    Sha256 hash;
    TRY(produce([&](std::string_view bytes) {
      hash.update(bytes);
      return spool.write(bytes);
    }));
    Blob blob{hash.finish(), spool.size_bytes()};
    TRY(add_stream(directory + "/" + blob.digest.hex(), blob.size_bytes,
                   [&](const ByteSink& sink) { return spool.copy_to(sink); }));
    return blob;
  }

  Status commit() override {
    TRY(out_->write(tar_trailer()));
    return out_->commit();
  }

 private:
  std::unique_ptr<OutputFile> out_;
  std::string spool_directory_;
};

class DirectoryLayout : public LayoutWriter {
 public:
  explicit DirectoryLayout(std::unique_ptr<OutputDirectory> out) : out_(std::move(out)) {}

  Status add_directory(const std::string& path) override {
    if (::mkdir(in_output(path).c_str(), 0777) != 0)
      return errno_error("make directory '" + path + "'");
    return {};
  }

  Status add_stream(const std::string& path, uint64_t size_bytes,
                    const Producer& produce) override {
    Blob blob = TRY(write_file(path, produce));
    if (blob.size_bytes != size_bytes) return wrong_size(path);
    return {};
  }

  Result<Blob> add_blob(const std::string& directory, const Producer& produce) override {
    std::string temporary = directory + "/.incomplete";
    Blob blob = TRY(write_file(temporary, produce));
    std::string path = directory + "/" + blob.digest.hex();
    if (::rename(in_output(temporary).c_str(), in_output(path).c_str()) != 0)
      return errno_error("rename to '" + path + "'");
    return blob;
  }

  Status commit() override { return out_->commit(); }

 private:
  std::string in_output(const std::string& path) const { return out_->temporary() + "/" + path; }

  Result<Blob> write_file(const std::string& path, const Producer& produce) {
    UniqueFd fd = TRY(open_file(in_output(path), O_WRONLY | O_CREAT | O_TRUNC, 0666));
    Blob blob;
    Sha256 hash;
    TRY(produce([&](std::string_view bytes) -> Status {
      hash.update(bytes);
      blob.size_bytes += bytes.size();
      Status written = write_full(fd.get(), bytes);
      if (!written.ok()) return errno_error("write '" + path + "'", written.error().code);
      return {};
    }));
    TRY(sync_file(fd.get(), path));
    blob.digest = hash.finish();
    return blob;
  }

  std::unique_ptr<OutputDirectory> out_;
};

}  // namespace

Status LayoutWriter::add_file(const std::string& path, std::string_view bytes) {
  return add_stream(path, bytes.size(), [&](const ByteSink& sink) { return sink(bytes); });
}

Result<std::unique_ptr<LayoutWriter>> create_layout(const std::string& path,
                                                    const std::string& spool_directory) {
  std::unique_ptr<LayoutWriter> layout;
  if (path.ends_with('/')) {
    std::unique_ptr<OutputDirectory> out = TRY(OutputDirectory::create(path));
    layout = std::make_unique<DirectoryLayout>(std::move(out));
  } else {
    std::unique_ptr<OutputFile> out = TRY(OutputFile::create(path));
    std::string spool = out->direct() ? spool_directory : parent_directory(path);
    layout = std::make_unique<TarLayout>(std::move(out), std::move(spool));
  }
  return layout;
}

}  // namespace layerfs
