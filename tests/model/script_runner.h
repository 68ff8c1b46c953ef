// SPDX-License-Identifier: Apache-2.0
//
// Executes a script's commands (script.h) on anything with Overlay's interface, as the kernel would
// call it: what a path led through is referenced while a command runs, what is held until released.
#pragma once

#include <map>
#include <set>
#include <string>
#include <vector>

#include "fuse/overlay.h"
#include "tests/model/script.h"

namespace layerfs {

class ScriptRunner {
 public:
  // The result of a command; "bad command" when it is none.
  std::string run(Overlay& fs, const Command& command);
  Result<std::string> content(Overlay& fs, const std::string& path);
  Result<Ino> number_of(Overlay& fs, const std::string& path);
  void forget_all();  // after a remount

 private:
  using Words = std::vector<std::string>;
  struct Place {
    Ino directory = 0;
    std::string name;
  };
  // An open directory: what it had at first, what was seen, whose names came or went meanwhile.
  struct Listing {
    Ino directory = 0;
    uint64_t cookie = 0;
    std::set<std::string> at_first;
    std::set<std::string> changed;
    std::multiset<std::string> seen;
  };

  Result<std::string> execute(Overlay& fs, const Words& words);
  Result<std::string> make(Overlay& fs, const Words& words);
  Result<std::string> change_names(Overlay& fs, const Words& words);
  Result<std::string> change_content(Overlay& fs, const Words& words);
  Result<std::string> change_attributes(Overlay& fs, const Words& words);
  Result<std::string> list_in_parts(Overlay& fs, const Words& words);
  Result<std::string> look(Overlay& fs, const Words& words);
  Result<Ino> resolve(Overlay& fs, const std::string& path);
  Result<Place> place(Overlay& fs, const std::string& path);
  Result<std::string> read_all(Overlay& fs, const std::string& path);
  void unpin(Overlay& fs);
  void name_changed(const Place& place);
  static Status read_listing(Overlay& fs, Listing& listing, uint64_t count);
  static std::string judge(const Listing& listing);

  std::map<std::string, Ino> held_;
  std::map<std::string, Listing> listings_;
  std::vector<Ino> pinned_;
  Caller caller_;
};

// Path -> everything to be seen there, its inode number excepted (that goes to `inos`). Checks on
// the way that listing, lookup, holes and stat agree. `exact` includes all times and the sizes of
// directories; else of the times only an mtime that `utimes` gave.
std::map<std::string, std::string> snapshot(Overlay& fs, bool exact,
                                            std::map<std::string, Ino>* inos = nullptr);

// "SIZE:HASH"
std::string digest_of(const std::string& bytes);

}  // namespace layerfs
