// SPDX-License-Identifier: Apache-2.0
//
// Results in assertions, with the error's sentence when they fail.
#pragma once

#include <gtest/gtest.h>

#include <stdexcept>
#include <string>

#include "layerdb/base/result.h"

#define ASSERT_OK(expr)                                                 \
  do {                                                                  \
    auto assert_result_ = (expr);                                       \
    ASSERT_TRUE(assert_result_.ok()) << assert_result_.error().message; \
  } while (false)
#define EXPECT_ERRNO(expr, errno_code)                                                      \
  do {                                                                                      \
    auto expect_result_ = (expr);                                                           \
    EXPECT_FALSE(expect_result_.ok());                                                      \
    if (!expect_result_.ok()) {                                                             \
      EXPECT_EQ(expect_result_.error().code, errno_code) << expect_result_.error().message; \
    }                                                                                       \
  } while (false)
// The value of a Result; the test ends with an exception when there is none.
#define VALUE(expr) layerfs::test_support::value_of((expr), #expr)

namespace layerfs::test_support {

template <typename T>
T value_of(Result<T> result, const char* expression) {
  if (!result.ok())
    throw std::runtime_error(std::string(expression) + ": " + result.error().message);
  return std::move(result).value();
}

}  // namespace layerfs::test_support
