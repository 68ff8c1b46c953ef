#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# Layers leave as they came: whoever wrote the tar, the exported uncompressed layer has its SHA-256.
source "$(dirname "$0")/lib.sh"
require_root

# Prints the SHA-256 of every layer tar of an image, bottom first, as a docker-archive has them.
exported_layers() {
  local layer
  rm -rf "$WORK/exported"
  mkdir "$WORK/exported"
  lf export "$1" --format docker -o "$WORK/exported.tar"
  tar -C "$WORK/exported" -xf "$WORK/exported.tar"
  while read -r layer; do
    sha256sum <"$WORK/exported/$layer" | cut -d' ' -f1
  done < <(jq -r '.[0].Layers[]' "$WORK/exported/manifest.json")
}
check_tar() {  # WHAT TAR
  lf import "$2" "exact:$1" >/dev/null
  assert_eq "$(exported_layers "exact:$1")" "$(sha256sum <"$2" | cut -d' ' -f1)" "$1"
  echo "same: $1"
}
check_layers() {  # WHAT IMAGE_LAYOUT:TAG
  skopeo copy --quiet "oci:$2" "oci-archive:$WORK/$1.tar"
  lf import "$WORK/$1.tar" "exact:$1" >/dev/null
  assert_eq "$(exported_layers "exact:$1")" \
    "$(skopeo inspect --config "oci:$2" | jq -r '.rootfs.diff_ids[] | sub("sha256:"; "")')" "$1"
  echo "same: $1"
}

make_tricky_tree "$WORK/tree"
plain=$WORK/plain  # for formats that cannot hold everything
mkdir "$plain"
cp -a "$WORK/tree/etc" "$WORK/tree/links" "$WORK/tree/modes" "$plain"
rm "$plain/links/long-target"

step "GNU tar"
tar --format=gnu -C "$WORK/tree" -cf "$WORK/gnu.tar" . 2>/dev/null
check_tar gnu "$WORK/gnu.tar"
tar --format=gnu --sparse -C "$WORK/tree" -cf "$WORK/gnu-sparse.tar" . 2>/dev/null
check_tar gnu-sparse "$WORK/gnu-sparse.tar"
tar --format=oldgnu -C "$plain" -cf "$WORK/oldgnu.tar" .
check_tar oldgnu "$WORK/oldgnu.tar"
tar --format=pax -C "$WORK/tree" -cf "$WORK/pax.tar" .
check_tar pax "$WORK/pax.tar"
gnu_tar "$WORK/pax-all.tar" "$WORK/tree"
check_tar pax-sparse-xattrs "$WORK/pax-all.tar"
for version in 0.0 0.1 1.0; do
  tar --format=pax --sparse --sparse-version=$version -C "$WORK/tree" -cf "$WORK/sparse.tar" sparse
  check_tar "pax-sparse-$version" "$WORK/sparse.tar"
done
tar --format=ustar -C "$plain" -cf "$WORK/ustar.tar" .
check_tar ustar "$WORK/ustar.tar"
tar --format=v7 -C "$plain" -cf "$WORK/v7.tar" .
check_tar v7 "$WORK/v7.tar"
tar --format=pax --pax-option='globexthdr.name=%p,comment:=of the whole archive' \
  -C "$plain" -cf "$WORK/global.tar" .
check_tar pax-global-header "$WORK/global.tar"
tar --acls --selinux --xattrs --format=posix -C "$WORK/tree" -cf "$WORK/acls.tar" xattrs
check_tar acls "$WORK/acls.tar"
tar -b 1 --format=gnu -C "$plain" -cf "$WORK/unpadded.tar" etc
check_tar "one-block-records" "$WORK/unpadded.tar"
{ cat "$WORK/unpadded.tar"; head -c 100000 /dev/zero; } >"$WORK/padded.tar"
check_tar zeros-at-the-end "$WORK/padded.tar"

step "bsdtar"
for format in pax ustar gnutar; do
  tree=$plain
  [ $format != pax ] || tree=$WORK/tree
  bsdtar --format=$format -C "$tree" -cf "$WORK/bsd.tar" .
  check_tar bsdtar-$format "$WORK/bsd.tar"
done

step "Python's tarfile"
for format in USTAR GNU PAX; do
  python3 - "$WORK/python.tar" "$plain" $format <<'END'
import sys, tarfile
with tarfile.open(sys.argv[1], "w", format=getattr(tarfile, sys.argv[3] + "_FORMAT")) as archive:
    archive.add(sys.argv[2], arcname="")
END
  check_tar "python-$format" "$WORK/python.tar"
done

step "a Debian root filesystem (mmdebstrap)"
check_tar debian "$(small_rootfs)"

step "umoci"
make_layered_image "$WORK/oci"
check_layers umoci "$WORK/oci:layered"

step "buildah"
buildah="buildah --root $WORK/buildah --runroot $WORK/buildah-run --storage-driver vfs"
container=$($buildah from scratch)
$buildah add --quiet "$container" "$plain" /plain >/dev/null
$buildah config --cmd /bin/sh "$container"
$buildah commit --quiet "$container" "oci:$WORK/from-buildah:one" >/dev/null
check_layers buildah "$WORK/from-buildah:one"
