# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
#
# What every end-to-end script starts with:
#   source "$(dirname "$0")/lib.sh"
# It gives the script a scratch directory $WORK and an empty store (`lf` runs layerfs on it), and at
# the end, however it comes, unmounts everything below $WORK, checks the store with fsck and removes
# $WORK. A script that only reaches its end when everything held needs no verdict of its own: any
# command that fails ends it (errexit), and says where.
#
# From ctest (or the caller): LAYERFS the program, COMPARE_TREES, MAKE_NEWER and RUN_SCRIPTS the helpers beside
# it, SKIPPED_FILE where skips are written down, ROOTFS_CACHE where fixtures are kept.
set -euo pipefail
shopt -s inherit_errexit

TEST_NAME=$(basename "$0" .sh)
E2E=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
BUILD=${BUILD:-$E2E/../../build/release}
LAYERFS=$(realpath "${LAYERFS:-$BUILD/layerfs}")
COMPARE_TREES=$(realpath "${COMPARE_TREES:-$BUILD/tests/compare_trees}")
MAKE_NEWER=$(realpath "${MAKE_NEWER:-$BUILD/tests/make_newer}")
RUN_SCRIPTS=$(realpath "${RUN_SCRIPTS:-$BUILD/tests/run_scripts}")
WORK=$(mktemp -d "${TMPDIR:-/tmp}/layerfs-$TEST_NAME.XXXXXX")
STORE=$WORK/store
export LC_ALL=C LAYERFS_ROOT=$STORE
unset XDG_DATA_HOME

# What sanitizers report in any layerfs, a daemon too whose standard error nobody reads, is a file in
# here, and none may be left at the end. UBSan writes to standard error whatever it is told, but
# then aborts, which ASan reports. A program without sanitizers takes no notice.
SANITIZER_REPORTS=$WORK/sanitizer-reports
mkdir -m 1777 "$SANITIZER_REPORTS"
export ASAN_OPTIONS=log_path=$SANITIZER_REPORTS/report:abort_on_error=1:handle_abort=1
export UBSAN_OPTIONS=log_path=$SANITIZER_REPORTS/report:abort_on_error=1:print_stacktrace=1

lf() { "$LAYERFS" --root "$STORE" "$@"; }

fail() { echo "$TEST_NAME: $*" >&2; exit 1; }

# skip REASON: ctest shows the test as skipped; tests/run repeats the reason at the end.
skip() {
  echo "skipped: $*"
  [ -z "${SKIPPED_FILE:-}" ] || echo "$TEST_NAME: $*" >>"$SKIPPED_FILE"
  exit 77
}
require_root() { [ "$(id -u)" = 0 ] || skip "needs root"; }
require_fuse() { [ -w /dev/fuse ] || skip "/dev/fuse is missing or not writable"; }

step() { echo "-- $*"; }

# unless_sanitized REASON: whether the program is an ordinary one; if not, REASON is repeated at the
# end of tests/run as a skipped test's is.
unless_sanitized() {
  [[ $(ldd "$LAYERFS") == *libasan* ]] || return 0  # in a pipe, grep -q would end ldd: a failure
  echo "sanitized: $*"
  [ -z "${SKIPPED_FILE:-}" ] || echo "$TEST_NAME: $*" >>"$SKIPPED_FILE"
  return 1
}

assert_eq() {  # ACTUAL EXPECTED WHAT
  [ "$1" = "$2" ] || fail "$3: '$1', expected '$2'"
}
assert_match() {  # TEXT EXTENDED_REGEX WHAT
  grep -Eq -- "$2" <<<"$1" || fail "$3: '$1' does not match '$2'"
}
assert_missing() { [ ! -e "$1" ] && [ ! -L "$1" ] || fail "$1 exists"; }
assert_same_trees() {  # EXPECTED ACTUAL [OPTION...]: names every difference
  "$COMPARE_TREES" "${@:3}" "$1" "$2" || fail "$2 differs from $1"
}

# Everything a user can see of a store: what it must still hold after something was refused.
store_state() {
  if [ -d "$STORE" ]; then
    lf --json images; lf --json layers; lf --json ps | jq -r ".[].Name"
  fi
}
assert_fsck() { lf fsck >"$WORK/fsck.out" 2>&1 || { cat "$WORK/fsck.out"; fail "fsck found damage"; }; }

# refuses REGEX COMMAND...: the command must fail, by itself (no signal), with a sentence on stderr
# that matches, and leave the store as it was and sound. Where nothing but refused commands comes
# between, $store_before may hold what it was.
refuses() {
  local pattern=$1 before after status=0
  shift
  before=${store_before-$(store_state)}
  "$@" >"$WORK/refused.out" 2>"$WORK/refused.err" </dev/null || status=$?
  [ $status -ne 0 ] || fail "accepted, must be refused: $*"
  [ $status -lt 126 ] || fail "died with status $status: $* ($(cat "$WORK/refused.err"))"
  grep -Eiq -- "$pattern" "$WORK/refused.err" ||
    fail "$*: said '$(cat "$WORK/refused.err")', expected /$pattern/"
  ! grep -Eiq 'terminate called|AddressSanitizer|runtime error' "$WORK/refused.err" ||
    fail "$*: $(cat "$WORK/refused.err")"
  after=$(store_state)
  assert_eq "$after" "$before" "store after: $*"
  if [ -d "$STORE" ]; then assert_fsck; fi
}

# mount_container IMAGE CONTAINER: mounts it at $WORK/mnt/CONTAINER, which it prints.
mount_container() {
  local mountpoint=$WORK/mnt/$2
  mkdir -p "$mountpoint"
  lf mount --container "$2" "$1" "$mountpoint" >/dev/null
  echo "$mountpoint"
}

# Mount points below a directory, innermost first.
mounts_below() {
  awk -v below="$1/" 'index($5, below) == 1 { print length($5), $5 }' /proc/self/mountinfo |
    sort -rn | cut -d' ' -f2-
}
unmount_below() {
  local mountpoint
  while read -r mountpoint; do
    mountpoint=$(printf '%b' "${mountpoint//\\/\\0}")
    umount "$mountpoint" 2>/dev/null || fusermount3 -u "$mountpoint" 2>/dev/null ||
      umount -l "$mountpoint" 2>/dev/null || fusermount3 -uz "$mountpoint" || true
  done < <(mounts_below "$1")
}
# wait_unmounted CONTAINER: until its daemon, which was killed, is gone.
wait_unmounted() {
  flock -w 30 "$STORE/containers/$1/lock" true || fail "the daemon of $1 is still there"
}

# wait_for_daemons: until those whose mounts are gone have ended. Fails when one stays.
wait_for_daemons() {
  local process tenths name
  for process in /proc/[0-9]*; do
    for ((tenths = 0; ; tenths++)); do
      { read -r name <"$process/comm" && [ "$name" = layerfs ] &&
        tr '\0' ' ' <"$process/cmdline" | grep -qF -- "$WORK/"; } 2>/dev/null || break
      [ $tenths -lt 300 ] || { echo "$TEST_NAME: ${process#/proc/} does not end" >&2; return 1; }
      sleep 0.1
    done
  done
}

# Cleans up whatever happened; a failed fsck turns success into failure.
finish() {
  local status=$?
  trap - EXIT
  set +e
  if [ $status -ne 0 ] && [ $status -ne 77 ]; then
    echo "$TEST_NAME: failed with status $status${FAILED_AT:+ at $FAILED_AT}" >&2
    tail -n 20 "$STORE"/containers/*/log 2>/dev/null >&2
  fi
  local pid
  for pid in $(jobs -p); do kill "$pid" 2>/dev/null; done
  unmount_below "$WORK"
  [ $status -ne 0 ] || wait_for_daemons || status=1
  if [ $status -eq 0 ] && [ -d "$STORE/store" ]; then
    lf fsck >"$WORK/fsck.out" 2>&1 ||
      { cat "$WORK/fsck.out" >&2; echo "$TEST_NAME: fsck at the end found damage" >&2; status=1; }
  fi
  if [ -n "$(ls "$SANITIZER_REPORTS")" ]; then
    cat "$SANITIZER_REPORTS"/* >&2
    status=1
  fi
  if [ -n "$(mounts_below "$WORK")" ]; then
    echo "$TEST_NAME: still mounted below $WORK" >&2
    [ $status -ne 0 ] || status=1
  else
    rm -rf --one-file-system "$WORK"
  fi
  exit $status
}
trap finish EXIT
trap 'exit 130' INT TERM
trap 'FAILED_AT="${BASH_SOURCE[0]##*/}:$LINENO: $BASH_COMMAND"' ERR
set -E

# in_private_namespace: reruns the script in a mount namespace of its own, in which it may change
# /etc, /dev and /sys without anybody noticing. Needs root; call it first.
in_private_namespace() {
  require_root
  if [ -z "${LAYERFS_E2E_PRIVATE:-}" ]; then
    trap - EXIT
    rm -rf "$WORK"
    exec env LAYERFS_E2E_PRIVATE=1 unshare --mount --propagation private "$0" "$@"
  fi
}

# only_cgroup2: inside in_private_namespace: crun refuses a host that mixes cgroup versions; nothing
# that runs here needs any.
only_cgroup2() {
  [ "$(stat -f -c %T /sys/fs/cgroup 2>/dev/null)" != cgroup2fs ] || return 0
  umount -R -l /sys/fs/cgroup 2>/dev/null || true
  mount -t cgroup2 none /sys/fs/cgroup
}

# Limits that a container engine may set wherever the tests run; its own defaults are higher.
CONTAINER_LIMITS="--ulimit nofile=1024:1024 --ulimit nproc=1024:1024"

# make_test_user: inside in_private_namespace: an ordinary user $TEST_USER with $TEST_HOME and
# subordinate ids, who can open /dev/fuse. `as_user COMMAND...` runs something as this user.
TEST_USER=lfstest
TEST_UID=54321
make_test_user() {
  TEST_HOME=$WORK/home
  local etc=$WORK/etc file
  mkdir -p "$TEST_HOME" "$etc" "$WORK/run"
  chmod 755 "$WORK"
  for file in passwd group subuid subgid; do
    [ -e /etc/$file ] || : >/etc/$file
    cp /etc/$file "$etc/$file"
  done
  echo "$TEST_USER:x:$TEST_UID:$TEST_UID::$TEST_HOME:/bin/bash" >>"$etc/passwd"
  echo "$TEST_USER:x:$TEST_UID:" >>"$etc/group"
  echo "$TEST_USER:600000:65536" >>"$etc/subuid"
  echo "$TEST_USER:600000:65536" >>"$etc/subgid"
  for file in passwd group subuid subgid; do mount --bind "$etc/$file" /etc/$file; done
  mknod "$etc/fuse" c 10 229
  chmod 666 "$etc/fuse"
  mount --bind "$etc/fuse" /dev/fuse
  chown "$TEST_UID:$TEST_UID" "$TEST_HOME" "$WORK/run"
  chmod 700 "$WORK/run"
}
as_user() {
  setpriv --reuid "$TEST_UID" --regid "$TEST_UID" --clear-groups \
    env -i PATH="$PATH" HOME="$TEST_HOME" USER="$TEST_USER" LOGNAME="$TEST_USER" LC_ALL=C \
    ASAN_OPTIONS="$ASAN_OPTIONS" UBSAN_OPTIONS="$UBSAN_OPTIONS" \
    XDG_RUNTIME_DIR="$WORK/run" LAYERFS="$LAYERFS" "$@"
}

# The fixtures of fixtures.sh.
source "$E2E/fixtures.sh"
