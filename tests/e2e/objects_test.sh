#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# Every operation on objects of the image, of the upper and of both: the answers and what they leave
# behind are those of the filesystem below $WORK, at once and after remounting.
source "$(dirname "$0")/lib.sh"
require_root
require_fuse

mkdir "$WORK/truth"
"$E2E/objects.py" make "$WORK/truth"
lf import "$WORK/truth" img >/dev/null
M=$(mount_container img c)

step "every operation on every kind of object"
"$E2E/objects.py" run "$WORK/truth" "$M" >"$WORK/answers" ||
  { head -50 "$WORK/answers"; fail "answers differ"; }
cat "$WORK/answers"
assert_same_trees "$WORK/truth" "$M" --no-mtimes

step "the same after remounting, and committed"
lf umount c
lf commit c img:changed >/dev/null
M=$(mount_container img c)
assert_same_trees "$WORK/truth" "$M" --no-mtimes
lf umount c
M=$(mount_container img:changed d)
assert_same_trees "$WORK/truth" "$M" --no-mtimes
lf umount d
