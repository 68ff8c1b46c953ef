#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# Messages per operation: what the kernel may keep, it must not ask again. Counts, not times.
source "$(dirname "$0")/lib.sh"
require_root
require_fuse

mkdir -p "$WORK/tree/dir"
echo text >"$WORK/tree/dir/file"
ln -s file "$WORK/tree/dir/link"
for i in $(seq 300); do echo "$i" >"$WORK/tree/dir/f$i"; done
lf import "$WORK/tree" img >/dev/null
M=$(mount_container img c)

# messages COMMAND...: what it causes, "LOOKUP:1 MKNOD:1", sorted. Not FORGETs, which the kernel
# sends when it likes, nor SETATTR of times: sent when the clock ticked between making a file and
# writing to it.
counters() { lf --json stats c | jq -r '.messages | to_entries[] | "\(.key) \(.value)"' | sort; }
messages() {
  local before after
  before=$(counters)
  "$@" >/dev/null 2>&1 || true
  after=$(counters)
  join -a 2 -e 0 -o 0,1.2,2.2 <(echo "$before") <(echo "$after") |
    awk '$1 !~ /FORGET|INTERRUPT|SETATTR/ && $3 > $2 { printf "%s%s:%d", sep, $1, $3 - $2; sep = " " }'
}
# assert_again EXPECTED WHAT COMMAND...: the messages of its third run. (Reading and listing outdate
# the access time.) The kernel may take a page back at any moment, so one of five attempts will do: a
# cache that is not kept fails them all.
assert_again() {
  local expected=$1 what=$2 seen
  shift 2
  for _ in 1 2 3 4 5; do
    "$@" >/dev/null 2>&1 || true
    "$@" >/dev/null 2>&1 || true
    seen=$(messages "$@")
    [ "$seen" != "$expected" ] || return 0
  done
  assert_eq "$seen" "$expected" "$what"
}
stat_file() { stat -c %s "$M/dir/file"; }
read_file() { local lines; mapfile lines <"$M/dir/file"; }
cat_file() { cat "$M/dir/file"; }
list() { ls "$M/dir"; }
list_long() { stat -c %s "$M"/dir/*; }
missing() { [ -e "$M/dir/nothing" ]; }
follow() { readlink "$M/dir/link"; }
open_close() { : <"$M/dir/$1"; }
create() { printf small >"$M/$1"; }

step "the second time costs nothing"
for operation in stat_file read_file list list_long missing follow; do
  assert_again "" "messages of a repeated $operation" $operation
done

step "opening and closing a file of the image costs nothing, the first time too"
assert_eq "$(messages open_close f7)" "" "messages of open and close"

step "asking for the block count after a close costs one: with write-back the kernel forgets it"
assert_again "GETATTR:1" "messages of a repeated cat" cat_file

step "making, writing and closing a small file"
create new0
stat "$M" >/dev/null  # what making new0 outdated
assert_eq "$(messages create new1)" "GETXATTR:1 LOOKUP:1 MKNOD:1 WRITE:1" "messages of a new file"
# The kernel checks permissions of a directory that it has just changed itself.
assert_eq "$(messages create new2)" "GETATTR:1 GETXATTR:1 LOOKUP:1 MKNOD:1 WRITE:1" \
  "messages of the next one"
assert_eq "$(cat "$M/new1")" small "the file made"
assert_again "GETATTR:1" "messages of reading it again" cat "$M/new1"

step "names that come and go"
assert_eq "$(messages rm "$M/new2")" "GETATTR:1 UNLINK:1" "messages of unlink"
mkdir "$M/made"
stat "$M" >/dev/null
assert_eq "$(messages mkdir "$M/made2")" "LOOKUP:1 MKDIR:1" "messages of mkdir"
stat "$M" >/dev/null
assert_eq "$(messages ln -s x "$M/link2")" "LOOKUP:1 SYMLINK:1" "messages of symlink"

step "a directory is listed by buffers, not by names"
lf umount c
M=$(mount_container img c)
ls "$M" >/dev/null
assert_eq "$(messages ls -l "$M/dir" | tr ' ' '\n' | grep -c LOOKUP || true)" 0 "LOOKUPs of ls -l"

step "the counters add up"
lf --json stats c | jq -e '(.messages | add) == .messages_total' >/dev/null || fail "wrong total"
cat "$M/dir/file" >/dev/null
lf --json stats c | jq -e '.read_bytes > 0 and .decompressed_bytes > 0 and .cpu_seconds > 0' \
  >/dev/null || fail "no costs"
lf stats c | grep -q peak_memory_bytes || fail "no memory"
lf umount c
