// SPDX-License-Identifier: Apache-2.0
#include "layerdb/store/recompress.h"

#include <vector>

#include "layerdb/base/coding.h"
#include "layerdb/store/chunk_store.h"
#include "layerdb/store/group_writer.h"
#include "layerdb/store/maintenance.h"

namespace layerfs {
namespace {

constexpr std::string_view kOptimizedKey = "optimized";
constexpr size_t kNumbersAtOnce = 4096;

Result<GroupId> optimized_through(Database& database) {
  std::optional<std::string> record = TRY(database.get(Family::meta, kOptimizedKey));
  if (!record) return 0;
  Reader in(*record);
  GroupId through = in.u64();
  if (!in.done()) return Error{EUCLEAN, "the record of what was optimized is damaged"};
  return through;
}

class Recompression {
 public:
  Recompression(Store& store, const RecompressOptions& options, GroupId done, GroupId last)
      : database_(store.database()),
        options_(options),
        done_(done),
        last_(last),
        read_([&store](GroupId group) { return store.chunks().read_group(group); }),
        writer_(database_, done + 1, read_,
                {kOptimizedLevel, kOptimizedLimits, /*recompress=*/true}) {}

  Status run() {
    while (!cancelled()) {
      std::vector<GroupId> numbers = TRY(next_numbers());
      if (numbers.empty()) break;
      for (GroupId number : numbers) {
        if (cancelled()) break;
        TRY(add(number));
        // The writer knows the bases of so many groups that are not ingested (similarity.cc).
        if (batch_bytes_ >= options_.batch_bytes || ++batch_groups_ == kTableChunks)
          TRY(finish_batch());
        if (options_.progress) options_.progress(number, last_, "groups");
      }
    }
    TRY(finish_batch());
    if (cancelled()) return Error{ECANCELED, "stopped; the next `layerfs optimize` goes on here"};
    return {};
  }

  uint64_t groups() const { return groups_; }

 private:
  bool cancelled() const { return options_.cancelled != nullptr && *options_.cancelled; }

  // An iterator would keep the files that are replaced meanwhile: a few numbers at a time.
  Result<std::vector<GroupId>> next_numbers() {
    std::vector<GroupId> numbers;
    auto it = database_.iterate(Family::groups);
    for (it->Seek(be64(writer_.next_number())); it->Valid() && numbers.size() < kNumbersAtOnce;
         it->Next()) {
      if (it->key().size() != 8) return Error{EUCLEAN, "groups has a key of the wrong length"};
      numbers.push_back(decode_be64(it->key().data()));
    }
    if (!it->status().ok()) return rocksdb_error(it->status(), "list groups");
    return numbers;
  }

  Status add(GroupId number) {
    while (writer_.next_number() < number) TRY(writer_.submit(nullptr, {}));
    Result<GroupBytes> raw = read_(number);
    if (!raw.ok() && raw.error().code == EUCLEAN) return writer_.submit(nullptr, {});
    GroupBytes bytes = TRY(std::move(raw));
    batch_bytes_ += bytes->size();
    ++groups_;
    return writer_.submit(std::move(bytes), {});
  }

  Status finish_batch() {
    GroupId through = writer_.next_number() - 1;
    if (through <= done_) return {};
    TRY(writer_.flush());
    TRY(database_.flush({Family::similar}));
    rocksdb::WriteBatch batch;
    std::string record;
    put_u64(record, through);
    batch.Put(database_.handle(Family::meta),
              rocksdb::Slice(kOptimizedKey.data(), kOptimizedKey.size()), record);
    TRY(database_.write(batch));
    TRY(database_.flush({Family::meta}));
    TRY(compact_groups(database_, {done_ + 1, through}));
    done_ = through;
    batch_bytes_ = batch_groups_ = 0;
    return {};
  }

  Database& database_;
  const RecompressOptions& options_;
  GroupId done_;
  const GroupId last_;
  const ReadBase read_;
  GroupWriter writer_;
  uint64_t batch_bytes_ = 0;
  uint64_t batch_groups_ = 0;
  uint64_t groups_ = 0;
};

}  // namespace

Result<RecompressResult> recompress_groups(Store& store, const RecompressOptions& options) {
  Database& database = store.database();
  if (database.read_only()) return Error{EROFS, "the store is open for reading only"};
  RecompressResult result;
  TRY(compact_groups(database, {0, UINT64_MAX}));  // what a killed run left
  result.bytes_before = group_file_bytes(database);
  GroupId done = TRY(optimized_through(database));
  GroupId last = TRY(database.last_number(Family::groups));
  Recompression recompression(store, options, done, last);
  TRY(recompression.run());
  result.groups = recompression.groups();
  result.bytes_after = group_file_bytes(database);
  return result;
}

}  // namespace layerfs
