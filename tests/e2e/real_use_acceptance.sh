#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# A 1.3 GB Debian root filesystem with compilers, node, a JRE and PostgreSQL: compared with GNU tar's
# extraction byte by byte, then worked in: apt installs a package with maintainer scripts, gcc, git,
# npm and pip work, PostgreSQL serves pgbench. All of it is in the committed image.
# LAYERFS_BIG_ROOTFS names the tar, else it is made (e2e/fixtures.sh).
source "$(dirname "$0")/lib.sh"
in_private_namespace
require_fuse

rootfs=$(big_rootfs)
step "import and compare"
time lf import "$rootfs" big >/dev/null
mkdir -p "$WORK/mnt/look"
gnu_untar "$rootfs" "$WORK/unpacked"
lf mount --read-only big "$WORK/mnt/look"
assert_same_trees "$WORK/unpacked" "$WORK/mnt/look"
lf umount "$WORK/mnt/look"
rm -rf "$WORK/unpacked"
lf export big --format docker -o "$WORK/docker.tar"
layer=$(tar -xOf "$WORK/docker.tar" manifest.json | jq -r '.[0].Layers[0]')
assert_eq "$(tar -xOf "$WORK/docker.tar" "$layer" | sha256sum)" "$(sha256sum <"$rootfs")" "the layer"
rm "$WORK/docker.tar"

root=$(mount_container big work)
mount --bind /dev "$root/dev"
mount -t proc proc "$root/proc"
mkdir -p "$root/tmp"
cp /etc/resolv.conf "$root/etc/resolv.conf" 2>/dev/null || true
inside() { chroot "$root" env -i PATH=/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LC_ALL=C \
  DEBIAN_FRONTEND=noninteractive "$@"; }

step "apt-get install of a package with maintainer scripts"
mkdir -p "$root/tmp/package/DEBIAN" "$root/tmp/package/usr/share/demo"
cat >"$root/tmp/package/DEBIAN/control" <<END
Package: layerfs-demo
Version: 1.0
Architecture: all
Maintainer: Nobody <nobody@example.org>
Description: a package with maintainer scripts
END
printf '#!/bin/sh\nset -e\nadduser --system --group --home /var/lib/demo demo\nchown demo:demo /usr/share/demo/file\n' \
  >"$root/tmp/package/DEBIAN/postinst"
chmod 755 "$root/tmp/package/DEBIAN/postinst"
echo packaged >"$root/tmp/package/usr/share/demo/file"
inside dpkg-deb --root-owner-group --build /tmp/package /tmp/demo.deb >/dev/null
inside apt-get install -q -y adduser >"$WORK/apt.log" 2>&1 || true
inside apt-get install -q -y --no-install-recommends /tmp/demo.deb >>"$WORK/apt.log" 2>&1 ||
  { cat "$WORK/apt.log"; fail "apt-get install"; }
assert_eq "$(inside stat -c %U /usr/share/demo/file)" demo "owner set by the postinst"

step "apt-get update and install from the mirror"
{ inside apt-get update && inside apt-get install -y --no-install-recommends nginx-light cowsay; } \
  >"$WORK/apt.log" 2>&1 || { tail -n 30 "$WORK/apt.log"; fail "apt-get install from the mirror"; }
inside dpkg --audit

step "gcc, git, npm, pip"
cat >"$root/root/hello.c" <<'END'
#include <stdio.h>
int main(void) { return puts("compiled inside") < 0; }
END
inside gcc -O2 -o /usr/local/bin/hello /root/hello.c
assert_eq "$(inside hello)" "compiled inside" "the program"
inside sh -ec 'mkdir /root/repo && cd /root/repo && git init -q && cp /usr/share/common-licenses/* . &&
  git add . && git -c user.name=n -c user.email=e commit -qm first && git gc -q && git fsck --strict' 2>&1
inside sh -ec 'mkdir -p /root/module /root/app && cd /root/module &&
  echo "{\"name\":\"module\",\"version\":\"1.0.0\"}" >package.json && echo "module.exports = 42" >index.js &&
  npm pack --silent >/dev/null && cd /root/app && npm install --offline --silent ../module/module-1.0.0.tgz'
assert_eq "$(inside sh -c 'cd /root/app && node -p "require(\"module\") && require(\"./node_modules/module\")"')" 42 "npm"
inside sh -ec 'mkdir -p /root/wheel/thing && cd /root/wheel && echo "value = 7" >thing/__init__.py &&
  printf "from setuptools import setup\nsetup(name=\"thing\", version=\"1\", packages=[\"thing\"])\n" >setup.py &&
  python3 setup.py -q sdist && pip install --quiet --no-index --no-build-isolation --break-system-packages dist/*.tar.gz' \
  >"$WORK/pip.log" 2>&1 || { cat "$WORK/pip.log"; fail "pip install"; }
assert_eq "$(inside sh -c 'cd / && python3 -c "import thing; print(thing.value)"')" 7 "pip"

step "PostgreSQL and pgbench"
version=$(inside sh -c 'ls /usr/lib/postgresql')
pg() { inside setpriv --reuid postgres --regid postgres --init-groups env -C / \
  PATH="/usr/lib/postgresql/$version/bin:/usr/bin:/bin" "$@"; }
mkdir -p "$root/dev/shm" "$root/run/postgresql"
inside chown postgres:postgres /run/postgresql
pg initdb -D /var/lib/postgresql/demo >/dev/null
pg pg_ctl -w -D /var/lib/postgresql/demo -o '-c listen_addresses=' -l /tmp/pg.log start >/dev/null
pg pgbench -q -i -s 5 postgres 2>&1 | tail -n 1
pg pgbench -c 2 -j 2 -T 10 postgres 2>&1 | grep -E 'tps|failed'
sum=$(pg psql -Atc 'select sum(abalance), count(*) from pgbench_accounts' postgres)
pg pg_ctl -w -D /var/lib/postgresql/demo stop >/dev/null

step "commit, and find all of it in the committed image"
umount "$root/dev" "$root/proc"
time lf commit -m "worked in" work big:worked >/dev/null
mkdir -p "$WORK/mnt/committed"
lf mount --read-only big:worked "$WORK/mnt/committed"
assert_same_trees "$root" "$WORK/mnt/committed"
lf umount "$WORK/mnt/committed"
lf umount work
root=$(mount_container big:worked again)
assert_eq "$(inside hello)" "compiled inside" "the program, committed"
inside sh -c 'cd /root/repo && git fsck --strict && git status --porcelain'
assert_eq "$(inside stat -c %U /usr/share/demo/file)" demo "the package, committed"
mount --bind /dev "$root/dev"
mkdir -p "$root/run/postgresql"
inside chown postgres:postgres /run/postgresql
pg pg_ctl -w -D /var/lib/postgresql/demo -o '-c listen_addresses=' -l /tmp/pg.log start >/dev/null
assert_eq "$(pg psql -Atc 'select sum(abalance), count(*) from pgbench_accounts' postgres)" "$sum" "the database"
pg pg_ctl -w -D /var/lib/postgresql/demo stop >/dev/null
umount "$root/dev"
lf umount again
