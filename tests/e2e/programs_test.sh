#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# Programs that know what they wrote as judges: SQLite, git and dpkg while the daemon dies again and
# again, rsync and tar with every attribute in both directions.
source "$(dirname "$0")/lib.sh"
require_root
require_fuse

# mounted_again CONTAINER: kills its daemon at once and mounts it again.
mounted_again() {
  kill -9 "$(lf --json ps | jq -r ".[] | select(.Name == \"$1\") | .Pid")"
  wait_unmounted "$1"
  lf mount --container "$1" base "$WORK/mnt/$1" >/dev/null 2>"$WORK/remount.err" ||
    { cat "$WORK/remount.err" >&2; return 1; }
  echo "$WORK/mnt/$1"
}

mkdir "$WORK/tree"
make_tricky_tree "$WORK/tree"
gnu_tar "$WORK/tree.tar" "$WORK/tree"
lf import "$WORK/tree.tar" base >/dev/null

cat >"$WORK/writer.py" <<'END'
# Inserts rows, one transaction each, and prints a row's number once its commit was acknowledged.
import sqlite3, sys
db = sqlite3.connect(sys.argv[1], isolation_level=None)
db.execute('PRAGMA journal_mode=' + sys.argv[2])
db.execute('PRAGMA synchronous=FULL')
db.execute('CREATE TABLE IF NOT EXISTS t(id INTEGER PRIMARY KEY, text TEXT)')
n = db.execute('SELECT coalesce(max(id), 0) FROM t').fetchone()[0]
while True:
    n += 1
    db.execute('BEGIN')
    db.execute('INSERT INTO t VALUES(?, ?)', (n, str(n) * (n % 400)))
    if n % 7 == 0:
        db.execute('DELETE FROM t WHERE id = ?', (n - 5,))
    db.execute('COMMIT')
    print(n, flush=True)
END
cat >"$WORK/reader.py" <<'END'
# Every acknowledged row is there, and nothing is damaged.
import sqlite3, sys
db = sqlite3.connect(sys.argv[1])
assert db.execute('PRAGMA integrity_check').fetchone()[0] == 'ok', 'integrity_check'
last = max(int(line) for line in open(sys.argv[2]))
there = dict(db.execute('SELECT id, text FROM t'))
for n in range(1, last + 1):
    deleted = (n + 5) % 7 == 0 and n + 5 <= max(there)
    assert deleted or there.get(n) == str(n) * (n % 400), f'row {n} of {last}'
print(f'{last} rows')
END
# writer COMMAND...: in the background; its acknowledgements go to $WORK/acknowledged.
# killed_at LINES CONTAINER: waits for so many more of them and mounts again.
killed_at() {
  local wanted=$(($(wc -l <"$WORK/acknowledged") + $1)) pid=$2
  while [ "$(wc -l <"$WORK/acknowledged")" -lt $wanted ]; do
    kill -0 "$pid" 2>/dev/null || fail "the writer ended: $(tail -n 3 "$WORK/acknowledged" "$WORK/writer.err")"
    sleep 0.05
  done
  root=$(mounted_again "$3")
  wait "$pid" && fail "the writer did not notice" || true
}

for mode in WAL DELETE; do
  step "SQLite, journal_mode=$mode: the daemon dies three times"
  root=$(mount_container base "sqlite-$mode")
  : >"$WORK/acknowledged"
  for lines in 30 60 45; do
    python3 "$WORK/writer.py" "$root/data.db" $mode >>"$WORK/acknowledged" 2>"$WORK/writer.err" &
    killed_at $lines $! "sqlite-$mode"
    python3 "$WORK/reader.py" "$root/data.db" "$WORK/acknowledged"
  done
  lf umount "sqlite-$mode"
done

step "git: commits while the daemon dies, an interrupted clone"
export GIT_CONFIG_GLOBAL=$WORK/gitconfig GIT_CONFIG_NOSYSTEM=1
cat >"$GIT_CONFIG_GLOBAL" <<'END'
[user]
  name = n
  email = e@example.org
[core]
  fsync = all
[gc]
  auto = 0
END
root=$(mount_container base git)
git init -q -b main "$root/repo"
: >"$WORK/acknowledged"
commit_for_ever() {
  local n
  for ((n = 0; ; n++)); do
    seq $RANDOM 9 $((n + 40000)) >"$root/repo/file$((n % 5))" && git -C "$root/repo" add . &&
      git -C "$root/repo" commit -qm "commit $n" && git -C "$root/repo" rev-parse HEAD || return
  done
}
for lines in 5 9; do
  # A lock that a dead git left is the user's to remove.
  rm -f "$root"/repo/.git/*.lock "$root"/repo/.git/refs/heads/*.lock
  commit_for_ever >>"$WORK/acknowledged" 2>"$WORK/writer.err" &
  killed_at $lines $! git
  git -C "$root/repo" fsck --full --strict 2>&1 | grep -v '^dangling' || true
  git -C "$root/repo" fsck --full --strict >/dev/null 2>&1 || fail "git fsck"
  while read -r commit; do
    git -C "$root/repo" merge-base --is-ancestor "$commit" main || fail "commit $commit is lost"
  done <"$WORK/acknowledged"
done
rm -f "$root"/repo/.git/*.lock "$root"/repo/.git/refs/heads/*.lock
head -c 30000000 /dev/urandom >"$root/repo/large"
git -C "$root/repo" add . && git -C "$root/repo" commit -qm large
cp -a "$root/repo" "$WORK/repo"
git clone -q --no-local "$WORK/repo" "$root/clone" >/dev/null 2>&1 &
pid=$!
while [ -z "$(find "$root/clone" -name 'tmp_pack*' -size +1M 2>/dev/null)" ] &&
  kill -0 $pid 2>/dev/null; do sleep 0.02; done
root=$(mounted_again git)
wait $pid || true
git -C "$root/repo" fsck --full --strict >/dev/null 2>&1 || fail "git fsck of the origin"
rm -rf "$root/clone"
git clone -q --no-local "$WORK/repo" "$root/clone"
git -C "$root/clone" fsck --full --strict >/dev/null 2>&1 || fail "git fsck of the clone"
lf umount git

step "dpkg: the daemon dies while packages are unpacked"
mkdir -p "$WORK/package/DEBIAN" "$WORK/package/usr/share/demo"
printf 'Package: demo\nVersion: %s\nArchitecture: all\nMaintainer: Nobody <n@example.org>\nDescription: d\n' 1 \
  >"$WORK/package/DEBIAN/control"
for i in $(seq 1 400); do seq $i $((i + 300)) >"$WORK/package/usr/share/demo/file$i"; done
dpkg-deb --root-owner-group -Znone --build "$WORK/package" "$WORK/demo.deb" >/dev/null
root=$(mount_container base dpkg)
mkdir -p "$root"/var/lib/dpkg/{info,updates,triggers} "$root/usr/share"
: >"$root/var/lib/dpkg/status"
: >"$root/var/lib/dpkg/available"
dpkg_into() { dpkg --force-all --log=/dev/null --root="$root" "$@"; }
for round in 1 2 3; do
  dpkg_into -i "$WORK/demo.deb" >/dev/null 2>&1 &
  pid=$!
  while [ ! -e "$root/usr/share/demo/file$((round * 100)).dpkg-new" ] &&
    kill -0 $pid 2>/dev/null; do sleep 0.01; done
  root=$(mounted_again dpkg)
  wait $pid || true
  rm -f "$root/var/lib/dpkg/lock" "$root/var/lib/dpkg/lock-frontend"
  dpkg_into --audit >/dev/null
done
dpkg_into -i "$WORK/demo.deb" >/dev/null 2>&1
assert_eq "$(dpkg_into --audit)" "" "dpkg --audit"
assert_eq "$(dpkg_into --verify demo)" "" "dpkg --verify"
assert_same_trees "$WORK/package/usr/share/demo" "$root/usr/share/demo" --no-mtimes --no-owners
lf umount dpkg

step "rsync -aHAX --checksum, out of a mount and into one"
root=$(mount_container base copies)
same_by_rsync() {  # FROM TO
  local differences
  differences=$(rsync -aHAXn --numeric-ids --delete --itemize-changes --checksum "$1/" "$2/")
  assert_eq "$differences" "" "rsync finds differences between $1 and $2"
}
rsync -aHAXS --numeric-ids --checksum "$root/" "$WORK/out/"
gnu_untar "$WORK/tree.tar" "$WORK/imported"  # GNU tar forgets that two fifos are one
same_by_rsync "$WORK/imported" "$WORK/out"
mkdir "$root/in"
rsync -aHAXS --numeric-ids --checksum "$WORK/tree/" "$root/in/"
lf umount copies
root=$(mount_container base copies)
same_by_rsync "$WORK/tree" "$root/in"
assert_same_trees "$WORK/tree" "$root/in"

step "tar with attributes and ACLs, out of a mount and into one"
mkdir "$WORK/unpacked" "$root/unpacked"
tar --xattrs --xattrs-include='*' --acls --numeric-owner --sparse -C "$root/in" \
  -cf "$WORK/from-mount.tar" .
for target in "$WORK/unpacked" "$root/unpacked"; do
  tar --xattrs --xattrs-include='*' --acls --numeric-owner --same-owner --same-permissions \
    -C "$target" -xf "$WORK/from-mount.tar" 2>"$WORK/tar.err" || { cat "$WORK/tar.err"; fail "tar"; }
done
lf umount copies
root=$(mount_container base copies)
assert_same_trees "$WORK/unpacked" "$root/unpacked"
tar --xattrs --xattrs-include='*' --acls --numeric-owner --sparse -C "$WORK/tree" -cf - . |
  { mkdir "$WORK/from-host" && tar --xattrs --xattrs-include='*' --acls --numeric-owner \
    --same-owner --same-permissions -C "$WORK/from-host" -xf - 2>/dev/null; }
assert_same_trees "$WORK/from-host" "$WORK/unpacked"
lf umount copies
