// SPDX-License-Identifier: Apache-2.0
//
// Finds out what the source is, and has it imported.
#include "layerdb/ops/import.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <utility>

#include "layerdb/ops/image_import.h"
#include "layerdb/ops/layer_writer.h"
#include "layerdb/ops/tar_header.h"
#include "layerdb/ops/tar_reader.h"

namespace layerfs {
namespace {

bool is_hex_id(std::string_view text) {
  return text.size() == 64 && text.find_first_not_of("0123456789abcdef") == std::string_view::npos;
}

// Whether a tar whose first real entry is this one is an image archive and no root filesystem.
bool names_image_archive(const std::string& path) {
  std::string first = path.substr(0, path.find('/'));
  if (first == "blobs" || first == "oci-layout" || first == "index.json" ||
      first == "manifest.json" || first == "repositories") {
    return true;
  }
  for (std::string_view suffix : {"", ".json", ".tar"}) {
    if (first.ends_with(suffix) && is_hex_id(first.substr(0, first.size() - suffix.size())))
      return true;
  }
  return false;
}

// Looks at the headers at hand without consuming them.
bool is_image_archive(std::string_view bytes) {
  while (bytes.size() >= kTarBlockBytes) {
    TarHeader header(bytes.substr(0, kTarBlockBytes));
    auto size = header.size_bytes();
    if (header.all_zero() || !header.checksum_ok() || !size || *size < 0) return false;
    bool extension = std::string_view("xXgLKV").find(header.type()) != std::string_view::npos;
    if (!extension) {
      Result<std::string> path = normalise_path(header.path());
      if (!path.ok()) return false;
      if (!path->empty()) return names_image_archive(*path);
    }
    uint64_t blocks = (static_cast<uint64_t>(*size) + kTarBlockBytes - 1) / kTarBlockBytes + 1;
    if (blocks > bytes.size() / kTarBlockBytes) return false;
    bytes.remove_prefix(blocks * kTarBlockBytes);
  }
  return false;
}

Status import_files(ImageImport& import, SourceFiles& files, const std::string& name) {
  // Newer docker-archives are OCI layouts as well; manifest.json has the whole names then.
  if (files.exists("manifest.json")) return import_docker(import, files, name);
  if (files.exists("index.json")) return import_oci(import, files, name);
  return Error{EINVAL, "'" + name +
                           "' looks like an image archive but has neither index.json nor "
                           "manifest.json"};
}

Status import_rootfs(ImageImport& import, InputStream& input, const std::string& name,
                     const std::string& label) {
  Digest diff_id = TRY(import.add_layer(input, name));
  ImageConfig config = TRY(parse_image_config(make_rootfs_config(diff_id, label), name));
  return import.finish_image(config, {});
}

// The file again, when its first bytes are a tar header: then it is not compressed.
UniqueFd open_in_place(const std::string& path) {
  Result<UniqueFd> fd = open_file(path, O_RDONLY);
  if (!fd.ok()) return {};
  std::string block(kTarBlockBytes, '\0');
  Result<size_t> n = pread_full(fd->get(), block, 0);
  bool tar = n.ok() && *n == block.size() && TarHeader(block).checksum_ok();
  return tar ? std::move(*fd) : UniqueFd();
}

Status import_stream(ImageImport& import, const std::string& source) {
  bool standard_input = source == "-";
  std::string name = standard_input ? "standard input" : source;
  UniqueFd fd;
  uint64_t total = 0;
  bool regular = false;
  if (standard_input) {
    fd = UniqueFd(::fcntl(STDIN_FILENO, F_DUPFD_CLOEXEC, 3));
    if (!fd.valid()) return errno_error("standard input");
  } else {
    fd = TRY(open_file(source, O_RDONLY));
    struct stat st;
    if (::fstat(fd.get(), &st) != 0) return errno_error("'" + source + "'");
    regular = S_ISREG(st.st_mode);
    total = regular ? static_cast<uint64_t>(st.st_size) : 0;
  }
  const ImportOptions& options = import.options();
  auto bytes = with_progress(file_source(std::move(fd), name, options.cancelled), total, name,
                             options.progress);
  InputStream input(std::move(bytes), name, options.cancelled);
  if (!is_image_archive(TRY(input.peek()))) return import_rootfs(import, input, name, name);
  ArchiveInput archive{name, regular ? open_in_place(source) : UniqueFd(),
                       import.store().root() + "/tmp"};
  std::unique_ptr<SourceFiles> files = TRY(open_archive_files(input, std::move(archive)));
  return import_files(import, *files, name);
}

Status import_directory(ImageImport& import, const std::string& directory) {
  bool layout = path_exists(directory + "/oci-layout") &&
                (path_exists(directory + "/index.json") || path_exists(directory + "/blobs"));
  if (layout) return import_files(import, *open_directory_files(directory), directory);
  InputStream input(TRY(directory_tar_source(directory)), directory, import.options().cancelled);
  return import_rootfs(import, input, directory, directory);
}

Status import_source(ImageImport& import, const std::string& source) {
  if (source == "-") return import_stream(import, source);
  struct stat st;
  if (::stat(source.c_str(), &st) != 0) return errno_error("'" + source + "'");
  return S_ISDIR(st.st_mode) ? import_directory(import, source) : import_stream(import, source);
}

}  // namespace

Result<ImportResult> import_image(Store& store, const std::string& source,
                                  const ImportOptions& options) {
  ImageImport import(store, options);
  Status status = import_source(import, source);
  Result<ImportResult> result =
      status.ok() ? import.publish() : Result<ImportResult>(status.error());
  if (!result.ok()) store.discard();
  return result;
}

}  // namespace layerfs
