// SPDX-License-Identifier: Apache-2.0
//
// Waiting for a container that another process has locked. Listing containers takes each lock for
// an instant, and a daemon whose mount is gone already (umount(8) does not wait for it) keeps it
// until everything is on disk: only a lock that stays taken while its mount is to be seen is a
// mount.
#pragma once

#include "layerdb/ops/container.h"

namespace layerfs {

// True: the lock was free a moment ago, or the container is gone. False: it is mounted, or
// `waited`, which goes on from call to call, has reached `patience`. Do not hold the containers
// lock.
Result<bool> wait_until_free(const Container& container, int& waited_milliseconds,
                             int patience_milliseconds);

}  // namespace layerfs
