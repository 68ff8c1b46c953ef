#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# A mount's life: who may mount what where, in use, killed daemons, signals, many at once.
source "$(dirname "$0")/lib.sh"
require_root
require_fuse

mkdir -p "$WORK/tree/etc"
echo image >"$WORK/tree/etc/name"
lf import "$WORK/tree" img >/dev/null
pid_of() { lf --json ps | python3 -c 'import json,sys
print(next(c["Pid"] for c in json.load(sys.stdin) if c["Name"] == sys.argv[1]))' "$1"; }

step "the program is one file, and mounts on machines that have the C library only"
if unless_sanitized "what the program is linked with, because the sanitizers are shared"; then
  libraries=$(ldd "$LAYERFS")
  others=$(grep -Ev 'linux-vdso|ld-linux|lib(c|m)\.so' <<<"$libraries") || true
  assert_eq "$others" "" "shared libraries (where archives of them are installed)"
fi

step "refused mount points"
mkdir -p "$WORK/full" "$WORK/empty"
echo x >"$WORK/full/x"
refuses 'not empty' lf mount img "$WORK/full"
refuses 'no such file' lf mount img "$WORK/missing"
refuses 'not a directory' lf mount img "$WORK/full/x"
refuses 'no image' lf mount nothing "$WORK/empty"

step "a container is mounted once at a time"
M=$(mount_container img c)
refuses 'mounted already' lf mount --container c img "$WORK/empty"
refuses 'layerfs mount already' lf mount img "$M"

step "no descriptor of the caller stays open: this would hang"
name=$(lf mount img "$WORK/empty" 2>&1)
lf umount "$name"

step "in use"
exec 8>"$M/open"
refuses 'in use' lf umount c
echo kept >&8
exec 8>&-
pid=$(pid_of c)
lf umount "$M"
state=$(awk '{ print $3 }' "/proc/$pid/stat" 2>/dev/null) || state=gone
assert_match "$state" '^(gone|Z|X)$' "the daemon, which would keep the store's filesystem busy"
refuses 'not mounted' lf umount c
refuses 'neither' lf umount "$WORK/empty"
M=$(mount_container img c)
assert_eq "$(cat "$M/open")" kept "written while in use"

step "somebody who only asks for the free space holds up no unmounting"
python3 -c 'import os, sys, time
while True:
    os.statvfs(sys.argv[1])
    time.sleep(0.0005)' "$M" &
asking=$!
for _ in $(seq 40); do
  lf umount c
  lf mount --container c img "$M" >/dev/null
done
kill "$asking"

step "what the caller has closed is not mixed up with what is opened"
lf umount c
timeout 30 "$LAYERFS" --root "$STORE" mount --container c img "$M" <&- >&- 2>&- ||
  fail "without descriptors nothing is mounted"
assert_eq "$(cat "$M/open")" kept "mounted without descriptors"
kill "$(pid_of c)"
wait_unmounted c
lf mount --container c img "$M" >/dev/null

step "sizes that are none"
for size in -1 99999999999999999999 20E x; do
  refuses 'size|range|20E' lf mount --size "$size" img "$WORK/empty"
done

step "kill -9 loses nothing that was acknowledged"
mkdir "$M/made"
echo synced >"$M/made/file"
kill -9 "$(pid_of c)"
sleep 0.2
! cat "$M/made/file" 2>/dev/null || fail "the mount outlived its daemon"
lf mount --container c img "$M" >/dev/null
assert_eq "$(cat "$M/made/file")" synced "after kill -9"

step "a dead mount is cleared by umount"
kill -9 "$(pid_of c)"
sleep 0.2
lf umount "$M"
assert_eq "$(mounts_below "$WORK/mnt")" "" "mounts left"

step "umount(2) and SIGTERM end the daemon in order"
M=$(mount_container img c)
echo more >"$M/more"
umount "$M"
wait_unmounted c
M=$(mount_container img c)
assert_eq "$(cat "$M/more")" more "after umount(8)"
echo again >"$M/more"
kill -TERM "$(pid_of c)"
wait_unmounted c
M=$(mount_container img c)
assert_eq "$(cat "$M/more")" again "after SIGTERM"

step "unmounted lazily with a file open: what is written till it is closed is kept"
exec 8>"$M/late"
umount -l "$M"
echo late >&8
exec 8>&-
wait_unmounted c
M=$(mount_container img c)
assert_eq "$(cat "$M/late")" late "written after umount -l"

step "a mount point that disappears ends the mount in order"
echo last >"$M/last"
unshare --mount --propagation private sh -c 'umount "$1" && rmdir "$1"' - "$M"
wait_unmounted c
assert_missing "$M"
refuses 'not mounted' lf umount c
M=$(mount_container img c)
assert_eq "$(cat "$M/last")" last "written before"

step "a client that does not read, and a program killed while it waits for a freeze"
python3 - "$STORE/containers/c/control" "$M" <<'EOF'
import os, signal, socket, subprocess, sys, time
control, mount = sys.argv[1:]
def connect():
    client = socket.socket(socket.AF_UNIX)
    client.settimeout(20)
    client.connect(control)
    return client
deaf = connect()
try:
    for _ in range(20000):
        deaf.sendall(b'{"op":"stats"}\n')
except OSError:
    pass
other = connect()
other.sendall(b'{"op":"stats"}\n')
assert b'"ok":true' in other.recv(65536), 'a deaf client blocks the others'
freezer = connect()
freezer.sendall(b'{"op":"freeze"}\n')
assert b'"ok":true' in freezer.recv(65536)
writer = subprocess.Popen(['touch', mount + '/held'])
time.sleep(0.3)
writer.send_signal(signal.SIGKILL)
freezer.close()
assert writer.wait(20) is not None
deaf.close()
EOF
touch "$M/after"
rm -f "$M/held"
lf umount c
M=$(mount_container img c)
[ -e "$M/after" ] || fail "lost after an interrupted call"
lf umount c

step "read-only"
name=$(lf mount --read-only img "$WORK/empty")
! touch "$WORK/empty/x" 2>/dev/null || fail "a read-only mount was written to"
assert_eq "$(cat "$WORK/empty/etc/name")" image "read-only content"
lf umount "$WORK/empty"
! lf --json ps | grep -q "$name" || fail "a read-only mount left its container"

step "usual mount options say nothing; fsname= names the source, and the type is fuse alone"
name=$(lf mount -o rw,noatime,nodiratime,relatime,nodev,fsname=my:disk img "$WORK/empty" 2>&1)
assert_match "$(grep " $WORK/empty " /proc/self/mounts)" '^my:disk [^ ]+ fuse rw,.*no(dev|atime)' \
  "mount table"
refuses 'not empty' lf mount img "$WORK/empty"
lf stats "$WORK/empty" >/dev/null
lf umount "$WORK/empty"
wait_unmounted "$name"
lf mount -o fsname=x --container "$name" img "$WORK/empty" >/dev/null
kill -9 "$(pid_of "$name")"
wait_unmounted "$name"
lf umount "$WORK/empty"
assert_eq "$(mounts_below "$WORK")" "" "mounts left"

step "in a mount, over a mount, below the kernel's overlay"
refuses 'not empty' lf mount img "$STORE/containers"
M=$(mount_container img outer)
mkdir "$M/inner"
lf mount --container inner img "$M/inner" >/dev/null
echo inner >"$M/inner/etc/name"
assert_eq "$(cat "$M/etc/name" "$M/inner/etc/name")" $'image\ninner' "the outer and the inner mount"
refuses 'in use' lf umount outer
lf umount inner
assert_eq "$(ls "$M/inner")" "" "the mount point"
mkdir "$WORK/overlay" "$WORK/kernel"
mount -t tmpfs none "$WORK/overlay"
mkdir "$WORK/overlay/upper" "$WORK/overlay/work"
if mount -t overlay none -o "lowerdir=$M,upperdir=$WORK/overlay/upper,workdir=$WORK/overlay/work" \
  "$WORK/kernel"; then
  echo changed >>"$WORK/kernel/etc/name"
  assert_eq "$(cat "$WORK/kernel/etc/name")" $'image\nchanged' "a file of the mount, changed above it"
  assert_eq "$(cat "$M/etc/name")" image "the same in the mount"
  umount "$WORK/kernel"
else
  echo "this kernel has no overlayfs: not tried"
fi
umount "$WORK/overlay"
lf umount outer

step "descriptors and memory do not grow with use"
M=$(mount_container img grow)
limit_mib=
! unless_sanitized "a limit of memory, because ASan keeps what was freed" || limit_mib=96
python3 "$E2E/growth.py" "$M" "$(pid_of grow)" $limit_mib
lf umount grow

step "processors are kept awake while message follows message, and no longer"
M=$(mount_container img awake)
kept_awake_ms() { lf --json stats awake | jq '.kept_awake_seconds * 1000 | ceil'; }
ask_often() {
  python3 - "$M/etc/name" <<'EOF'
import os, sys, time
end = time.monotonic() + 1
os.setxattr(sys.argv[1], "user.asked", b"always")  # the kernel does not cache it
while time.monotonic() < end:
    os.getxattr(sys.argv[1], "user.asked")
EOF
}
sleep 0.5  # after the questions of mounting
ls "$M" >/dev/null
assert_eq "$(kept_awake_ms)" 0 "a few messages"
began_ms=$(date +%s%3N)
for tries in $(seq 10); do  # other tests may keep the processors busy
  ask_often
  sleep 0.5
  kept=$(kept_awake_ms)
  [ "$kept" = 0 ] || break
done
if [ ! -c /dev/cpu_dma_latency ] || ! true 2>/dev/null >/dev/cpu_dma_latency ||
  [ "$(getconf _NPROCESSORS_ONLN)" -gt 4 ]; then
  echo "many processors here, or no /dev/cpu_dma_latency"
  assert_eq "$kept" 0 "nothing to ask"
else
  took_ms=$(($(date +%s%3N) - began_ms)) # half a second of each try asks nothing
  ((kept > 0 && kept < took_ms - tries * 250)) || fail "kept awake for $kept of $took_ms ms"
fi
lf umount awake

step "a mount remembers what was read, and does without where it cannot"
mkdir "$WORK/read"
for i in $(seq 10); do head -c 100000 /dev/urandom >"$WORK/read/$i"; done
lf import "$WORK/read" read >/dev/null
history=$STORE/read_history
remembers() { lf dump reads | grep -cE "^run at [0-9]+ groups( [0-9]+){10}" || true; }
read_all() {
  M=$(mount_container read reader)
  echo 3 >/proc/sys/vm/drop_caches
  cat "$M"/* | cmp - <(cat "$WORK"/read/*)
  lf umount reader
}
rm -f "$history"
assert_eq "$(remembers)" 0 "runs before anything was read"
read_all
assert_eq "$(remembers)" 1 "runs after all was read"
read_all
assert_eq "$(remembers)" 1 "runs after the same was read again"
head -c 1576960 /dev/urandom >"$WORK/noise"
dd if="$WORK/noise" of="$history" bs=4096 seek=1 skip=1 conv=notrunc status=none
read_all  # of groups that there are not, and others
: >"$history"
read_all
assert_eq "$(remembers)" 1 "runs after the file was emptied"
cp "$WORK/noise" "$history"  # another format, for all it knows
read_all
rm "$history"
read_all
mount --bind -o ro "$history" "$history"
mount -o remount,bind,ro "$history"
assert_eq "$(read_all 2>&1)" "" "what is said where it can only be read"
umount "$history"
rm "$history"
mkdir "$history"
read_all
rmdir "$history"

step "what is read again and again is copied, where it builds on others"
mkdir "$WORK/twice"
for i in $(seq 200); do head -c 60000 /dev/urandom >"$WORK/twice/$i"; done
for i in $(seq 8); do
  cp "$WORK/twice/$i" "$WORK/twice/near-$i"
  for at in 3000 17000 31000 45000 59000; do # each chunk is a new one
    printf x | dd of="$WORK/twice/near-$i" bs=1 seek=$at conv=notrunc status=none
  done
done
lf import "$WORK/twice" twice >/dev/null
rm -f "$history" "$STORE/group_copies"
decoded_of_near() {
  M=$(mount_container twice again)
  echo 3 >/proc/sys/vm/drop_caches
  cat "$M"/near-* | cmp - <(cat "$WORK"/twice/near-*)
  lf stats again --json | python3 -c 'import json, sys; print(json.load(sys.stdin)["decompressed_bytes"])'
  lf umount again
}
first=$(decoded_of_near)
copies() { lf dump copies | grep -c "^copy of group" || true; }
assert_eq "$(copies)" 0 "copies of what was read once"
decoded_of_near >/dev/null
((4 <= $(copies) && $(copies) <= 12)) || fail "$(copies) groups are copied"
third=$(decoded_of_near)
((third < first * 3 / 4)) || fail "decoded $third bytes with copies, $first without"
assert_fsck
rm "$STORE/group_copies"
decoded_of_near >/dev/null

step "who waits for a container that is still being closed keeps nobody else waiting"
S=$(mount_container img slow)
lf umount slow
exec 7>>"$STORE/containers/slow/lock"
flock 7  # as a daemon does whose mount is gone and whose data is not on disk yet
lf mount --container slow img "$S" >/dev/null 7>&- &
waiting=$!
for i in 1 2 3; do
  name=$(lf mount img "$WORK/empty" 7>&-)
  lf umount "$name"
  lf rm "$name" >/dev/null
done
kill -0 "$waiting" || fail "did not wait"
flock -u 7
exec 7>&-
wait "$waiting" || fail "gave up although the container became free"
refuses 'is mounted' lf rm slow
lf umount slow

step "rm waits for a container that is still being closed"
exec 7>>"$STORE/containers/slow/lock"
flock 7
lf rm slow >/dev/null 7>&- &
waiting=$!
sleep 0.5
kill -0 "$waiting" || fail "did not wait"
flock -u 7
exec 7>&-
wait "$waiting" || fail "gave up although the container became free"

step "twenty at once, each with its own changes"
for i in $(seq 20); do
  M=$(mount_container img "many$i")
  echo "$i" >"$M/etc/name"
done
for i in $(seq 20); do
  assert_eq "$(cat "$WORK/mnt/many$i/etc/name")" "$i" "container many$i"
done
for i in $(seq 20); do lf umount "many$i"; done
