// SPDX-License-Identifier: Apache-2.0
//
// Random changes of a filesystem, of every kind that a commit must tell.
#pragma once

#include <gtest/gtest.h>
#include <linux/falloc.h>
#include <linux/fs.h>

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "fuse/overlay.h"
#include "tests/support/random.h"
#include "tests/support/result_matchers.h"

namespace layerfs::test_support {

class RandomChanges {
 public:
  RandomChanges(Overlay& fs, Random& random, int round) : fs_(fs), random_(random), round_(round) {}

  void step() {
    Ino directory = random_directory();
    std::string name = random_name();
    switch (random_.below(14)) {
      case 0:
      case 1:
        return make(directory, FileType::regular);
      case 2:
        return make(directory, FileType::directory);
      case 3: {
        static constexpr FileType kOthers[] = {FileType::symlink, FileType::fifo, FileType::socket,
                                               FileType::char_device};
        return make(directory, kOthers[random_.below(4)]);
      }
      case 4:
      case 5:
        if (Ino ino = random_file(directory))
          (void)fs_.write(ino, random_.below(150000), random_.bytes(1 + random_.below(60000)),
                          [](const Attributes&) { return Writer::member; });
        return;
      case 6:
        if (Ino ino = random_file(directory)) {
          SetAttributes size;
          size.size_bytes = random_.below(200000);
          (void)fs_.set_attributes(ino, size, Caller{});
        }
        return;
      case 7:
        if (auto [found, ino] = random_child(directory); ino != 0) {
          SetAttributes changes;
          changes.mode = static_cast<uint32_t>(random_.below(010000));
          changes.uid = static_cast<uint32_t>(random_.below(3000000));
          changes.mtime = Timestamp{static_cast<int64_t>(random_.below(1u << 30)), 123456789};
          (void)fs_.set_attributes(ino, changes, Caller{});
        }
        return;
      case 8:
        if (auto [found, ino] = random_child(directory); ino != 0) {
          std::string xattr = "user." + std::to_string(random_.below(3));
          if (random_.one_in(3))
            (void)fs_.remove_xattr(ino, xattr);
          else
            (void)fs_.set_xattr(ino, xattr, random_.bytes(random_.below(100)), 0);
        }
        return;
      case 9:
        if (Ino ino = random_file(directory)) {
          Result<Stat> linked = fs_.link(ino, random_directory(), name);
          if (linked.ok()) fs_.forget(linked->ino, 1);
        }
        return;
      case 10:
        return remove(directory, random_child(directory).first);
      case 11:
      case 12:
        (void)fs_.rename(directory, random_child(directory).first, random_directory(), name,
                         random_.one_in(5) ? RENAME_EXCHANGE : 0);
        return;
      default:
        if (Ino ino = random_file(directory))
          (void)fs_.allocate(ino, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, random_.below(100000),
                             1 + random_.below(50000));
    }
  }

 private:
  std::string random_name() { return "n" + std::to_string(random_.below(12)); }
  void make(Ino directory, FileType type) {
    NewNode node;
    node.type = type;
    node.mode = 0755;
    node.rdev_major = 1;
    node.rdev_minor = 3;
    node.symlink_target = "../" + std::to_string(round_);
    Result<Stat> made = fs_.make(directory, random_name(), node, Caller{});
    if (!made.ok()) return;
    if (type == FileType::regular)
      (void)fs_.write(made->ino, 0, random_.bytes(random_.below(40000)));
    fs_.forget(made->ino, 1);
  }
  std::pair<std::string, Ino> random_child(Ino directory, FileType type = FileType::none) {
    std::vector<std::pair<std::string, Ino>> children;
    (void)fs_.list(directory, 0, [&](const DirectoryEntry& entry) {
      if (type == FileType::none || entry.type == type)
        children.emplace_back(entry.name, entry.ino);
      return true;
    });
    if (children.empty()) return {"no such name", 0};
    std::sort(children.begin(), children.end());
    return children[random_.below(children.size())];
  }
  Ino random_file(Ino directory) { return random_child(directory, FileType::regular).second; }
  Ino random_directory() {
    Ino directory = kRootIno;
    while (!random_.one_in(3)) {
      Ino below = random_child(directory, FileType::directory).second;
      if (below == 0) break;
      directory = below;
    }
    return directory;
  }
  void remove(Ino directory, const std::string& name) {
    Result<Stat> lookup = fs_.lookup(directory, name);
    if (!lookup.ok()) return;
    Stat found = *lookup;
    fs_.forget(found.ino, 1);
    if (found.attributes.type != FileType::directory) {
      ASSERT_OK(fs_.unlink(directory, name));
      return;
    }
    std::vector<std::string> children;
    ASSERT_OK(fs_.list(found.ino, 0, [&](const DirectoryEntry& entry) {
      children.emplace_back(entry.name);
      return true;
    }));
    for (const std::string& child : children) remove(found.ino, child);
    ASSERT_OK(fs_.rmdir(directory, name));
  }

  Overlay& fs_;
  Random& random_;
  int round_;
};

}  // namespace layerfs::test_support
