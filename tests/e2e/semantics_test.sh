#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# What other filesystems of this kind got wrong, one step each: deleted names that come back, lost
# writes, wrong link counts, lookups under memory pressure, limits of names and attributes, set-gid
# and ACLs, access times.
source "$(dirname "$0")/lib.sh"
require_root
require_fuse

chmod 755 "$WORK"  # others come in, too
T=$WORK/tree
mkdir -p "$T/data/d2" "$T/dir/sub" "$T/opaque/old" "$T/many"
echo c >"$T/data/c"
echo b >"$T/data/d2/b"
echo old >"$T/one"
ln "$T/one" "$T/two"
ln -s /etc/hostname "$T/outside"
seq 1000 >"$T/dir/sub/file"
for i in $(seq 200); do echo "$i" >"$T/many/$i"; done
truncate -s 10M "$T/sparse"
printf x | dd of="$T/sparse" bs=1M seek=5 conv=notrunc status=none
cp --sparse=always "$T/sparse" "$T/mapped"
seq 20000 >"$T/log"
mkdir "$T/names"
(cd "$T/names" && seq 0 2999 | xargs touch)
tar -C "$T" -cSf "$WORK/tree.tar" .  # which keeps holes
lf import "$WORK/tree.tar" img >/dev/null
M=$(mount_container img c)
remount() { lf umount c; M=$(mount_container img c); }

step "deleted names stay deleted when their directory is made again"
rm "$M/data/c"
rm -r "$M/data/d2"
mkdir "$M/data/d2"
touch "$M/data/d2/x"
remount
assert_eq "$(find "$M/data" | sort | tr '\n' ' ')" "$M/data $M/data/d2 $M/data/d2/x " "after remount"
assert_missing "$M/data/d2/b"

step "a symlink over a deleted file, and a file over that, over remounts"
rm "$M/many/7"
ln -s 8 "$M/many/7"
remount
assert_eq "$(cat "$M/many/7")" 8 "through the symlink"
rm "$M/many/7"
echo back >"$M/many/7"
remount
assert_eq "$(cat "$M/many/7")" back "the file"

step "hard links of the image stay links when written; counts are right"
echo new >"$M/two"
assert_eq "$(cat "$M/one")" new "the other name"
ln "$M/one" "$M/three"
rm "$M/two"
remount
assert_eq "$(cat "$M/one" "$M/three")" $'new\nnew' "after remount"
assert_eq "$(stat -c %h "$M/one")" 2 "link count"

step "renaming a directory of the image, and making the old name again at once"
for i in 1 2 3; do
  mv "$M/dir" "$M/dir.new"
  mkdir "$M/dir"
  rmdir "$M/dir"
  mv "$M/dir.new" "$M/dir"
done
mv "$M/dir" "$M/opaque/moved"
remount
assert_eq "$(tail -1 "$M/opaque/moved/sub/file")" 1000 "moved content"
assert_missing "$M/dir"

step "inode numbers: the same before and after a change and a remount, in listings too"
before=$(stat -c %i "$M/many/9")
echo changed >"$M/many/9"
mv "$M/many/9" "$M/nine"
assert_eq "$(stat -c %i "$M/nine")" "$before" "after change and rename"
remount
assert_eq "$(stat -c %i "$M/nine")" "$before" "after remount"
assert_eq "$(ls -i "$M" | awk '$2 == "nine" { print $1 }')" "$before" "in the listing"
assert_eq "$(find "$M" -type f -links 1 -printf '%i\n' | sort | uniq -d)" "" "numbers taken twice"

step "xattrs of a symlink are its own, not the target's"
before=$(getfattr -d -m - /etc/hostname 2>/dev/null || true)
setfattr -h -n trusted.mark -v yes "$M/outside"
assert_eq "$(getfattr -h -n trusted.mark --only-values "$M/outside")" yes "on the symlink"
assert_eq "$(getfattr -d -m - /etc/hostname 2>/dev/null || true)" "$before" "on the host's file"

step "device 0:0 is a device"
mkdir "$M/devices"
mknod "$M/devices/zero" c 0 0
touch "$M/devices/other"
remount
assert_eq "$(ls "$M/devices" | tr '\n' ' ')" "other zero " "listing"
assert_eq "$(stat -c '%F %t %T' "$M/devices/zero")" "character special file 0 0" "the device"

step "a sparse file takes the space of its data, before and after a byte is written into it"
[ "$(stat -c %b "$M/sparse")" -lt 200 ] || fail "of the image: $(stat -c %b "$M/sparse") blocks"
printf y | dd of="$M/sparse" bs=1M seek=3 conv=notrunc status=none
sync "$M/sparse"
[ "$(stat -c %b "$M/sparse")" -lt 400 ] || fail "written to: $(stat -c %b "$M/sparse") blocks"
assert_eq "$(tr -d '\0' <"$M/sparse")" yx "content"

step "holes are holes, also while the kernel has not written back what is in the others"
python3 "$E2E/unwritten.py" "$M" log mapped

step "mappings, record locks and listings that others share"
python3 "$E2E/shared.py" "$M"
remount
python3 "$E2E/shared.py" "$M" --again

step "a directory is imported with its holes, and leaves with them"
lf import "$T" fromdir >/dev/null
D=$(mount_container fromdir d)
[ "$(stat -c %b "$D/sparse")" -lt 200 ] || fail "of a directory: $(stat -c %b "$D/sparse") blocks"
cmp "$D/sparse" "$T/sparse"
lf umount d
lf export fromdir --format docker -o "$WORK/fromdir.tar"
mkdir "$WORK/fromdir" "$WORK/unpacked"
tar -C "$WORK/fromdir" -xf "$WORK/fromdir.tar"
tar -C "$WORK/unpacked" -xf "$WORK/fromdir/$(jq -r '.[0].Layers[0]' "$WORK/fromdir/manifest.json")"
[ "$(stat -c %b "$WORK/unpacked/sparse")" -lt 200 ] || fail "GNU tar filled the holes"
cmp "$WORK/unpacked/sparse" "$T/sparse"

step "limits, open deleted files, many xattrs, pressure on the kernel's caches"
python3 "$E2E/limits.py" "$M"
remount
python3 "$E2E/limits.py" "$M" --again

step "flock: others wait and get it, whoever closes without unlocking"
touch "$M/lock"
exec 7<"$M/lock"
flock 7
! flock -n "$M/lock" true || fail "locked twice"
flock "$M/lock" touch "$M/locked" 7<&- &
waiter=$!
exec 7<&-
wait "$waiter"
[ -e "$M/locked" ] || fail "the one who waited did not run"

step "O_DIRECT, reading"
assert_eq "$(dd if="$M/opaque/moved/sub/file" iflag=direct bs=4096 count=1 status=none | head -1)" 1 "first line"

step "asynchronous O_DIRECT writes leave no old pages to those who read at the same time"
"${ASYNC_WRITER:-$BUILD/tests/async_writer}" "$M/asynchronous" 3
rm "$M/asynchronous"

step "set-gid directories pass on their group; writing and new ACLs clear it"
mkdir "$M/shared"
chgrp 777 "$M/shared"
chmod 2775 "$M/shared"
touch "$M/shared/file"
mkdir "$M/shared/dir"
assert_eq "$(stat -c '%g %a' "$M/shared/file" "$M/shared/dir")" $'777 644\n777 2755' "inherited"
chown 54321:777 "$M/shared/file"
chmod 6775 "$M/shared/file"
other() { setpriv --reuid 54321 --regid 54321 --clear-groups "$@"; }
other dd if=/dev/zero of="$M/shared/file" bs=4096 count=1 oflag=direct status=none
assert_eq "$(stat -c %a "$M/shared/file")" 775 "after a direct write"
chmod 6775 "$M/shared/file"
other bash -c "echo x >>'$M/shared/file'"
assert_eq "$(stat -c %a "$M/shared/file")" 775 "after a write"
chmod 6775 "$M/shared/file"
other fallocate -l 8192 "$M/shared/file"
assert_eq "$(stat -c %a "$M/shared/file")" 775 "after fallocate"
# Without group execute, setgid stays for those of the group alone (Linux 6.2 and later).
chmod 666 "$M/shared/file"
chown 1:777 "$M/shared/file"
after() {  # MODE WHOM COMMAND...: the mode, which was 2666, after somebody's command on the file
  local expected=$1 whom=$2 groups=--clear-groups
  shift 2
  chmod 2666 "$M/shared/file"
  [ "$whom" != member ] || groups=--groups=5,777
  setpriv --reuid 54321 --regid 54321 "$groups" "$@"
  assert_eq "$(stat -c %a "$M/shared/file")" "$expected" "$*, by a $whom"
}
for way in "fallocate -l 9000" "fallocate -p -l 4096" "fallocate -z -l 4096" "truncate -s 5000" \
  "dd if=/dev/zero bs=4096 count=1 status=none conv=notrunc oflag=direct" \
  "dd if=/dev/zero bs=99 count=1 status=none conv=notrunc"; do
  file=$M/shared/file
  [[ $way != dd* ]] || file=of=$file
  # shellcheck disable=SC2086 -- words
  after 666 stranger $way "$file"
  # shellcheck disable=SC2086
  after 2666 member $way "$file"
done
chmod 6766 "$M/shared/file"
setpriv --bounding-set=-fsetid --inh-caps=-fsetid fallocate -p -l 4096 "$M/shared/file"
assert_eq "$(stat -c %a "$M/shared/file")" 766 "after fallocate by root without CAP_FSETID"
chmod 6766 "$M/shared/file"
fallocate -p -l 4096 "$M/shared/file"
assert_eq "$(stat -c %a "$M/shared/file")" 6766 "after fallocate by root"
chmod 6644 "$M/shared/file"
chown 2:777 "$M/shared/file"
assert_eq "$(stat -c %a "$M/shared/file")" 2644 "after chown by root"
chown 54321:777 "$M/shared/file"
chmod 2775 "$M/shared/file"
other setfacl -m u:1:r "$M/shared/file"
assert_eq "$(stat -c %a "$M/shared/file")" 775 "after a new ACL by one who is not in the group"
chmod 2775 "$M/shared/file"
setfacl -m u:2:r "$M/shared/file"
assert_eq "$(stat -c %a "$M/shared/file")" 2775 "after a new ACL by root"

step "default ACLs are applied"
setfacl -d -m u:54321:rwx,g::rx,o::- "$M/shared"
(umask 022; mkdir "$M/shared/acl"; touch "$M/shared/acl/file")
assert_match "$(getfacl -cp "$M/shared/acl/file" | tr '\n' ' ')" \
  'user:54321:rwx.*mask::rw- other::---' "inherited ACL"
remount
assert_match "$(getfacl -cp "$M/shared/acl" | tr '\n' ' ')" 'default:user:54321:rwx' "after remount"

step "access times: relatime's rule; noatime"
touch -d '2020-01-01' "$M/nine"
python3 - "$M" <<'EOF'
import os, sys
at = sys.argv[1]
fd = os.open(at + '/nine', os.O_RDONLY)
os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
os.fsync(fd)
os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
os.close(fd)
fd = os.open(at + '/nine', os.O_RDONLY | os.O_NOATIME)
os.read(fd, 1)
os.close(fd)
assert os.stat(at + '/nine').st_atime < 1.6e9, 'O_NOATIME'
EOF
remount
cat "$M/nine" >/dev/null
[ "$(stat -c %X "$M/nine")" -gt 1600000000 ] || fail "reading did not change the access time"
read_at=$(stat -c %x "$M/nine")
remount
assert_eq "$(stat -c %x "$M/nine")" "$read_at" "access time after remount"
lf umount c
mkdir -p "$M"
touch_time() { stat -c %X "$M/many/$1"; }
lf mount --container c -o noatime img "$M" >/dev/null
before=$(touch_time 11)
cat "$M/many/11" >/dev/null
assert_eq "$(touch_time 11)" "$before" "with noatime"
lf umount c
