// SPDX-License-Identifier: Apache-2.0
//
// Garbage collection: what no image and no container needs goes, and its space comes back.
// Roots: every image record (tagged or not), and the chain of every container, mounted or not.
// A group stays, too, while one that stays names it as a base.
//
// The caller has the store open for writing (store.lock); the containers lock is taken for the
// whole run, so nothing can start to use what is going. Order: catalog records (published), then
// index entries, groups, objects: a kill at any point leaves a whole store and the rest to the next
// run. Mounts keep what they have open. Groups come back by table files (store/maintenance.h), so
// `freed_bytes` can be less than the dead groups' bytes.
// Errors: EUCLEAN when a root leads to damage: then nothing was deleted (fsck says what is wrong).
#pragma once

#include <cstdint>

#include "layerdb/base/result.h"
#include "layerdb/store/store.h"

namespace layerfs {

struct GcResult {
  uint64_t layers = 0;  // records that no image or container has
  uint64_t chains = 0;
  uint64_t objects = 0;
  uint64_t object_bytes = 0;
  uint64_t groups = 0;
  uint64_t group_bytes = 0;
  uint64_t freed_bytes = 0;  // table files, before less after; 0 on a dry run
};

// `dry_run`: count only; the store may be open for reading.
Result<GcResult> collect_garbage(Store& store, bool dry_run);

}  // namespace layerfs
