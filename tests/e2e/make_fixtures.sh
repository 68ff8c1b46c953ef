#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Makes the root filesystem that the end-to-end tests share, unless it is there from an earlier run.
set -euo pipefail
source "$(dirname "$0")/fixtures.sh"
ls -l "$(small_rootfs)"
