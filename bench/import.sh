#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# What importing a root filesystem costs, against compressing the same tar: wall time (synced to
# disk) as medians of five interleaved runs from a warm page cache, peak memory, bytes stored.
#   bench/import.sh LAYERFS ROOTFS.tar
set -euo pipefail
layerfs=$1
tar=$2
runs=5
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# timed NAME COMMAND…: appends "seconds kilobytes" to $work/NAME.
timed() {
  local name=$1
  shift
  local start end
  start=$(date +%s.%N)
  /usr/bin/env python3 -c '
import os, resource, subprocess, sys
status = subprocess.call(sys.argv[2:], stdout=subprocess.DEVNULL)
open(sys.argv[1], "a").write("%d " % resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
sys.exit(status)' "$work/$name" "$@"
  end=$(date +%s.%N)
  awk -v s="$start" -v e="$end" 'BEGIN { printf "%.3f\n", e - s }' >>"$work/$name"
}
median() { awk '{ print $2 }' "$work/$1" | sort -n | sed -n "$(((runs + 1) / 2))p"; }
peak_mib() { awk '$1 > m { m = $1 } END { printf "%d", m / 1024 }' "$work/$1"; }

cat "$tar" >/dev/null
for ((i = 0; i < runs; ++i)); do
  timed zstd zstd -3 -T1 -c "$tar"
  rm -rf "$work/store"
  timed import "$layerfs" --root "$work/store" --quiet import "$tar"
done
timed again "$layerfs" --root "$work/store" --quiet import "$tar"
stored=$(du -s --apparent-size -B1 "$work/store" | cut -f1)
import=$(median import)
zstd=$(median zstd)
echo "zstd -3 -T1      $zstd s"
echo "layerfs import   $import s  ($(awk "BEGIN { printf \"%.2f\", $import / $zstd }") of zstd's), peak $(peak_mib import) MiB"
echo "the same again   $(awk '{ print $2 }' "$work/again") s"
echo "tar $(stat -c %s "$tar") bytes, stored $stored bytes"
