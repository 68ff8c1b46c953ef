#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# Imports that are killed, interrupted, run at once or run out of disk, and stores that another
# version wrote: the store holds what it held, passes fsck, and the next import works.
source "$(dirname "$0")/lib.sh"

rootfs=$(small_rootfs)
mkdir "$WORK/tree"
seq 1 100000 >"$WORK/tree/numbers"
tar -C "$WORK/tree" -cf "$WORK/one.tar" .
lf import "$WORK/one.tar" one >/dev/null
before=$(store_state)

step "kill -9 at ten moments of an import"
for tenths in 0 1 2 3 4 6 8 10 13 16; do
  "$LAYERFS" --root "$STORE" import "$rootfs" killed >/dev/null 2>&1 &
  pid=$!
  sleep "$((tenths / 10)).$((tenths % 10))"
  kill -9 $pid 2>/dev/null || true
  wait $pid 2>/dev/null || true
  if lf inspect killed >/dev/null 2>&1; then  # it may have been killed when all was done
    echo "finished before $tenths tenths of a second"
    lf rmi killed >/dev/null
    lf gc >/dev/null
  fi
  assert_eq "$(store_state)" "$before" "store after kill -9"
  assert_fsck
done

step "Ctrl-C"
for signal in INT TERM; do
  # A background job of a script ignores SIGINT; env gives the program the default back.
  env --default-signal=INT "$LAYERFS" --root "$STORE" import - interrupted \
    >"$WORK/out" 2>"$WORK/err" < <(cat "$rootfs"; sleep 100) &
  pid=$!
  sleep 0.5
  kill -$signal $pid
  status=0
  wait $pid || status=$?
  [ $status -ne 0 ] || fail "an interrupted import succeeded"
  grep -q 'layerfs: ' "$WORK/err" || fail "says nothing after SIG$signal: $(cat "$WORK/err")"
  assert_eq "$(store_state)" "$before" "store after SIG$signal"
  assert_fsck
done

step "gc takes back what they left behind"
lf gc >/dev/null
used=$(du -sk "$STORE" | cut -f1)
[ "$used" -lt 20000 ] || fail "$used KiB are still used after gc"
assert_eq "$(store_state)" "$before" "store after gc"

step "two imports at once, and readers beside them"
lf import "$rootfs" first >"$WORK/first.out" 2>"$WORK/first.err" &
first=$!
mkdir "$WORK/second"
seq 1 300000 >"$WORK/second/numbers"
tar -C "$WORK/second" -cf "$WORK/second.tar" .
lf import "$WORK/second.tar" second >"$WORK/second.out" 2>"$WORK/second.err" &
second=$!
while kill -0 $first 2>/dev/null; do
  lf images >/dev/null
  sleep 0.2
done
wait $first $second
assert_eq "$(lf --json images | jq length)" 3 "images after two imports at once"
cat "$WORK/first.err" "$WORK/second.err" | grep -qi wait || echo "(neither had to wait)"
assert_fsck

step "the same tar imported twice at once"
seq 500000 900000 >"$WORK/second/numbers"
tar -C "$WORK/second" -cf "$WORK/twice.tar" .
layers=$(lf layers | wc -l)
lf import "$WORK/twice.tar" twice:a >/dev/null &
a=$!
lf import "$WORK/twice.tar" twice:b >/dev/null &
b=$!
wait $a
wait $b
# The images differ when the clock moved on between them (`created`); their one layer does not.
assert_eq "$(lf layers | wc -l)" $((layers + 1)) "layers of one tar"

step "a store made by a newer version"
cp -a "$STORE" "$WORK/newer"
"$MAKE_NEWER" "$WORK/newer"
status=0
"$LAYERFS" --root "$WORK/newer" images >"$WORK/out" 2>"$WORK/err" || status=$?
[ $status -ne 0 ] || fail "opened a store of a newer version"
grep -Eqi 'newer|version' "$WORK/err" || fail "says '$(cat "$WORK/err")' of a newer store"
status=0
"$LAYERFS" --root "$WORK/newer" import "$WORK/one.tar" x >"$WORK/out" 2>"$WORK/err" || status=$?
[ $status -ne 0 ] || fail "wrote into a store of a newer version"

step "more table files than the usual limit of open files"
many() { (ulimit -Sn 64 && exec "$LAYERFS" --root "$WORK/many" "$@"); }
for i in $(seq 64); do
  echo "$i" >"$WORK/second/numbers"
  many import "$WORK/second" "many:$i" >/dev/null
done
tables=$(find "$WORK/many/store" -name '*.sst' | wc -l)
[ "$tables" -gt 64 ] || fail "only $tables table files"
assert_eq "$(many images | wc -l)" 65 "images of a store of $tables table files"
STORE=$WORK/many assert_fsck
if (ulimit -n 64 && exec "$LAYERFS" --root "$WORK/many" images) >"$WORK/out" 2>"$WORK/err"; then
  fail "opened $tables table files with 64 descriptors"
fi
grep -q 'Too many open files' "$WORK/err" || fail "says '$(cat "$WORK/err")'"

step "a limit of file sizes"
limited() { (ulimit -f 4000 && exec "$LAYERFS" --root "$STORE" "$@"); }
head -c 20000000 /dev/urandom >"$WORK/second/random"
refuses 'too large' limited import "$WORK/second" limited
rm "$WORK/second/random"
refuses 'too large' limited export first -o "$WORK/limited.tar"
assert_missing "$WORK/limited.tar"

step "a full disk"
if [ "$(id -u)" = 0 ]; then
  mkdir "$WORK/full"
  mount -t tmpfs -o size=40m none "$WORK/full"
  cp -a "$WORK/one.tar" "$WORK/full"
  STORE=$WORK/full/store
  lf import "$WORK/one.tar" one >/dev/null
  refuses 'space|disk' lf import "$rootfs" full
  refuses 'space|disk' lf import "$rootfs" full
  lf gc >/dev/null
  lf import "$WORK/second.tar" fits >/dev/null
  head -c 100000000 /dev/zero >"$WORK/full/filler" 2>/dev/null || true
  refuses 'space|disk' lf export fits -o "$WORK/full/out.tar"
  assert_missing "$WORK/full/out.tar"
  rm "$WORK/full/filler"
  if [ -w /dev/fuse ]; then
    root=$(mount_container one filler)
    head -c 60000000 /dev/urandom >"$root/big" 2>"$WORK/err" && fail "wrote 60 MB to a 40 MB disk"
    grep -qi 'space' "$WORK/err" || fail "a full disk says: $(cat "$WORK/err")"
    rm "$root/big"
    cmp "$root/numbers" "$WORK/tree/numbers"
    lf umount filler
  fi
  assert_fsck
else
  echo "(a full disk needs root to make)"
fi
