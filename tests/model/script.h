// SPDX-License-Identifier: Apache-2.0
//
// The script language of the filesystem tests. One command a line; '#' starts a comment:
//
//   COMMAND ARGUMENT…            does it
//   COMMAND ARGUMENT… = RESULT   and expects this result: "ok", an errno's name, or what the
//   command
//                                answers
//
// Arguments are separated by spaces; %xx is a byte, %* repeats: `%*61:255` is 255 times 'a'.
// PATH is "a/b", "." is the root; symlinks are never followed. `hold H PATH` keeps the inode open
// as @H, which is a PATH too (@H/x: x in that directory), until `release H` or a remount.
//
//   mkdir PATH MODE              create PATH MODE             symlink TARGET PATH
//   mknod PATH fifo|socket|char|block MODE MAJOR MINOR        tmpfile H DIRECTORY MODE
//   link OLD NEW                 unlink PATH                  rmdir PATH
//   rename OLD NEW [noreplace|exchange|whiteout]              as UID GID UMASK (of later commands)
//   write PATH OFFSET LENGTH SEED [kill]   put PATH TEXT      read PATH   (TEXT, or size and hash)
//   truncate PATH SIZE           fallocate PATH alloc|keep|punch|zero OFFSET LENGTH
//   copy FROM OFFSET TO OFFSET LENGTH      seek PATH data|hole OFFSET
//   chmod PATH MODE              chown PATH UID GID           utimes PATH ATIME MTIME
//   setxattr PATH NAME VALUE [create|replace]                 getxattr / removexattr PATH NAME
//   stat PATH (all but number and times)   mode PATH   nlink PATH   size PATH   list PATH
//   remount
//
// A runner executes commands on anything with Overlay's interface; `remount` and the comparison
// with a model belong to the caller.
#pragma once

#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "fuse/overlay.h"

namespace layerfs {

struct Command {
  std::vector<std::string> words;  // as written
  std::string expected;            // "" : nothing expected
};

std::vector<Command> parse_script(std::string_view text);
std::string script_text(const std::vector<Command>& script);
std::string unescape(const std::string& word);

class ScriptRunner {
 public:
  // The result of a command; "bad command" when it is none.
  std::string run(Overlay& fs, const Command& command);
  void forget_all() { held_.clear(); }  // after a remount
  // Path -> everything to be seen there. Also checks that listing, holes and stat agree.
  static std::map<std::string, std::string> snapshot(Overlay& fs, std::map<std::string, Ino>* inos);

 private:
  using Words = std::vector<std::string>;
  Result<std::string> execute(Overlay& fs, const Words& words);
  Result<std::string> make(Overlay& fs, const Words& words);
  Result<std::string> change_names(Overlay& fs, const Words& words);
  Result<std::string> change_content(Overlay& fs, const Words& words);
  Result<std::string> change_attributes(Overlay& fs, const Words& words);
  Result<std::string> look(Overlay& fs, const Words& words);
  Result<Ino> resolve(Overlay& fs, const std::string& path);
  struct Place {
    Ino directory = 0;
    std::string name;
  };
  Result<Place> place(Overlay& fs, const std::string& path);

  std::map<std::string, Ino> held_;
  std::vector<Ino> pinned_;  // as the kernel does, a command keeps what it walked through
  Caller caller_;
};

}  // namespace layerfs
