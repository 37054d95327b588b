// Values of templates, and how Python writes them
#pragma once

#include <nlohmann/json.hpp>

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace qwen::jinja {

using json = nlohmann::ordered_json;
struct value;

/// Positional and named arguments of a call.
struct arguments {
    std::vector<value> positional;
    std::vector<std::pair<std::string, value>> named;
};

/// A namespace(), the one kind of object that templates change, or the variable `loop`, which they do not.
struct mutable_namespace {
    std::map<std::string, value, std::less<>> members;
    bool is_loop = false;
};

/// Data, a namespace, something to call, or nothing at all.
struct value {
    std::shared_ptr<const json> data;
    std::shared_ptr<mutable_namespace> space;
    std::shared_ptr<const std::function<value(const arguments&)>> function;
    std::shared_ptr<const std::vector<value>> list;  // a list that holds more than data
    int levels = 0;                                  // of lists and mappings, at most

    value() = default;  // undefined
    value(json content);

    bool undefined() const { return !data && !space && !function && !list; }
    bool is_none() const { return data && data->is_null(); }
    bool is_string() const { return data && data->is_string(); }
    bool is_mapping() const { return data && data->is_object(); }
    bool is_sequence() const { return list || (data && (data->is_array() || data->is_string())); }
    bool is_number() const { return data && data->is_number(); }
    const std::string& text() const { return data->get_ref<const std::string&>(); }
    /// A part of this value's data, kept alive by it.
    value part(const json& inside) const {
        value v;
        v.data = std::shared_ptr<const json>(data, &inside);
        v.levels = levels > 0 ? levels - 1 : 0;
        return v;
    }
};

/// Takes from `left` what it costs to walk over a text or a value, about one for a nanosecond; false, early, if that is
/// more than is left.
bool spend(std::string_view text, std::size_t& left);
bool spend(const value& v, std::size_t& left);

/// Python's truth.
bool is_true(const value& v);
/// Python's ==.
bool equal(const value& a, const value& b);
/// str(v)
std::string to_text(const value& v);
/// json.dumps(v, ensure_ascii=False, indent=indent); indent below zero for one line.
std::string to_json(const json& v, int indent = -1);
/// Shortest form of a float as Python prints it: 1.0, 1e+16, 2.5e-07.
std::string float_text(double number);
/// What Python's str.strip() takes off: Unicode white space and U+001C to U+001F.
std::string_view strip(std::string_view text, bool left, bool right);
/// Place of `part` in `whole` from `begin` on, or npos; linear in both, which std::string_view::find is not.
std::size_t find_text(std::string_view whole, std::string_view part, std::size_t begin = 0);
/// The characters of a UTF-8 text.
std::vector<std::string_view> characters(std::string_view text);

}  // namespace qwen::jinja
