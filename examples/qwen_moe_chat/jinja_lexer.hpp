// Templates as pieces and tokens, with the rules of white space applied (trim_blocks, lstrip_blocks, {%- -%})
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace qwen::jinja {

struct token {
    enum class type : std::uint8_t { name, number, string, symbol, end };
    type kind = type::end;
    std::string text;
    int line = 0;
};

/// A piece of the template: text, {{ ... }} or {% ... %}.
struct piece {
    enum class type : std::uint8_t { text, output, statement };
    type kind = type::text;
    std::string text;
    std::vector<token> tokens;
    int line = 1;
};

/// Cuts a template. Throws hlwq::format_error, naming `name` and the line.
std::vector<piece> cut_template(std::string_view source, const std::string& name);

/// Throws hlwq::format_error "name, line n: problem".
[[noreturn]] void fail_at(const std::string& name, int line, const std::string& problem);

}  // namespace qwen::jinja
