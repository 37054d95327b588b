#include "hlwq/error.hpp"

#include <doctest/doctest.h>

#include <cerrno>
#include <string>

namespace {

void expects(std::size_t found) { HLWQ_EXPECTS(found == 4, hlwq::shape_error, "gemv output", 4, found); }

}  // namespace

TEST_CASE("a failed precondition says what, expected, found") {
    CHECK_NOTHROW(expects(4));
    CHECK_THROWS_WITH_AS(expects(5), "gemv output: expected 4, found 5", hlwq::shape_error);
}

TEST_CASE("every error is caught as hlwq::error and as std::runtime_error") {
    CHECK_THROWS_AS(hlwq::throw_error<hlwq::shape_error>("m"), hlwq::error);
    CHECK_THROWS_AS(hlwq::throw_error<hlwq::value_error>("m"), hlwq::error);
    CHECK_THROWS_AS(hlwq::throw_error<hlwq::format_error>("m"), hlwq::error);
    CHECK_THROWS_AS(hlwq::throw_error<hlwq::unsupported_error>("m"), std::runtime_error);
    CHECK_THROWS_AS(hlwq::throw_io_error("m", EIO), hlwq::error);
}

TEST_CASE("io_error carries errno, in words too") {
    const hlwq::io_error error("model.safetensors", ENOENT);
    CHECK(error.code() == ENOENT);
    CHECK(std::string(error.what()) == "model.safetensors: No such file or directory");
    CHECK(std::string(hlwq::io_error("no errno", 0).what()) == "no errno");
}
