#include "hlwq/io/json.hpp"

#include <doctest/doctest.h>

#include <string>
#include <string_view>

namespace {

/// Why a text is no JSON; empty if it is.
std::string problem(std::string_view text) {
    std::string found;
    const bool discarded = hlwq::io::parse_json(text, &found).is_discarded();
    CHECK(discarded == hlwq::io::parse_json<nlohmann::ordered_json>(text).is_discarded());
    CHECK(discarded != found.empty());
    return found;
}

std::string nested(std::size_t depth) { return std::string(depth, '[') + std::string(depth, ']'); }

}  // namespace

TEST_CASE("values are what nlohmann's parser makes of them") {
    CHECK(hlwq::io::parse_json(" {\"b\": [1, 2.5, null], \"a\": \"x\\u0000\"} \n").dump() ==
          "{\"a\":\"x\\u0000\",\"b\":[1,2.5,null]}");
    CHECK(hlwq::io::parse_json<nlohmann::ordered_json>("{\"b\": 1, \"a\": 2}").dump() == "{\"b\":1,\"a\":2}");
    CHECK(hlwq::io::parse_json("null").is_null());
}

TEST_CASE("what is no JSON is discarded with the reason") {
    CHECK(problem("") == "nothing");
    CHECK(problem(" \n") == "nothing");
    CHECK(problem("{") == "a syntax error at byte 2");
    CHECK(problem("{} {}") == "a syntax error at byte 4");
    CHECK(problem("[1e999]") == "a number beyond all bounds");
    CHECK(problem("[\"\xff\"]").starts_with("a syntax error at byte "));
    // The parser takes a zero byte for the end.
    CHECK(problem(std::string_view("{}\0", 3)) == "a zero byte at byte 2");
    CHECK(problem(std::string_view("{}\0hidden", 9)) == "a zero byte at byte 2");
    CHECK(problem(std::string_view("\0{}", 3)) == "a zero byte at byte 0");
    CHECK(problem(std::string_view("[\"a\0b\"]", 7)) == "a zero byte at byte 3");
}

TEST_CASE("nesting is bounded") {
    CHECK(problem(nested(64)).empty());
    CHECK(problem(nested(65)) == "nesting deeper than 64");
    CHECK(problem(nested(1'000'000)) == "nesting deeper than 64");
    CHECK(problem(std::string(1'000'000, '[')).starts_with("a syntax error"));
}
