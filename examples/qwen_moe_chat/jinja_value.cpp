#include "qwen_moe_chat/jinja_value.hpp"

#include "qwen_moe_chat/utf8.hpp"

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>

namespace qwen::jinja {

namespace {

std::string quoted_json(const std::string& text) {
    std::string out = "\"";
    for (const char c : text) {
        switch (c) {
            case '"': out += "\\\""; break;
            case '\\': out += "\\\\"; break;
            case '\n': out += "\\n"; break;
            case '\r': out += "\\r"; break;
            case '\t': out += "\\t"; break;
            case '\b': out += "\\b"; break;
            case '\f': out += "\\f"; break;
            default:
                if (static_cast<unsigned char>(c) < 0x20) {
                    std::array<char, 8> code{};
                    std::snprintf(code.data(), code.size(), "\\u%04x", static_cast<unsigned>(c));
                    out += code.data();
                } else {
                    out += c;
                }
        }
    }
    return out + "\"";
}

/// repr() of a string: single quotes unless only those occur inside.
std::string quoted_python(const std::string& text) {
    const bool single = text.find('\'') != std::string::npos && text.find('"') == std::string::npos;
    const char quote = single ? '"' : '\'';
    std::string out(1, quote);
    for (const char c : text) {
        if (c == quote || c == '\\') {
            out += '\\';
            out += c;
        } else if (c == '\n') {
            out += "\\n";
        } else if (c == '\r') {
            out += "\\r";
        } else if (c == '\t') {
            out += "\\t";
        } else if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) {
            std::array<char, 8> code{};
            std::snprintf(code.data(), code.size(), "\\x%02x", static_cast<unsigned>(c));
            out += code.data();
        } else {
            out += c;
        }
    }
    return out + quote;
}

std::string number_text(const json& v) {
    if (v.is_number_unsigned()) return std::to_string(v.get<std::uint64_t>());
    if (v.is_number_integer()) return std::to_string(v.get<std::int64_t>());
    return float_text(v.get<double>());
}

/// str() at the top, repr() inside lists and mappings.
std::string python_text(const json& v, bool inside) {
    switch (v.type()) {
        case json::value_t::null: return "None";
        case json::value_t::boolean: return v.get<bool>() ? "True" : "False";
        case json::value_t::string: return inside ? quoted_python(v.get<std::string>()) : v.get<std::string>();
        case json::value_t::array: {
            std::string out = "[";
            for (const auto& item : v) out += (out.size() > 1 ? ", " : "") + python_text(item, true);
            return out + "]";
        }
        case json::value_t::object: {
            std::string out = "{";
            for (const auto& [key, item] : v.items()) {
                out += (out.size() > 1 ? ", " : "") + quoted_python(key) + ": " + python_text(item, true);
            }
            return out + "}";
        }
        default: return number_text(v);
    }
}

void write_json(const json& v, int indent, int depth, std::string& out) {
    const auto line = [&](int level) {
        if (indent >= 0) out += "\n" + std::string(static_cast<std::size_t>(indent * level), ' ');
    };
    const std::string_view comma = indent >= 0 ? "," : ", ";
    if (v.is_array() || v.is_object()) {
        const bool list = v.is_array();
        out += list ? '[' : '{';
        bool first = true;
        for (auto at = v.begin(); at != v.end(); ++at) {
            if (!std::exchange(first, false)) out += comma;
            line(depth + 1);
            if (!list) out += quoted_json(at.key()) + ": ";
            write_json(*at, indent, depth + 1, out);
        }
        if (!first) line(depth);
        out += list ? ']' : '}';
    } else if (v.is_string()) {
        out += quoted_json(v.get_ref<const std::string&>());
    } else if (v.is_null()) {
        out += "null";
    } else if (v.is_boolean()) {
        out += v.get<bool>() ? "true" : "false";
    } else {
        out += number_text(v);
    }
}

}  // namespace

bool is_true(const value& v) {
    if (v.list) return !v.list->empty();
    if (!v.data) return !v.undefined();
    switch (v.data->type()) {
        case json::value_t::null: return false;
        case json::value_t::boolean: return v.data->get<bool>();
        case json::value_t::string: return !v.text().empty();
        case json::value_t::array:
        case json::value_t::object: return !v.data->empty();
        default: return v.data->get<double>() != 0.0;
    }
}

bool equal(const value& a, const value& b) {
    if (a.undefined() || b.undefined()) return a.undefined() && b.undefined();
    if (a.data && b.data) {
        // In Python True == 1, and no string equals a number.
        const auto number = [](const json& v) { return v.is_boolean() ? json(v.get<bool>() ? 1 : 0) : v; };
        return number(*a.data) == number(*b.data);
    }
    return a.space == b.space && a.function == b.function && a.list == b.list;
}

std::string to_text(const value& v) {
    if (v.data) return python_text(*v.data, false);
    if (v.list) {
        std::string out = "[";
        for (const auto& item : *v.list) {
            out += (out.size() > 1 ? ", " : "") + (item.data ? python_text(*item.data, true) : to_text(item));
        }
        return out + "]";
    }
    return v.undefined() ? std::string() : std::string(v.space ? "<Namespace>" : "<function>");
}

std::string to_json(const json& v, int indent) {
    std::string out;
    write_json(v, indent, 0, out);
    return out;
}

std::string float_text(double number) {
    if (std::isnan(number)) return "NaN";
    if (std::isinf(number)) return number > 0 ? "Infinity" : "-Infinity";
    std::array<char, 64> buffer{};
    // Python changes to an exponent below 1e-4 and from 1e16 on.
    const double size = std::fabs(number);
    const bool plain = size == 0.0 || (size >= 1e-4 && size < 1e16);
    const auto end = std::to_chars(buffer.data(), buffer.data() + buffer.size(), number,
                                   plain ? std::chars_format::fixed : std::chars_format::scientific);
    std::string text(buffer.data(), end.ptr);
    if (plain && text.find('.') == std::string::npos) text += ".0";
    return text;
}

std::vector<std::string_view> characters(std::string_view text) {
    std::vector<std::string_view> list;
    for (std::size_t i = 0; i < text.size();) {
        const auto length = static_cast<std::size_t>(std::abs(character_length(text.substr(i))));
        list.push_back(text.substr(i, length));
        i += length;
    }
    return list;
}

std::string_view strip(std::string_view text, bool left, bool right) {
    const auto is_space = [](std::string_view character) {
        const char32_t c = code_point(character);
        return (c >= 9 && c <= 13) || (c >= 0x1c && c <= 0x20) || c == 0x85 || c == 0xa0 || c == 0x1680 ||
               (c >= 0x2000 && c <= 0x200a) || c == 0x2028 || c == 0x2029 || c == 0x202f || c == 0x205f || c == 0x3000;
    };
    const auto list = characters(text);
    std::size_t begin = 0, end = list.size();
    while (left && begin < end && is_space(list[begin])) ++begin;
    while (right && end > begin && is_space(list[end - 1])) --end;
    if (begin == end) return {};
    return text.substr(static_cast<std::size_t>(list[begin].data() - text.data()),
                       static_cast<std::size_t>(list[end - 1].data() + list[end - 1].size() - list[begin].data()));
}

}  // namespace qwen::jinja
