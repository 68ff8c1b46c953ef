// SPDX-License-Identifier: Apache-2.0
#include "layerdb/ops/compressor.h"

#include <archive.h>
#include <gtest/gtest.h>

#include <memory>
#include <string>

#include "tests/support/random.h"

namespace layerfs {
namespace {

// Half text, half noise, so that blocks both shrink and grow.
std::string sample(test_support::Random& random, size_t size) {
  return random.text(size / 2) + random.bytes(size - size / 2);
}

std::string compress(LayerCompression compression, const std::string& bytes, size_t piece) {
  std::string out;
  auto compressor = *make_compressor(compression, [&](std::string_view part) -> Status {
    out.append(part);
    return {};
  });
  for (size_t at = 0; at < bytes.size(); at += piece)
    EXPECT_TRUE(compressor->write(std::string_view(bytes).substr(at, piece)).ok());
  EXPECT_TRUE(compressor->finish().ok());
  return out;
}

std::string decompress(const std::string& bytes) {
  std::unique_ptr<archive, decltype(&archive_read_free)> reader(archive_read_new(),
                                                                archive_read_free);
  archive_read_support_filter_all(reader.get());
  archive_read_support_format_raw(reader.get());
  archive_read_support_format_empty(reader.get());
  EXPECT_EQ(archive_read_open_memory(reader.get(), bytes.data(), bytes.size()), ARCHIVE_OK);
  archive_entry* entry = nullptr;
  std::string out;
  if (archive_read_next_header(reader.get(), &entry) != ARCHIVE_OK) return out;
  char buffer[65536];
  for (;;) {
    la_ssize_t size = archive_read_data(reader.get(), buffer, sizeof buffer);
    EXPECT_GE(size, 0) << archive_error_string(reader.get());
    if (size <= 0) return out;
    out.append(buffer, static_cast<size_t>(size));
  }
}

TEST(Compressor, RoundTripsAndDoesNotDependOnPieces) {
  test_support::Random random;
  for (auto compression : {LayerCompression::gzip, LayerCompression::zstd}) {
    for (size_t size :
         {size_t{1}, size_t{1000}, size_t{512 * 1024}, size_t{512 * 1024 + 1}, size_t{5'000'000}}) {
      std::string bytes = sample(random, size);
      std::string whole = compress(compression, bytes, size);
      EXPECT_EQ(decompress(whole), bytes) << size;
      EXPECT_EQ(compress(compression, bytes, 10'000), whole) << size;
      // How far a few hundred random letters shrink depends on the seed.
      if (size >= 512 * 1024) {
        EXPECT_LT(whole.size(), size * 3 / 4 + 100);
      }
    }
  }
}

TEST(Compressor, EmptyInputIsAValidStream) {
  EXPECT_EQ(decompress(compress(LayerCompression::gzip, "", 1)), "");
  EXPECT_EQ(compress(LayerCompression::gzip, "", 1).substr(0, 2), "\x1f\x8b");
  EXPECT_EQ(compress(LayerCompression::zstd, "", 1).substr(0, 4), "\x28\xb5\x2f\xfd");
  EXPECT_EQ(compress(LayerCompression::none, "plain", 2), "plain");
}

TEST(Compressor, SinkErrorsStopIt) {
  for (auto compression :
       {LayerCompression::none, LayerCompression::gzip, LayerCompression::zstd}) {
    auto compressor = *make_compressor(compression, [](std::string_view) {
      return Status(Error{ENOSPC, "full"});
    });
    Status status = compressor->write("x");
    if (status.ok()) status = compressor->finish();
    EXPECT_EQ(status.error().code, ENOSPC);
  }
}

}  // namespace
}  // namespace layerfs
