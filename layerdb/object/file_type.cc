// SPDX-License-Identifier: Apache-2.0
#include "layerdb/object/file_type.h"

namespace layerfs {
namespace {

constexpr struct {
  FileType type;
  mode_t bits;
} kFileTypes[] = {
    {FileType::regular, S_IFREG},      {FileType::directory, S_IFDIR},
    {FileType::symlink, S_IFLNK},      {FileType::char_device, S_IFCHR},
    {FileType::block_device, S_IFBLK}, {FileType::fifo, S_IFIFO},
    {FileType::socket, S_IFSOCK},
};

}  // namespace

FileType file_type_of(mode_t mode) {
  for (const auto& known : kFileTypes) {
    if (known.bits == (mode & S_IFMT)) return known.type;
  }
  return FileType::none;
}

mode_t file_type_bits(FileType type) {
  for (const auto& known : kFileTypes) {
    if (known.type == type) return known.bits;
  }
  return 0;
}

}  // namespace layerfs
