#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# What layerfs exports is taken by skopeo, umoci, buildah and podman, and holds the committed change.
source "$(dirname "$0")/lib.sh"
in_private_namespace
require_fuse
only_cgroup2

make_shell_rootfs "$WORK/shell"
tar -C "$WORK/shell" --numeric-owner -cf "$WORK/shell.tar" .
lf import "$WORK/shell.tar" shell:base >/dev/null

step "change and commit"
root=$(mount_container shell:base work)
echo "committed" >"$root/data/new"
rm "$root/bin/stat"
mkdir "$root/data/directory"
ln "$root/data/new" "$root/data/directory/link"
lf commit -m "a change" --author "Some One" work shell:changed >/dev/null
lf umount work
gone=$WORK/expected
mkdir -p "$WORK/mnt/changed" "$gone"
lf mount --read-only shell:changed "$WORK/mnt/changed"
cp -a "$WORK/mnt/changed/." "$gone"
lf umount "$WORK/mnt/changed"
assert_missing "$gone/bin/stat"
assert_eq "$(cat "$gone/data/directory/link")" committed "the change in the committed image"

step "OCI directory, archive, docker-archive and tar, every compression"
for compression in none gzip zstd; do
  lf export shell:changed -o "$WORK/oci-$compression/" --compression $compression
  lf export shell:changed -o "$WORK/oci-$compression.tar" --compression $compression
done
lf export shell:changed -o "$WORK/docker.tar" --format docker
lf export shell:changed -o "$WORK/rootfs.tar" --format tar
lf export shell:changed -o - --format docker >"$WORK/docker-stdout.tar"
cmp "$WORK/docker.tar" "$WORK/docker-stdout.tar"
gnu_untar "$WORK/rootfs.tar" "$WORK/flat"
assert_same_trees "$gone" "$WORK/flat"

step "skopeo"
config=$(skopeo inspect --config "oci-archive:$WORK/oci-gzip.tar")
assert_eq "$(jq -r '.rootfs.diff_ids | length' <<<"$config")" 2 "layers"
assert_match "$(jq -r '.history[-1] | .comment, .author' <<<"$config" | tr '\n' ' ')" \
  'a change.*Some One' "history"
for compression in none gzip zstd; do
  skopeo copy --quiet "oci:$WORK/oci-$compression" "dir:$WORK/dir-$compression"
  skopeo copy --quiet "oci-archive:$WORK/oci-$compression.tar" "oci:$WORK/copied:$compression"
done
skopeo copy --quiet "docker-archive:$WORK/docker.tar" "oci:$WORK/copied:docker"
skopeo inspect "docker-archive:$WORK/docker.tar" >/dev/null

step "umoci"
lf export shell:changed -o "$WORK/for-umoci/"
tag=$(jq -r '.manifests[0].annotations["org.opencontainers.image.ref.name"]' \
  "$WORK/for-umoci/index.json")
umoci unpack --image "$WORK/for-umoci:$tag" "$WORK/bundle" 2>/dev/null
assert_same_trees "$gone" "$WORK/bundle/rootfs"

step "what we exported, imported again: the same image"
id=$(lf --json inspect shell:changed | jq -r '.[0].Id')
for archive in oci-none.tar oci-gzip oci-zstd.tar docker.tar; do
  assert_eq "$(LAYERFS_ROOT=$WORK/second-store "$LAYERFS" import "$WORK/$archive")" "$id" "$archive"
done

step "a layer that was committed without hashing it: outside it has its tar's diffID"
big=$WORK/big
mkdir "$big"
truncate -s 100M "$big/file"
echo "end" >>"$big/file"
lf import "$big" big:1 >/dev/null
root=$(mount_container big:1 big)
echo "some bytes" | dd of="$root/file" bs=1 seek=50000000 conv=notrunc status=none
cp --sparse=always "$root/file" "$WORK/big-expected"
id=$(lf commit big big:2)
lf umount big
assert_eq "$(lf --json layers | jq -c "map(select(.Provisional).Images) | add")" "[\"$id\"]" \
  "images with a provisional layer"
lf export big:2 -o "$WORK/big-oci/"
umoci unpack --image "$WORK/big-oci:$(jq -r '.manifests[0].annotations["org.opencontainers.image.ref.name"]' \
  "$WORK/big-oci/index.json")" "$WORK/big-bundle" 2>/dev/null  # checks every diffID
cmp "$WORK/big-bundle/rootfs/file" "$WORK/big-expected"
outside=$(LAYERFS_ROOT=$WORK/second-store "$LAYERFS" import "$WORK/big-oci")
[[ $outside != "$id" ]] || fail "the id is the same outside"
assert_eq "$(lf import "$WORK/big-oci" big:3)" "$outside" "beside the image it came from"
root=$(mount_container big:3 again)
cmp "$root/file" "$WORK/big-expected"
lf umount again
root=$(mount_container big:2 bigger)
echo "more bytes" | dd of="$root/file" bs=1 seek=70000000 conv=notrunc status=none
cp --sparse=always "$root/file" "$WORK/bigger-expected"
lf export bigger -o "$WORK/bigger.tar" --format docker  # two such layers, one of them of a container
lf umount bigger
LAYERFS_ROOT=$WORK/second-store "$LAYERFS" import "$WORK/bigger.tar" bigger:1 >/dev/null
LAYERFS_ROOT=$WORK/second-store "$LAYERFS" export bigger:1 --format tar -o - | tar -C "$WORK" -xf - file
cmp "$WORK/file" "$WORK/bigger-expected"
LAYERFS_ROOT=$WORK/second-store "$LAYERFS" fsck

step "buildah and podman"
export CONTAINERS_STORAGE_CONF=$WORK/storage.conf
printf '[storage]\ndriver = "vfs"\ngraphroot = "%s"\nrunroot = "%s"\n' \
  "$WORK/containers" "$WORK/containers-run" >"$CONTAINERS_STORAGE_CONF"
container=$(buildah from --quiet "oci-archive:$WORK/oci-gzip.tar")
buildah_root=$(buildah mount "$container")
assert_eq "$(cat "$buildah_root/data/new")" committed "the change, in buildah"
buildah umount "$container" >/dev/null
podman="podman --cgroup-manager cgroupfs"
for archive in oci-gzip.tar docker.tar; do
  loaded=$($podman load --quiet -i "$WORK/$archive")
  loaded=${loaded##*: }
  assert_eq "$($podman run --rm --runtime crun --network none --cgroups=disabled $CONTAINER_LIMITS "$loaded" \
    /bin/sh -c 'cat /data/directory/link; ls /bin')" \
    "$(printf 'committed\n'; ls "$gone/bin")" "podman run of $archive"
done
