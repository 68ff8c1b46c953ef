#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# The comparison's report: losses and missed targets are named, nothing is left out. (The comparison
# itself takes hours and a quiet machine.)
source "$(dirname "$0")/lib.sh"

BENCH=$(realpath "$E2E/../../bench")
[ "$("$BENCH/compare" --list | grep -cx 'find -ls warm\|create 10,000\|20 containers')" = 3 ] ||
  fail "bench/compare --list lacks work"

cat >"$WORK/compare.json" <<'JSON'
{"machine": "two cores", "peers": ["native", "overlayfs", "fuse-overlayfs", "layerfs"],
 "versions": {}, "options": {}, "daemon": {},
 "times": {
  "find -ls warm": {"native": [1, 1, 5], "overlayfs": [1], "fuse-overlayfs": [4], "layerfs": [1.25]},
  "untar base": {"native": [1], "overlayfs": [2, 2, 2], "fuse-overlayfs": [4], "layerfs": [3]}},
 "values": {"20 containers: memory, MB": {"layerfs": [50]}},
 "messages": {"untar base": {"total": 7, "opcodes": [["LOOKUP", 4], ["MKNOD", 3]],
  "cpu_seconds": 1, "peak_rss_bytes": 5000000, "read_bytes": 2000000,
  "decompressed_bytes": 3000000, "compressed_read_bytes": 1000000}}}
JSON
PYTHONPATH=$BENCH python3 - "$WORK" <<'PYTHON'
import json, pathlib, sys
sys.dont_write_bytecode = True
from comparing import report
out = pathlib.Path(sys.argv[1])
report.write(json.loads((out / "compare.json").read_text()), out)
PYTHON
expect() { grep -Fxq -- "$1" "$WORK/compare.md" || fail "the report lacks '$1': $(cat "$WORK/compare.md")"; }
expect "| find -ls warm | 1.000 s ±200% | 1.000 s ±0% (1.00) | 4.000 s ±0% (4.00) | 1.250 s ±0% (1.25) |"
expect "- untar base: 1.50 × overlayfs"
expect "- find -ls warm: 1.25 × overlayfs"
expect "| untar base | overlayfs | 1 | 1.50 **missed** | 0.75 |"
expect "| find -ls warm | native | 1.3 | 1.25 | 0.31 |"
expect "| 20 containers: memory, MB | - | - | - | 50.00 |"
expect "| untar base | 7 | LOOKUP 4, MKNOD 3 | 1.00 | 5 | 2 | 1.50 | 0.50 |"
python3 -c 'import sys, xml.dom.minidom as x; x.parse(sys.argv[1])' "$WORK/compare.svg"
