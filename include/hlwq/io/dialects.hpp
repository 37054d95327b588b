// hlwq/io/dialects.hpp — the published spellings of quantized checkpoints, and how each is recognised and opened
//
//   dialect            keys (tensor_names.hpp)            codes                              centroids
//   polar_v4           .codes .norms .ct_scaled           a byte each, nibbles up to 4 bits  stored, / sqrt(block)
//   polar_v5           the same                           ... or lsb stream at 5 bits        stored, / sqrt(block)
//   polar_v4_notebook  .codes_packed where nibbles        the same as polar_v4               stored, / sqrt(block)
//   polar_v5_notebook  .codes .norms .ct                  a byte each                        stored
//   dunder             __codes __norms, mangled           a byte each                        by name
//   multi              __packed __norms __meta, mangled   wire                               by name
//   hlwq               __packed __norms __meta, dotted    wire, or planes by configuration   by name
//
// Keys decide first, then element types and shapes (quantized_matrix.hpp), then polar_config.json. Centroids: the
// stored table; else "codebook" of polar_config.json; else what the statistics of codes of 5 bits and more say
// (codebook.hpp); else legacy_b for `__packed` and below 5 bits, legacy_a otherwise.
//
//   throws   format_error for keys that contradict each other; unsupported_error for formats of others
#pragma once

#include "hlwq/codebook.hpp"
#include "hlwq/config.hpp"
#include "hlwq/error.hpp"
#include "hlwq/layout.hpp"
#include "hlwq/packed_matrix.hpp"
#include "hlwq/packing.hpp"
#include "hlwq/io/polar_config.hpp"
#include "hlwq/io/quantized_matrix.hpp"
#include "hlwq/io/safetensors.hpp"
#include "hlwq/io/tensor_names.hpp"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <iterator>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <unordered_set>
#include <utility>
#include <vector>

namespace hlwq::checkpoint::inline HLWQ_CODE_NAMESPACE {
namespace detail {

/// Groups keys into matrices, completes what only their neighbourhood tells, and opens them.
class checkpoint_opener {
  public:
    checkpoint_opener(contents& out, const polar_config& polar, const nlohmann::json& model,
                      const page_release& release)
        : out_(out), polar_(polar), opener_(out, polar, model, release), release_(release) {}

    void open(std::span<const stored_tensor> stored) {
        group(stored);
        require_complete();
        resolve_slices();
        for (const matrix_parts& parts : matrices_) opener_.open(parts);
        for (const stored_tensor* plain : plain_) {
            tensor t;
            t.name = plain->name;
            t.dtype = plain->type;
            t.shape = plain->shape;
            t.bytes = plain->bytes;
            t.file = plain->file;
            out_.tensors.push_back(std::move(t));
        }
        require_unique();
        require_equal_slices();
        require_layers();
        out_.kind = recognise();
        choose_codebooks();
        count_bits();
        remark();
        release_({});
    }

  private:
    void group(std::span<const stored_tensor> stored) {
        // A model may call a parameter `norms` or `ct`: without codes anywhere such names are its own.
        const bool dotted = polar_.present() || std::ranges::any_of(stored, [](const stored_tensor& t) {
                                const auto key = parse_part(t.name);
                                return key && key->family == key_family::dotted &&
                                       (key->kind == part::codes || key->kind == part::nibbles);
                            });
        std::unordered_map<std::string, std::size_t> index;
        for (const stored_tensor& t : stored) {
            refuse_foreign(t);
            const auto key = parse_part(t.name);
            if (!key || (key->family == key_family::dotted && !dotted)) {
                plain_.push_back(&t);
                continue;
            }
            std::string id(1, key->family == key_family::dotted ? '.' : '_');
            id += key->base;
            const auto [at, added] = index.emplace(id, matrices_.size());
            if (added) {
                matrix_parts& parts = matrices_.emplace_back();
                parts.base = key->base;
                parts.family = key->family;
                parts.source = parse_source(key->base, key->family);
            }
            matrices_[at->second][key->kind] = &t;
        }
    }

    static void refuse_foreign(const stored_tensor& t) {
        if (t.name.ends_with(".weight_packed") && t.type == safetensors::dtype::i32) {
            throw_error<unsupported_error>("tensor " + t.name + " (" + t.file +
                                           "): expected an HLWQ or plain checkpoint, found CompressedTensors codes");
        }
    }

    void require_complete() const {
        const auto any = [&](key_family family, auto... kinds) {
            return std::ranges::any_of(
                matrices_, [&](const matrix_parts& m) { return m.family == family && ((m[kinds] != nullptr) || ...); });
        };
        const bool dotted =
            any(key_family::dotted, part::codes, part::nibbles, part::norms, part::table, part::scaled_table);
        const bool codes = any(key_family::dunder, part::codes), packed = any(key_family::dunder, part::packed);
        if (int{dotted} + int{codes} + int{packed} > 1) {
            std::vector<std::string> examples;
            for (const matrix_parts& m : matrices_) {
                const bool first = std::ranges::none_of(matrices_, [&](const matrix_parts& other) {
                    return &other < &m && other.family == m.family &&
                           (other[part::packed] != nullptr) == (m[part::packed] != nullptr);
                });
                for (const stored_tensor* t : m.part) {
                    if (!first || t == nullptr) continue;
                    examples.push_back(t->name);
                    break;
                }
            }
            throw_error<format_error>(
                "keys of quantized tensors: expected one of .codes, __codes and __packed, found " +
                name_list(examples));
        }
        const bool tables = any(key_family::dotted, part::table, part::scaled_table);
        std::vector<std::string> problems;
        for (const matrix_parts& m : matrices_) {
            std::string missing;
            const auto need = [&](bool present, const char* what) {
                if (!present) missing += (missing.empty() ? "" : " and ") + std::string(what);
            };
            const bool has_codes = m[part::codes] != nullptr || m[part::nibbles] != nullptr;
            if (m[part::codes] != nullptr && m[part::nibbles] != nullptr) {
                problems.push_back(std::string(m.base) + " with both .codes and .codes_packed");
            }
            if (m.family == key_family::dunder && (packed || m[part::meta] != nullptr)) {
                need(m[part::packed] != nullptr, "__packed");
                need(m[part::meta] != nullptr, "__meta");
            } else {
                need(has_codes, "codes");
            }
            need(m[part::norms] != nullptr, "norms");
            if (tables) need(m[part::table] != nullptr || m[part::scaled_table] != nullptr, "centroids");
            if (!missing.empty()) problems.push_back(std::string(m.base) + " without " + missing);
        }
        if (!problems.empty()) {
            throw_error<format_error>(
                "keys of quantized tensors: expected codes, norms and meta or centroids for "
                "each, found " +
                name_list(problems));
        }
    }

    void resolve_slices() {
        std::unordered_set<std::string> gate_up;
        for (const matrix_parts& m : matrices_) {
            if (m.source.slice && !m.source.needs_gate_up) gate_up.insert(m.source.name);
        }
        for (matrix_parts& m : matrices_) {
            if (!m.source.needs_gate_up) continue;
            const auto& [fused, index] = *m.source.slice;
            const std::string folder = fused.substr(0, fused.size() - last_segment(fused).size());
            if (gate_up.contains(slice_name(folder + "gate_up_proj", index))) {
                m.source.name = slice_name(fused, index);
            } else {
                m.source.slice.reset();
            }
        }
    }

    void require_unique() const {
        std::unordered_map<std::string_view, const tensor*> seen;
        for (const tensor& t : out_.tensors) {
            const auto [at, added] = seen.emplace(t.name, &t);
            if (!added) {
                throw_error<format_error>("tensor " + t.name + ": expected once, found in " + at->second->file +
                                          " and " + t.file + " under different keys");
            }
        }
    }

    /// Slices of one tensor have one shape.
    void require_equal_slices() const {
        std::unordered_map<std::string_view, const tensor*> first;
        for (const tensor& t : out_.tensors) {
            if (!t.slice) continue;
            const tensor& other = *first.emplace(t.slice->fused, &t).first->second;
            if (t.shape != other.shape) {
                throw_error<format_error>("shape of " + t.name + " (" + t.file + "): expected " + shape(other) +
                                          " as " + other.name + " has, found " + shape(t));
            }
        }
    }

    static std::string shape(const tensor& t) {
        return std::to_string(t.shape[0]) + " x " + std::to_string(t.shape[1]);
    }

    /// A matrix that polar_config.json knows is in the files. Where none of its names is used they are spelled in a
    /// way of their own, and say nothing.
    void require_layers() const {
        if (opener_.used_layers.empty()) return;
        std::unordered_set<std::string_view> plain;
        for (const stored_tensor* t : plain_) plain.insert(without_weight(t->name));
        std::vector<std::string> missing;
        for (const std::string& name : polar_.layer_names()) {
            if (!opener_.used_layers.contains(name) && !plain.contains(without_weight(name))) missing.push_back(name);
        }
        if (!missing.empty()) {
            throw_error<format_error>(
                "polar_config.json: layers: expected each in the tensor files, found no codes of " +
                name_list(missing));
        }
    }

    dialect recognise() const {
        if (matrices_.empty()) return dialect::plain;
        const auto any = [&](auto&& predicate) { return std::ranges::any_of(matrices_, predicate); };
        const auto has = [&](part p) { return any([p](const matrix_parts& m) { return m[p] != nullptr; }); };
        if (has(part::packed)) {
            return any([](const matrix_parts& m) { return m.source.mangled; }) ? dialect::multi : dialect::hlwq;
        }
        if (matrices_[0].family == key_family::dunder) return dialect::dunder;
        if (has(part::nibbles)) return dialect::polar_v4_notebook;
        if (has(part::table)) return dialect::polar_v5_notebook;
        return opener_.saw_lsb || polar_.format == "polar_engine_v5" ? dialect::polar_v5 : dialect::polar_v4;
    }

    /// The built-in tables that a stored one may be, but for the rounding of its scale: bit k for codebook_id k. At 2
    /// and 3 bits some of them are equal.
    static unsigned identify(codebook_view table) {
        unsigned candidates = 0;
        for (const auto id : {codebook_id::legacy_a, codebook_id::legacy_b, codebook_id::converged}) {
            const codebook_view known = codebook_table(id, codebook_bits(table));
            bool equal = true;
            for (std::size_t k = 0; k < table.size(); ++k) {
                equal &= std::fabs(table[k] - known[k]) <= 1e-6f * std::fabs(known[k]);
            }
            candidates |= equal ? 1u << static_cast<unsigned>(id) : 0u;
        }
        return candidates;
    }

    /// The table that the codes of matrices without centroids speak for; one for all widths, since a writer has one.
    std::optional<codebook_id> fingerprint() const {
        for (int bits = 5; bits <= max_bits; ++bits) {
            const codebook_fingerprint print = statistics(bits);
            const codebook_match match = print.result();
            if (match.confident || (print.count() != 0 && probable(match, print))) return match.id;
        }
        return std::nullopt;
    }

    /// Few codes: two standard deviations decide, for otherwise a mere convention would. Of 1,000 samples of 2,048
    /// codes 7 are taken for another table at 6 bits, none at 5.
    static bool probable(const codebook_match& match, const codebook_fingerprint& print) {
        // The mean square of a sample of n codes varies by sqrt(24 / n) / 2^bits (codebook.hpp).
        const double deviation = std::sqrt(24.0 / static_cast<double>(print.count())) / (1 << print.bits());
        double nearest = 1.0, next = 1.0;
        for (const double energy : match.energy) {
            const double distance = std::fabs(energy - 1.0);
            next = std::min(next, std::max(distance, nearest));
            nearest = std::min(nearest, distance);
        }
        return nearest < 0.008 && next - nearest > 2.0 * deviation && next - nearest > nearest;
    }

    /// The codes of all matrices of that width that lack centroids, or enough of them.
    codebook_fingerprint statistics(int bits) const {
        constexpr std::uint64_t enough = std::uint64_t{1} << 22, per_matrix = std::uint64_t{1} << 18;
        codebook_fingerprint print(bits);
        std::array<std::uint8_t, max_block> codes;
        for (const tensor& t : out_.tensors) {
            const packed_matrix_view& w = t.packed;
            if (!t.quantized || !w.centroids.empty() || w.format.bits != bits) continue;
            if (print.count() >= enough) break;
            const std::size_t block = w.format.block, bytes = w.format.block_bytes();
            const std::size_t blocks = std::min<std::size_t>(w.norms.size(), per_matrix / block);
            with_format(w.format, [&]<class Layout>() {
                for (std::size_t b = 0; b < blocks; ++b) {
                    if (static_cast<float>(w.norms[b]) == 0.0f) continue;
                    unpack_block<Layout>(reinterpret_cast<const std::uint8_t*>(w.codes.data()) + b * bytes,
                                         codes.data(), block);
                    print.add(std::span<const std::uint8_t>(codes.data(), block));
                }
            });
            release_(w.codes);
        }
        return print;
    }

    void choose_codebooks() {
        const bool packed = out_.kind == dialect::multi || out_.kind == dialect::hlwq;
        std::optional<codebook_id> found;
        bool looked = false;
        std::unordered_map<const float*, unsigned> stored;
        for (tensor& t : out_.tensors) {
            if (!t.quantized) continue;
            packed_matrix_view& w = t.packed;
            const int bits = w.format.bits;
            if (!w.centroids.empty()) {
                const auto [at, added] = stored.try_emplace(w.centroids.data(), 0u);
                if (added) at->second = identify(w.centroids);
                tell(at->second, "stored table");
                continue;
            }
            const char* source = "recorded";
            std::optional<codebook_id> id = polar_.codebook;
            if (!id) {
                if (!looked) found = fingerprint();
                looked = true;
                source = found ? "fingerprint" : "default";
                id = found ? *found : packed || bits < 5 ? codebook_id::legacy_b : codebook_id::legacy_a;
            }
            pending_.emplace_back(&w, codebook_table(*id, bits));
            tell(1u << static_cast<unsigned>(*id), source);
        }
        // Only now, since the fingerprint tells matrices without centroids by their lack.
        for (const auto& [w, centroids] : pending_) w->centroids = centroids;
        name_codebook();
    }

    /// Adds one matrix to the description: the built-in tables that its own may be, none for a custom one.
    void tell(unsigned candidates, const std::string& source) {
        custom_ |= candidates == 0;
        built_in_ |= candidates != 0;
        if (candidates != 0) candidates_ &= candidates;
        std::string& said = out_.codebook_source;
        said = said == "none" || said == source ? source : "mixed";
    }

    void name_codebook() {
        if (!custom_ && !built_in_) return;
        const auto candidate = [&](codebook_id id) { return (candidates_ >> static_cast<unsigned>(id) & 1u) != 0; };
        if (built_in_ && (custom_ || candidates_ == 0)) {
            out_.codebook = "mixed";
        } else if (custom_) {
            out_.codebook = to_string(codebook_id::custom);
        } else if (polar_.codebook && candidate(*polar_.codebook)) {
            out_.codebook = to_string(*polar_.codebook);
        } else {
            out_.codebook = to_string(static_cast<codebook_id>(std::countr_zero(candidates_)));
        }
    }

    void count_bits() {
        std::uint64_t weights[max_bits + 1] = {};
        for (const tensor& t : out_.tensors) {
            if (t.quantized) weights[t.packed.format.bits] += t.packed.rows * t.packed.cols;
        }
        const auto most = std::max_element(std::begin(weights), std::end(weights));
        out_.bits = *most == 0 ? 0 : static_cast<int>(most - std::begin(weights));
    }

    void remark() {
        std::vector<std::string>& notes = out_.notes;
        if (out_.kind == dialect::plain) {
            if (polar_.present()) notes.push_back("polar_config.json is there, but no quantized tensor");
            return;
        }
        remark_widths();
        std::string widths;
        for (int bits = 1; bits <= max_bits; ++bits) {
            const std::uint64_t count = opener_.guessed_widths[bits];
            if (count == 0) continue;
            widths +=
                (widths.empty() ? "" : ", ") + std::to_string(bits) + " bits (tensors: " + std::to_string(count) + ")";
        }
        if (!widths.empty()) {
            notes.push_back("widths taken from the largest code, since none are recorded: " + widths);
        } else if (out_.kind == dialect::dunder) {
            notes.push_back("widths as polar_config.json records them");
        }
        if (opener_.guessed_columns != 0) {
            notes.push_back("columns taken with their padding, if any, since none are recorded (tensors: " +
                            std::to_string(opener_.guessed_columns) + ")");
        }
        std::unordered_map<std::string, std::pair<std::uint64_t, std::uint64_t>> slices;  // count, largest index
        for (const tensor& t : out_.tensors) {
            if (!t.slice) continue;
            auto& [count, last] = slices[t.slice->fused];
            ++count;
            last = std::max(last, t.slice->index);
        }
        std::vector<std::string> incomplete;
        for (const auto& [fused, found] : slices) {
            if (found.first != found.second + 1) {
                incomplete.push_back(fused + " (" + std::to_string(found.first) + " of at least " +
                                     std::to_string(found.second + 1) + ")");
            }
        }
        std::ranges::sort(incomplete);
        if (!incomplete.empty()) notes.push_back("slices are missing: " + name_list(incomplete));
    }

    void remark_widths() {
        std::uint64_t others = 0;
        std::string said = polar_.format.value_or("");
        if (!said.starts_with("hlwq-q")) return;
        for (const tensor& t : out_.tensors) {
            others += t.quantized && said != "hlwq-q" + std::to_string(t.packed.format.bits) ? 1 : 0;
        }
        if (others != 0) {
            out_.notes.push_back(std::to_string(others) + " tensors have another width than the format " +
                                 said.substr(0, 40) + " says; what the files hold counts");
        }
    }

    contents& out_;
    const polar_config& polar_;
    matrix_opener opener_;
    const page_release& release_;
    std::vector<matrix_parts> matrices_;
    std::vector<const stored_tensor*> plain_;
    std::vector<std::pair<packed_matrix_view*, codebook_view>> pending_;
    unsigned candidates_ = 7;
    bool custom_ = false;
    bool built_in_ = false;
};

}  // namespace detail

/// Opens the tensors of a checkpoint: quantized matrices in the order of their first key, then the plain tensors.
/// What `stored` points to must outlive the contents.
inline void open_contents(contents& out, std::span<const stored_tensor> stored, const polar_config& polar,
                          const nlohmann::json& model, const page_release& release) {
    detail::checkpoint_opener(out, polar, model, release).open(stored);
}

}  // namespace hlwq::checkpoint::inline HLWQ_CODE_NAMESPACE
