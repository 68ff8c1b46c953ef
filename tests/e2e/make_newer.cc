// SPDX-License-Identifier: Apache-2.0
//
// make_newer ROOT: marks the store below ROOT as made by the next, incompatible version of layerfs.
#include <rocksdb/write_batch.h>

#include <cstdio>

#include "layerdb/base/coding.h"
#include "layerdb/store/database.h"

int main(int argc, char** argv) {
  using namespace layerfs;
  if (argc != 2) return 2;
  auto database = Database::open(std::string(argv[1]) + "/store", {.create = false});
  if (!database.ok()) {
    std::fprintf(stderr, "make_newer: %s\n", database.error().message.c_str());
    return 1;
  }
  std::string record;
  put_u32(record, kFormatVersion + 1);
  put_u32(record, kFormatVersion + 1);
  rocksdb::WriteBatch batch;
  batch.Put((*database)->handle(Family::meta), "format", record);
  const Status status = (*database)->write(batch);
  return status.ok() && (*database)->flush({Family::meta}).ok() ? 0 : 1;
}
