# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
#
# Inputs for the end-to-end tests (sourced by lib.sh). Big ones are made once and kept in
# $ROOTFS_CACHE (default: the user's cache directory), outside the source tree.

ROOTFS_CACHE=${ROOTFS_CACHE:-${XDG_CACHE_HOME:-${HOME:-/root}/.cache}/layerfs-tests}

# The Debian release that fixtures are made of: this machine's when it is Debian.
debian_suite() {
  local ID='' VERSION_CODENAME=''
  [ ! -e /etc/os-release ] || . /etc/os-release
  if [ "$ID" = debian ] && [ -n "$VERSION_CODENAME" ]; then echo "$VERSION_CODENAME"; else echo bookworm; fi
}

# debian_rootfs NAME PACKAGES: prints the path of a root filesystem tar with these packages.
debian_rootfs() {
  local tar=$ROOTFS_CACHE/$1-$(debian_suite)-$(printf %s "$2" | cksum | cut -d' ' -f1).tar
  mkdir -p "$ROOTFS_CACHE"
  (
    flock 9
    # Without the lock's descriptor: mmdebstrap's own would get numbers of two digits, which dash
    # cannot redirect to.
    [ -s "$tar" ] || {
      mmdebstrap --variant=minbase --include="$2" --aptopt='Acquire::Retries "3"' \
        "$(debian_suite)" "$tar.part.tar" >"$tar.log" 2>&1 </dev/null 9>&- ||
        { cat "$tar.log" >&2; exit 1; }
      mv "$tar.part.tar" "$tar"
    }
  ) 9>"$ROOTFS_CACHE/lock"
  echo "$tar"
}
small_rootfs() { debian_rootfs small python3-minimal; }
big_rootfs() {
  [ -z "${LAYERFS_BIG_ROOTFS:-}" ] || { echo "$LAYERFS_BIG_ROOTFS"; return; }
  debian_rootfs big \
    build-essential,python3,python3-pip,nodejs,npm,default-jre-headless,git,postgresql,gcc
}

# A tree of a few hundred entries that has one of everything. Needs root.
make_tricky_tree() {
  local at=$1 long i
  long=$(printf 'n%.0s' {1..255})
  mkdir -p "$at"/{bin,etc,empty,links,special,sparse,names,times,owners,xattrs,modes}
  echo hello >"$at/etc/hello"
  head -c 3000000 /dev/urandom >"$at/bin/random"
  seq 1 700000 >"$at/bin/text"
  : >"$at/etc/empty-file"
  # Hard links in and across directories, to a symlink too.
  ln "$at/etc/hello" "$at/links/hello"
  ln "$at/etc/hello" "$at/empty-is-not"
  ln -s ../etc/hello "$at/links/soft"
  ln "$at/links/soft" "$at/links/soft-again"
  ln -s "/$(printf 'd/%.0s' {1..150})end" "$at/links/long-target"
  ln -s nowhere "$at/links/dangling"
  mknod "$at/special/null" c 1 3
  mknod "$at/special/big" b 259 1048575
  mkfifo "$at/special/fifo"
  ln "$at/special/fifo" "$at/special/fifo-again"
  truncate -s 64M "$at/sparse/hole-only"
  truncate -s 20M "$at/sparse/islands"
  for i in 0 5 11 19; do
    printf 'island %d' $i | dd of="$at/sparse/islands" bs=1M seek=$i conv=notrunc status=none
  done
  echo long >"$at/names/$long"
  echo bytes >"$at/names/"$'\xff\xfe-not-utf8-\x01'
  echo spaces >"$at/names/ two  spaces and
a newline"
  echo quote >"$at/names/back\\slash and 'quote\""
  echo wide >"$at/names/grüße-日本語"
  mkdir -p "$at/names/deep/$(printf 'directory-%d/' {1..40})"
  echo deep >"$at/names/deep/$(printf 'directory-%d/' {1..40})file"
  for i in $(seq 1 120); do echo "file $i" >"$at/modes/$i"; done
  chmod 4755 "$at/modes/1"; chmod 2755 "$at/modes/2"; chmod 0000 "$at/modes/3"
  chmod 1777 "$at/modes"; chmod 0500 "$at/empty"
  echo owned >"$at/owners/far"
  chown 3000000:4000000 "$at/owners/far"
  chown -h 12:34 "$at/links/dangling"
  chown 1000:1000 "$at/owners"
  echo attributes >"$at/xattrs/user"
  setfattr -n user.comment -v 'a value' "$at/xattrs/user"
  setfattr -n user.binary -v 0x00ff0a3d "$at/xattrs/user"
  setfattr -n user.empty "$at/xattrs/user"
  setfattr -n trusted.hidden -v root-only "$at/xattrs/user"
  setfattr -n user.on-directory -v yes "$at/xattrs"
  cp /bin/true "$at/xattrs/capable"
  setcap cap_net_raw+ep "$at/xattrs/capable"
  setfacl -m u:1234:rwx,g:99:r "$at/xattrs/user"
  setfacl -d -m u:1234:rx "$at/xattrs"
  echo old >"$at/times/before-1970"
  echo new >"$at/times/nanoseconds"
  touch -d '1960-02-03 04:05:06.789012345' "$at/times/before-1970"
  touch -d '2038-06-07 08:09:10.123456789' "$at/times/nanoseconds"
  touch -h -d '2001-02-03 04:05:06.000000007' "$at/links/soft"
  touch -d '2020-01-01 00:00:00.5' "$at/times"
}

# GNU tar with everything a tree has.
gnu_tar() {  # TAR DIRECTORY [OPTION...]
  tar --format=pax --xattrs --xattrs-include='*' --sparse --numeric-owner "${@:3}" \
    -C "$2" -cf "$1" .
}
gnu_untar() {  # TAR DIRECTORY
  mkdir -p "$2"
  tar --xattrs --xattrs-include='*' --numeric-owner --same-owner --same-permissions \
    -C "$2" -xf "$1"
}

# make_layered_image LAYOUT: an OCI layout with umoci, tag `layered`, whose layers delete, replace
# (a file by a directory and back, a link by a file) and hide each other's entries.
make_layered_image() {
  local layout=$1 bundle=$WORK/layered-bundle r
  umoci init --layout "$layout"
  umoci new --image "$layout:layered"
  umoci config --image "$layout:layered" --config.cmd /bin/sh --config.env A=b \
    --config.label org.example.key=value --config.workingdir /etc --config.user 1:2 \
    --config.volume /data
  umoci unpack --image "$layout:layered" "$bundle" 2>/dev/null
  r=$bundle/rootfs
  make_tricky_tree "$r"
  mkdir -p "$r"/{replaced,hidden/below,kept,opaque/sub}
  echo one >"$r/replaced/file-to-directory"
  mkdir "$r/replaced/directory-to-file"
  echo inside >"$r/replaced/directory-to-file/child"
  ln -s ../kept "$r/replaced/link-to-directory"
  echo gone >"$r/hidden/below/gone"
  echo stays >"$r/kept/stays"
  echo lower >"$r/opaque/lower"
  echo lower >"$r/opaque/sub/lower"
  umoci repack --image "$layout:layered" --refresh-bundle "$bundle" 2>/dev/null

  rm "$r/replaced/file-to-directory" "$r/replaced/link-to-directory" "$r/kept/stays"
  mkdir "$r/replaced/file-to-directory" "$r/replaced/link-to-directory"
  echo two >"$r/replaced/file-to-directory/child"
  rm -r "$r/replaced/directory-to-file" "$r/hidden" "$r/opaque"
  echo now-a-file >"$r/replaced/directory-to-file"
  mkdir -p "$r/opaque"
  echo upper >"$r/opaque/upper"
  rm "$r/links/hello"
  chmod 600 "$r/etc/hello"
  umoci repack --image "$layout:layered" --refresh-bundle "$bundle" 2>/dev/null

  rm -r "$r/replaced/file-to-directory"
  echo three >"$r/replaced/file-to-directory"
  rm "$r/replaced/directory-to-file"
  mkdir "$r/replaced/directory-to-file"
  echo back >"$r/kept/stays"
  mkdir "$r/hidden"
  echo other >"$r/hidden/new"
  chown 77:88 "$r/bin"
  setfattr -n user.later -v x "$r/etc/hello"
  umoci repack --image "$layout:layered" --refresh-bundle "$bundle" 2>/dev/null

  # An opaque directory, which umoci repack never writes itself.
  mkdir -p "$WORK/opaque-layer/opaque" "$WORK/opaque-layer/names"
  : >"$WORK/opaque-layer/opaque/.wh..wh..opq"
  echo fresh >"$WORK/opaque-layer/opaque/fresh"
  : >"$WORK/opaque-layer/names/.wh.deep"
  tar --numeric-owner --owner=0 --group=0 --format=pax -C "$WORK/opaque-layer" \
    -cf "$WORK/opaque-layer.tar" .
  umoci raw add-layer --image "$layout:layered" "$WORK/opaque-layer.tar"
  rm -rf "$bundle" "$WORK/opaque-layer"
}

# A directory with what a static container needs: one shell and its libraries.
make_shell_rootfs() {
  local at=$1 program library
  mkdir -p "$at"/{bin,etc,dev,proc,sys,tmp,run,var,root,data}
  ln -s ../proc/mounts "$at/etc/mtab"
  printf 'root:x:0:0::/root:/bin/sh\nnobody:x:65534:65534::/:/bin/sh\n' >"$at/etc/passwd"
  for program in sh cat ls id touch stat; do
    cp "$(command -v $program)" "$at/bin/$program"
    while read -r library; do
      mkdir -p "$at$(dirname "$library")"
      cp -L "$library" "$at$library"
    done < <(ldd "$at/bin/$program" | grep -o '/[^ ]*')
  done
  chmod 755 "$at"
}
