#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# What comes in by a tar, a directory, an OCI layout or a docker-archive shows on the mount exactly
# as GNU tar or umoci unpack it: every name, attribute and byte.
source "$(dirname "$0")/lib.sh"
require_root
require_fuse

mkdir -p "$WORK/mnt/look"
# compare_image EXPECTED_TREE IMAGE: on a read-only and on a writable mount.
compare_image() {
  lf mount --read-only "$2" "$WORK/mnt/look"
  assert_same_trees "$1" "$WORK/mnt/look"
  lf umount "$WORK/mnt/look"
  lf mount --container writable "$2" "$WORK/mnt/look"
  assert_same_trees "$1" "$WORK/mnt/look"
  assert_eq "$(lf diff writable)" "" "diff of a container that was only read"
  lf umount "$WORK/mnt/look"
  lf rm writable
}

step "a tree with one of everything, as a tar"
make_tricky_tree "$WORK/tree"
gnu_tar "$WORK/tricky.tar" "$WORK/tree"
gnu_untar "$WORK/tricky.tar" "$WORK/unpacked"
id=$(lf import "$WORK/tricky.tar" tricky)
assert_match "$id" '^(sha256:)?[0-9a-f]{64}$' "printed image id"
compare_image "$WORK/unpacked" tricky

step "the same compressed, from standard input, and again: nothing is stored twice"
layers_before=$(lf --json layers | jq -c "map(del(.Images))")
for compressor in gzip bzip2 xz zstd; do
  $compressor -c <"$WORK/tricky.tar" >"$WORK/tricky.$compressor"
  lf import "$WORK/tricky.$compressor" "tricky:$compressor" >/dev/null
done
lf import - tricky:stdin <"$WORK/tricky.tar" >/dev/null
lf import - tricky:stdin-gzip <"$WORK/tricky.gzip" >/dev/null
assert_eq "$(lf --json layers | jq length)" 1 "layers after importing one tar seven times"
assert_eq "$(lf --json layers | jq -c "map(del(.Images))")" "$layers_before" "the layer"
lf mount --read-only tricky:xz "$WORK/mnt/look"
assert_same_trees "$WORK/unpacked" "$WORK/mnt/look"
lf umount "$WORK/mnt/look"

step "a directory"
lf import "$WORK/tree" from-directory >/dev/null
compare_image "$WORK/tree" from-directory
rm -rf "$WORK/tree"

step "several layers that delete, replace and hide: OCI directory, OCI archive, docker-archive"
make_layered_image "$WORK/oci"
umoci unpack --image "$WORK/oci:layered" "$WORK/bundle" 2>/dev/null
lf import "$WORK/oci" >"$WORK/oci.id"
compare_image "$WORK/bundle/rootfs" "$(cat "$WORK/oci.id")"
tar -C "$WORK/oci" -cf "$WORK/oci.tar" .
lf import "$WORK/oci.tar" oci-archive >"$WORK/oci-archive.id"
assert_eq "$(cat "$WORK/oci-archive.id")" "$(cat "$WORK/oci.id")" "image id from the archive"
skopeo copy --quiet "oci:$WORK/oci:layered" "docker-archive:$WORK/docker.tar:example/docker:tag"
before=$(lf --json layers | jq length)
lf import "$WORK/docker.tar" >"$WORK/docker.id"
assert_eq "$(lf --json layers | jq length)" "$before" "layers, all of them known"
compare_image "$WORK/bundle/rootfs" docker.io/example/docker:tag

step "the image's configuration"
config=$(lf --json inspect docker.io/example/docker:tag)
for word in '"A=b"' '/bin/sh' 'org.example.key' '/data' '1:2'; do
  grep -qF -- "$word" <<<"$config" || fail "inspect does not show $word: $config"
done
assert_eq "$(lf --json history docker.io/example/docker:tag | jq length)" \
  "$(skopeo inspect --config "docker-archive:$WORK/docker.tar" | jq '.history | length')" "history"

step "a Debian root filesystem"
rootfs=$(small_rootfs)
gnu_untar "$rootfs" "$WORK/debian"
lf import "$rootfs" debian >/dev/null
compare_image "$WORK/debian" debian
