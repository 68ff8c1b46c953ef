#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# PostgreSQL in a container while the daemon below it dies: it recovers each time, and every
# transaction that was acknowledged is there. LAYERFS_BIG_ROOTFS names the tar, else it is made
# (e2e/fixtures.sh).
source "$(dirname "$0")/lib.sh"
in_private_namespace
require_fuse

lf import "$(big_rootfs)" big >/dev/null
root=$(mount_container big work)
version=$(ls "$root/usr/lib/postgresql")

prepare() {
  mount --bind /dev "$root/dev"
  mount -t proc proc "$root/proc"
  mkdir -p "$root/run/postgresql"
  chroot "$root" chown postgres:postgres /run/postgresql
}
pg() {
  chroot "$root" setpriv --reuid postgres --regid postgres --init-groups env -i -C / LC_ALL=C \
    PATH="/usr/lib/postgresql/$version/bin:/usr/bin:/bin" "$@"
}
start() {
  pg pg_ctl -w -t 120 -D /var/lib/postgresql/demo -o '-c listen_addresses=' -l /tmp/pg.log start \
    >"$WORK/start.log" 2>&1 || { tail -n 20 "$WORK/start.log" "$root/tmp/pg.log"; fail "PostgreSQL does not start"; }
}
# The server and its children, until they are gone: one that lives on holds its shared memory, and a
# new one rightly refuses to start beside it.
kill_servers() {
  local pid
  kill -9 "$@" 2>/dev/null || true
  for pid in "$@"; do
    while kill -0 "$pid" 2>/dev/null; do sleep 0.1; done
  done
}

prepare
pg initdb -D /var/lib/postgresql/demo >/dev/null
start
pg pgbench -q -i -s 2 postgres >/dev/null 2>&1
pg psql -qc 'create table acknowledged(n int primary key)' postgres
: >"$WORK/acknowledged"

for round in 1 2 3; do
  step "the daemon dies under pgbench, round $round"
  pg pgbench -n -c 2 -T 60 postgres >/dev/null 2>&1 &
  load=$!
  (
    n=$(tail -n 1 "$WORK/acknowledged")
    while n=$((n + 1)) && pg psql -qc "insert into acknowledged values ($n) on conflict do nothing" postgres; do
      echo "$n" >>"$WORK/acknowledged"
    done
  ) >/dev/null 2>&1 &
  inserts=$!
  wanted=$(($(wc -l <"$WORK/acknowledged") + 20 * round))
  while [ "$(wc -l <"$WORK/acknowledged")" -lt $wanted ]; do
    kill -0 $inserts 2>/dev/null || fail "the inserts ended"
    sleep 0.1
  done
  server=$(head -n 1 "$root/var/lib/postgresql/demo/postmaster.pid")
  servers="$server $(cat "/proc/$server/task/$server/children")"
  kill -9 "$(lf --json ps | jq -r '.[0].Pid')"
  wait_unmounted work
  wait $load $inserts || true
  # shellcheck disable=SC2086
  kill_servers $servers
  umount -l "$root/dev" "$root/proc"
  lf mount --container work big "$root" >/dev/null
  prepare
  start
  assert_eq "$(pg psql -Atc 'select count(*) from acknowledged where n <= '"$(tail -n 1 "$WORK/acknowledged")" postgres)" \
    "$(wc -l <"$WORK/acknowledged")" "acknowledged rows"
  # pgbench moves amounts: its four tables must agree.
  assert_eq "$(pg psql -Atc 'select (select sum(abalance) from pgbench_accounts) = (select sum(delta) from pgbench_history)
    and (select sum(bbalance) from pgbench_branches) = (select sum(tbalance) from pgbench_tellers)' postgres)" t "sums"
  pg pg_amcheck --install-missing -a >"$WORK/amcheck" 2>&1 || { cat "$WORK/amcheck"; fail "pg_amcheck"; }
done
pg pg_ctl -w -D /var/lib/postgresql/demo stop >/dev/null
umount "$root/dev" "$root/proc"
lf umount work
