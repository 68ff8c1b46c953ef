#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# A mounted container held still, as commit, diff, export and fsck do: who waits, who does not, and
# how it ends, also when a participant dies.
source "$(dirname "$0")/lib.sh"
require_root
require_fuse
FREEZE_CLIENT=$(realpath "${FREEZE_CLIENT:-$BUILD/tests/freeze_client}")

make_tricky_tree "$WORK/tree"
gnu_tar "$WORK/tree.tar" "$WORK/tree"
lf import "$WORK/tree.tar" base >/dev/null
root=$(mount_container base cold)
directory=$STORE/containers/cold
mkdir "$root/own"
echo before >"$root/own/file"

# freeze [FILE]: until `thaw`; what the client says is in $said.
freeze() {
  said=$WORK/said
  rm -f "$WORK/hold" && mkfifo "$WORK/hold"
  : >"$said"
  "$FREEZE_CLIENT" "$directory" "$@" <"$WORK/hold" >"$said" &
  client=$!
  exec 6>"$WORK/hold"
  until grep -q . "$said"; do
    kill -0 $client 2>/dev/null || fail "freeze_client ended without a word"
    sleep 0.01
  done
}
thaw() {
  exec 6>&-
  wait $client
}
# held PID: the process waits, now and a moment later.
held() {
  local i
  for i in 1 2 3; do
    sleep 0.05
    kill -0 "$1" 2>/dev/null || fail "$2 did not wait"
  done
}

step "what was written before a name was made is in a commit that has the name"
mkdir "$root/order"
cat >"$WORK/order.py" <<'PYTHON'
import os, sys, threading
root = sys.argv[1]
def write(i):
    log = open(f"{root}/log{i}", "ab", buffering=0)
    open(f"{root}/mark{i}-0", "w").close()
    n = 0
    while not os.path.exists(sys.argv[2]):
        n += 1
        with open(f"{root}/mark{i}-{n - 1}", "wb") as mark:
            mark.write(b"x" * 150000)
        log.write(b"%08d\n" % n)
        os.rename(f"{root}/mark{i}-{n - 1}", f"{root}/mark{i}-{n}")
for i in range(4):
    threading.Thread(target=write, args=(i,)).start()
PYTHON
python3 "$WORK/order.py" "$root/order" "$WORK/enough" &
writers=$!
sleep 0.3
for i in 1 2 3 4 5 6; do lf commit cold "order:$i" >/dev/null; done
touch "$WORK/enough"
wait $writers
for i in 1 2 3 4 5 6; do
  mkdir -p "$WORK/order"
  lf mount --read-only "order:$i" "$WORK/order" >/dev/null
  for log in "$WORK"/order/order/log*; do
    number=${log##*log}
    made=$(basename "$WORK"/order/order/mark"$number"-*)
    last=$(tail -n 1 "$log")
    [ "$((10#${last:-0}))" -ge "${made#*-}" ] || fail "commit $i: $made was made, but the log ends with '$last'"
  done
  lf umount "$WORK/order"
done
rm -r "$root/order"

step "changes wait, reading does not, and all of it happens after"
freeze
assert_eq "$(cat "$said")" frozen "freeze"
mkdir "$root/own/made" 6>&- &  # its directory is locked by the kernel meanwhile
maker=$!
echo changed >"$WORK/changed"
cp "$WORK/changed" "$root/own/file" 6>&- &
writer=$!
held $maker mkdir
assert_eq "$(cat "$root/etc/hello")" "$(cat "$WORK/tree/etc/hello")" "reading"
ls -lR "$root/links" >/dev/null
assert_eq "$("$FREEZE_CLIENT" "$directory" </dev/null || true)" \
  "another command reads this container's state; try again" "a second freeze"
refuses 'reads this container' lf umount cold
refuses 'reads this container' lf diff cold
thaw
wait $maker $writer
assert_eq "$(tail -n 1 "$said")" kept "the freeze at its end"
[ -d "$root/own/made" ] || fail "mkdir was lost"
assert_eq "$(cat "$root/own/file")" changed "what was written meanwhile"

step "who waits can be killed"
freeze
mkdir "$root/own/never" 6>&- &
waiting=$!
held $waiting mkdir
kill -9 $waiting
wait $waiting 2>/dev/null || true
thaw
assert_missing "$root/own/never"

step "a signal that does not kill interrupts no change, and who got one can still be killed"
cat >"$WORK/signalled.py" <<'PYTHON'
import os, signal, sys
signal.signal(signal.SIGALRM, lambda *_: None)
signal.setitimer(signal.ITIMER_REAL, 0.02, 0.02)
for name in sys.argv[1:]:
    os.mkdir(name)
signal.setitimer(signal.ITIMER_REAL, 0)
PYTHON
mkdir "$root/killed"  # where the kernel locks nobody else out
freeze
python3 "$WORK/signalled.py" "$root/own/"{one,two,three} 6>&- &
signalled=$!
python3 "$WORK/signalled.py" "$root/killed/never" 6>&- &
waiting=$!
held $signalled "mkdir with signals"
held $waiting "mkdir with signals"
kill -9 $waiting
wait $waiting 2>/dev/null || true
kill -0 $client || fail "the freeze ended before the killed program did"
thaw
wait $signalled || fail "a signal interrupted mkdir"
[ -d "$root/own/three" ] || fail "mkdir was lost"
assert_missing "$root/killed/never"

step "a program that is killed amid a rename has lost nothing"
# The kernel may have been about to send the times that the rename changed, and keeps that it could
# not as an error of the file's content.
cat >"$WORK/swap.py" <<'PYTHON'
import ctypes, os, sys
os.chdir(sys.argv[1])
for name in b"a", b"b":
    open(name, "w").close()
exchange = 2
while True:
    if ctypes.CDLL(None).renameat2(-100, b"a", -100, b"b", exchange) != 0:
        sys.exit("renameat2 failed")
PYTHON
pid=$(lf --json ps | jq -r '.[0].Pid')
for i in $(seq 8); do
  mkdir "$root/swap"
  python3 "$WORK/swap.py" "$root/swap" &
  swapper=$!
  until [ -e "$root/swap/b" ]; do sleep 0.01; done
  sleep 0.05
  kill -STOP "$pid"
  sleep 0.02
  kill -9 $swapper
  kill -CONT "$pid"
  wait $swapper 2>/dev/null || true
  [ $((i % 2)) -eq 0 ] || lf diff cold >/dev/null
  rm -r "$root/swap"
  lf diff cold >/dev/null
done

step "what could not be written back is told once"
mkdir "$WORK/mnt/small"
lf mount --container small --size 4M base "$WORK/mnt/small" >/dev/null
! dd if=/dev/zero of="$WORK/mnt/small/much" bs=1M count=8 2>/dev/null || fail "8 MiB fit in 4"
refuses 'lately is lost' lf diff small
lf diff small >/dev/null
lf umount small
lf rm small >/dev/null

step "the client that freezes is refused instead of waiting for itself"
freeze "$root/own/suicide"
until [ "$(wc -l <"$said")" -ge 2 ]; do sleep 0.01; done
assert_eq "$(sed -n 2p "$said")" "Resource deadlock avoided" "the client's own change"
thaw
assert_missing "$root/own/suicide"

step "a client that dies lets go"
freeze
kill -9 $client
wait $client 2>/dev/null || true
mkdir "$root/after-the-client"

step "fsck checks a mounted container"
assert_eq "$(lf --json fsck | jq -c '[.Containers, .SkippedContainers]')" '[1,[]]' "fsck"

step "SIGTERM ends a frozen mount; the client is told"
echo last >"$root/own/last"
freeze
pid=$(lf --json ps | jq -r '.[0].Pid')
kill -TERM "$pid"
wait_unmounted cold
status=0
thaw || status=$?
[ $status -ne 0 ] || fail "the client was not told: $(cat "$said")"
[ -z "$(mounts_below "$WORK")" ] || fail "still mounted"
root=$(mount_container base cold)
assert_eq "$(cat "$root/own/last")" last "what was written before"

step "kill -9 while SEEK_HOLE, in a frozen mount, waits for what is not written back"
freeze
pid=$(lf --json ps | jq -r '.[0].Pid')
python3 -c 'import os, sys
fd = os.open(sys.argv[1], os.O_RDWR | os.O_CREAT)
os.write(fd, b"x" * 4096)
os.lseek(fd, 0, os.SEEK_HOLE)' "$root/own/last" 6>&- 2>/dev/null &
seeker=$!
held $seeker SEEK_HOLE
kill -9 "$pid"
! wait $seeker || fail "SEEK_HOLE succeeded"
! thaw || fail "the client was not told"
root=$(mount_container base cold)
assert_eq "$(cat "$root/own/last")" last "what was not written back is lost"

step "unmounting in vain: open files; then a signal, which detaches, and the last user ends it"
exec 5<"$root/own/last"
refuses 'in use' lf umount cold
pid=$(lf --json ps | jq -r '.[0].Pid')
kill -TERM "$pid"
for i in $(seq 100); do [ -n "$(mounts_below "$WORK")" ] || break; sleep 0.05; done
assert_eq "$(cat <&5)" last "reading through a descriptor of a detached mount"
exec 5<&-
wait_unmounted cold

step "a mount point that disappears"
root=$(mount_container base cold)
mv "$WORK/mnt" "$WORK/moved"
assert_eq "$(cat "$WORK/moved/cold/own/last")" last "a mount whose directory moved"
lf umount cold
mv "$WORK/moved" "$WORK/mnt"
