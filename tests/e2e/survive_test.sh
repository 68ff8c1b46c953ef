#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# What a container holds survives: the daemon killed at random moments, a disk that fills up, a size
# limit; and one byte written into a large file of the image costs little, commit included.
# LAYERFS_TEST_SEED repeats the moments.
source "$(dirname "$0")/lib.sh"
require_root
require_fuse

seed=${LAYERFS_TEST_SEED:-$RANDOM}
RANDOM=$seed
echo "LAYERFS_TEST_SEED=$seed"
make_tricky_tree "$WORK/tree"
head -c 4000000 /dev/urandom >"$WORK/tree/large"
gnu_tar "$WORK/tree.tar" "$WORK/tree"
lf import "$WORK/tree.tar" base >/dev/null

# Makes files, renames, removes and syncs, and writes down what had returned.
busy() {
  local i=$1
  while :; do
    i=$((i + 1))
    echo "file $i" >"$root/w/new-$i" && mv "$root/w/new-$i" "$root/w/$i" && echo "has $i" >&4
    head -c $((i * 997 % 60000)) /dev/zero >"$root/w/bulk-$i" && echo "bulk $i $((i * 997 % 60000))" >&4
    [ $((i % 3)) -ne 0 ] || { echo "going $i" >&4; rm "$root/w/$i" && echo "gone $i" >&4; }
    [ $((i % 7)) -ne 0 ] || sync "$root/w/bulk-$i"
  done
}

step "kill -9 at random moments: everything that had returned is there"
root=$(mount_container base killed)
mkdir "$root/w"
: >"$WORK/returned"
for round in 1 2 3 4 5; do
  exec 4>>"$WORK/returned"
  busy $((round * 100000)) 2>/dev/null &
  worker=$!
  sleep "0.$((RANDOM % 6 + 1))$((RANDOM % 10))"
  kill -9 "$(lf --json ps | jq -r '.[0].Pid')"
  kill -9 $worker 2>/dev/null || true
  wait $worker 2>/dev/null || true
  exec 4>&-
  wait_unmounted killed
  # Nobody has to know ENOTCONN: the next mount, or umount, clears the dead one away.
  if [ $((round % 2)) -eq 0 ]; then lf umount "$root"; fi
  root=$(mount_container base killed)
  while read -r what i size; do
    case $what in
      has) grep -qxE "(gone|going) $i" "$WORK/returned" || [ "$(cat "$root/w/$i")" = "file $i" ] ||
        fail "file $i" ;;
      gone) assert_missing "$root/w/$i" ;;
      bulk) [ "$(stat -c %s "$root/w/bulk-$i")" = "$size" ] || fail "bulk-$i" ;;
    esac
  done <"$WORK/returned"
  lf umount killed
  assert_fsck
  root=$(mount_container base killed)
done
echo "$(wc -l <"$WORK/returned") operations had returned"
lf umount killed
lf rm killed

step "a size limit: ENOSPC past it, statfs shows it, deleting frees it"
mkdir -p "$WORK/mnt/limited"
root=$WORK/mnt/limited
lf mount --size 20M --container limited base "$root" >/dev/null
assert_eq "$(($(stat -f -c '%b * %S' "$root") / 1000000))" 20 "statfs: size"
for round in 1 2; do
  ! dd if=/dev/zero of="$root/huge" bs=1M count=40 conv=fsync 2>"$WORK/err" || fail "40 MB fit"
  grep -q 'No space left' "$WORK/err" || fail "dd said $(cat "$WORK/err")"
  [ "$(stat -f -c %a "$root")" -lt 1500 ] || fail "statfs: $(stat -f -c %a "$root") blocks free"
  rm "$root/huge"
  [ "$(stat -f -c %a "$root")" -gt 3000 ] || fail "deleted, but $(stat -f -c %a "$root") blocks free"
done
n=0  # small files live in the database
while head -c 12000 /dev/urandom >"$root/small-$n" 2>/dev/null && [ $n -lt 3000 ]; do n=$((n + 1)); done
[ $n -gt 800 ] && [ $n -lt 2500 ] || fail "$n small files fit into 20 MB"
rm "$root"/small-*
head -c 10000000 /dev/urandom >"$root/again"
rm "$root/again"
step "what is removed is free at once"
python3 "$E2E/removed_space.py" "$root" "$(lf --json ps | jq -r '.[0].Pid')"
lf umount limited
lf rm limited

step "a host's disk that is full: rm works, and the mount goes on once there is space"
truncate -s 60M "$WORK/disk"
mkfs.ext4 -q -m 0 "$WORK/disk"
mkdir "$WORK/host"
mount -o loop "$WORK/disk" "$WORK/host"
small=$WORK/host/store
"$LAYERFS" --root "$small" import "$WORK/tree.tar" base >/dev/null
mkdir -p "$WORK/mnt/full"
root=$WORK/mnt/full
"$LAYERFS" --root "$small" mount --container full base "$root" >/dev/null
echo kept >"$root/kept"
mkdir "$root/d"
for i in $(seq 200); do head -c 20000 "$WORK/tree/large" >"$root/d/$i"; done
sync -f "$root/kept"
for round in 1 2 3; do
  dd if=/dev/zero of="$WORK/host/filler" bs=64k 2>/dev/null || true  # the last block is taken
  ! head -c 3000000 "$WORK/tree/large" >"$root/too-much" 2>"$WORK/err" || fail "wrote to a full disk"
  grep -q 'No space left' "$WORK/err" || fail "said $(cat "$WORK/err")"
  ! mkdir "$root/no" 2>/dev/null || rmdir "$root/no"
  rm -f "$root/too-much"
  for i in $(seq $((round * 50 - 49)) $((round * 50))); do rm "$root/d/$i"; done
  assert_eq "$(cat "$root/kept")" kept "what was there"
  cmp <(head -c 20000 "$WORK/tree/large") "$root/d/200"
  rm "$WORK/host/filler"
  head -c 3000000 "$WORK/tree/large" >"$root/fits-$round"
  sync "$root/fits-$round"
  cmp <(head -c 3000000 "$WORK/tree/large") "$root/fits-$round"
done
"$LAYERFS" --root "$small" umount full
"$LAYERFS" --root "$small" fsck >/dev/null
"$LAYERFS" --root "$small" mount --container full base "$root" >/dev/null
assert_eq "$(cat "$root/kept")$(find "$root/d" -type f | wc -l)" kept50 "after remounting"
"$LAYERFS" --root "$small" umount full
umount "$WORK/host"

step "one byte into a 1 GiB file of the image"
mkdir "$WORK/gib"
head -c 8388608 /dev/urandom >"$WORK/block"
for i in $(seq 128); do cat "$WORK/block"; done >"$WORK/gib/big"
assert_eq "$(stat -c %s "$WORK/gib/big")" 1073741824 "the file"
tar -C "$WORK/gib" -cf - . | lf import - gib >/dev/null
rm -r "$WORK/gib"
root=$(mount_container gib gib)
upper=$STORE/containers/gib
used() { du -sk "$upper/upper" "$upper/data" | awk '{ sum += $1 } END { print sum }'; }
before=$(used)
cpu() { awk '{ print $14 + $15 }' "/proc/$(lf --json ps | jq -r '.[0].Pid')/stat"; }
cpu_before=$(cpu)
printf X | dd of="$root/big" bs=1 seek=500000001 conv=notrunc,fsync status=none
added=$(($(used) - before))
echo "one byte: $added KiB in the upper, $(($(cpu) - cpu_before)) ticks of CPU"
[ $added -lt 1024 ] || fail "one byte took $added KiB"
check_big() {
  assert_eq "$(dd if="$1" bs=1 skip=500000000 count=3 status=none | od -An -c | tr -d ' ')" \
    "$(dd if="$WORK/block" bs=1 skip=$((500000000 % 8388608)) count=1 status=none | od -An -c |
      tr -d ' ')X$(dd if="$WORK/block" bs=1 skip=$((500000002 % 8388608)) count=1 status=none |
      od -An -c | tr -d ' ')" "around the byte"
  cmp "$WORK/block" <(dd if="$1" bs=1M skip=1016 status=none)
  cmp "$WORK/block" <(dd if="$1" bs=1M count=8 status=none)
}
check_big "$root/big"
lf umount gib
root=$(mount_container gib gib)
check_big "$root/big"
stored() { du -sk "$STORE/store" | cut -f1; }
before=$(stored)
lf commit gib gib:changed >/dev/null
echo "commit: $(($(stored) - before)) KiB in the store"
[ $(($(stored) - before)) -lt 1024 ] || fail "commit took $(($(stored) - before)) KiB"
lf umount gib
mkdir -p "$WORK/mnt/changed"
lf mount --read-only gib:changed "$WORK/mnt/changed" >/dev/null
check_big "$WORK/mnt/changed/big"
lf umount "$WORK/mnt/changed"
lf rm gib

step "a killed export leaves nothing behind"
mkdir "$WORK/out"
"$LAYERFS" --root "$STORE" export base -o "$WORK/out/base.tar" >/dev/null 2>&1 &
pid=$!
sleep 0.03
kill -9 $pid 2>/dev/null || true
wait $pid 2>/dev/null || true
mkdir "$WORK/out/.layout.layerfs-4194303"  # as one that was killed leaves
lf export base -o "$WORK/out/layout/" >/dev/null
assert_eq "$(cd "$WORK/out" && echo .[!.]*)" '.[!.]*' "hidden files"
