// SPDX-License-Identifier: Apache-2.0
#include "layerdb/store/chunk_store.h"

#include <fcntl.h>
#include <gtest/gtest.h>

#include <atomic>
#include <filesystem>
#include <set>
#include <thread>

#include "layerdb/base/sys.h"
#include "layerdb/object/chunker.h"
#include "layerdb/store/chunk_store_impl.h"
#include "layerdb/store/database.h"
#include "layerdb/store/group_codec.h"
#include "layerdb/store/group_copies.h"
#include "layerdb/store/group_pool.h"
#include "layerdb/store/maintenance.h"
#include "tests/support/random.h"
#include "tests/support/result_matchers.h"
#include "tests/support/temp_dir.h"

namespace layerfs {
namespace {

using test_support::Random;
using test_support::TempDir;

constexpr size_t kCacheBytes = 4 << 20;
constexpr GroupId kAll = ~GroupId{0};

class ChunkStoreTest : public ::testing::Test {
 protected:
  ChunkStoreTest() { open(); }

  void open(FingerprintFunction hash = &fingerprint) {
    chunks_.reset();
    database_.reset();
    database_ = VALUE(Database::open(dir_ / "store", {}));
    chunks_ = std::make_unique<StoredChunks>(*database_, kCacheBytes, hash);
    chunks_->discard(VALUE(database_->last_number(Family::groups)) + 1);
  }
  void reopen(FingerprintFunction hash = &fingerprint) {
    ASSERT_OK(chunks_->flush());
    ASSERT_OK(database_->flush({Family::chunk_index}));
    open(hash);
  }
  void reopen_to_read() {
    ASSERT_OK(chunks_->flush());
    chunks_.reset();
    database_.reset();
    database_ = VALUE(Database::open(dir_ / "store", {.read_only = true, .create = false}));
  }
  ChunkAddress put(std::string_view chunk) { return VALUE(chunks_->put(chunk)); }
  std::string at(ChunkAddress address, size_t size) {
    return VALUE(chunks_->read_group(address.group))->substr(address.offset, size);
  }

  TempDir dir_;
  std::unique_ptr<Database> database_;
  std::unique_ptr<StoredChunks> chunks_;
};

bool same(ChunkAddress a, ChunkAddress b) { return a.group == b.group && a.offset == b.offset; }

TEST_F(ChunkStoreTest, SharesEqualChunks) {
  Random random;
  std::string a = random.bytes(20'000), b = random.bytes(30'000);
  ChunkAddress first = put(a), second = put(b);
  EXPECT_EQ(second.group, first.group);
  EXPECT_EQ(second.offset, first.offset + a.size());  // in the order they came
  EXPECT_TRUE(same(put(a), first));
  reopen();
  EXPECT_TRUE(same(put(b), second));
  EXPECT_EQ(chunks_->counters().chunks_shared, 1u);
  EXPECT_EQ(at(first, a.size()), a);
}

TEST_F(ChunkStoreTest, GoesOnAfterFlushingBegan) {
  Random random;
  std::vector<std::string> chunks;
  std::vector<ChunkAddress> addresses;
  for (int i = 0; i < 40; ++i) {
    chunks.push_back(random.bytes(30'000));
    addresses.push_back(put(chunks.back()));
    if (i % 10 == 9) ASSERT_OK(chunks_->start_flush());
  }
  EXPECT_TRUE(same(put(chunks[0]), addresses[0]));
  reopen();
  for (size_t i = 0; i < chunks.size(); ++i) {
    EXPECT_TRUE(same(put(chunks[i]), addresses[i]));
    EXPECT_EQ(at(addresses[i], chunks[i].size()), chunks[i]);
  }
}

TEST_F(ChunkStoreTest, ReadsAgainWhatWasDropped) {
  std::string bytes = Random().bytes(20'000);
  ChunkAddress address = put(bytes);
  reopen();
  for (int i = 0; i < 2; ++i) EXPECT_EQ(at(address, bytes.size()), bytes);
  EXPECT_EQ(chunks_->counters().groups_read, 1u);
  chunks_->drop_cache();
  EXPECT_EQ(at(address, bytes.size()), bytes);
  EXPECT_EQ(chunks_->counters().groups_read, 2u);
}

// What groups build on is not asked for, and remembered all the same: the disk begins with it.
TEST_F(ChunkStoreTest, RemembersWhatGroupsBuildOn) {
  Random random;
  std::vector<std::string> chunks;
  for (int i = 0; i < 40; ++i) chunks.push_back(random.bytes(20'000));
  std::vector<ChunkAddress> changed;
  for (std::string& chunk : chunks) put(chunk);
  for (std::string& chunk : chunks) {
    chunk[100] ^= 1;
    changed.push_back(put(chunk));
  }
  reopen_to_read();
  for (bool again : {false, true}) {
    chunks_ = std::make_unique<StoredChunks>(*database_, kCacheBytes);
    chunks_->foretell(VALUE(ReadHistory::open(dir_ / "history")), kAll);
    for (size_t i = 0; i < chunks.size(); ++i) {
      std::string part(chunks[i].size(), '?');
      ASSERT_OK(chunks_->read(changed[i].group, changed[i].offset, part, {}));
      ASSERT_EQ(part, chunks[i]);
    }
    chunks_.reset();
    std::set<GroupId> named;
    VALUE(ReadHistory::open_to_read(dir_ / "history")).for_each_run([&](auto, auto run) {
      named.insert(run.begin(), run.end());
      EXPECT_EQ(named.size(), run.size()) << "one run, each group once" << again;
    });
    EXPECT_LT(*named.begin(), changed[0].group);
  }
}

// A few differences among much else: what they build on is decoded no more.
TEST_F(ChunkStoreTest, ReadsCopiesOfDifferences) {
  Random random;
  std::vector<std::string> chunks;
  for (int i = 0; i < 240; ++i) chunks.push_back(random.bytes(20'000));
  for (std::string& chunk : chunks) put(chunk);
  std::vector<ChunkAddress> changed;
  chunks.resize(12);
  for (std::string& chunk : chunks) {
    chunk[100] ^= 1;
    changed.push_back(put(chunk));
  }
  reopen_to_read();
  auto read_changed = [&] {
    chunks_ = std::make_unique<StoredChunks>(*database_, kCacheBytes);
    chunks_->share(VALUE(GroupPool::join(dir_ / "pool", 1)));
    chunks_->use_copies(VALUE(GroupCopies::open(dir_ / "copies", 1, kAll)));
    chunks_->foretell(VALUE(ReadHistory::open(dir_ / "history")), kAll);
    for (size_t i = 0; i < chunks.size(); ++i) {
      std::string part(chunks[i].size(), '?');
      EXPECT_TRUE(chunks_->read(changed[i].group, changed[i].offset, part, {}).ok());
      EXPECT_EQ(part, chunks[i]);
    }
    return chunks_->counters().decoded_bytes;
  };
  uint64_t first = read_changed();
  EXPECT_GE(first, 2u * 12 * 20'000);
  chunks_.reset();
  EXPECT_GE(read_changed(), first - 96'000) << "what the end of a reader cuts short";
  // Copying takes nothing that others have to hold.
  auto other = VALUE(GroupPool::join(dir_ / "pool", 1));
  other->release(0);
  uint64_t at_rest = other->memory_bytes();
  chunks_.reset();
  EXPECT_LE(other->memory_bytes(), at_rest);
  EXPECT_GT(std::filesystem::file_size(dir_ / "copies"), 12 * 20'000u);
  other.reset();
  uint64_t with_copies = read_changed();
  EXPECT_LE(with_copies, first / 2 + 96'000);
  chunks_.reset();
  // Where a copy is damaged the group itself is read.
  for (uint64_t at = 4096 + (256 << 10); at < VALUE(read_file(dir_ / "copies")).size(); at += 997)
    ASSERT_OK(pwrite_full(VALUE(open_file(dir_ / "copies", O_WRONLY)).get(), "x", at));
  EXPECT_GT(read_changed(), with_copies);
}

// What a mount's database has from an import that was given up is another group in the database of
// the next mount: neither is told of it.
TEST_F(ChunkStoreTest, ForetellsNothingThatIsNotPublished) {
  Random random;
  std::vector<ChunkAddress> places;
  for (int i = 0; i < 100; ++i) places.push_back(put(random.bytes(40'000)));
  ASSERT_OK(chunks_->flush());
  auto read = [&](size_t count, GroupId end) {
    chunks_ = std::make_unique<StoredChunks>(*database_, kCacheBytes);
    chunks_->foretell(VALUE(ReadHistory::open(dir_ / "history")), end);
    char byte;
    for (size_t i = 0; i < count; ++i)
      EXPECT_TRUE(
          chunks_->read(places[i].group, 0, std::span<char>(&byte, 1), {}).ok());
    for (int i = 0; i < 100 && chunks_->counters().groups_read <= count; ++i)
      std::this_thread::sleep_for(std::chrono::milliseconds(end == kAll ? 10 : 1));
    uint64_t groups_read = chunks_->counters().groups_read;
    chunks_.reset();
    return groups_read;
  };
  GroupId next = places[4].group;
  read(100, kAll);
  EXPECT_GT(read(4, kAll), next - places[0].group);
  EXPECT_LE(read(4, next), next - places[0].group);
}

TEST_F(ChunkStoreTest, RefusesImpossibleChunks) {
  EXPECT_ERRNO(chunks_->put(""), EINVAL);
  EXPECT_ERRNO(chunks_->put(std::string(kMaxChunkBytes + 1, 'x')), EINVAL);
}

TEST_F(ChunkStoreTest, NumbersGroupsFromOneWithoutGaps) {
  Random random;
  for (int i = 0; i < 40; ++i) put(random.bytes(kGroupFillBytes / 2));
  ASSERT_OK(chunks_->flush());
  GroupId next = 1;
  ASSERT_OK(for_each_group(*database_, [&](const GroupInfo& info) {
    EXPECT_EQ(info.number, next++);
    EXPECT_EQ(info.raw_bytes, kGroupFillBytes);
    return true;
  }));
  EXPECT_EQ(next, 21u);
  EXPECT_EQ(chunks_->next_group(), 21u);
}

TEST_F(ChunkStoreTest, ReadsGroupsAtEveryStageOfWriting) {
  Random random;
  std::vector<std::pair<ChunkAddress, std::string>> stored;
  for (int i = 0; i < 300; ++i) {
    std::string chunk = random.one_in(2) ? random.text(random.between(1, kMaxChunkBytes))
                                         : random.bytes(random.between(1, kMaxChunkBytes));
    stored.emplace_back(put(chunk), chunk);
    const auto& [address, bytes] = stored[random.below(stored.size())];
    if (address.group == stored.back().first.group) continue;  // still being filled
    EXPECT_EQ(at(address, bytes.size()), bytes);
    EXPECT_TRUE(same(put(bytes), address));
  }
  reopen();
  for (const auto& [address, bytes] : stored) EXPECT_EQ(at(address, bytes.size()), bytes);
}

TEST_F(ChunkStoreTest, EqualInputGivesEqualGroups) {
  Random random;
  std::vector<std::string> input;
  for (int i = 0; i < 200; ++i) input.push_back(random.text(random.between(1, kMaxChunkBytes)));
  auto records_of = [&](const std::string& path) {
    auto database = VALUE(Database::open(path, {}));
    StoredChunks chunks(*database, kCacheBytes);
    for (const std::string& chunk : input) (void)VALUE(chunks.put(chunk));
    EXPECT_TRUE(chunks.flush().ok());
    std::vector<std::string> records;
    EXPECT_TRUE(for_each_record(*database, Family::groups, [&](auto key, auto value) {
                  records.push_back(std::string(key) + std::string(value));
                  return true;
                }).ok());
    return records;
  };
  EXPECT_EQ(records_of(dir_ / "one"), records_of(dir_ / "two"));
}

Fingerprint first_byte_only(std::string_view bytes) { return {0, static_cast<uint8_t>(bytes[0])}; }

TEST_F(ChunkStoreTest, CollidingChunksAreStoredApart) {
  reopen(&first_byte_only);
  ChunkAddress a = put("x one"), b = put("x two");
  EXPECT_FALSE(same(a, b));
  ASSERT_OK(chunks_->flush());
  ChunkAddress c = put("x three");
  EXPECT_TRUE(same(put("x one"), a));
  EXPECT_TRUE(same(put("x two"), b));
  reopen(&first_byte_only);
  EXPECT_TRUE(same(put("x two"), b));
  EXPECT_TRUE(same(put("x three"), c));
  EXPECT_FALSE(same(put("x four"), a));
  EXPECT_EQ(at(a, 5), "x one");
  EXPECT_EQ(at(b, 5), "x two");
  ASSERT_OK(chunks_->flush());
  size_t addresses = 0;
  ASSERT_OK(for_each_chunk(*database_, [&](const Fingerprint&, const auto& list) {
    addresses += list.size();
    return true;
  }));
  EXPECT_EQ(addresses, 4u);
}

TEST_F(ChunkStoreTest, AnIndexEntryWithoutItsGroupIsNoMatch) {
  Random random;
  std::string chunk = random.bytes(10'000);
  ChunkAddress lost = put(chunk);
  reopen();
  ASSERT_OK(delete_groups_from(*database_, lost.group));
  EXPECT_ERRNO(chunks_->read_group(lost.group), EUCLEAN);
  ChunkAddress again = put(chunk);
  ASSERT_OK(chunks_->flush());
  EXPECT_EQ(at(again, chunk.size()), chunk);
}

TEST_F(ChunkStoreTest, ADamagedGroupIsFoundAndNotShared) {
  Random random;
  std::string chunk = random.bytes(50'000);
  ChunkAddress address = put(chunk);
  ASSERT_OK(chunks_->flush());
  ASSERT_OK(database_->flush({Family::chunk_index}));
  std::vector<rocksdb::LiveFileMetaData> files;
  database_->db().GetLiveFilesMetaData(&files);
  std::string table;
  for (const auto& file : files)
    if (file.column_family_name == "groups") table = file.db_path + file.name;
  chunks_.reset();
  database_.reset();
  {
    UniqueFd fd = VALUE(open_file(table, O_RDWR));
    ASSERT_OK(pwrite_full(fd.get(), "damage", 20'000));
  }
  open();
  EXPECT_ERRNO(chunks_->read_group(address.group), EUCLEAN);
  ChunkAddress again = put(chunk);
  EXPECT_NE(again.group, address.group);
}

TEST_F(ChunkStoreTest, ConcurrentMissesDecodeAGroupOnce) {
  ChunkAddress address = put(std::string(50'000, 'x') + "y");
  reopen();
  std::vector<std::thread> threads;
  std::atomic<int> good{0};
  for (int i = 0; i < 8; ++i)
    threads.emplace_back([&] {
      auto group = chunks_->read_group(address.group);
      if (group.ok() && (*group)->size() == 50'001) ++good;
    });
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(good, 8);
  EXPECT_EQ(chunks_->counters().groups_read, 1u);
}

TEST_F(ChunkStoreTest, DeletesWholeAndPartlyDeadTables) {
  Random random;
  std::vector<std::string> chunks;
  for (int table = 0; table < 3; ++table) {  // each flush makes a table of 10 groups
    for (int i = 0; i < 20; ++i) put(chunks.emplace_back(random.bytes(kGroupFillBytes / 2)));
    ASSERT_OK(chunks_->flush());
  }
  // All of the first table, one group of the second (too few), half of the third.
  std::vector<GroupRange> dead = {{1, 10}, {15, 15}, {26, 30}};
  std::vector<GroupRange> deleted = VALUE(delete_groups(*database_, dead));
  auto is_dead = [&](GroupId n) { return n <= 10 || n >= 26; };
  ASSERT_OK(delete_index_entries(*database_, is_dead));
  std::vector<GroupId> left;
  ASSERT_OK(for_each_group(*database_, [&](const GroupInfo& info) {
    left.push_back(info.number);
    return true;
  }));
  std::vector<GroupId> expected;
  for (GroupId n = 11; n <= 25; ++n) expected.push_back(n);
  EXPECT_EQ(left, expected);
  uint64_t count = 0;
  for (const GroupRange& range : deleted) count += range.last - range.first + 1;
  EXPECT_EQ(count, 15u);
  EXPECT_LT(group_file_bytes(*database_), 16 * kGroupFillBytes);
  uint64_t entries = 0;
  ASSERT_OK(for_each_chunk(*database_, [&](const Fingerprint&, const auto& addresses) {
    EXPECT_FALSE(is_dead(addresses.at(0).group));
    return ++entries, true;
  }));
  EXPECT_EQ(entries, 30u);
}

Result<GroupBytes> no_bases(GroupId) { return Error{EUCLEAN, "there are no bases"}; }

TEST(GroupCodec, RejectsDamagedRecords) {
  Random random;
  GroupEncoder encoder;
  std::string raw = random.text(5'000);
  std::string record = VALUE(encoder.encode(9, raw, {}));
  EXPECT_LT(record.size(), raw.size());
  EXPECT_EQ(VALUE(decode_group(9, record, no_bases)), raw);
  for (size_t size = 0; size < record.size(); ++size)
    EXPECT_ERRNO(decode_group(9, record.substr(0, size), no_bases), EUCLEAN);
  for (int i = 0; i < 2000; ++i) {  // may decode to something, must not crash
    std::string bad = record;
    bad[random.below(bad.size())] ^= static_cast<char>(random.between(1, 255));
    Result<std::string> decoded = decode_group(9, bad, no_bases);
    if (!decoded.ok()) {
      EXPECT_EQ(decoded.error().code, EUCLEAN);
    }
  }
}

TEST(GroupCodec, KeepsWhatDoesNotCompress) {
  Random random;
  GroupEncoder encoder;
  for (size_t size : {size_t{1}, size_t{2}, size_t{100}, kMaxGroupBytes}) {
    std::string raw = random.bytes(size);
    std::string record = VALUE(encoder.encode(9, raw, {}));
    EXPECT_EQ(VALUE(parse_group(9, record)).codec, GroupCodec::plain);
    EXPECT_EQ(VALUE(decode_group(9, record, no_bases)), raw);
  }
}

TEST(GroupCodec, RejectsMoreBasesThanAGroupMayHave) {
  auto record = [](size_t bases) {
    std::string out{'\1', '\1', static_cast<char>(bases)};
    for (size_t i = 1; i <= bases; ++i) out.push_back(static_cast<char>(i));
    return out + "\3abc";
  };
  EXPECT_EQ(VALUE(parse_group(1'000, record(kMaxBaseDepth))).bases.size(), kMaxBaseDepth);
  EXPECT_ERRNO(parse_group(1'000, record(kMaxBaseDepth + 1)), EUCLEAN);
}

TEST(GroupCodec, GoldenBytes) {
  GroupEncoder encoder;
  EXPECT_EQ(VALUE(encoder.encode(9, "abc", {})), std::string("\1\0\0\3abc", 7));
  std::string named("\1\0\2\1\3\3abc", 9);  // bases 9 and 7 of group 10
  GroupRecord record = VALUE(parse_group(10, named));
  EXPECT_EQ(record.bases, (std::vector<GroupId>{9, 7}));
  EXPECT_EQ(record.payload, "abc");
}

}  // namespace
}  // namespace layerfs
