#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# The rules that no compiler checks: which way includes may point, which folders may see RocksDB,
# libfuse and xxHash, file length, license lines. Prints every violation; exits 1 when there is one.
set -euo pipefail
cd "$(dirname "$0")/.."

violations=0
violation() { echo "$*"; violations=$((violations + 1)); }

# The folders that a folder may include, itself aside.
allowed() {
  case $1 in
    layerdb/base) echo ;;
    layerdb/object) echo layerdb/base ;;
    layerdb/store) echo layerdb/base layerdb/object ;;
    layerdb/view) echo layerdb/base layerdb/object layerdb/store ;;
    layerdb/upper) echo layerdb/base layerdb/object ;;
    layerdb/ops) echo layerdb/base layerdb/object layerdb/store layerdb/view layerdb/upper ;;
    fuse/overlay) echo layerdb/base layerdb/object layerdb/view layerdb/upper ;;
    fuse) echo layerdb/base layerdb/object layerdb/store layerdb/view layerdb/upper \
      layerdb/ops/container.h fuse/overlay ;;
    tools | tests/* | bench) echo any ;;
    *) echo unknown ;;
  esac
}

# Where a file belongs: its folder, but fuse/overlay* is a library of its own.
home_of() {
  case $1 in
    fuse/overlay*) echo fuse/overlay ;;
    *) dirname "$1" ;;
  esac
}

check_includes() {
  local file=$1 home=$2 target permitted allow
  permitted=$(allowed "$home")
  if [ "$permitted" = unknown ]; then
    violation "$file: a folder that tests/layering.sh does not know"
    return
  fi
  while read -r target; do
    [ -e "$target" ] || { violation "$file: includes \"$target\", not a path from the root"; continue; }
    [ "$permitted" != any ] && [ "$(home_of "$target")" != "$home" ] || continue
    for allow in $permitted; do
      if [ "$target" = "$allow" ] || [ "$(home_of "$target")" = "$allow" ]; then continue 2; fi
    done
    violation "$file: must not include $target"
  done < <(sed -n 's/^ *# *include "\([^"]*\)".*/\1/p' "$file")
}

# confine REGEX WHAT FOLDER...: only these folders include headers that match.
confine() {
  local pattern=$1 what=$2 file folder
  shift 2
  while read -r file; do
    for folder in "$@" tests; do
      case $(home_of "$file") in "$folder" | tests/*) continue 2 ;; esac
    done
    violation "$file: includes $what, which belongs to $*"
  done < <(grep -lE "^ *# *include *<($pattern)" "${sources[@]}" || true)
}

mapfile -t sources < <(find layerdb fuse tools tests bench -name '*.cc' -o -name '*.h' 2>/dev/null | sort)
[ ${#sources[@]} -gt 0 ] || { echo "no sources found"; exit 1; }
for file in "${sources[@]}"; do
  check_includes "$file" "$(home_of "$file")"
  lines=$(wc -l <"$file")
  [ "$lines" -le 500 ] || violation "$file: $lines lines, 500 are the limit"
  head -n 2 "$file" | grep -q 'SPDX-License-Identifier: Apache-2.0' ||
    violation "$file: no license line"
done
confine 'rocksdb/' RocksDB layerdb/store layerdb/upper
confine '(linux/)?fuse' libfuse fuse
confine 'xxhash' xxHash layerdb/base
confine 'nettle/' nettle layerdb/base
confine 'archive' libarchive layerdb/ops

echo "${#sources[@]} files, $violations violations"
[ $violations -eq 0 ]
