#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# Commands in the middle of their work, held there (SIGSTOP) while something happens to them: a
# commit whose container is unmounted or whose daemon dies, an export that is killed. And commands
# that get too little memory. What was there stays, whole; nothing half-made has a name.
source "$(dirname "$0")/lib.sh"
require_root
require_fuse

# half_way REGEX BYTES COMMAND...: starts layerfs and stops it once it has a file open whose path
# matches and that has so many bytes. It is $halfway then; `go_on` lets it run and sets $status.
half_way() {
  (
    kill -STOP $BASHPID
    exec "$LAYERFS" --root "$STORE" "${@:3}" >"$WORK/half.out" 2>"$WORK/half.err" </dev/null
  ) &
  halfway=$!
  python3 "$E2E/stop_at.py" $halfway "$1" "$2" || fail "${*:3}: $(cat "$WORK/half.err")"
}
go_on() {
  kill -CONT $halfway
  status=0
  wait $halfway || status=$?
}
fails_with() {  # REGEX: what was held fails, and says so
  [ $status -eq 1 ] || fail "status $status, said '$(cat "$WORK/half.err")'"
  assert_match "$(cat "$WORK/half.err")" "^layerfs: .*($1)" "its sentence"
}

make_tricky_tree "$WORK/tree"
head -c 12000000 /dev/urandom >"$WORK/tree/large"
gnu_tar "$WORK/tree.tar" "$WORK/tree"
lf import "$WORK/tree.tar" base >/dev/null
root=$(mount_container base busy)
for i in 1 2 3; do head -c 8000000 /dev/urandom >"$root/large-$i"; done
echo changed >"$root/etc/hello"
cp -a "$root" "$WORK/expected"
before=$(store_state)

step "umount while a commit runs: refused, and the commit succeeds"
half_way '/busy/data/' 0 commit busy base:new
said=$(lf umount busy 2>&1) && fail "unmounted during a commit"
assert_match "$said" 'reads this container' "umount"
go_on
assert_eq "$status" 0 "commit: $(cat "$WORK/half.err")"
mkdir -p "$WORK/mnt/new"
lf mount --read-only base:new "$WORK/mnt/new" >/dev/null
assert_same_trees "$WORK/expected" "$WORK/mnt/new"
lf umount "$WORK/mnt/new"
lf rmi base:new >/dev/null
lf gc >/dev/null
assert_eq "$(store_state)" "$before" "the store after removing what was committed"

step "umount(8) while a commit runs, the daemon ended or killed: the commit fails and says why"
end_container() {
  case $1 in
    umount) umount "$root" ;;
    TERM | KILL) kill -"$1" "$(lf --json ps | jq -r '.[0].Pid')" ;;
  esac
}
for how in umount TERM KILL; do
  half_way '/busy/data/' 0 commit busy base:new
  end_container $how
  wait_unmounted busy
  go_on
  fails_with 'busy. was unmounted meanwhile'
  assert_fsck
  lf mount --container busy base "$root" >/dev/null
  assert_eq "$(store_state)" "$before" "the store after $how"
  assert_same_trees "$WORK/expected" "$root"
done

step "a commit that is killed lets go of the container"
half_way '/busy/data/' 0 commit busy base:new
kill -9 $halfway
wait $halfway 2>/dev/null || true
touch "$root/after"
rm "$root/after"
assert_fsck
assert_eq "$(store_state)" "$before" "the store"
lf umount busy
lf commit busy base:new >/dev/null
lf rmi base:new >/dev/null

step "an export that is killed: nothing under its name, and the next one works"
mkdir "$WORK/out"
echo earlier >"$WORK/earlier"
for bytes in 0 2000000 9000000; do
  cp "$WORK/earlier" "$WORK/out/image.tar"
  half_way '/out/' $bytes export base -o "$WORK/out/image.tar"
  kill -9 $halfway
  wait $halfway 2>/dev/null || true
  cmp "$WORK/earlier" "$WORK/out/image.tar"
  half_way '/out/' $bytes export base -o "$WORK/out/layout/"
  kill -9 $halfway
  wait $halfway 2>/dev/null || true
  assert_missing "$WORK/out/layout"
  [ -n "$(echo "$WORK"/out/.layout.layerfs-*)" ] || fail "expected a directory being written"
done
half_way '/out/' 3000000 export busy --format tar -o "$WORK/out/rootfs.tar"
kill -9 $halfway
wait $halfway 2>/dev/null || true
assert_missing "$WORK/out/rootfs.tar"
lf export base -o "$WORK/out/image.tar"
lf export base -o "$WORK/out/layout/"
lf export busy --format tar -o "$WORK/out/rootfs.tar"
assert_eq "$(cd "$WORK/out" && ls -A | tr '\n' ' ')" 'image.tar layout rootfs.tar ' "the exports"
for from in image.tar layout; do
  lf import "$WORK/out/$from" "again:${from%.tar}" >/dev/null
done
mkdir "$WORK/rootfs"
tar -C "$WORK/rootfs" --xattrs --xattrs-include='*' -xpf "$WORK/out/rootfs.tar"
cmp "$WORK/expected/large-3" "$WORK/rootfs/large-3"

unless_sanitized "too little memory, because ASan itself reserves terabytes" || exit 0
# Debian's RocksDB is built with assertions, and one is that zstd gets its memory.
ROCKSDB_ASSERTS='rocksdb.*Assertion'
step "too little memory: an import succeeds, or says so and leaves the store alone"
mkdir "$WORK/other"
head -c 12000000 /dev/urandom >"$WORK/other/random"
seq 1 500000 >"$WORK/other/text"
tar -C "$WORK/other" -cf "$WORK/other.tar" .
before=$(store_state)
refused=0
for mib in 40 50 60 70 90 120 160 220 300 400; do
  status=0
  (
    ulimit -v $((mib * 1024))
    exec "$LAYERFS" --root "$STORE" import "$WORK/other.tar" starved >"$WORK/starved.out" 2>"$WORK/err"
  ) || status=$?
  case $status in
    0) lf rmi starved >/dev/null ;;
    1)
      assert_match "$(cat "$WORK/err")" '^layerfs: .*memory' "an import with $mib MiB"
      refused=$((refused + 1))
      ;;
    127) assert_match "$(cat "$WORK/err")" 'loading shared libraries' "an import with $mib MiB" ;;
    134) assert_match "$(cat "$WORK/err")" "$ROCKSDB_ASSERTS" "an import with $mib MiB" ;;
    *) fail "status $status with $mib MiB, said '$(cat "$WORK/err")'" ;;
  esac
  lf gc >/dev/null
  assert_eq "$(store_state)" "$before" "the store after an import with $mib MiB"
  assert_fsck
done
[ $refused -gt 1 ] || fail "$refused imports had too little memory"

step "too little memory: a mount comes about, or says so"
refused=0
mkdir -p "$WORK/mnt/starved"
for mib in 30 40 45 50 55 60 65 70 75 80 90 100 115 130; do
  status=0
  (
    ulimit -v $((mib * 1024))
    exec timeout -s KILL 30 "$LAYERFS" --root "$STORE" \
      mount --container starved base "$WORK/mnt/starved" >"$WORK/starved.out" 2>"$WORK/err"
  ) || status=$?
  case $status in
    0)
      read=0
      timeout -s KILL 30 cat "$WORK/mnt/starved/large" >/dev/null 2>&1 || read=$?
      [ $read -le 1 ] || fail "status $read of reading with $mib MiB"
      lf umount starved || umount "$WORK/mnt/starved"
      ;;
    1)
      assert_match "$(cat "$WORK/err")" "^layerfs: .*memory|$ROCKSDB_ASSERTS" "a mount with $mib MiB"
      umount "$WORK/mnt/starved" 2>/dev/null || true  # a dead one, when a thread of RocksDB's ended it
      refused=$((refused + 1))
      ;;
    127) assert_match "$(cat "$WORK/err")" 'loading shared libraries' "a mount with $mib MiB" ;;
    *) fail "status $status with $mib MiB, said '$(cat "$WORK/err")'" ;;
  esac
  [ -z "$(mounts_below "$WORK")" ] || fail "still mounted with $mib MiB"
done
[ $refused -gt 1 ] || fail "$refused mounts had too little memory"
M=$(mount_container base starved)
cmp "$WORK/tree/large" "$M/large"
lf umount starved

step "too little memory: a mount that gets no more goes on, also at rest"
M=$(mount_container base starved)
pid=$(lf --json ps | jq ".[] | select(.Name == \"starved\") | .Pid")
prlimit --pid "$pid" --as=$(($(awk '/^VmSize/ {print $2}' "/proc/$pid/status") * 1024 + 100000)):
sleep 2.5
timeout -s KILL 30 ls "$M" >/dev/null 2>&1 || true  # may be told that there is no memory
prlimit --pid "$pid" --as=unlimited:
cmp "$WORK/tree/large" "$M/large"
lf umount starved

step "too little memory amid writes: they say so, nothing hangs, and with more memory all goes on"
mkdir "$WORK/many"
for i in $(seq 400); do echo "file $i" >"$WORK/many/f$i"; done
refused=0
for kib in 100 300 800; do
  M=$(mount_container base "narrow$kib")
  pid=$(lf --json ps | jq ".[] | select(.Name == \"narrow$kib\") | .Pid")
  prlimit --pid "$pid" --as=$((($(awk '/^VmSize/ {print $2}' "/proc/$pid/status") + kib) * 1024)):
  for round in $(seq 8); do
    status=0
    timeout -s KILL 60 cp -a "$WORK/many" "$M/many$round" 2>"$WORK/err" || status=$?
    [ $status != 137 ] || fail "a write waits for ever with $kib KiB"
    [ $status = 0 ] || { refused=$((refused + 1)); grep -q "Cannot allocate memory" "$WORK/err"; }
  done
  prlimit --pid "$pid" --as=unlimited:
  timeout -s KILL 60 cp -a "$WORK/many" "$M/again"
  diff -r "$WORK/many" "$M/again"
  lf umount "narrow$kib"
done
[ $refused -gt 0 ] || fail "no write had too little memory"
