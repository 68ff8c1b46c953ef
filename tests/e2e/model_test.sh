#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# Random scripts (tests/model/script.h) on a real mount against the model, with remounts, commits and
# daemons that die; and on the host's ext4, which says whether the model is right.
# LAYERFS_TEST_SEED repeats a run.
source "$(dirname "$0")/lib.sh"
require_root
require_fuse

step "the host's ext4 does what the model does"
mkdir "$WORK/ext4"
if [ "$(stat -f -c %T "$WORK")" != ext2/ext3 ]; then  # that is what stat calls ext4
  truncate -s 64M "$WORK/ext4.img"
  mkfs.ext4 -q -b 4096 "$WORK/ext4.img"  # smaller blocks would limit symlinks
  mount -o loop "$WORK/ext4.img" "$WORK/ext4" || skip "no ext4 to compare the model with"
fi
"$RUN_SCRIPTS" "$WORK/ext4" 6 2000

step "a mount does what the model does"
mkdir "$WORK/nothing"
tar -C "$WORK/nothing" -cf "$WORK/nothing.tar" .
lf import "$WORK/nothing.tar" empty >/dev/null
root=$(mount_container empty first)
chmod 755 "$root"
chown 0:0 "$root"
cat >"$WORK/hook" <<END
#!/bin/bash
set -e
lf() { "$LAYERFS" --root "$STORE" "\$@"; }
name=\$(cat "$WORK/container")
number=\${name#c}
mount_it() {
  lf mount --container "\$name" "\$(cat "$WORK/image")" "$root" >/dev/null 2>"$WORK/mount.err"
}
mount_new() {  # IMAGE: in a container of its own
  name=c\$((number + 1))
  echo "\$name" >"$WORK/container"
  echo "\$1" >"$WORK/image"
  mount_it
}
leave() { lf umount "$root"; }
case \$1 in
  lower)
    lf commit first lower >/dev/null
    leave
    ;;
  fresh)
    ! mountpoint -q "$root" || leave
    lf rm "\$name" >/dev/null 2>&1 || true
    mount_new lower
    ;;
  remount)
    leave
    mount_it
    ;;
  crash)
    sync -f "$root"
    kill -9 "\$(lf --json ps | jq -r ".[] | select(.Name == \"\$name\") | .Pid")"
    flock -w 30 "$STORE/containers/\$name/lock" true
    mount_it
    ;;
  commit)
    lf commit "\$name" "committed:\$number" >/dev/null
    leave
    mount_new "committed:\$number"
    ;;
esac
END
chmod +x "$WORK/hook"
echo c0 >"$WORK/container"
"$RUN_SCRIPTS" "$root" 8 2000 "$WORK/hook"
lf umount "$root"
