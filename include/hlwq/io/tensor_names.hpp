// hlwq/io/tensor_names.hpp — how checkpoints spell the parts of a quantized matrix, and what the matrix is called
//
// A key is a base and a suffix that says which part it is:
//   prefix.codes  .codes_packed  .norms  .ct  .ct_scaled             prefix = name without ".weight"
//   base__codes  base__packed  base__norms  base__meta  base__ct     base = name, or the name with "__" for "."
//
// A base names a matrix, or one expert's slice of a fused tensor [experts, rows, cols]. Every spelling of slice e of
// `A.experts.leaf` becomes the one name `A.experts.<e>.leaf.weight`:
//   A.experts.leaf_e<e>     A.experts.leaf.<e>     A.experts.<e>.leaf        each with or without ".weight" behind it,
//                                                                             dotted or mangled
// `A.experts.<e>.down_proj` is a slice only where the same layer has `A.experts.<e>.gate_up_proj`; beside `gate_proj`
// and `up_proj` it is an expert's own matrix. The reader knows its neighbours and decides.
//
// Example
//   const auto key = parse_part("model__layers__0__mlp__experts__down_proj_e17__packed");
//   parse_source(key->base, key->family).name;     // "model.layers.0.mlp.experts.17.down_proj.weight"
#pragma once

#include "hlwq/config.hpp"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace hlwq::checkpoint {

/// One expert's matrix within a fused tensor.
struct expert_slice {
    std::string fused;  // the tensor's name, without ".weight"
    std::uint64_t index = 0;
    friend bool operator==(const expert_slice&, const expert_slice&) = default;
};

/// What a key of a quantized matrix holds.
enum class part : std::uint8_t { codes, nibbles, packed, norms, meta, table, scaled_table };
inline constexpr std::size_t part_count = 7;

/// The two ways to join a base and a part.
enum class key_family : std::uint8_t { dotted, dunder };

struct part_key {
    std::string_view base;
    part kind;
    key_family family;
};

/// What a base stands for.
struct source_name {
    std::string name;                   // the matrix, dotted; of a certain slice, the one name that slices have
    std::optional<expert_slice> slice;  // set where the spelling is that of a slice
    bool needs_gate_up = false;         // ... which it is only if the same expert has a gate_up_proj
    bool mangled = false;
};

inline namespace HLWQ_CODE_NAMESPACE {

/// Base and part of a key; nothing for the name of a plain tensor.
inline std::optional<part_key> parse_part(std::string_view key) {
    struct suffix {
        std::string_view text;
        part kind;
        key_family family;
    };
    static constexpr suffix suffixes[] = {
        {".codes", part::codes, key_family::dotted},
        {".codes_packed", part::nibbles, key_family::dotted},
        {".norms", part::norms, key_family::dotted},
        {".ct", part::table, key_family::dotted},
        {".ct_scaled", part::scaled_table, key_family::dotted},
        {"__codes", part::codes, key_family::dunder},
        {"__packed", part::packed, key_family::dunder},
        {"__norms", part::norms, key_family::dunder},
        {"__meta", part::meta, key_family::dunder},
        {"__ct", part::table, key_family::dunder},
    };
    for (const suffix& s : suffixes) {
        if (key.size() > s.text.size() && key.ends_with(s.text)) {
            return part_key{key.substr(0, key.size() - s.text.size()), s.kind, s.family};
        }
    }
    return std::nullopt;
}

/// "a.b" for "a__b".
inline std::string unmangle(std::string_view text) {
    std::string name;
    name.reserve(text.size());
    for (std::size_t i = 0; i < text.size(); ++i) {
        const bool joint = text.substr(i).starts_with("__");
        name += joint ? '.' : text[i];
        if (joint) ++i;
    }
    return name;
}

/// The name without ".weight" at its end.
inline std::string_view without_weight(std::string_view name) noexcept {
    constexpr std::string_view weight = ".weight";
    return name.ends_with(weight) ? name.substr(0, name.size() - weight.size()) : name;
}

/// The part of a dotted name behind its last dot.
inline std::string_view last_segment(std::string_view name) noexcept {
    const std::size_t dot = name.rfind('.');
    return dot == std::string_view::npos ? name : name.substr(dot + 1);
}

/// Whether one of the dotted parts of `name` is `segment`.
inline bool has_segment(std::string_view name, std::string_view segment) noexcept {
    while (true) {
        const std::size_t dot = name.find('.');
        if (name.substr(0, dot) == segment) return true;
        if (dot == std::string_view::npos) return false;
        name.remove_prefix(dot + 1);
    }
}

/// Whether `name` belongs to an image or sound encoder beside the language model.
inline bool is_vision(std::string_view name) noexcept {
    for (const std::string_view segment : {"visual", "vision_tower", "vision_model", "vision_encoder",
                                           "multi_modal_projector", "embed_vision", "audio_tower", "embed_audio"}) {
        if (has_segment(name, segment)) return true;
    }
    return false;
}

/// The number that `text` spells: decimal, no sign, no leading zeros, at most nine digits.
inline std::optional<std::uint64_t> parse_index(std::string_view text) noexcept {
    if (text.empty() || text.size() > 9 || (text.size() > 1 && text[0] == '0')) return std::nullopt;
    std::uint64_t value = 0;
    for (const char c : text) {
        if (c < '0' || c > '9') return std::nullopt;
        value = value * 10 + static_cast<std::uint64_t>(c - '0');
    }
    return value;
}

/// The name of one slice as a matrix of its own: `A.experts.<e>.leaf.weight`, or `A.<e>.weight` for a tensor that is
/// not in a folder of experts.
inline std::string slice_name(std::string_view fused, std::uint64_t index) {
    fused = without_weight(fused);
    const std::string_view leaf = last_segment(fused);
    if (leaf.size() < fused.size()) {
        const std::string_view folder = fused.substr(0, fused.size() - leaf.size() - 1);
        if (last_segment(folder) == "experts") {
            return std::string(folder) + "." + std::to_string(index) + "." + std::string(leaf) + ".weight";
        }
    }
    return std::string(fused) + "." + std::to_string(index) + ".weight";
}

namespace detail {

/// The slice that a dotted name without ".weight" spells, and whether its neighbours decide.
inline std::optional<expert_slice> parse_slice(std::string_view name, bool& needs_gate_up) {
    const std::string_view leaf = last_segment(name);
    if (const std::size_t mark = leaf.rfind("_e"); mark != std::string_view::npos && mark > 0) {
        const auto index = parse_index(leaf.substr(mark + 2));
        const std::string_view head = without_weight(name.substr(0, name.size() - leaf.size() + mark));
        if (index && (has_segment(name, "experts") || last_segment(head).ends_with("_proj"))) {
            return expert_slice{std::string(head), *index};
        }
    }
    if (leaf.size() == name.size()) return std::nullopt;
    const std::string_view rest = name.substr(0, name.size() - leaf.size() - 1);
    if (const auto index = parse_index(leaf);
        index && last_segment(rest) != "experts" && has_segment(rest, "experts")) {
        return expert_slice{std::string(without_weight(rest)), *index};
    }
    const std::string_view number = last_segment(rest);
    if (number.size() == rest.size()) return std::nullopt;
    const std::string_view folder = rest.substr(0, rest.size() - number.size() - 1);
    if (const auto index = parse_index(number);
        index && last_segment(folder) == "experts" && (leaf == "gate_up_proj" || leaf == "down_proj")) {
        needs_gate_up = leaf == "down_proj";
        return expert_slice{std::string(folder) + "." + std::string(leaf), *index};
    }
    return std::nullopt;
}

}  // namespace detail

/// The matrix that a base stands for.
inline source_name parse_source(std::string_view base, key_family family) {
    source_name source;
    constexpr std::string_view mangled_weight = "__weight";
    std::string_view stem = without_weight(base);
    bool weight = stem.size() < base.size() || family == key_family::dotted;
    std::string dotted(stem);
    if (stem.find('.') == std::string_view::npos && stem.find("__") != std::string_view::npos) {
        source.mangled = true;
        if (stem.ends_with(mangled_weight)) {
            stem.remove_suffix(mangled_weight.size());
            weight = true;
        }
        dotted = unmangle(stem);
    }
    source.slice = detail::parse_slice(dotted, source.needs_gate_up);
    source.name = source.slice && !source.needs_gate_up ? slice_name(source.slice->fused, source.slice->index)
                                                        : dotted + (weight ? ".weight" : "");
    return source;
}

}  // namespace HLWQ_CODE_NAMESPACE
}  // namespace hlwq::checkpoint
