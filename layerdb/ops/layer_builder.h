// SPDX-License-Identifier: Apache-2.0
//
// Builds the layer of a container's changes: its diff tree, its link table and the map of its
// canonical tar, in one pass over walk_changes. Bytes that are new are read once, for chunking and
// for the tar's SHA-256; bytes of the lower are shared by address and read for the SHA-256 alone,
// or not at all where they are many: the layer's diffID is then provisional (format.md, Catalog).
//
// What it makes of a change: a directory that only contains changes is implicit in the tree and not
// in the tar; a directory over a lower directory is opaque; an inode with several names has one
// link id (the lower's, if it has one) and a full entry under its first name; sockets, which no
// image can hold, are left out (a lower name they replaced is gone).
#pragma once

#include <map>
#include <unordered_map>
#include <vector>

#include "layerdb/base/hash.h"
#include "layerdb/ops/changes.h"
#include "layerdb/ops/commit.h"
#include "layerdb/ops/tree_builder.h"
#include "layerdb/store/catalog.h"
#include "layerdb/store/content.h"
#include "layerdb/store/store.h"

namespace layerfs {

class LayerBuilder {
 public:
  // `below`: the chain that the container is on.
  LayerBuilder(Store& store, const Digest& below, Lower& lower, Upper& upper,
               const CommitOptions& options);

  Result<LayerRecord> build();

 private:
  struct OpenDirectory {
    std::string path;
    Entry entry;
    DirectoryBuilder builder;
    bool tree_is_lower = false;  // entry.tree is finished: what is inside goes to the tar only
  };
  struct Link {
    std::string first_path;
    Entry entry;
  };

  Status survey();
  Result<uint64_t> unwritten_bytes(Ino ino, const InodeRecord& record);
  Status add(const Change& change);
  Status add_directory(const Change& change, Entry entry);
  Status add_file(const Change& change, Entry entry);
  Status add_whiteout(const Change& change);
  Status add_to_parent(const Entry& entry);
  Status close_directories(const std::string& path);  // all that do not contain `path`

  Result<Content> add_body(Ino ino, uint64_t size_bytes);
  Result<Content> shared_body(Ino ino, uint64_t size_bytes);
  Status append_upper(ContentWriter& out, Ino ino, uint64_t from, uint64_t to);
  Status append_lower(ContentWriter& out, Ino ino, uint64_t from, uint64_t to);
  Status append_bytes(ContentWriter& out, std::string_view bytes);
  Status append_hole(ContentWriter& out, uint64_t size_bytes);
  Status hash_lower(const ContentReader& reader, Ino ino, uint64_t from, uint64_t to);

  Status tar_literal(std::string_view bytes);
  Status tar_body(const Content& content, uint64_t size_bytes);
  void hash(std::string_view bytes);
  void hash_zeros(uint64_t size_bytes);
  void hash_source(Ino ino, uint64_t offset, uint64_t size_bytes);
  void advance(uint64_t size_bytes);
  Digest provisional_id();

  Store& store_;
  Digest below_;
  Lower& lower_;
  Upper& upper_;
  const CommitOptions& options_;
  Sha256 sha256_;   // of the tar; of its new bytes alone when the diffID is provisional
  Sha256 sources_;  // of where the other bytes come from
  ContentWriter tar_;
  uint64_t position_bytes_ = 0;  // in the tar, of what is hashed next
  uint64_t reported_bytes_ = 0;
  uint64_t unwritten_bytes_ = 0;  // of all changed files: lower bytes and holes
  bool has_sources_ = false;
  std::vector<OpenDirectory> open_;
  std::unordered_map<Ino, uint32_t> names_;  // names in the layer of inodes that have several
  std::unordered_map<Ino, Link> links_;      // of those, the ones met so far
  std::map<uint64_t, Entry> link_table_;
  LayerRecord layer_;
};

}  // namespace layerfs
