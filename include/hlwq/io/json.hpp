// hlwq/io/json.hpp — JSON from outside: what nlohmann's parser leaves to its caller
//
// The parser takes a zero byte for the end of its input and would not look at what follows; it nests as deep as the
// text says, and comparing or printing such a value takes stack for every level. Here both are no JSON.
//
// Example
//   std::string found;
//   const auto value = hlwq::io::parse_json(text, &found);
//   if (value.is_discarded()) throw_error<format_error>(where + ": expected JSON, found " + found);
#pragma once

#include "hlwq/config.hpp"

#include <nlohmann/json.hpp>

#include <cstddef>
#include <string>
#include <string_view>

namespace hlwq::io {

inline namespace HLWQ_CODE_NAMESPACE {

/// Levels of lists and objects that a JSON text may have.
inline constexpr int deepest_json = 64;

/// Place of the first byte that ends the parser's input before its time; npos if there is none.
inline std::size_t find_zero_byte(std::string_view text) noexcept { return text.find('\0'); }

/// The value of a JSON text; discarded if it is none, and `found` then says why: "a syntax error at byte 7".
template <class Json = nlohmann::json>
Json parse_json(std::string_view text, std::string* found = nullptr) {
    std::string why;
    Json value(Json::value_t::discarded);
    bool too_deep = false;
    using event = typename Json::parse_event_t;
    const typename Json::parser_callback_t watch = [&](int depth, event what, Json&) {
        const bool opens = what == event::array_start || what == event::object_start;
        too_deep |= opens && depth >= deepest_json;  // levels around it
        return !too_deep;
    };
    if (const std::size_t at = find_zero_byte(text); at != std::string_view::npos) {
        why = "a zero byte at byte " + std::to_string(at);
    } else if (text.find_first_not_of(" \t\r\n") == std::string_view::npos) {
        why = "nothing";
    } else {
        try {
            value = Json::parse(text.begin(), text.end(), watch);
            if (too_deep) why = "nesting deeper than " + std::to_string(deepest_json);
        } catch (const typename Json::parse_error& error) {
            why = "a syntax error at byte " + std::to_string(error.byte);
        } catch (const typename Json::exception&) {
            why = "a number beyond all bounds";
        }
    }
    if (why.empty()) return value;
    if (found != nullptr) *found = why;
    return Json(Json::value_t::discarded);
}

}  // namespace HLWQ_CODE_NAMESPACE
}  // namespace hlwq::io
