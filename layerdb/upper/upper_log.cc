// SPDX-License-Identifier: Apache-2.0
//
// Telling a log that power loss cut off from one that the disk damaged (format.md, Recovery).
#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>

#include "layerdb/base/log.h"
#include "layerdb/upper/log_check.h"
#include "layerdb/upper/transaction.h"

namespace layerfs {

namespace key = upper_key;

namespace {

// What a batch says of the log.
class Sayings : public rocksdb::WriteBatch::Handler {
 public:
  explicit Sayings(const std::string& batch) { (void)rocksdb::WriteBatch(batch).Iterate(this); }
  rocksdb::Status PutCF(uint32_t, const rocksdb::Slice& record_key,
                        const rocksdb::Slice& value) override {
    std::string_view bytes(value.data(), value.size());
    if (record_key == key::synced()) synced = key::decode_number(bytes).value_or(0);
    if (record_key == key::logged()) from = key::decode_logged_from(bytes).value_or({});
    return rocksdb::Status::OK();
  }
  rocksdb::Status DeleteCF(uint32_t, const rocksdb::Slice&) override {
    return rocksdb::Status::OK();
  }
  uint64_t synced = 0;
  key::LoggedFrom from;
};

// The first change that must be in the logs from `first_log` on; 0: nothing is said.
uint64_t first_logged(const std::vector<LogStart>& starts, uint64_t first_log) {
  for (const LogStart& start : starts)
    for (const std::string& batch : start.batches)
      if (Sayings said(batch);
          start.log >= first_log && said.from.sequence != 0 && said.from.log >= first_log)
        return said.from.sequence;
  return 0;
}

// Earlier logs are obsolete: tables have what is in them.
uint64_t first_log_to_keep(rocksdb::DB& db) {
  uint64_t number = 0;
  (void)db.GetIntProperty(rocksdb::DB::Properties::kMinLogNumberToKeep, &number);
  return number;
}

bool is_this_boot(const std::string& boot) { return !boot.empty() && boot == boot_id(); }

Status write_boot_mark(const std::string& path) {
  UniqueFd mark = TRY(open_file(path, O_WRONLY | O_CREAT | O_TRUNC, 0600));
  return write_full(mark.get(), boot_id());
}

}  // namespace

std::string boot_id() {
  Result<std::string> id = read_file("/proc/sys/kernel/random/boot_id");
  return id.ok() ? id->substr(0, 36) : std::string();
}

bool UpperDb::made_in_this_boot() const {
  Result<std::string> made = read_file(made_mark());
  return made.ok() && is_this_boot(*made);
}

Status UpperDb::note_open() {
  Result<std::string> earlier = read_file(open_mark());
  earlier_unsynced_ = earlier.ok() && (earlier->empty() || is_this_boot(*earlier));
  return write_boot_mark(open_mark());
}

// Where it fails, damage is taken for power loss until the first sync, as after a new boot.
void UpperDb::note_made() { (void)write_boot_mark(made_mark()); }

// The first change of a process says in which boot it ran and what it found in the logs, the first
// one after a sync that all before that sync was synced: none costs a write of its own.
void UpperDb::note_progress(rocksdb::WriteBatch& batch) {
  if (!boot_noted_.exchange(true)) {
    batch.Put(key::boot(), boot_id());
    if (logged_from_.sequence != 0) batch.Put(key::logged(), key::encode_logged_from(logged_from_));
  }
  uint64_t synced = synced_sequence_;
  if (noted_sequence_.exchange(synced) != synced)
    batch.Put(key::synced(), key::encode_number(synced));
}

// What is in the logs and no table yet; the log that is begun now says so. Were these logs lost, it
// would not be seen in it: sequence numbers go on from what was replayed.
void UpperDb::note_logs(const std::vector<LogStart>& starts) {
  logged_from_ = {};
  uint64_t first_log = first_log_to_keep(*db_);
  for (const LogStart& start : starts) {
    if (start.log < first_log) continue;
    logged_from_ = {start.log, start.sequence};
    return;
  }
}

void UpperDb::forget_progress() {
  boot_noted_ = false;
  noted_sequence_ = 0;
}

Status UpperDb::check_logs() {
  std::vector<LogStart> starts = TRY(read_log_starts(database_));
  if (!TRY(find_log_gap(database_, 0, first_logged(starts, 0)))) return {};
  // Perhaps in a log that is obsolete. Opening tells, and does what it can of the rest.
  rocksdb::DB* db = nullptr;
  rocksdb::Status status = rocksdb::DB::OpenForReadOnly(rocksdb_options_, database_, &db);
  if (!status.ok()) return {};  // opening for good will say why
  std::unique_ptr<rocksdb::DB> closing(db);
  uint64_t first_log = first_log_to_keep(*db);
  std::optional<LogGap> gap =
      TRY(find_log_gap(database_, first_log, first_logged(starts, first_log)));
  if (!gap) return {};
  std::string boot;
  // A log that never was synced and of which not even the beginning is left: power loss.
  if (!db->Get(rocksdb::ReadOptions(), key::boot(), &boot).ok() && path_exists(synced_mark()))
    boot = boot_id();
  bool damaged = is_this_boot(boot);
  for (const std::string& batch : gap->after) damaged |= Sayings(batch).synced >= gap->sequence;
  if (damaged) {
    Error error = damaged_log(*gap);
    if (!options_.despite_damage) return error;
    log_warning("{}", error.message);
    return {};
  }
  log_warning("'{}': {} changes that were never synced were lost when the power failed", gap->path,
              gap->after.size());
  return options_.read_only ? Status() : cut_logs(*gap);
}

// RocksDB stops at a record that is damaged, but goes on after one that is missing.
Status UpperDb::cut_logs(const LogGap& gap) {
  for (const std::string& path : gap.later)
    if (::truncate(path.c_str(), 0) != 0) return errno_error("truncate '" + path + "'");
  if (::truncate(gap.path.c_str(), static_cast<off_t>(gap.offset)) != 0)
    return errno_error("truncate '" + gap.path + "'");
  return {};
}

Error UpperDb::damaged_log(const LogGap& gap) const {
  std::string giving_up = fmt::format("truncate -s {} '{}'", gap.offset, gap.path);
  for (const std::string& path : gap.later) giving_up += fmt::format("; rm '{}'", path);
  return {EUCLEAN,
          fmt::format("'{}' is damaged at byte {}: {} later changes cannot be used. "
                      "`layerfs mount --read-only` shows the state before it; to go on from there "
                      "and give the rest up: {}",
                      gap.path, gap.offset, gap.after.size(), giving_up)};
}

}  // namespace layerfs
