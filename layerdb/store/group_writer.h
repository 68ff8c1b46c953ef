// SPDX-License-Identifier: Apache-2.0
//
// The writing half of the chunk store: a pipeline that takes full groups in order, compresses them
// on two threads (each finds a group's features, then in the order of the groups its bases, then
// compresses), writes the records in order to a table file on a third and, when the file has
// kTableBytes, ingests it and then writes the index entries of its groups. A group can be read
// back from here until both are done (is_indexed), then from the database.
//
// Both queues are bounded: submit() waits when compression or the disk falls behind, until there is
// room for some. What waits for compression is long enough to keep both threads busy while the
// caller builds trees, records that wait are enough to go on with while a table is synced. The
// first failure stays: submit() and flush() return it until discard(). Threads start with the first
// group. Numbers are consecutive; the same groups give the same records whatever the threads do.
//
// Recompressing (recompress.h) gives groups that exist a new record where that is smaller. What a
// group's record turns out to build on counts for the groups after it, so a group chooses its bases
// when the one before it has its record; what needs no bases is tried before that.
// Thread-safety: find() from any thread; everything else from the one writing thread.
#pragma once

#include <condition_variable>
#include <deque>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "layerdb/base/hash.h"
#include "layerdb/store/chunk_store.h"
#include "layerdb/store/database.h"
#include "layerdb/store/group_codec.h"
#include "layerdb/store/similarity.h"

namespace rocksdb {
class SstFileWriter;
}

namespace layerfs {

struct IndexEntry {
  Fingerprint fingerprint;
  uint32_t offset = 0;
  bool append = false;  // other chunks with this fingerprint are stored: keep their addresses
};

// An index record: addresses, one after the other.
void append_address(std::string& record, ChunkAddress address);
Result<std::vector<ChunkAddress>> decode_addresses(std::string_view record);

struct GroupSettings {
  int zstd_level = kImportLevel;
  BaseLimits limits;
  bool recompress = false;
};

class GroupWriter {
 public:
  using Bytes = GroupBytes;

  // `read` is called by the threads for bases, pending ones, too.
  GroupWriter(Database& database, GroupId first, ReadBase read, GroupSettings settings = {});
  ~GroupWriter();  // what is not ingested is dropped

  GroupId next_number() const { return next_submit_; }
  // Gives the group next_number(). Without bytes: that number gets no group.
  Status submit(Bytes raw, std::vector<IndexEntry> entries);
  Status flush();
  // Begins what flush() does and does not wait for it.
  void start_flush();
  // Drops what is not ingested and forgets a failure; the next group gets number `next`.
  void discard(GroupId next);

  // Index entries of all groups up to this number are in the database.
  GroupId indexed_through() const;
  uint64_t stored_bytes() const;  // records made so far

  struct Pending {
    Bytes raw;     // either: the decoded group,
    Bytes record;  // or its record
  };
  Pending find(GroupId number) const;  // neither: not pending (any more)

 private:
  struct Job {
    Bytes raw;
    Bytes record;
    std::vector<IndexEntry> entries;
  };

  struct Encoders {
    GroupEncoder given;  // the settings' level
    GroupEncoder quick;  // import's
  };

  void start();
  void stop();
  void compress_loop();
  Status compress_next(Encoders& encoders);
  Result<std::string> make_record(Encoders& encoders, GroupId number, const std::string& raw);
  Result<std::string> make_smaller_record(Encoders& encoders, GroupId number,
                                          const std::string& raw);
  Result<std::optional<std::string>> present_record(GroupId number);
  Status wait_to_choose(GroupId number);
  void chosen();
  Result<GroupBases> read_bases(const std::vector<GroupId>& numbers);
  void table_loop();
  Status add_to_table(GroupId number, const std::string& record);
  Status finish_table(GroupId end);
  Status write_index(GroupId end);
  void fail(Error error);
  void wake_all();
  bool full() const;
  bool half_empty() const;
  Job& job(GroupId number) { return jobs_[number - first_pending_]; }

  Database& database_;
  const ReadBase read_;
  const GroupSettings settings_;
  SimilarityIndex similarity_;  // used by the thread whose group is next_choose_
  const std::string table_path_;
  std::vector<std::thread> threads_;

  // The table thread's own.
  std::unique_ptr<rocksdb::SstFileWriter> table_;
  uint64_t table_bytes_ = 0;
  uint64_t table_chunks_ = 0;

  mutable std::mutex mutex_;
  std::condition_variable submitted_;  // the compressing threads wait
  std::condition_variable turn_;       // for next_choose_
  std::condition_variable recorded_;   // the table thread waits
  std::condition_variable room_;       // submit() waits, and flush()
  std::deque<Job> jobs_;               // first_pending_ <= number < next_submit_
  GroupId first_pending_;              // ingested and indexed below
  GroupId next_compress_;  // first_pending_ <= next_write_ <= next_compress_ <= next_submit_
  GroupId next_choose_;    // next_write_ <= next_choose_ <= next_compress_
  GroupId next_write_;     // in the table file below
  GroupId next_submit_;
  GroupId flush_end_ = 0;  // finish the table when next_write_ gets here
  uint64_t stored_bytes_ = 0;
  bool stopping_ = false;
  Status failure_;
};

}  // namespace layerfs
