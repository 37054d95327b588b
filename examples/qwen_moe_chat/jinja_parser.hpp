// Templates as trees: what the parser makes and the evaluator walks
#pragma once

#include "qwen_moe_chat/jinja_value.hpp"

#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace qwen::jinja {

struct expression;
using expression_ptr = std::unique_ptr<const expression>;

/// One node of an expression; which members count depends on `kind`.
struct expression {
    enum class type : std::uint8_t {
        literal,      // constant
        name,         // text
        list,         // parts
        mapping,      // parts: key, value, key, value
        attribute,    // parts[0].text
        index,        // parts[0][parts[1]]
        slice,        // parts[0][parts[1]:parts[2]:parts[3]], absent parts null
        call,         // parts[0](parts[1..], named)
        filter,       // parts[0] | text(parts[1..], named)
        test,         // parts[0] is text(parts[1..]); negated
        unary,        // text parts[0]
        binary,       // parts[0] text parts[1]
        conditional,  // parts[1] if parts[0] else parts[2], which may be null
    };
    type kind = type::literal;
    int line = 0;
    int height = 1;  // of the tree below
    std::string text;
    value constant;
    bool negated = false;
    std::vector<expression_ptr> parts;
    std::vector<std::pair<std::string, expression_ptr>> named;
};

struct statement;
using statements = std::vector<std::unique_ptr<const statement>>;

/// One statement; which members count depends on `kind`.
struct statement {
    enum class type : std::uint8_t {
        text,        // text
        output,      // condition
        set,         // names = condition, or names = body if there is no condition
        set_member,  // names[0].names[1] = condition
        branch,      // if condition: body, else: otherwise
        loop,        // for names in condition [if filter]: body, else: otherwise
        macro,       // text(names, defaults): body
        stop,        // break
        next,        // continue
        block        // body
    };
    type kind = type::text;
    int line = 0;
    std::string text;
    std::vector<std::string> names;
    expression_ptr condition;
    expression_ptr filter;
    std::vector<expression_ptr> defaults;
    statements body;
    statements otherwise;
};

/// Parses a template with trim_blocks and lstrip_blocks. Throws hlwq::format_error, naming `name` and the line.
statements parse(std::string_view source, const std::string& name);

}  // namespace qwen::jinja
