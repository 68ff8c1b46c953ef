#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# optimize: mounts go on while it runs and after it was killed; the next run goes on; files and
# layers stay what they were, and the store becomes smaller.
source "$(dirname "$0")/lib.sh"
require_fuse

mkdir "$WORK/tree"
for version in 1 2 3; do
  seq "$version" 3 700000 >"$WORK/tree/numbers"
  seq 1 300000 | sed "s/${version}7/$version/" >"$WORK/tree/mostly-same"
  tar -C "$WORK/tree" --sort=name --format=pax -cf "$WORK/$version.tar" .
  lf import "$WORK/$version.tar" "v:$version" >/dev/null
done
lf export v:2 --format tar -o "$WORK/before.tar"
mountpoint=$(mount_container v:3 web)
groups_bytes() { lf --json df | jq .DiskBytes; }
before=$(groups_bytes)

step "killed at some moments"
for hundredths in 03 10 30; do
  "$LAYERFS" --root "$STORE" optimize >/dev/null 2>&1 &
  pid=$!
  sleep "0.$hundredths"
  kill -9 $pid 2>/dev/null || true
  wait $pid 2>/dev/null || true
  assert_fsck
  assert_same_trees "$WORK/tree" "$mountpoint"
done

step "to the end, under a mount that reads"
( while cat "$mountpoint/numbers" >/dev/null; do :; done ) &
reader=$!
lf optimize >"$WORK/out"
kill -0 $reader || fail "the mount stopped reading"
kill $reader
wait $reader 2>/dev/null || true
assert_match "$(cat "$WORK/out")" 'groups recompressed' "optimize"
assert_same_trees "$WORK/tree" "$mountpoint"
lf umount "$mountpoint"
mountpoint=$(mount_container v:3 again)
assert_same_trees "$WORK/tree" "$mountpoint"
lf export v:2 --format tar -o "$WORK/after.tar"
cmp "$WORK/before.tar" "$WORK/after.tar" || fail "an export differs"
[ "$(groups_bytes)" -lt "$before" ] || fail "the store did not become smaller"

step "nothing is left to do"
assert_eq "$(lf --json optimize | jq .Groups)" 0 "groups recompressed again"
