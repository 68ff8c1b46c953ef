// SPDX-License-Identifier: Apache-2.0
#include "layerdb/base/caught.h"

#include <gtest/gtest.h>

#include <new>
#include <stdexcept>
#include <string>
#include <system_error>

namespace layerfs {
namespace {

template <typename Thrown>
std::string reason(const Thrown& thrown) {
  return call_and_catch([&]() -> Status { throw thrown; }).error().message;
}

TEST(Caught, WhatLacksMemoryOrThreadsSaysSo) {
  std::string no_memory = reason(std::bad_alloc());
  EXPECT_NE(no_memory.find("not enough memory"), std::string::npos);
  EXPECT_EQ(reason(std::length_error("basic_string::_M_replace_aux")), no_memory);
  EXPECT_EQ(reason(std::system_error(EAGAIN, std::generic_category())), no_memory);
  EXPECT_EQ(reason(std::runtime_error("another sentence")), "another sentence");
  EXPECT_EQ(reason(7), "unknown exception");
}

}  // namespace
}  // namespace layerfs
