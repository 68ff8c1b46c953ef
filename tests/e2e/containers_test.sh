#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# Containers: many of one image at once, each with its own changes, that last over mounts; diff's
# letters; commit of a mounted one in full use; what may not be removed while it is used.
source "$(dirname "$0")/lib.sh"
require_root
require_fuse

make_tricky_tree "$WORK/tree"
gnu_tar "$WORK/tree.tar" "$WORK/tree"
lf import "$WORK/tree.tar" base >/dev/null

step "twenty at once"
stored() { lf --json df | jq -cS '.DiskBytes -= .HintBytes | del(.HintBytes)'; }
stored_before=$(stored)
for i in $(seq 1 20); do
  root=$(mount_container base "many-$i")
  echo "I am $i" >"$root/etc/hello"
  echo "only $i" >"$root/own-$i"
  rm "$root/modes/$i"
done
assert_eq "$(lf --json ps | jq length)" 20 "ps"
for i in $(seq 1 20); do
  root=$WORK/mnt/many-$i
  assert_eq "$(cat "$root/etc/hello")" "I am $i" "own change"
  assert_eq "$(cat "$root/links/hello")" "I am $i" "own change through a hard link"
  assert_eq "$(cd "$root" && echo own-*)" "own-$i" "files of others"
  assert_missing "$root/modes/$i"
  assert_eq "$(find "$root/modes" -type f | wc -l)" 119 "files of others that were removed"
done
assert_eq "$(stored)" "$stored_before" "df: containers store no copy of the image"

step "the same again after unmounting, and after a crash of the daemon"
for i in $(seq 1 20); do lf umount "many-$i" >/dev/null; done
for i in 1 20; do
  root=$(mount_container base "many-$i")
  assert_eq "$(cat "$root/links/hello")" "I am $i" "change after remounting"
  assert_missing "$root/modes/$i"
done
root=$WORK/mnt/many-1
echo acknowledged >"$root/acknowledged"
mkdir "$root/made"
mv "$root/own-1" "$root/made/moved"
sync -f "$root/acknowledged"
pid=$(lf --json ps | jq -r '.[] | select(.Name == "many-1") | .Pid')
kill -9 "$pid"
umount -l "$root" 2>/dev/null || true
wait_unmounted many-1
root=$(mount_container base many-1)
assert_eq "$(cat "$root/acknowledged" "$root/made/moved")" "$(printf 'acknowledged\nonly 1')" \
  "changes after kill -9 of the daemon"
lf umount many-1
lf umount many-20
for i in $(seq 1 20); do lf rm "many-$i" >/dev/null; done

step "times stay what the writer saw, whenever the page cache wrote back"
root=$(mount_container base times)
for i in $(seq 1 200); do
  head -c $((i * 300)) /dev/urandom >"$root/timed-$i"
  [ $((i % 50)) -ne 0 ] || sync -f "$root"
done
seen=$(stat -c '%n %y %s' "$root"/timed-*)
lf umount times
root=$(mount_container base times)
assert_eq "$(stat -c '%n %y %s' "$root"/timed-*)" "$seen" "times after remounting"
lf umount times
lf rm times

step "the letters of diff"
root=$(mount_container base letters)
echo x >>"$root/etc/hello"
rm "$root/links/dangling"
mkdir "$root/new"
echo n >"$root/new/file"
chmod 700 "$root/owners"
rm -r "$root/special"
mkdir "$root/special"
echo s >"$root/special/inside"
mv "$root/times/nanoseconds" "$root/times/renamed"
touch "$root/bin/temporary" && rm "$root/bin/temporary"
expected=$(
  cat <<'END'
A /new
A /new/file
A /special/inside
A /times/renamed
C /etc
C /etc/hello
C /links
C /links/hello
C /owners
C /special
C /times
D /links/dangling
D /special/big
D /special/fifo
D /special/fifo-again
D /special/null
D /times/nanoseconds
END
)
# A directory counts as changed when its mtime changed; docker says the same of /bin and of the root.
assert_eq "$(lf diff letters | grep -vxE 'C (/|/bin|/empty-is-not)' | sort)" "$expected" "diff"
lf umount letters
assert_eq "$(lf diff letters | grep -vxE 'C (/|/bin|/empty-is-not)' | sort)" "$expected" \
  "diff when unmounted"

step "commit while mounted and written to: what write() took is in it, fsync or not"
root=$(mount_container base busy)
(
  n=0
  while [ ! -e "$WORK/stop" ]; do
    n=$((n + 1))
    echo "$n" >>"$root/journal"
  done
) &
writer=$!
head -c 20000000 /dev/urandom >"$WORK/bytes"
exec 7>"$root/open-while-committing"
cat "$WORK/bytes" >&7
dd if="$WORK/bytes" of="$root/bin/text" bs=4096 count=3 seek=100 conv=notrunc status=none
lf commit -m busy busy base:busy >/dev/null
exec 7>&-
touch "$WORK/stop"
wait $writer
mkdir -p "$WORK/mnt/committed"
lf mount --read-only base:busy "$WORK/mnt/committed"
cmp "$WORK/bytes" "$WORK/mnt/committed/open-while-committing"
cmp "$root/bin/text" "$WORK/mnt/committed/bin/text"
lines=$(wc -l <"$WORK/mnt/committed/journal")
head -n "$lines" "$root/journal" | cmp - "$WORK/mnt/committed/journal"
lf umount "$WORK/mnt/committed"
lf umount busy
lf commit busy base:busy-later >/dev/null
lf mount --read-only base:busy-later "$WORK/mnt/committed"
cmp "$WORK/mnt/committed/journal" <(seq 1 "$(wc -l <"$WORK/mnt/committed/journal")")
lf umount "$WORK/mnt/committed"

step "commit of everything: the committed image is what the container was"
root=$(mount_container base:busy-later everything)
rm -rf "$root/modes" "$root/names"
cp -a "$WORK/tree/names" "$root/names-again"
mv "$root/xattrs" "$root/attributes"
ln "$root/attributes/user" "$root/linked"
mkdir "$root/modes"
mknod "$root/modes/device" c 5 6
setfattr -n user.new -v value "$root/etc"
truncate -s 1000000 "$root/bin/random"
chown 5:6 "$root/etc/hello"
rm "$root/sparse/islands"
ln -s replaced "$root/sparse/islands"
cp -a "$root" "$WORK/everything"
lf commit everything base:everything >/dev/null
lf mount --read-only base:everything "$WORK/mnt/committed"
assert_same_trees "$root" "$WORK/mnt/committed"
assert_same_trees "$WORK/everything" "$WORK/mnt/committed"
lf umount "$WORK/mnt/committed"
lf export everything -o "$WORK/container.tar" --format tar
gnu_untar "$WORK/container.tar" "$WORK/container"
assert_same_trees "$root" "$WORK/container"
lf umount everything

step "a store on a read-only filesystem can be checked and read"
root=$(mount_container base kept)
echo kept >"$root/etc/hello"
lf umount kept
root=$(mount_container base live)
cp -a "$STORE" "$WORK/copied"  # of a mounted container, with a lock that nobody holds
rm "$WORK/copied/containers/kept/lock"
rm -rf "$WORK/copied/tmp"
mount --bind "$WORK/copied" "$WORK/copied"
mount -o remount,bind,ro "$WORK/copied"
read_only() { "$LAYERFS" --root "$WORK/copied" "$@"; }
assert_eq "$(read_only --json ps | jq -r '.[] | select(.State == "mounted") | .Name')" "" "ps"
assert_eq "$(read_only ps -q)" "$(lf ps -q)" "ps -q"
for name in kept live; do
  assert_eq "$(read_only diff $name)" "$(lf diff $name)" "diff"
  assert_eq "$(read_only inspect $name | jq .[0].State.Mounted)" false "inspect"
done
read_only fsck >"$WORK/fsck.out" 2>&1 || fail "fsck: $(cat "$WORK/fsck.out")"
assert_match "$(cat "$WORK/fsck.out")" " $(lf ps -q | wc -l) containers" "fsck"
for format in oci docker tar; do
  lf export base --format $format -o "$WORK/export.tar"
  read_only export base --format $format -o "$WORK/read_only.tar"
  cmp "$WORK/export.tar" "$WORK/read_only.tar"
  read_only export base --format $format -o - | cmp - "$WORK/export.tar"
done
read_only export base -o "$WORK/read_only/"
! read_only export kept -o "$WORK/none.tar" 2>"$WORK/err" || fail "exported a container"
assert_match "$(cat "$WORK/err")" 'kept.*writes.*Read-only' "export of a container"
umount "$WORK/copied"
mount --bind "$STORE" "$WORK/copied"
mount -o remount,bind,ro "$WORK/copied"
assert_eq "$(read_only --json ps | jq -r '.[] | select(.State == "mounted") | .Name')" live "ps, in use"
read_only diff live >/dev/null
read_only fsck >"$WORK/fsck.out" 2>&1 || fail "fsck, in use: $(cat "$WORK/fsck.out")"
umount "$WORK/copied"
rm -rf "$WORK/copied"
lf umount live
lf rm kept live >/dev/null

step "what is in use stays"
root=$(mount_container base busy)
refuses 'use|mounted' lf rm busy
refuses 'use|container' lf rmi base
refuses 'mounted' lf mount --container busy base "$WORK/mnt/committed"
refuses 'empty' lf mount base "$WORK/tree"
refuses 'no such|not exist|does not exist' lf mount base "$WORK/nowhere"
refuses 'no image' lf mount nothing "$WORK/mnt/committed"
refuses 'director' lf mount base "$WORK/tree.tar"
lf umount "$root"
refuses 'neither|not.*mount' lf umount "$root"
refuses 'not mounted|not.*mount' lf umount busy
refuses 'neither|not.*mount' lf umount /proc
refuses 'no container' lf rm nobody
refuses 'no image' lf rmi nothing
for container in letters busy everything; do lf rm $container; done
lf rmi base >/dev/null
lf images | grep -q everything || fail "removing one tag removed another image"

step "gc gives the space back and hurts nothing that is left"
for image in $(lf --json images | jq -r '.[].RepoTags[]'); do lf rmi "$image" >/dev/null; done
lf gc --dry-run >/dev/null
lf gc >/dev/null
assert_eq "$(lf --json images | jq length)" 0 "images after removing all"
assert_eq "$(lf --json layers | jq length)" 0 "layers after gc"
