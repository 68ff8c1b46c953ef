#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# An ordinary user, without any privilege: mounts through fusermount3, in a user namespace, with
# podman unshare and podman run --rootfs, and bubblewrap.
source "$(dirname "$0")/lib.sh"
in_private_namespace
require_fuse
make_test_user

only_cgroup2
mount --make-rshared /

make_shell_rootfs "$WORK/shell"
chown 1000:1000 "$WORK/shell/data"
echo locked >"$WORK/shell/data/locked"
chmod 0 "$WORK/shell/data/locked"
ln -s locked "$WORK/shell/data/link"
tar -C "$WORK/shell" --numeric-owner -cf "$WORK/shell.tar" .
chmod 644 "$WORK/shell.tar"
program=$WORK/layerfs  # where the user can read it
install -m 755 "$LAYERFS" "$program"
STORE=$TEST_HOME/.local/share/layerfs
user() { as_user env -u LAYERFS_ROOT "$program" "$@"; }
in_userns() { as_user unshare --user --map-root-user --map-auto --mount "$@"; }
m=$TEST_HOME/mnt
as_user mkdir -p "$m"

step "fusermount3: the store in the user's home, the image's root is the user"
user import "$WORK/shell.tar" shell >/dev/null
[ -d "$STORE" ] || fail "the user's store is not $STORE"
user mount --container plain shell "$m"
as_user sh -c "echo written >$m/data/file && mkdir $m/data/dir && rm $m/bin/touch"
assert_eq "$(as_user cat "$m/data/file")" written "a file through fusermount3"
as_user sh -c "echo more >>$m/data/locked"
assert_eq "$(as_user cat "$m/data/locked")" $'locked\nmore' "a file of mode 0, changed"
as_user chown -h 33:34 "$m/data/link"
assert_eq "$(as_user stat -c %u:%g "$m/data/link")" 33:34 "a symlink given away"
assert_eq "$(as_user stat -c %u:%g "$m/etc/passwd")" "$TEST_UID:$TEST_UID" "root's file, outside"
assert_match "$(user diff plain)" 'D /bin/touch' "diff"
user umount plain
assert_eq "$(as_user sh -c "ls $m | wc -l")" 0 "the mount point after umount"

step "a store that cannot be read is neither empty nor damaged"
lf() { "$LAYERFS" --root "$WORK/others" "$@"; }
theirs() { as_user "$program" --root "$WORK/others" "$@"; }
said() {  # REGEX COMMAND...: it fails, and says so
  ! "${@:2}" >"$WORK/out" 2>"$WORK/err" || fail "${*:2}: succeeds, with $(cat "$WORK/out")"
  assert_match "$(cat "$WORK/err")" "$1" "${*:2}"
}
lf import "$WORK/shell.tar" shell >/dev/null
said "$WORK/others/store.*: Permission denied" theirs export shell -o -
chmod 755 "$WORK/others/store"  # what is not shared by itself may be
mkdir "$WORK/others/containers"
chmod 700 "$WORK/others/containers"
said 'not everything' theirs fsck
assert_match "$(cat "$WORK/out")" "^not-checked: containers: .*containers': Permission denied" "fsck"
! grep damaged "$WORK/out" || fail "what fsck may not see is damage"
assert_eq "$(theirs images -q | wc -l)" 1 "images of another user"
for command in 'inspect shell' 'diff shell' 'export shell -o -'; do
  # shellcheck disable=SC2086 -- they are words
  theirs $command >"$WORK/out"
done
said "$WORK/others/containers.*: Permission denied" theirs inspect nothing
chmod 700 "$WORK/others"
for command in fsck images df layers ps 'inspect shell' 'export shell -o -' gc; do
  # shellcheck disable=SC2086 -- they are words
  said "$WORK/others.*: Permission denied" theirs $command
  # shellcheck disable=SC2086
  said "$WORK/shell.tar.*: Not a directory" user --root "$WORK/shell.tar" $command
done

as_user unshare --user true ||
  skip "user namespaces are refused here (to a process in a chroot, or by the host): only fusermount3 was tested"

step "in a user namespace: created by root inside is root's"
cat >"$WORK/inside.sh" <<END
set -eu
$program mount --container inside shell $m >/dev/null
chroot $m /bin/sh -c 'echo root >/etc/made && touch /data/own && id -u'
[ "\$(stat -c %u:%g $m/etc/made)" = 0:0 ]
[ "\$(stat -c %u:%g $m/data)" = 1000:1000 ]
chown 33:34 $m/data/own
[ "\$(stat -c %u:%g $m/data/own)" = 33:34 ]
$program umount $m
END
assert_eq "$(in_userns env LAYERFS_ROOT="$STORE" bash "$WORK/inside.sh")" 0 "id inside"
user mount --container inside shell "$m"
assert_eq "$(as_user cat "$m/etc/made")" root "what the namespace wrote, seen without one"
user umount inside

step "bubblewrap"
user mount --container bubble shell "$m"
assert_eq "$(as_user bwrap --bind "$m" / --dev /dev --proc /proc --unshare-user --uid 0 --gid 0 \
  /bin/sh -c 'echo bubble >/data/bubble; id -u; stat -c %u /data/bubble')" $'0\n0' "bubblewrap"
assert_eq "$(as_user cat "$m/data/bubble")" bubble "what bubblewrap wrote"
user umount bubble

step "podman unshare, podman run --rootfs"
podman() {
  as_user env -C "$TEST_HOME" podman --log-level error --cgroup-manager cgroupfs "$@"
}
podman unshare env LAYERFS_ROOT="$STORE" "$program" mount --container podman shell "$m"
output=$(podman run --rm --network none --cgroups=disabled $CONTAINER_LIMITS --runtime crun --rootfs "$m" \
  /bin/sh -c 'echo podman >/data/podman; id -u; stat -c %u:%g /data/podman; ls -di /etc >/dev/null')
assert_eq "$output" $'0\n0:0' "podman run --rootfs"
output=$(podman run --rm --network none --cgroups=disabled $CONTAINER_LIMITS --runtime crun --user 1000 \
  --rootfs "$m" /bin/sh -c 'echo user >/data/user; id -u; stat -c %u /data/user')
assert_eq "$output" $'1000\n1000' "podman run --user"
podman unshare env LAYERFS_ROOT="$STORE" "$program" umount "$m"
assert_match "$(user diff podman)" 'A /data/podman' "diff of the container podman ran"
user commit podman shell:podman >/dev/null
user export shell:podman -o "$TEST_HOME/podman.tar"
podman --storage-driver vfs load --quiet -i "$TEST_HOME/podman.tar" >/dev/null
podman system migrate >/dev/null 2>&1 || true

step "what a user lacks is said"
chmod 600 /dev/fuse
status=0
user mount shell "$m" >"$WORK/out" 2>"$WORK/err" || status=$?
[ $status -ne 0 ] || fail "mounted without access to /dev/fuse"
grep -q '/dev/fuse' "$WORK/err" || fail "without /dev/fuse it says: $(cat "$WORK/err")"
chmod 666 /dev/fuse
status=0
as_user "$program" --root /proc/nowhere import "$WORK/shell.tar" >"$WORK/out" 2>"$WORK/err" || status=$?
[ $status -ne 0 ] && grep -q 'layerfs: ' "$WORK/err" || fail "a root nobody can write: $(cat "$WORK/err")"
user fsck >/dev/null
