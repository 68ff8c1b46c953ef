// SPDX-License-Identifier: Apache-2.0
//
// Errors are values: every fallible function returns Result<T>, which holds a T or an Error.
// An Error is an errno (what a system call, or the mount, answers) and a sentence that names the
// input and the reason, ready for a person. EUCLEAN means "the store's own data is damaged"; the
// FUSE edge replies EIO for it. The API follows std::expected (C++23), which clang 14 cannot parse.
//
// TRY(expr) unwraps a Result inside a function that itself returns a Result; use it only as a
// whole initialiser (`auto x = TRY(f());`) or a whole statement (`TRY(g());`).
#pragma once

#include <cassert>
#include <cerrno>
#include <string>
#include <system_error>
#include <type_traits>
#include <utility>
#include <variant>

namespace layerfs {

struct [[nodiscard]] Error {
  int code = EIO;       // an errno, never 0
  std::string message;  // a sentence without a final full stop

  // The same error with context in front: "context: message".
  Error wrap(const std::string& context) const& { return {code, context + ": " + message}; }
};

// An Error from the current errno: "what: strerror(errno)".
inline Error errno_error(const std::string& what, int code = errno) {
  return {code == 0 ? EIO : code, what + ": " + std::generic_category().message(code)};
}

template <typename T>
class [[nodiscard]] Result {
  static_assert(!std::is_reference_v<T>, "return a pointer instead");

 public:
  using value_type = T;
  Result(T value) : state_(std::in_place_index<0>, std::move(value)) {}        // NOLINT
  Result(Error error) : state_(std::in_place_index<1>, std::move(error)) {}    // NOLINT
  template <typename U>
    requires(std::is_convertible_v<U, T> && !std::is_same_v<std::remove_cvref_t<U>, T> &&
             !std::is_same_v<std::remove_cvref_t<U>, Error> &&
             !std::is_same_v<std::remove_cvref_t<U>, Result>)
  Result(U&& value) : state_(std::in_place_index<0>, std::forward<U>(value)) {}  // NOLINT

  bool ok() const { return state_.index() == 0; }
  explicit operator bool() const { return ok(); }

  T& value() & { assert(ok()); return *std::get_if<0>(&state_); }
  const T& value() const& { assert(ok()); return *std::get_if<0>(&state_); }
  T&& value() && { assert(ok()); return std::move(*std::get_if<0>(&state_)); }
  T& operator*() & { return value(); }
  const T& operator*() const& { return value(); }
  T&& operator*() && { return std::move(*this).value(); }
  T* operator->() { return &value(); }
  const T* operator->() const { return &value(); }
  T value_or(T other) && { return ok() ? std::move(value()) : std::move(other); }

  Error& error() & { assert(!ok()); return *std::get_if<1>(&state_); }
  const Error& error() const& { assert(!ok()); return *std::get_if<1>(&state_); }
  Error&& error() && { assert(!ok()); return std::move(*std::get_if<1>(&state_)); }

 private:
  std::variant<T, Error> state_;
};

template <>
class [[nodiscard]] Result<void> {
 public:
  using value_type = void;
  Result() = default;
  Result(Error error) : error_(std::move(error)), ok_(false) {}  // NOLINT

  bool ok() const { return ok_; }
  explicit operator bool() const { return ok_; }
  void value() const { assert(ok_); }
  Error& error() & { assert(!ok_); return error_; }
  const Error& error() const& { assert(!ok_); return error_; }
  Error&& error() && { assert(!ok_); return std::move(error_); }

 private:
  Error error_;
  bool ok_ = true;
};

using Status = Result<void>;

}  // namespace layerfs

// NOLINTNEXTLINE: a statement expression is the point.
#define TRY(expr)                                                   \
  ({                                                                \
    auto try_result_ = (expr);                                      \
    if (!try_result_.ok()) return std::move(try_result_).error();   \
    std::move(try_result_).value();                                 \
  })
