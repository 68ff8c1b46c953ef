// SPDX-License-Identifier: Apache-2.0
//
// A disk that can be left in any state that a power failure may leave it in, made from the calls
// that were written down (host_calls.h).
//
// What is certain: a file's content as it was when it was last synced, if nothing changed it since;
// names up to the last sync that commits names. Names change in the order of the calls, as journals
// keep them: some moment after the last commit is what is found, never a later change without an
// earlier one. What commits names is a property of the host's filesystem, so both are tried.
// RocksDB's manifest, which it syncs after every record, is only ever cut short: a database whose
// manifest has a hole cannot be opened, whoever uses it.
// Not thread-safe.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "tests/faults/host_calls.h"
#include "tests/support/random.h"

namespace layerfs::test_support {

enum class Loss {
  nothing,   // the process died, the host did not
  unsynced,  // everything that was not synced, names and contents
  contents,  // names and sizes are all there, but contents that were not synced are zeros
  torn,      // at random: names up to some moment; pages old, new or zeros; sizes old or new
};

class CrashingDisk {
 public:
  enum class Names {
    journalled,    // any sync commits the names that changed before it (ext4, xfs)
    by_directory,  // only that of a directory (or syncfs) does
  };
  // What `directory` holds already is on the disk for certain.
  CrashingDisk(const std::string& directory, Names names);

  void apply(const HostCall& call);
  // Fills `directory`, which must not exist, with what is left.
  void leave(const std::string& directory, Loss loss, Random& random) const;

 private:
  struct File {
    std::string now;
    std::string synced;
    std::string sized;  // changed as `now` since the last sync, but what was written is zeros
    bool changed = false;
  };
  using Tree = std::map<std::string, uint64_t>;  // path -> file, 0: a directory
  static void change_names(Tree& tree, const HostCall& call);
  void commit_names();
  static std::string tear(const std::string& path, const File& file, Random& random);

  const Names names_;
  std::map<uint64_t, File> files_;
  Tree tree_;
  Tree committed_;
  std::vector<HostCall> uncommitted_;
};

}  // namespace layerfs::test_support
