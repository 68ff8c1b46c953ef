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

# count COMMAND...: messages that it causes, FORGETs aside (the kernel sends those when it likes).
total() {
  lf --json stats c | python3 -c '
import json, sys
m = json.load(sys.stdin)["messages"]
print(sum(n for name, n in m.items() if name not in ("FORGET", "BATCH_FORGET", "INTERRUPT")))'
}
count() {
  local before after
  before=$(total)
  "$@" >/dev/null 2>&1 || true
  after=$(total)
  echo $((after - before))
}
stat_file() { stat -c %s "$M/dir/file"; }
read_file() { local lines; mapfile lines <"$M/dir/file"; }
cat_file() { cat "$M/dir/file"; }
list() { ls "$M/dir"; }
list_long() { stat -c %s "$M"/dir/*; }
missing() { [ -e "$M/dir/nothing" ]; }
follow() { readlink "$M/dir/link"; }
create() { printf small >"$M/new$1"; }

step "the second time costs nothing"
for operation in stat_file read_file list list_long missing follow; do
  $operation >/dev/null 2>&1 || true
  $operation >/dev/null 2>&1 || true  # reading and listing outdate the access time once
  assert_eq "$(count $operation)" 0 "messages of a repeated $operation"
done

# cat asks for attributes, whose block count the kernel forgets at every close when it writes back.
[ "$(count cat_file)" -le 1 ] || fail "a repeated cat took more than one message"

step "opening and closing costs nothing"
open_close() { : <"$M/dir/f7"; }
assert_eq "$(count open_close)" 0 "messages of open and close"

step "making a small file"
create 0
made=$(count create 1)
[ "$made" -le 6 ] || fail "create, write, close took $made messages"
assert_eq "$(cat "$M/new1")" small "the file made"
lf umount c
