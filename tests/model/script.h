// SPDX-License-Identifier: Apache-2.0
//
// The script language of the filesystem tests. One command a line; '#' starts a comment:
//
//   COMMAND ARGUMENT…            does it
//   COMMAND ARGUMENT… = RESULT   and expects this result: "ok", an errno's name, or what the
//                                command answers
//
// Arguments are separated by spaces; %xx is a byte, %*hh:n is n times the byte hh. PATH is "a/b",
// "." is the root; symlinks are never followed. `hold H PATH` keeps the inode open as @H, which is
// a PATH too (@H/x: x in that directory), until `release H` or a remount.
//
//   mkdir PATH MODE              create PATH MODE             symlink TARGET PATH
//   mknod PATH fifo|socket|char|block MODE MAJOR MINOR        tmpfile H DIRECTORY MODE [excl]
//   link OLD NEW                 unlink PATH                  rmdir PATH
//   rename OLD NEW [noreplace|exchange|whiteout]              as UID GID UMASK (of later commands)
//   write PATH OFFSET LENGTH SEED [member|stranger] (of the file's group, else root)
//   append PATH LENGTH SEED      put PATH TEXT                truncate PATH SIZE
//   read PATH (TEXT, or size and hash)                        sync PATH
//   fallocate PATH alloc|keep|punch|zero|zerokeep OFFSET LENGTH [member|stranger]
//   copy FROM OFFSET TO OFFSET LENGTH      seek PATH data|hole OFFSET
//   chmod PATH MODE              chown PATH UID GID           utimes PATH ATIME MTIME
//   setxattr PATH NAME VALUE [create|replace]                 getxattr / removexattr PATH NAME
//   setacl PATH access|default ACL (acl_text.h)               getacl PATH access|default
//   stat PATH (all but number and times)   mode PATH   nlink PATH   size PATH   list PATH
//   opendir D PATH               readdir D COUNT              closedir D (the rest; complains when
//                                an entry that was there all the while was not seen exactly once)
//   remount                      crash (the daemon dies)      commit (and mount the new image)
//   fault N COMMAND…             with the host's disk full after N more calls
//
// A runner executes commands on anything with Overlay's interface; the last two lines and the
// comparison with a model belong to the caller (driver.h).
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace layerfs {

struct Command {
  std::vector<std::string> words;  // as written
  std::string expected;            // "" : nothing expected
};

std::vector<Command> parse_script(std::string_view text);
std::string script_text(const std::vector<Command>& script);
std::string unescape(const std::string& word);
std::string escape(std::string_view bytes);

// Whether the command is one of the language, with as many words as it needs. Those of the driver
// (the last two lines above) are not.
bool well_formed(const std::vector<std::string>& words);

}  // namespace layerfs
