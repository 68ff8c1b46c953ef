// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "layerdb/store/recompress.h"
#include "tools/cli.h"
#include "tools/text.h"

namespace layerfs {
namespace {

Status run_optimize(const Globals& globals) {
  std::unique_ptr<Store> store = TRY(open_store_to_write(globals, WhenMissing::fail));
  RecompressOptions options;
  options.cancelled = cancelled_by_signal();
  RecompressResult result;
  {
    ProgressBar bar(globals);
    options.progress = bar.callback();
    result = TRY(recompress_groups(*store, options));
  }
  if (globals.json) {
    print_json({{"Groups", result.groups},
                {"BytesBefore", result.bytes_before},
                {"BytesAfter", result.bytes_after}});
  } else if (!globals.quiet) {
    print_line(fmt::format("{} groups recompressed: {} before, {} now", result.groups,
                           human_size(result.bytes_before), human_size(result.bytes_after)));
  }
  return {};
}

}  // namespace

void add_optimize(CommandLine& line) {
  line.add("Store", "optimize",
           "Compress what was imported since the last time again, slower and smaller",
           {"layerfs optimize"}, run_optimize);
}

}  // namespace layerfs
