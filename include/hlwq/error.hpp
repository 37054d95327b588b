// hlwq/error.hpp — the errors of the library, and the check at its door
//
// One sentence, in the same order always: what, where, expected, found.
//   gemv output: expected 2048, found 2047
//   norms of model.layers.3.mlp.down_proj.weight (model-00002.safetensors): expected F16 [2048, 4], found F16 [2048, 5]
//
// Public functions check and throw; kernels are noexcept and promise. Without exceptions every throw becomes a call
// of `hlwq::fatal_handler`, which by default prints the sentence and aborts.
#pragma once

#include "hlwq/config.hpp"

#include <cerrno>
#include <concepts>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <stdexcept>
#include <string>
#include <string_view>
#include <type_traits>

namespace hlwq {

/// Base of everything that the library throws.
class error : public std::runtime_error {
  public:
    explicit error(const std::string& message) : std::runtime_error(message) {}
};
/// A span or matrix has the wrong size, or an argument is out of range: the caller's mistake.
class shape_error : public error {
  public:
    explicit shape_error(const std::string& message) : error(message) {}
};
/// A weight is NaN or infinite, or a norm does not fit into half precision; names tensor, row and column.
class value_error : public error {
  public:
    explicit value_error(const std::string& message) : error(message) {}
};
/// The bytes of a file contradict its format.
class format_error : public error {
  public:
    explicit format_error(const std::string& message) : error(message) {}
};
/// Legal, but not implemented here.
class unsupported_error : public error {
  public:
    explicit unsupported_error(const std::string& message) : error(message) {}
};
/// The operating system refused; `code()` is its errno.
class io_error : public error {
  public:
    io_error(const std::string& message, int code)
        : error(code == 0 ? message : message + ": " + std::strerror(code)), code_(code) {}
    int code() const noexcept { return code_; }

  private:
    int code_;
};

using fatal_function = void (*)(const char* message);

/// Called instead of a throw when the library is compiled without exceptions. A handler of your own must not return;
/// if it does, the program aborts.
inline fatal_function fatal_handler = [](const char* message) { std::fprintf(stderr, "hlwq: error: %s\n", message); };

inline namespace HLWQ_CODE_NAMESPACE {

/// Throws `Error(message)`, or ends the program through `fatal_handler` where there are no exceptions.
template <class Error>
[[noreturn]] HLWQ_COLD void throw_error(const std::string& message) {
#if defined(HLWQ_NO_EXCEPTIONS)
    fatal_handler(message.c_str());
    std::abort();
#else
    throw Error(message);
#endif
}

/// Throws an io_error that carries `code`, an errno value.
[[noreturn]] HLWQ_COLD inline void throw_io_error(const std::string& message, int code) {
#if defined(HLWQ_NO_EXCEPTIONS)
    fatal_handler(io_error(message, code).what());
    std::abort();
#else
    throw io_error(message, code);
#endif
}

namespace detail {

inline std::string to_text(std::string_view text) { return std::string(text); }
template <class T>
requires std::integral<T> || std::floating_point<T> std::string to_text(T number) { return std::to_string(number); }

template <class Error, class Expected, class Found>
[[noreturn]] HLWQ_COLD void throw_mismatch(std::string_view what, const Expected& expected, const Found& found) {
    throw_error<Error>(std::string(what) + ": expected " + to_text(expected) + ", found " + to_text(found));
}

}  // namespace detail
}  // namespace HLWQ_CODE_NAMESPACE
}  // namespace hlwq

/// Precondition of a public function: throws `Error` with "what: expected E, found F" unless `condition`. On in every
/// build; only where HLWQ_PROMISED says that somebody else has checked, nothing is compiled.
#define HLWQ_EXPECTS(condition, Error, what, expected, found)                 \
    do {                                                                      \
        if constexpr (::hlwq::detail::checks) {                               \
            if (!(condition)) [[unlikely]]                                    \
                ::hlwq::detail::throw_mismatch<Error>(what, expected, found); \
        }                                                                     \
    } while (false)
