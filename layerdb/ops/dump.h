// SPDX-License-Identifier: Apache-2.0
//
// Every on-disk structure as readable text, one fact a line, the same bytes always the same lines
// (format.md says what they mean). For people, bug reports and tests; it reads the records
// themselves, one by one, so that it still works where something is damaged: what does not decode
// is a line "damaged …" and the rest goes on. Names and values are quoted with \xNN escapes.
#pragma once

#include <functional>
#include <string>
#include <string_view>

#include "layerdb/base/result.h"
#include "layerdb/object/types.h"
#include "layerdb/store/store.h"

namespace layerfs {

using DumpLine = std::function<void(std::string_view line)>;

Status dump_catalog(Store& store, const DumpLine& line);  // every record, as stored
// ENOENT when there is no such thing.
Status dump_image(Store& store, const std::string& name, const DumpLine& line);
Status dump_layer(Store& store, const std::string& diff_id, const DumpLine& line);
Status dump_chain(Store& store, const std::string& chain_id, const DumpLine& line);
// An object: a tree page with everything below it (indented), or a file map.
Status dump_object(Store& store, ObjectId id, const DumpLine& line);
Status dump_objects(Store& store, const DumpLine& line);  // number, kind, bytes of each
Status dump_group(Store& store, GroupId number, const DumpLine& line);  // header and its chunks
Status dump_groups(Store& store, const DumpLine& line);                 // headers
Status dump_chunk_index(Store& store, const DumpLine& line);
Status dump_similar(Store& store, const DumpLine& line);  // features, each with its group
Status dump_reads(Store& store, const DumpLine& line);    // the history of reads, a run a line
Status dump_copies(Store& store, const DumpLine& line);   // of groups: number, bytes, place
Status dump_container(Store& store, const std::string& name, const DumpLine& line);

}  // namespace layerfs
