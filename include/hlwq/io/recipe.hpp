// hlwq/io/recipe.hpp — which tensors are quantized, with how many bits, and what came of it
//
// A recipe is a list of lines `regex = bits` or `regex = keep` above a policy. The first line whose regex is found in
// the tensor's name decides; a tensor that no line matches goes to the policy:
//   published-moe   linear layers and expert slices at 5 bits; embeddings, head, norms, routers, small projections of
//                   linear attention, vision and MTP kept                                         (formats 1.4, R3)
//   package         what the original's package does: mixed bits by name, everything 2-D          (R1)
//   linear-layers   every linear layer, head included                                             (R2)
//   video           every matrix but norms, modulation, patch and time embeddings                 (R4)
//
// Whatever the recipe says, tensors that are not floating point, vectors, and tensors of three or more dimensions that
// are not stacked experts are kept. Stacked experts [experts, rows, cols] are decided as a whole and quantized slice
// by slice. A tensor of two or more dimensions and at least 65,536 elements that no rule knows is `unknown`: the
// caller stops, so that nothing large is skipped unseen.
//
//   throws   format_error, naming file and line, for a recipe that cannot be read
//
// Example
//   const hlwq::checkpoint::recipe recipe = hlwq::checkpoint::recipe::parse("lm_head = 6\nexperts\\. = 4\n");
//   recipe.decide("lm_head.weight", hlwq::safetensors::dtype::bf16, shape).bits;    // 6
#pragma once

#include "hlwq/config.hpp"
#include "hlwq/error.hpp"
#include "hlwq/quantize.hpp"
#include "hlwq/io/safetensors.hpp"
#include "hlwq/io/tensor_names.hpp"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <initializer_list>
#include <optional>
#include <regex>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace hlwq::checkpoint {

/// The rules below a recipe's own lines.
enum class policy_id : std::uint8_t { published_moe, package, linear_layers, video };

/// What happens to one tensor, and the rule that says so.
struct decision {
    enum class action : std::uint8_t { keep, quantize, unknown };
    action what = action::keep;
    int bits = 16;
    std::string reason;
};

inline namespace HLWQ_CODE_NAMESPACE {

inline constexpr std::uint64_t unknown_large_elements = 65536;

/// "published-moe", "package", "linear-layers" or "video".
constexpr std::string_view to_string(policy_id policy) noexcept {
    switch (policy) {
        case policy_id::package: return "package";
        case policy_id::linear_layers: return "linear-layers";
        case policy_id::video: return "video";
        case policy_id::published_moe: break;
    }
    return "published-moe";
}

/// The inverse of `to_string`; nothing for any other text.
constexpr std::optional<policy_id> parse_policy(std::string_view name) noexcept {
    for (const auto id : {policy_id::published_moe, policy_id::package, policy_id::linear_layers, policy_id::video})
        if (name == to_string(id)) return id;
    return std::nullopt;
}

namespace detail {

inline std::string lower(std::string_view text) {
    std::string result(text);
    for (char& c : result) c = c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
    return result;
}

inline bool contains_any(std::string_view text, std::initializer_list<std::string_view> words) noexcept {
    return std::any_of(words.begin(), words.end(),
                       [&](std::string_view word) { return text.find(word) != std::string_view::npos; });
}

/// Multi-token prediction: `mtp.*` beside the model, or inside it.
inline bool is_mtp(std::string_view name) noexcept { return has_segment(name, "mtp"); }

/// [experts, rows, cols], named as the fused tensors of mixture-of-experts layers are.
inline bool is_stacked_experts(std::string_view name, std::size_t rank) noexcept {
    return rank == 3 && has_segment(name, "experts") && without_weight(name).ends_with("_proj");
}

inline bool is_linear_leaf(std::string_view leaf) noexcept {
    return leaf.ends_with("_proj") || leaf.starts_with("in_proj_") ||
           std::ranges::any_of(std::array<std::string_view, 7>{"w1", "w2", "w3", "fc1", "fc2", "linear", "qkv"},
                               [&](std::string_view word) { return leaf == word; });
}

inline decision keep(std::string_view reason) { return {decision::action::keep, 16, std::string(reason)}; }
inline decision quantize_with(int bits, std::string_view reason) {
    return {decision::action::quantize, bits, std::string(reason)};
}

inline decision decide_published_moe(std::string_view name, std::size_t rank, std::uint64_t elements, int bits) {
    const std::string_view leaf = last_segment(without_weight(name));
    if (is_mtp(name)) return keep("multi-token prediction");
    if (is_vision(name)) return keep("vision");
    if (contains_any(lower(leaf), {"norm", "a_log", "dt_bias", "conv1d"}) || leaf == "bias") {
        return keep("norm, convolution or state parameter");
    }
    if (contains_any(name, {"embed"}) || has_segment(name, "lm_head")) return keep("embedding or head");
    if (leaf == "gate" || leaf == "shared_expert_gate" || contains_any(name, {"router"})) return keep("router");
    if (leaf == "in_proj_a" || leaf == "in_proj_b" || leaf == "in_proj_ba") {
        return keep("small projection of linear attention");
    }
    if (is_stacked_experts(name, rank)) return quantize_with(bits, "expert slices");
    if (rank == 2 && is_linear_leaf(leaf)) return quantize_with(bits, "linear layer");
    if (elements >= unknown_large_elements) return {decision::action::unknown, 16, "no rule knows this tensor"};
    return keep("small");
}

/// Rule set R1; widths are the package's own where none is asked for.
inline decision decide_package(std::string_view name, std::size_t rank, std::uint64_t elements,
                               std::optional<int> bits) {
    const std::string low = lower(name);
    if (elements < 256) return keep("fewer than 256 elements");
    if (contains_any(low, {"norm", "a_log", "dt_bias", "dt_proj", "conv1d"}) || contains_any(name, {".D", "A_log"})) {
        return keep("norm, convolution or state parameter");
    }
    if (name.ends_with(".gate.weight") || contains_any(low, {"router"})) return keep("router");
    if (rank != 2) return keep("not a matrix");
    if (bits) return quantize_with(*bits, "matrix");
    static constexpr std::pair<std::string_view, int> assignment[] = {
        {"embed", 5},    {"lm_head", 6},      {"q_proj", 5},    {"k_proj", 5},  {"v_proj", 5},    {"o_proj", 6},
        {"out_proj", 6}, {"gate_up_proj", 3}, {"gate_proj", 3}, {"up_proj", 3}, {"down_proj", 4}, {"in_proj", 5}};
    std::pair<std::string_view, int> longest{"", 5};
    for (const auto& entry : assignment) {
        if (entry.first.size() > longest.first.size() && name.find(entry.first) != std::string_view::npos) {
            longest = entry;
        }
    }
    return quantize_with(longest.second, longest.first.empty() ? "matrix" : longest.first);
}

inline decision decide_linear_layers(std::string_view name, std::size_t rank, int bits) {
    if (is_mtp(name)) return keep("multi-token prediction");
    if (is_vision(name)) return keep("vision");
    if (contains_any(lower(name), {"norm"})) return keep("norm");
    if (name.ends_with(".gate.weight") || contains_any(name, {"router"})) return keep("router");
    if (rank != 2 || !name.ends_with(".weight") || contains_any(name, {"embed"})) return keep("not a linear layer");
    return quantize_with(bits, "linear layer");
}

inline decision decide_video(std::string_view name, std::size_t rank, std::uint64_t elements, int bits) {
    if (name.starts_with("vae.") || name.starts_with("text_encoder")) return keep("VAE or text encoder");
    if (contains_any(name, {"norm", "modulation", "patch_embedding", "time_"})) {
        return keep("norm, modulation or embedding");
    }
    if (rank != 2 || elements <= 256) return keep("not a matrix of more than 256 elements");
    return quantize_with(bits, "matrix");
}

}  // namespace detail

/// Decides tensor by tensor.
class recipe {
  public:
    /// A policy alone. `bits` replaces the policy's own widths (5, mixed for `package`).
    explicit recipe(policy_id policy = policy_id::published_moe, std::optional<int> bits = {})
        : policy_(policy), bits_(bits) {
        if (bits) {
            HLWQ_EXPECTS(*bits >= 2 && *bits <= 8, unsupported_error, "bits of a recipe", "2 to 8", *bits);
        }
    }

    /// Lines of a recipe file above a policy; `source` stands for the file in messages.
    ///
    /// Blank lines and text behind `#` at the start of a line or after a blank do not count. The regex is
    /// ECMAScript, found anywhere in the name; the last `=` of the line ends it.
    static recipe parse(std::string_view text, policy_id policy = policy_id::published_moe,
                        std::optional<int> bits = {}, std::string_view source = "recipe") {
        recipe result(policy, bits);
        std::size_t number = 0;
        for (std::size_t at = 0; at < text.size();) {
            const std::size_t end = std::min(text.find('\n', at), text.size());
            ++number;
            result.add_line(text.substr(at, end - at), std::string(source) + ", line " + std::to_string(number));
            at = end + 1;
        }
        return result;
    }

    policy_id policy() const noexcept { return policy_; }

    /// One more rule behind the lines so far, above the policy: matrices in whose name the regex is found take `bits`.
    void add_rule(std::string_view pattern, int bits, std::string reason) {
        HLWQ_EXPECTS(bits >= 2 && bits <= 8, unsupported_error, "bits of a recipe", "2 to 8", bits);
        lines_.push_back({compile(pattern, reason), bits, reason});
    }

    /// What happens to a tensor of that name, element type and shape.
    decision decide(std::string_view name, safetensors::dtype type, std::span<const std::uint64_t> shape) const {
        const std::size_t rank = shape.size();
        std::uint64_t elements = 1;
        for (const std::uint64_t extent : shape) elements *= extent;
        if (!is_weight(type)) return detail::keep("no 16, 32 or 64-bit float");
        if (rank < 2) return detail::keep("vector");
        if (elements == 0) return detail::keep("empty");
        for (const line& l : lines_) {
            if (!l.matches(name)) continue;
            if (l.bits == 0) return detail::keep(l.reason);
            if (rank == 2 || detail::is_stacked_experts(name, rank)) return detail::quantize_with(l.bits, l.reason);
            return detail::keep("not a matrix (" + l.reason + ")");
        }
        switch (policy_) {
            case policy_id::package: return detail::decide_package(name, rank, elements, bits_);
            case policy_id::linear_layers: return detail::decide_linear_layers(name, rank, bits_.value_or(5));
            case policy_id::video: return detail::decide_video(name, rank, elements, bits_.value_or(5));
            case policy_id::published_moe: break;
        }
        return detail::decide_published_moe(name, rank, elements, bits_.value_or(5));
    }

  private:
    // Longer patterns are not written by hand, and what a regex engine needs for one grows with its length.
    static constexpr std::size_t longest_pattern = 400;
    static constexpr std::size_t longest_name = 1024;
    static constexpr std::size_t most_lines = 10000;

    struct line {
        std::regex pattern;
        int bits;  // 0 = keep
        std::string reason;

        bool matches(std::string_view name) const {
            name = name.substr(0, longest_name);
            return std::regex_search(name.begin(), name.end(), pattern);
        }
    };

    // Types that quantize() takes; 8-bit floats are somebody else's quantization.
    static bool is_weight(safetensors::dtype type) noexcept {
        return type == safetensors::dtype::bf16 || type == safetensors::dtype::f16 || type == safetensors::dtype::f32 ||
               type == safetensors::dtype::f64;
    }

    static std::string_view trim(std::string_view text) noexcept {
        constexpr std::string_view blanks = " \t\r";
        const std::size_t first = text.find_first_not_of(blanks);
        if (first == std::string_view::npos) return {};
        return text.substr(first, text.find_last_not_of(blanks) - first + 1);
    }

    static std::string_view without_comment(std::string_view text) noexcept {
        for (std::size_t i = 0; i < text.size(); ++i) {
            if (text[i] == '#' && (i == 0 || text[i - 1] == ' ' || text[i - 1] == '\t')) return text.substr(0, i);
        }
        return text;
    }

    void add_line(std::string_view raw, const std::string& where) {
        const std::string_view text = trim(without_comment(raw));
        if (text.empty()) return;
        const std::size_t equals = text.rfind('=');
        if (equals == std::string_view::npos) bad_line(where, "`regex = bits` or `regex = keep`", text);
        const std::string_view pattern = trim(text.substr(0, equals)), value = trim(text.substr(equals + 1));
        if (pattern.empty()) bad_line(where, "a regex before `=`", text);
        if (pattern.size() > longest_pattern) {
            bad_line(where, "a regex of at most " + std::to_string(longest_pattern) + " characters",
                     std::to_string(pattern.size()));
        }
        if (lines_.size() == most_lines) bad_line(where, "at most " + std::to_string(most_lines) + " lines", "more");
        const auto number = parse_index(value);
        if (value != "keep" && !(number && *number >= 2 && *number <= 8)) bad_line(where, "2 to 8 or `keep`", value);
        lines_.push_back({compile(pattern, where), value == "keep" ? 0 : static_cast<int>(*number),
                          where + ": " + std::string(pattern)});
    }

    static std::regex compile(std::string_view pattern, const std::string& where) {
        auto flags = std::regex::ECMAScript | std::regex::optimize;
#if defined(__GLIBCXX__)
        // Breadth first: time grows with pattern times name. Back-references, which need more, are refused.
        flags |= std::regex_constants::__polynomial;
#endif
#if defined(HLWQ_NO_EXCEPTIONS)
        return std::regex(pattern.begin(), pattern.end(), flags);
#else
        try {
            return std::regex(pattern.begin(), pattern.end(), flags);
        } catch (const std::regex_error& reason) {
            bad_line(where, "a regex (" + std::string(reason.what()) + ")", pattern);
        }
#endif
    }

    [[noreturn]] static void bad_line(const std::string& where, std::string_view expected, std::string_view found) {
        throw_error<format_error>(where + ": expected " + std::string(expected) + ", found " + std::string(found));
    }

    policy_id policy_;
    std::optional<int> bits_;
    std::vector<line> lines_;
};

/// A short kind for reports: "experts.gate_up_proj", "linear_attn.in_proj_qkv", "norm", "router", ...
inline std::string tensor_kind(std::string_view name) {
    if (detail::is_mtp(name)) return "mtp";
    if (is_vision(name)) return "vision";
    std::string_view stem = without_weight(name);
    if (stem.ends_with(".bias")) return "bias";
    const std::string_view leaf = last_segment(stem);
    if (leaf.find("norm") != std::string_view::npos) return "norm";
    if (leaf == "gate" || leaf == "router") return "router";
    std::vector<std::string_view> kept;
    while (true) {
        const std::size_t dot = stem.find('.');
        const std::string_view segment = stem.substr(0, dot);
        if (segment == "layers") kept.clear();
        const bool counts = segment != "model" && segment != "language_model" && segment != "layers" &&
                            segment != "mlp" && !parse_index(segment);
        if (counts) kept.push_back(segment);
        if (dot == std::string_view::npos) break;
        stem.remove_prefix(dot + 1);
    }
    if (kept.size() == 1 && name.find(".mlp.") != std::string_view::npos && kept[0].ends_with("_proj")) {
        return "mlp." + std::string(kept[0]);
    }
    std::string kind;
    for (std::size_t i = kept.size() > 2 ? kept.size() - 2 : 0; i < kept.size(); ++i) {
        kind += (kind.empty() ? "" : ".") + std::string(kept[i]);
    }
    return kind.empty() ? std::string(name) : kind;
}

/// Sums over the tensors of one kind that met the same fate.
struct coverage_row {
    std::string kind;
    decision::action what = decision::action::keep;
    int bits = 16;
    std::string reason;
    std::uint64_t count = 0;  // matrices; a fused tensor counts once per slice
    std::uint64_t parameters = 0;
    std::uint64_t bytes = 0;  // as stored
    quantization_error error;
    bool measured = false;
};

/// What happened to every tensor of a checkpoint.
class coverage {
  public:
    /// Adds `count` matrices of `parameters` weights together that take `bytes` in the output.
    void add(std::string_view name, const decision& d, std::uint64_t count, std::uint64_t parameters,
             std::uint64_t bytes, const std::optional<quantization_error>& error = {}) {
        coverage_row& row = find(tensor_kind(name), d);
        row.count += count;
        row.parameters += parameters;
        row.bytes += bytes;
        if (error) {
            row.error += *error;
            row.measured = true;
        }
    }

    /// Quantized kinds first, then by parameters.
    std::vector<coverage_row> rows() const {
        std::vector<coverage_row> sorted = rows_;
        std::stable_sort(sorted.begin(), sorted.end(), [](const coverage_row& a, const coverage_row& b) {
            const bool a_quantized = a.what == decision::action::quantize;
            const bool b_quantized = b.what == decision::action::quantize;
            if (a_quantized != b_quantized) return a_quantized;
            return a.parameters != b.parameters ? a.parameters > b.parameters : a.kind < b.kind;
        });
        return sorted;
    }

    /// Sums over all rows, or over the quantized ones.
    coverage_row total(bool quantized_only = false) const {
        coverage_row sum;
        sum.kind = quantized_only ? "quantized" : "total";
        for (const coverage_row& row : rows_) {
            if (quantized_only && row.what != decision::action::quantize) continue;
            sum.count += row.count;
            sum.parameters += row.parameters;
            sum.bytes += row.bytes;
            sum.error += row.error;
            sum.measured |= row.measured;
        }
        return sum;
    }

    /// Quantized parameters over all, 0 to 1.
    double fraction() const {
        const std::uint64_t all = total().parameters;
        return all == 0 ? 0.0 : static_cast<double>(total(true).parameters) / static_cast<double>(all);
    }

    /// Bits of the quantized tensors, norms included, over their parameters.
    double bits_per_weight() const { return bits_per_weight(total(true)); }

    /// A table for a terminal, one line per row and the sums; every line ends with a newline.
    std::string table() const {
        std::string text = format("kind", "action", "count", "parameters", "bytes", "bits/weight", "rel. MSE", "rule");
        for (const coverage_row& row : rows()) {
            const std::string action = row.what == decision::action::quantize ? "Q" + std::to_string(row.bits)
                                       : row.what == decision::action::keep   ? "keep"
                                                                              : "unknown";
            text += format(row, action, row.reason);
        }
        text += format(total(true), "", "");
        text += format(total(), "", "");
        return text;
    }

    /// [{kind, action, bits, count, parameters, bytes, reason, relative_mse}], the last one null where not measured.
    nlohmann::json to_json() const {
        nlohmann::json list = nlohmann::json::array();
        for (const coverage_row& row : rows()) {
            nlohmann::json entry{{"kind", row.kind},
                                 {"action", row.what == decision::action::quantize ? "quantize"
                                            : row.what == decision::action::keep   ? "keep"
                                                                                   : "unknown"},
                                 {"bits", row.bits},
                                 {"count", row.count},
                                 {"parameters", row.parameters},
                                 {"bytes", row.bytes},
                                 {"reason", row.reason},
                                 {"relative_mse", nullptr}};
            if (row.measured) entry["relative_mse"] = row.error.relative_mse();
            list.push_back(std::move(entry));
        }
        return list;
    }

  private:
    coverage_row& find(const std::string& kind, const decision& d) {
        for (coverage_row& row : rows_) {
            if (row.kind == kind && row.what == d.what && row.bits == d.bits && row.reason == d.reason) return row;
        }
        coverage_row& row = rows_.emplace_back();
        row.kind = kind;
        row.what = d.what;
        row.bits = d.bits;
        row.reason = d.reason;
        return row;
    }

    static double bits_per_weight(const coverage_row& row) {
        return row.parameters == 0 ? 0.0 : 8.0 * static_cast<double>(row.bytes) / static_cast<double>(row.parameters);
    }

    static std::string number(const char* form, double value) {
        char text[32];
        std::snprintf(text, sizeof text, form, value);
        return text;
    }

    static std::string format(const coverage_row& row, const std::string& action, const std::string& rule) {
        return format(row.kind, action, std::to_string(row.count), std::to_string(row.parameters),
                      std::to_string(row.bytes), number("%.3f", bits_per_weight(row)),
                      row.measured ? number("%.3e", row.error.relative_mse()) : "-", rule);
    }

    static std::string format(const std::string& kind, const std::string& action, const std::string& count,
                              const std::string& parameters, const std::string& bytes, const std::string& width,
                              const std::string& error, const std::string& rule) {
        const auto left = [](const std::string& text, std::size_t size) {
            return text + std::string(text.size() < size ? size - text.size() : 1, ' ');
        };
        const auto right = [](const std::string& text, std::size_t size) {
            return std::string(text.size() < size ? size - text.size() : 1, ' ') + text;
        };
        std::string line = left(kind, 30) + left(action, 8) + right(count, 8) + right(parameters, 16) +
                           right(bytes, 16) + right(width, 13) + right(error, 12) + "  " + rule;
        line.erase(line.find_last_not_of(' ') + 1);
        return line + "\n";
    }

    std::vector<coverage_row> rows_;
};

}  // namespace HLWQ_CODE_NAMESPACE
}  // namespace hlwq::checkpoint
