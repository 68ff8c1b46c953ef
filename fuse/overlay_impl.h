// SPDX-License-Identifier: Apache-2.0
//
// Overlay's implementation, spread over overlay*.cc by operation. Private to them.
//
// Copy-up is load() + Transaction::put_inode(): a lower inode without a record gets the record
// that says what the lower says. Functions named *_locked expect the caller to hold what their
// comment says; a Transaction collects a change, apply() makes it visible.
#pragma once

#include <array>
#include <memory>
#include <mutex>
#include <optional>
#include <shared_mutex>
#include <string>
#include <string_view>
#include <vector>

#include "fuse/overlay.h"
#include "fuse/overlay_access.h"
#include "fuse/overlay_locks.h"
#include "fuse/overlay_nodes.h"

namespace layerfs {

constexpr uint64_t kBlockBytes = 4096;

// Above any offset the kernel sends, and small enough that sums do not wrap.
constexpr uint64_t kMaxFileBytes = uint64_t{1} << 62;

// Open lower files, so that a read does not search for its file again. Holds a few; thread-safe.
class LowerFileCache {
 public:
  Result<std::shared_ptr<const LowerFile>> open(Lower& lower, Ino ino);
  // seek_hole(0): whoever asks for attributes wants to know whether there is any hole.
  Result<uint64_t> first_hole(Lower& lower, Ino ino);

 private:
  struct Slot {
    std::mutex mutex;
    Ino ino = 0;
    std::shared_ptr<const LowerFile> file;
    std::optional<uint64_t> first_hole;
  };
  std::array<Slot, 256> slots_;
};

struct Allocation {
  int what = 0;  // 0, FALLOC_FL_PUNCH_HOLE or FALLOC_FL_ZERO_RANGE
  bool keep_size = false;
  uint64_t offset = 0;
  uint64_t length = 0;
};

class OverlayImpl final : public Overlay {
 public:
  OverlayImpl(Lower& lower, Upper* upper, Options options);
  ~OverlayImpl() override;

  Result<Stat> lookup(Ino directory, std::string_view name) override;
  void forget(Ino ino, uint64_t count) override;
  void refer(Ino ino) override;
  bool awaits_forgets() const override { return nodes_.any_orphan(); }
  void free_removed() override;
  Result<Stat> make(Ino directory, std::string_view name, const NewNode& node,
                    const Caller& caller) override;
  Result<Stat> make_unnamed(Ino directory, uint32_t mode, bool linkable,
                            const Caller& caller) override;
  Result<Stat> link(Ino ino, Ino directory, std::string_view name) override;
  Status unlink(Ino directory, std::string_view name) override;
  Status rmdir(Ino directory, std::string_view name) override;
  Status rename(Ino from_directory, std::string_view from_name, Ino to_directory,
                std::string_view to_name, uint32_t flags) override;
  Result<Ino> parent(Ino directory) override;
  Result<Stat> stat(Ino ino) override;
  Result<Stat> set_attributes(Ino ino, const SetAttributes& changes, const Caller& caller) override;
  Result<std::string> readlink(Ino ino) override;
  Result<std::string> get_xattr(Ino ino, const std::string& name) override;
  Result<std::vector<std::string>> list_xattrs(Ino ino) override;
  Status set_xattr(Ino ino, const std::string& name, std::string_view value, int flags,
                   bool clear_sgid) override;
  Status remove_xattr(Ino ino, const std::string& name) override;
  Result<size_t> read(Ino ino, uint64_t offset, std::span<char> out) override;
  Result<size_t> write(Ino ino, uint64_t offset, std::string_view bytes, const WriterOf& writer_of,
                       Times times) override;
  Status allocate(Ino ino, int mode, uint64_t offset, uint64_t length,
                  const WriterOf& writer_of) override;
  Result<uint64_t> seek(Ino ino, uint64_t offset, int whence) override;
  Result<size_t> copy_range(Ino from, uint64_t from_offset, Ino to, uint64_t to_offset,
                            uint64_t length, const WriterOf& writer_of) override;
  Status sync(Ino ino, Sync what) override;
  Status list(Ino directory, uint64_t cookie, const DirectoryVisitor& visit) override;
  Status list_plus(Ino directory, uint64_t cookie, const DirectoryVisitorPlus& visit) override;
  void note_access(Ino ino) override;
  Result<struct statvfs> statfs() override;
  void freeze() override;
  void thaw() override;

 private:
  using Transaction = Upper::Transaction;

  // Inside the freeze gate for as long as it lives; EROFS where nothing may change.
  class Mutation {
   public:
    explicit Mutation(FreezeGate* gate) : gate_(gate) {}
    Mutation(Mutation&& other) noexcept : gate_(std::exchange(other.gate_, nullptr)) {}
    ~Mutation() {
      if (gate_ != nullptr) gate_->leave();
    }

   private:
    FreezeGate* gate_;
  };
  Result<Mutation> begin_mutation();

  // What a name leads to now. ino 0: nothing, perhaps because of a whiteout.
  struct Found {
    Ino ino = 0;
    FileType type = FileType::none;
    bool over_lower = false;              // the lower directory has the name
    std::optional<LowerNode> lower_node;  // found in the lower directory itself
  };

  // overlay.cc
  bool in_lower(Ino ino) const { return ino < lower_limit_; }
  Timestamp now() const { return options_.clock(); }
  Result<std::optional<InodeRecord>> find_record(Ino ino);  // what the upper says
  Result<InodeRecord> load(Ino ino);                        // copy-up, in memory
  // ENOTDIR; ENOENT for a removed directory. To be changed: its times are `when`.
  Result<InodeRecord> load_directory(Ino ino, Timestamp when);
  Result<Stat> stat_record(Ino ino, const InodeRecord& record);
  Result<Stat> stat_found(Ino ino, const LowerNode* lower_node);
  Result<uint64_t> blocks(Ino ino, const InodeRecord& record);
  struct Segment {
    uint64_t offset = 0;
    uint64_t length = 0;
    bool body = false;  // in data/<ino>, else in the lower
  };
  Result<uint64_t> lower_data_bytes(Ino ino, const InodeRecord& record);
  bool has_holes(Ino ino, uint64_t size_bytes);  // the lower file, before there
  Status apply(std::unique_ptr<Transaction> transaction);
  // Orphans whose last reference went: deleted a few at a time.
  void queue_reap(Ino ino);
  void reap_queued();

  // overlay_access.cc
  void write_access_times(const std::vector<Ino>& inos);  // no lock held

  // overlay_lookup.cc (namespace lock held)
  Result<Found> find(Ino directory, std::string_view name);
  Status visit_names(Ino directory, uint64_t cookie,
                     const std::function<bool(const DirectoryEntry&, const LowerNode*)>& visit);
  Result<bool> is_empty(Ino directory);
  Result<Ino> parent_locked(Ino directory);

  // overlay_make.cc, overlay_remove.cc (namespace lock held exclusively, inode locks of all)
  Status set_name(Transaction& tx, Ino directory, std::string_view name, Ino ino, FileType type,
                  bool over_lower);
  void clear_name(Transaction& tx, Ino directory, std::string_view name, bool over_lower);
  Result<InodeRecord> new_record(Transaction& tx, Ino ino, Ino directory, const InodeRecord& parent,
                                 const NewNode& node, const Caller& caller);
  uint8_t facts_of_new(Ino directory) const;
  // One name less; true when it was the last: call orphaned() once applied.
  bool drop_name(Transaction& tx, Ino ino, InodeRecord& record, Timestamp when);
  void orphaned(Ino ino);
  Status remove(Ino directory, std::string_view name, bool directory_wanted);
  struct Move {
    Ino from_directory = 0;
    std::string_view from_name;
    const Found& from;
    Ino to_directory = 0;
    std::string_view to_name;
    const Found& to;
  };
  InodeLocks::Guard lock_move(const Move& move);
  // What a move changes, already as it will be.
  struct MoveRecords {
    Timestamp when;
    bool across = false;  // two directories
    InodeRecord from_parent;
    InodeRecord other_parent;  // of the target's name, when `across`
    InodeRecord moved;
    InodeRecord& to_parent() { return across ? other_parent : from_parent; }
  };
  Result<MoveRecords> load_move(const Move& move);
  Status put_move(Transaction& tx, const Move& move, const MoveRecords& records);
  Status move_name(const Move& move, bool leave_whiteout);
  Status swap_names(const Move& move);
  Status check_replace(const Found& from, const Found& to);
  Status check_no_loop(Ino moved, Ino to_directory, int error);

  // overlay_xattr.cc (inode lock held)
  Result<std::optional<std::string>> find_xattr(Ino ino, const std::optional<InodeRecord>& record,
                                                const std::string& name);
  Result<Xattrs> all_xattrs(Ino ino, const std::optional<InodeRecord>& record);
  Status own_xattrs(Transaction& tx, Ino ino, InodeRecord& record);
  Status put_xattr(Transaction& tx, Ino ino, InodeRecord& record, const std::string& name,
                   std::optional<std::string_view> value);
  Status put_access_acl(Transaction& tx, Ino ino, InodeRecord& record, std::string_view value);
  Status kill_privileges(Transaction& tx, Ino ino, InodeRecord& record, const WriterOf& writer_of);
  Status change_mode(Transaction& tx, Ino ino, InodeRecord& record, uint32_t mode);

  // overlay_read.cc (inode lock held)
  Result<std::vector<Segment>> segments(Ino ino, const InodeRecord& record, uint64_t offset,
                                        uint64_t length);
  Status read_lower(Ino ino, uint64_t offset, std::span<char> out);  // zeros beyond its end
  Result<size_t> read_record(Ino ino, const InodeRecord& record, uint64_t offset,
                             std::span<char> out);
  Result<std::string> small_content(Ino ino, const InodeRecord& record);

  // overlay_write.cc (inode lock held exclusively)
  enum class After { nothing, truncate_body, remove_body };
  Result<InodeRecord> load_file(Ino ino);
  Status place(Transaction& tx, Ino ino, InodeRecord& record, uint64_t offset,
               std::string_view bytes);
  Status to_body_file(Transaction& tx, Ino ino, InodeRecord& record);
  Status clean_tail(Ino ino, const InodeRecord& record);
  Result<After> resize(Transaction& tx, Ino ino, InodeRecord& record, uint64_t size_bytes);
  Status apply_content(std::unique_ptr<Transaction> tx, Ino ino, const InodeRecord& record,
                       After after);

  // overlay_allocate.cc (inode lock held exclusively)
  Status change_allocation(Transaction& tx, Ino ino, InodeRecord& record, const Allocation& change);

  Lower& lower_;
  Upper* const upper_;
  const Options options_;
  const Ino lower_limit_;

  FreezeGate gate_;
  std::shared_mutex namespace_;
  InodeLocks locks_;
  NodeTable nodes_;
  LowerFileCache lower_files_;
  AccessTimes access_times_;

  std::mutex reap_mutex_;  // innermost
  std::vector<Ino> reap_queue_;
};

// InodeRecord::small_holes: the blocks of a small body that [begin, end) touches, and a new size.
uint8_t small_blocks(uint64_t begin, uint64_t end);
void set_small_size(InodeRecord& record, uint64_t size_bytes);

// ENOENT, ENAMETOOLONG or EEXIST for what cannot be a new name.
Status check_name(std::string_view name);
bool is_dot(std::string_view name);  // "." or ".."
Status check_file(FileType type);    // EISDIR or EINVAL for what has no content

}  // namespace layerfs
