// Filters, tests and methods of templates, and what they share with the evaluator
//
//   filters  abs count d default first int items join last length list lower replace reverse safe string tojson trim
//            upper
//   tests    boolean callable defined divisibleby eq equalto even false float in integer iterable mapping ne none
//            number odd sequence string true undefined
//   methods  of strings: endswith lower lstrip replace rstrip split startswith strip upper; of mappings: get items keys
//            values
#pragma once

#include "qwen_moe_chat/jinja_lexer.hpp"
#include "qwen_moe_chat/jinja_value.hpp"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace qwen::jinja {

/// Bounds of what a template may build.
inline constexpr std::size_t longest_text = std::size_t{64} << 20;
inline constexpr int most_levels = 100;

/// Where an evaluation stands, for messages, and how much it may still do.
struct reporter {
    const std::string& name;
    int line;
    mutable std::size_t left;

    [[noreturn]] void fail(const std::string& problem) const { fail_at(name, line, problem); }
    /// Pays for work: some nanoseconds, or a walk over a text or a value.
    void charge(std::size_t work) const { require(std::exchange(left, left - std::min(work, left)) > work); }
    void charge(std::string_view text) const { require(spend(text, left)); }
    void charge(const value& v) const { require(spend(v, left)); }

  private:
    void require(bool enough) const {
        if (!enough) fail("the template does not come to an end");
    }
};

/// A list; it stays data where all of its items are.
value make_list(std::vector<value> items, const reporter& report);
/// `v`, unless its lists and mappings are nested too deep.
value checked(value v, const reporter& report);
/// str(v), paid for.
std::string text_of(const value& v, const reporter& report);
/// The items of something that a loop or a filter walks over; none of nothing.
std::vector<value> elements(const value& v, const reporter& report);
/// How many they are.
std::size_t length_of(const value& v, const reporter& report);
/// The item at a place, from the end if it is negative; undefined beyond the ends.
value item_at(const value& v, std::int64_t place, const reporter& report);
/// Python's `part in whole`.
bool contains(const value& whole, const value& part, const reporter& report);
/// The data of a value that has to be data; `where` stands for the place in the message.
const json& data_of(const value& v, const char* where, const reporter& report);

// Unknown names are errors.
value apply_filter(const std::string& name, const value& v, const arguments& a, const reporter& report);
bool apply_test(const std::string& name, const value& v, const arguments& a, const reporter& report);
value call_method(const std::string& name, const value& object, const arguments& a, const reporter& report);

}  // namespace qwen::jinja
