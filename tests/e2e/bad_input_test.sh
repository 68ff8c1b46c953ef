#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# Input that is damaged, hostile or not what it says gets a sentence and a non-zero status; the
# store holds what it held before and passes fsck (`refuses` checks all of that every time).
source "$(dirname "$0")/lib.sh"
require_root

# Every input is tried, whatever became of those before it.
failures=0
fail() { echo "FAIL: $*"; failures=$((failures + 1)); }

mkdir -p "$WORK/in"
make_shell_rootfs "$WORK/tree"
head -c 300000 /dev/urandom >"$WORK/tree/data/random"
tar -C "$WORK/tree" -cf "$WORK/good.tar" .
lf import "$WORK/good.tar" good >/dev/null
store_before=$(store_state)
umoci init --layout "$WORK/oci"
umoci new --image "$WORK/oci:good"
# Its layer is none that the store has: one it has is not read.
tar -C "$WORK/tree" -cf "$WORK/layer.tar" bin data etc
umoci raw add-layer --image "$WORK/oci:good" "$WORK/layer.tar"
size=$(stat -c %s "$WORK/good.tar")

# entries FILE PYTHON: a tar written by Python's tarfile; `add(name, **fields)` adds an entry.
entries() {
  python3 - "$1" <<END
import io, sys, tarfile
archive = tarfile.open(sys.argv[1], "w", format=tarfile.PAX_FORMAT)
def add(name, data=b"", **fields):
    info = tarfile.TarInfo(name)
    info.size = len(data)
    for field, value in fields.items():
        setattr(info, field, value)
    archive.addfile(info, io.BytesIO(data))
$2
archive.close()
END
}
bad() {  # REGEX NAME PYTHON
  entries "$WORK/in/$2.tar" "$3"
  refuses "$1" lf import "$WORK/in/$2.tar" bad
}

step "no tar at all"
: >"$WORK/in/empty"
refuses 'empty|not a|no entries|unrecogni' lf import "$WORK/in/empty" bad
head -c 100000 /dev/urandom >"$WORK/in/noise"
refuses 'not|unrecogni|damaged|format' lf import "$WORK/in/noise" bad
seq 1 10000 >"$WORK/in/text"
refuses 'not|unrecogni|damaged|format' lf import "$WORK/in/text" bad
refuses 'no such|exist|cannot' lf import "$WORK/in/nowhere.tar" bad
refuses 'empty|not|neither' lf import /dev/null bad
mkdir "$WORK/in/zip"
printf 'PK\003\004' >"$WORK/in/unknown.zip"
head -c 5000 /dev/urandom >>"$WORK/in/unknown.zip"
refuses '.' lf import "$WORK/in/unknown.zip" bad

step "truncated"
for bytes in 1 100 511 512 5000 $((size / 2)) $((size - size / 10)); do
  head -c "$bytes" "$WORK/good.tar" >"$WORK/in/truncated.tar"
  refuses 'truncat|end|short|damaged|not' lf import "$WORK/in/truncated.tar" bad
done
for compressor in gzip xz zstd bzip2; do
  $compressor -c "$WORK/good.tar" >"$WORK/in/whole.$compressor"
  head -c $(($(stat -c %s "$WORK/in/whole.$compressor") / 2)) "$WORK/in/whole.$compressor" \
    >"$WORK/in/half.$compressor"
  refuses '.' lf import "$WORK/in/half.$compressor" bad
  refuses '.' lf import - bad <"$WORK/in/half.$compressor"
done

step "bit flips in a header and in compressed data"
flip() { # FILE OFFSET
  python3 -c 'import sys
f = open(sys.argv[1], "r+b"); f.seek(int(sys.argv[2])); b = f.read(1)[0] ^ 0x20
f.seek(int(sys.argv[2])); f.write(bytes([b]))' "$1" "$2"
}
cp "$WORK/good.tar" "$WORK/in/flipped.tar"
flip "$WORK/in/flipped.tar" 110
refuses 'checksum|damaged|header|not|unrecogni' lf import "$WORK/in/flipped.tar" bad
for compressor in gzip xz zstd bzip2; do
  flip "$WORK/in/whole.$compressor" $(($(stat -c %s "$WORK/in/whole.$compressor") / 2))
  refuses '.' lf import "$WORK/in/whole.$compressor" bad
done

step "hostile entries"
bad '\.\.' dotdot 'add("a/../../etc/passwd", b"x")'
bad '\.\.' dotdot-first 'add("../escape", b"x")'
bad '\.\.' dotdot-link 'add("a", b"x"); add("b", type=tarfile.LNKTYPE, linkname="../../a")'
bad 'symlink|symbolic|not a directory' below-symlink \
  'add("dir", type=tarfile.SYMTYPE, linkname="/tmp"); add("dir/file", b"x")'
bad 'not a directory' below-file 'add("file", b"x"); add("file/child", b"y")'
bad 'link' link-to-nothing 'add("b", type=tarfile.LNKTYPE, linkname="nothing")'
bad 'link' link-to-itself 'add("b", type=tarfile.LNKTYPE, linkname="b")'
bad 'director' link-to-directory \
  'add("d", type=tarfile.DIRTYPE); add("b", type=tarfile.LNKTYPE, linkname="d")'
bad 'long' long-name 'add("n" * 256, b"x")'
bad 'deep|long' too-deep 'add("d/" * 5000 + "f", b"x")'
bad '.' nul-in-name 'add("x", pax_headers={"path": "a\0b"})'
bad 'truncat|size|end|large' gigantic-size \
  'add("big", b""); info = tarfile.TarInfo("huge"); info.size = 1 << 62; archive.fileobj.write(info.tobuf(tarfile.GNU_FORMAT)); archive.offset += 512'
bad '.' hole-outside 'add("f", b"1\n99999999999999\n100\n".ljust(512, b"\0") + b"x" * 100, pax_headers={"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.realsize": "10", "GNU.sparse.name": "f"})'
bad 'root|director' root-is-a-file 'add(".", b"x")'
bad 'whiteout|\.wh\.' whiteout-of-nothing 'add("d/.wh.", b"")'
bad 'xattr|attribute' gigantic-xattr 'add("f", b"x", pax_headers={"SCHILY.xattr.user.big": "x" * 100000})'

step "odd, and accepted as every tar program does"
entries "$WORK/in/odd.tar" '
add("/absolute/file", b"stays inside")
add("twice", b"first"); add("twice", b"second")
add("d", type=tarfile.DIRTYPE, mode=0o700); add("d/kept", b"k"); add("d", type=tarfile.DIRTYPE, mode=0o755)
add("was-directory/child", b"c"); add("was-directory", b"now a file")
add("outside", type=tarfile.SYMTYPE, linkname="../../../../etc/passwd")
add("./self/./file", b"s")
add("implicit/parents/of/a", b"a")
'
lf import "$WORK/in/odd.tar" odd >/dev/null
if [ -w /dev/fuse ]; then
  root=$(mount_container odd odd)
  assert_eq "$(cat "$root/absolute/file")" "stays inside" "an absolute path"
  assert_eq "$(cat "$root/twice")" second "the later of two entries"
  assert_eq "$(cat "$root/d/kept")" k "a directory twice"
  assert_eq "$(stat -c %a "$root/d")" 755 "a directory twice"
  assert_eq "$(cat "$root/was-directory")" "now a file" "a file over a directory"
  assert_eq "$(readlink "$root/outside")" ../../../../etc/passwd "a link that points outside"
  assert_eq "$(cat "$root/self/file" "$root/implicit/parents/of/a")" sa "odd paths"
  lf umount odd
fi
store_before=$(store_state)

step "OCI layouts"
blob() { echo "$1/blobs/sha256/$(jq -r "$2" "$3" | sed s/sha256://)"; }
layout() {  # a fresh copy in $WORK/in/oci: $manifest, $config and $layer are its blobs' paths
  rm -rf "$WORK/in/oci"
  cp -a "$WORK/oci" "$WORK/in/oci"
  manifest=$(blob "$WORK/in/oci" '.manifests[0].digest' "$WORK/in/oci/index.json")
  config=$(blob "$WORK/in/oci" .config.digest "$manifest")
  layer=$(blob "$WORK/in/oci" '.layers[0].digest' "$manifest")
}
# Puts changed bytes under a new digest and into the one who names it.
rewrite_manifest() {  # JQ_FILTER
  jq -c "$1" "$manifest" >"$WORK/in/manifest"
  local digest
  digest=$(sha256sum <"$WORK/in/manifest" | cut -d' ' -f1)
  cp "$WORK/in/manifest" "$WORK/in/oci/blobs/sha256/$digest"
  jq -c ".manifests[0].digest = \"sha256:$digest\" | .manifests[0].size = $(stat -c %s "$WORK/in/manifest")" \
    "$WORK/in/oci/index.json" >"$WORK/in/index"
  cp "$WORK/in/index" "$WORK/in/oci/index.json"
}
layout; rm "$layer"; refuses 'blob|no such|missing' lf import "$WORK/in/oci" bad
layout; rm "$config"; refuses 'blob|no such|missing' lf import "$WORK/in/oci" bad
layout; rm "$manifest"; refuses 'blob|no such|missing' lf import "$WORK/in/oci" bad
layout; rm "$WORK/in/oci/index.json"; refuses 'index.json|not|neither' lf import "$WORK/in/oci" bad
layout; flip "$layer" 5000; refuses 'digest|sha256|damaged|truncated|compress' lf import "$WORK/in/oci" bad
layout; flip "$config" 5; refuses 'digest|sha256' lf import "$WORK/in/oci" bad
layout; flip "$manifest" 5; refuses 'digest|sha256' lf import "$WORK/in/oci" bad
layout; truncate -s 3000 "$layer"; refuses '.' lf import "$WORK/in/oci" bad
layout; echo extra >>"$layer"; refuses 'digest|sha256|size' lf import "$WORK/in/oci" bad
layout; echo '{"schemaVersion":2' >"$WORK/in/oci/index.json"; refuses 'json|index' lf import "$WORK/in/oci" bad
layout; echo '{"schemaVersion":2,"manifests":[]}' >"$WORK/in/oci/index.json"
refuses 'no image|manifest' lf import "$WORK/in/oci" bad
layout; echo '{"schemaVersion":2,"manifests":[{"digest":"sha256:../../../etc/passwd"}]}' >"$WORK/in/oci/index.json"
refuses 'digest' lf import "$WORK/in/oci" bad
layout; echo '{"schemaVersion":2,"manifests":17}' >"$WORK/in/oci/index.json"
refuses 'index|manifest' lf import "$WORK/in/oci" bad
layout
base64 "$layer" >"$WORK/in/encoded"
digest=$(sha256sum <"$WORK/in/encoded" | cut -d' ' -f1)
cp "$WORK/in/encoded" "$WORK/in/oci/blobs/sha256/$digest"
rewrite_manifest ".layers[0].mediaType = \"application/vnd.example.base64\" |
  .layers[0].digest = \"sha256:$digest\" | .layers[0].size = $(stat -c %s "$WORK/in/encoded")"
refuses 'media ?type|unknown|compress|not a tar|layer' lf import "$WORK/in/oci" bad
layout; rewrite_manifest '.layers = []'; refuses 'layer' lf import "$WORK/in/oci" bad
layout; rewrite_manifest '.layers += .layers'; refuses 'layer|diff' lf import "$WORK/in/oci" bad
layout; rewrite_manifest '.config = "none"'; refuses 'config' lf import "$WORK/in/oci" bad
# A layer whose bytes are what its blob digest says, but not what the config's diffID says.
layout
tar -C "$WORK/tree" -czf "$WORK/in/other.tar.gz" etc
digest=$(sha256sum <"$WORK/in/other.tar.gz" | cut -d' ' -f1)
cp "$WORK/in/other.tar.gz" "$WORK/in/oci/blobs/sha256/$digest"
rewrite_manifest ".layers[0].digest = \"sha256:$digest\" | .layers[0].size = $(stat -c %s "$WORK/in/other.tar.gz")"
refuses 'diff|digest' lf import "$WORK/in/oci" bad
tar -C "$WORK/oci" -cf "$WORK/in/oci.tar" .
head -c $(($(stat -c %s "$WORK/in/oci.tar") / 2)) "$WORK/in/oci.tar" >"$WORK/in/oci-half.tar"
refuses '.' lf import "$WORK/in/oci-half.tar" bad

step "docker-archives"
skopeo copy --quiet "oci:$WORK/oci:good" "docker-archive:$WORK/docker.tar:example:good"
mkdir "$WORK/in/docker"
tar -C "$WORK/in/docker" -xf "$WORK/docker.tar"
docker_bad() {  # REGEX: what $WORK/in/docker holds now
  tar -C "$WORK/in/docker" -cf "$WORK/in/docker.tar" .
  refuses "$1" lf import "$WORK/in/docker.tar" bad
}
cp "$WORK/in/docker/manifest.json" "$WORK/in/manifest.json"
jq -c '.[0].Layers += ["nowhere/layer.tar"]' "$WORK/in/manifest.json" >"$WORK/in/docker/manifest.json"
docker_bad 'layer|missing|nowhere'
jq -c '.[0].Config = "nowhere.json"' "$WORK/in/manifest.json" >"$WORK/in/docker/manifest.json"
docker_bad 'config|missing|nowhere'
echo '[{]' >"$WORK/in/docker/manifest.json"
docker_bad 'json|manifest'
echo '[]' >"$WORK/in/docker/manifest.json"
docker_bad 'no image|manifest'
cp "$WORK/in/manifest.json" "$WORK/in/docker/manifest.json"
layer=$WORK/in/docker/$(jq -r '.[0].Layers[0]' "$WORK/in/manifest.json")
layer=$(realpath "$layer")
flip "$layer" 700
docker_bad 'damaged|digest'

step "command lines"
for arguments in 'nonsense' 'import' 'mount good' 'tag good' 'export good' 'mount --container / good /mnt' \
  'import good.tar UPPER/Case' 'tag good a:b:c:d' 'inspect nothing' 'history nothing' 'diff nothing' \
  'commit nothing x' 'export nothing -o /dev/null' 'export good -o /nonexistent/directory/out.tar' \
  'rmi sha256:00'; do
  # shellcheck disable=SC2086 -- they are words
  refuses '.' lf $arguments
done
[ $failures -eq 0 ]
