// hlwq/io/quantized_matrix.hpp — one quantized matrix, from the tensors that hold its parts to a view that computes
//
//   dotted .codes         I8 or U8 [rows, padded cols] a byte each; U8 [rows, padded cols / 2] nibbles, up to 4 bits;
//                         U8 [rows, padded cols * 5/8] the 5-bit lsb stream
//   __packed              U8, rows * padded cols codes in the wire stream, or in planes where polar_config.json says
//                         so; bits = 8 * bytes / codes
//   norms                 F16 [rows, blocks]
//   .ct, .ct_scaled       F32 [2^bits], the latter divided by sqrt(block)
//   __meta                [rows, blocks, block, codes(, cols)] or [bits, padded cols(, block, codes)]; the reading that
//                         agrees with codes and norms counts
//
// Element types and shapes decide; what polar_config.json says beside them must agree. Where no width is recorded for a
// byte per code, it is the smallest one that holds the tensor's largest code: of a symmetric codebook every matrix uses
// both halves. Columns without padding come from meta, polar_config.json or config.json, in this order.
//
//   throws   format_error for types, shapes, norms, codes or configuration that contradict each other
#pragma once

#include "hlwq/codebook.hpp"
#include "hlwq/config.hpp"
#include "hlwq/error.hpp"
#include "hlwq/float16.hpp"
#include "hlwq/layout.hpp"
#include "hlwq/packed_matrix.hpp"
#include "hlwq/io/polar_config.hpp"
#include "hlwq/io/safetensors.hpp"
#include "hlwq/io/tensor_names.hpp"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <deque>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <unordered_set>
#include <utility>
#include <vector>

namespace hlwq::checkpoint {

/// How a checkpoint spells its quantized matrices.
enum class dialect : std::uint8_t {
    plain,
    polar_v4,
    polar_v5,
    polar_v4_notebook,
    polar_v5_notebook,
    dunder,
    multi,
    hlwq
};

/// A tensor as the files hold it.
struct stored_tensor {
    std::string name;
    safetensors::dtype type;
    std::vector<std::uint64_t> shape;
    std::span<const std::byte> bytes;
    std::string file;
};

/// Told what was read and need not stay in memory; an empty span means all of the files.
using page_release = std::function<void(std::span<const std::byte>)>;

/// A tensor of the model: plain bytes, or a quantized matrix.
struct tensor {
    std::string name;                                    // dotted source name, with ".weight" where the source has it
    safetensors::dtype dtype = safetensors::dtype::f16;  // of the bytes; of the norms when quantized
    std::vector<std::uint64_t> shape;                    // as the model knows it, without padding
    bool quantized = false;
    std::span<const std::byte> bytes;  // plain tensors
    packed_matrix_view packed;         // quantized ones; lives as long as what opened it
    std::string file;
    std::optional<expert_slice> slice;  // set if the matrix is a slice of a fused expert tensor
};

inline namespace HLWQ_CODE_NAMESPACE {

/// "plain", "polar_v4", ...
constexpr std::string_view to_string(dialect kind) noexcept {
    switch (kind) {
        case dialect::polar_v4: return "polar_v4";
        case dialect::polar_v5: return "polar_v5";
        case dialect::polar_v4_notebook: return "polar_v4_notebook";
        case dialect::polar_v5_notebook: return "polar_v5_notebook";
        case dialect::dunder: return "dunder";
        case dialect::multi: return "multi";
        case dialect::hlwq: return "hlwq";
        case dialect::plain: break;
    }
    return "plain";
}

/// What the tensors of a checkpoint turned out to be.
struct contents {
    std::vector<tensor> tensors;
    dialect kind = dialect::plain;
    std::string codebook = "none";         // "legacy-a", ..., "custom", "mixed"; "none" for plain checkpoints
    std::string codebook_source = "none";  // "stored table", "recorded", "fingerprint", "default"
    int bits = 0;                          // width of most quantized weights; 0 for plain checkpoints
    std::vector<std::string> notes;
    std::deque<std::vector<half>> norms;  // copies of misaligned ones
    std::deque<std::vector<float>> tables;
};

namespace detail {

/// At most eight names, then how many more there are.
inline std::string name_list(const std::vector<std::string>& names) {
    constexpr std::size_t most = 8;
    std::string text;
    for (std::size_t i = 0; i < std::min(names.size(), most); ++i) {
        text += (i == 0 ? "" : ", ") + (names[i].size() > 200 ? names[i].substr(0, 197) + "..." : names[i]);
    }
    if (names.size() > most) text += " and " + std::to_string(names.size() - most) + " more";
    return text;
}

inline std::string shape_text(const stored_tensor& t) { return safetensors::describe(t.type, t.shape); }

/// The width of a layer's input as config.json tells it, for the layers of Qwen and Llama families.
inline std::optional<std::uint64_t> configured_input(const nlohmann::json& config, std::string_view name) {
    if (is_vision(name)) return std::nullopt;
    const nlohmann::json* text = member(config, "text_config");
    if (text == nullptr || !text->is_object()) text = &config;
    const auto read = [&](const char* key) -> std::optional<std::uint64_t> {
        const nlohmann::json* value = member(*text, key);
        constexpr std::uint64_t most = std::uint64_t{1} << 31;
        if (value == nullptr || !value->is_number_unsigned() || value->get<std::uint64_t>() > most) return std::nullopt;
        return value->get<std::uint64_t>();
    };
    const auto product = [&](const char* a, const char* b) -> std::optional<std::uint64_t> {
        const auto x = read(a), y = read(b);
        if (!x || !y) return std::nullopt;
        return *x * *y;
    };
    const std::string_view leaf = last_segment(without_weight(name));
    if (leaf == "o_proj") return product("num_attention_heads", "head_dim");
    if (leaf == "out_proj") return product("linear_num_value_heads", "linear_value_head_dim");
    if (leaf == "down_proj") {
        if (has_segment(name, "shared_expert")) return read("shared_expert_intermediate_size");
        return read(has_segment(name, "experts") ? "moe_intermediate_size" : "intermediate_size");
    }
    for (const std::string_view reads_hidden :
         {"q_proj", "k_proj", "v_proj", "qkv_proj", "gate_proj", "up_proj", "gate_up_proj", "lm_head", "embed_tokens",
          "gate", "shared_expert_gate"}) {
        if (leaf == reads_hidden) return read("hidden_size");
    }
    return leaf.starts_with("in_proj_") ? read("hidden_size") : std::nullopt;
}

inline std::optional<std::uint64_t> product(std::uint64_t a, std::uint64_t b) noexcept {
    std::uint64_t result;
    return __builtin_mul_overflow(a, b, &result) ? std::nullopt : std::optional<std::uint64_t>(result);
}

/// Largest byte, or largest nibble.
inline unsigned largest(std::span<const std::byte> bytes, bool nibbles, const page_release& release) {
    constexpr std::size_t step = std::size_t{4} << 20;
    std::uint8_t most = 0;
    for (std::size_t at = 0; at < bytes.size(); at += step) {
        const auto part = bytes.subspan(at, std::min(step, bytes.size() - at));
        if (nibbles) {
            for (const std::byte b : part) {
                const auto low = static_cast<std::uint8_t>(b & std::byte{15}), high = static_cast<std::uint8_t>(b >> 4);
                most = std::max(most, std::max(low, high));
            }
        } else {
            for (const std::byte b : part) most = std::max(most, static_cast<std::uint8_t>(b));
        }
        release(part);
    }
    return most;
}

/// The keys of one matrix.
struct matrix_parts {
    std::string_view base;
    key_family family = key_family::dotted;
    source_name source;
    const stored_tensor* part[part_count] = {};

    const stored_tensor* operator[](hlwq::checkpoint::part p) const { return part[static_cast<std::size_t>(p)]; }
    const stored_tensor*& operator[](hlwq::checkpoint::part p) { return part[static_cast<std::size_t>(p)]; }
    const stored_tensor& codes() const {
        for (const auto p : {part::packed, part::nibbles}) {
            if ((*this)[p] != nullptr) return *(*this)[p];
        }
        return *(*this)[part::codes];
    }
    const stored_tensor& norms() const { return *(*this)[part::norms]; }
};

/// Opens one matrix after the other; what they share is here.
class matrix_opener {
  public:
    matrix_opener(contents& out, const polar_config& polar, const nlohmann::json& model, const page_release& release)
        : out_(out), polar_(polar), model_(model), release_(release) {}

    /// Adds the matrix to the contents; its centroids are missing unless the file stores them.
    void open(const matrix_parts& parts) {
        parts_ = &parts;
        const std::string names[] = {std::string(parts.base), parts.source.name,
                                     std::string(without_weight(parts.source.name)),
                                     parts.source.slice ? parts.source.slice->fused : parts.source.name};
        layer_ = polar_.layer(names);
        if (!layer_.key.empty()) used_layers.insert(layer_.key);
        tensor t;
        t.name = parts.source.name;
        t.quantized = true;
        t.file = parts.codes().file;
        t.slice = parts.source.slice;
        const stored_tensor& norms = parts.norms();
        if (norms.type != safetensors::dtype::f16 || norms.shape.size() != 2 || norms.shape[0] == 0 ||
            norms.shape[1] == 0) {
            wrong("norms", "F16 [rows, blocks]", shape_text(norms));
        }
        packed_matrix_view& w = t.packed;
        w.rows = norms.shape[0];
        blocks_ = norms.shape[1];
        w.codes = parts.codes().bytes;
        w.format.signs = polar_.signs;
        w.centroids = stored_table();
        if (parts[part::packed] != nullptr) {
            read_meta(w);
        } else {
            match_shapes(w);
        }
        agree("bits", layer_.bits, static_cast<std::uint64_t>(w.format.bits));
        agree("block_size", layer_.block, w.format.block);
        agree("out_features", layer_.rows, w.rows);
        agree("n_blocks", layer_.blocks, blocks_);
        agree("in_features_padded", layer_.padded_cols, blocks_ * w.format.block);
        w.cols = columns(w.format.block);
        t.shape = {w.rows, w.cols};
        if (!w.centroids.empty()) rescale(w);
        w.norms = read_norms();
        check_codes(w);
        if (w.centroids.empty()) {
            packed_matrix_view sized = w;
            sized.centroids = codebook_table(codebook_id::legacy_b, w.format.bits);
            check(sized, t.name);
        } else {
            check(w, t.name);
        }
        release_(parts.norms().bytes);
        // Pages at the edges of tensors, and those that the system reads ahead, add up over many small matrices.
        if (++opened_ % 64 == 0) release_({});
        out_.tensors.push_back(std::move(t));
    }

    /// By width, matrices whose width was taken from their largest code.
    std::uint64_t guessed_widths[max_bits + 1] = {};
    /// Matrices whose columns were taken with their padding.
    std::uint64_t guessed_columns = 0;
    bool saw_lsb = false;
    /// Entries of polar_config.json that belong to a matrix.
    std::unordered_set<std::string> used_layers;

  private:
    [[noreturn]] void wrong(std::string_view what, std::string_view expected, std::string_view found) const {
        throw_error<format_error>(std::string(what) + " of " + parts_->source.name + " (" + parts_->codes().file +
                                  "): expected " + std::string(expected) + ", found " + std::string(found));
    }

    /// What the configuration says must be what the shapes say.
    void agree(const char* field, std::optional<std::uint64_t> configured, std::uint64_t found) const {
        if (configured && *configured != found) {
            wrong(field, std::to_string(*configured) + " (" + layer_.where + ")", std::to_string(found));
        }
    }

    template <class T>
    static T load(const std::byte*& at) noexcept {
        T value;
        std::memcpy(&value, at, sizeof value);
        at += sizeof value;
        return value;
    }

    codebook_view stored_table() {
        const stored_tensor* plain = (*parts_)[part::table];
        const stored_tensor* stored = plain != nullptr ? plain : (*parts_)[part::scaled_table];
        if (stored == nullptr) return {};
        if (plain != nullptr && (*parts_)[part::scaled_table] != nullptr) {
            wrong("centroids", "one of .ct and .ct_scaled", "both");
        }
        const std::uint64_t count = stored->shape.size() == 1 ? stored->shape[0] : 0;
        const auto type = stored->type;
        const bool real = type == safetensors::dtype::f32 || type == safetensors::dtype::f16 ||
                          type == safetensors::dtype::bf16 || type == safetensors::dtype::f64;
        if (!real || count < 2 || count > 256 || !std::has_single_bit(count)) {
            wrong("centroids", "F32 [2^bits]", shape_text(*stored));
        }
        std::vector<float>& table = out_.tables.emplace_back(count);
        const std::byte* at = stored->bytes.data();
        for (float& centroid : table) {
            switch (type) {
                case safetensors::dtype::f64: centroid = static_cast<float>(load<double>(at)); break;
                case safetensors::dtype::f16: centroid = load<half>(at); break;
                case safetensors::dtype::bf16: centroid = load<bfloat16>(at); break;
                default: centroid = load<float>(at); break;
            }
        }
        return table;
    }

    /// Centroids for N(0,1) from those that are divided by sqrt(block); equal tables are kept once.
    void rescale(packed_matrix_view& w) {
        std::vector<float>& table = out_.tables.back();
        if ((*parts_)[part::scaled_table] != nullptr) {
            const auto root = static_cast<float>(std::sqrt(static_cast<double>(w.format.block)));
            for (float& centroid : table) centroid *= root;
        }
        check_codebook(table, "centroids of " + parts_->source.name + " (" + parts_->codes().file + ")");
        for (auto known = out_.tables.begin(); &*known != &table; ++known) {
            if (*known != table) continue;
            out_.tables.pop_back();
            w.centroids = *known;
            return;
        }
        w.centroids = table;
    }

    std::vector<std::int64_t> meta_numbers() const {
        const stored_tensor& meta = *(*parts_)[part::meta];
        const bool wide = meta.type == safetensors::dtype::i64 || meta.type == safetensors::dtype::u64;
        const bool narrow = meta.type == safetensors::dtype::i32 || meta.type == safetensors::dtype::u32;
        if (meta.shape.size() != 1 || meta.shape[0] < 2 || meta.shape[0] > 5 || !(wide || narrow)) {
            wrong("meta", "I64 [2] to [5]", shape_text(meta));
        }
        std::vector<std::int64_t> numbers(meta.shape[0]);
        const std::byte* at = meta.bytes.data();
        for (std::int64_t& number : numbers) number = wide ? load<std::int64_t>(at) : load<std::int32_t>(at);
        return numbers;
    }

    struct geometry {
        std::uint64_t bits = 0, block = 0, cols = 0;  // cols = 0: not said
        friend bool operator==(const geometry&, const geometry&) = default;
    };

    /// The width of the codes if `block` and the packed size allow one.
    std::optional<geometry> packed_geometry(std::uint64_t block, std::uint64_t codes, std::uint64_t cols) const {
        const std::uint64_t bytes = (*parts_)[part::packed]->bytes.size();
        if (!std::has_single_bit(block) || block < min_block || block > max_block) return std::nullopt;
        const auto row = product(blocks_, block);
        const auto all = row ? product(*row, parts_->norms().shape[0]) : std::nullopt;
        if (!all || *all != codes || bytes > codes || bytes * 8 % codes != 0) return std::nullopt;
        return geometry{bytes * 8 / codes, block, cols};
    }

    void read_meta(packed_matrix_view& w) {
        const stored_tensor& packed = *(*parts_)[part::packed];
        if (packed.type != safetensors::dtype::u8 && packed.type != safetensors::dtype::i8) {
            wrong("packed codes", "U8", shape_text(packed));
        }
        const std::vector<std::int64_t> numbers = meta_numbers();
        std::string text;
        bool positive = true;
        std::vector<std::uint64_t> m;
        for (const std::int64_t number : numbers) {
            text += (text.empty() ? "[" : ", ") + std::to_string(number);
            positive &= number > 0;
            m.push_back(static_cast<std::uint64_t>(number));
        }
        text += "], " + std::to_string(packed.bytes.size()) + " packed bytes, norms " + shape_text(parts_->norms());
        std::optional<geometry> by_rows, by_bits;
        if (positive && m.size() >= 4 && m[0] == w.rows && m[1] == blocks_) {
            by_rows = packed_geometry(m[2], m[3], m.size() == 5 ? m[4] : 0);
        }
        if (positive && m.size() <= 4 && m[1] % blocks_ == 0 && (m.size() < 3 || m[2] == m[1] / blocks_)) {
            const auto codes = product(w.rows, m[1]);
            if (codes && (m.size() < 4 || m[3] == *codes)) by_bits = packed_geometry(m[1] / blocks_, *codes, 0);
            if (by_bits && by_bits->bits != m[0]) by_bits.reset();
        }
        if ((!by_rows && !by_bits) || (by_rows && by_bits && !(*by_rows == *by_bits))) {
            wrong("meta",
                  "[rows, blocks, block, codes(, columns)] or [bits, padded columns(, block, codes)] "
                  "as codes and norms have them",
                  text);
        }
        const geometry found = by_rows ? *by_rows : *by_bits;
        if (found.cols != 0 && (found.cols > blocks_ * found.block || found.cols <= (blocks_ - 1) * found.block)) {
            wrong("columns in meta", within(found.block), std::to_string(found.cols));
        }
        meta_cols_ = found.cols;
        w.format.layout = polar_.layout.value_or(layout_id::wire);
        if (w.format.layout == layout_id::planes && !planes<1>::allows(found.block)) {
            wrong("block size in the planes layout", "a multiple of 128", std::to_string(found.block));
        }
        w.format.bits = static_cast<int>(found.bits);
        w.format.block = found.block;
        if (!w.centroids.empty() && w.centroids.size() != std::size_t{1} << w.format.bits) {
            wrong("centroids", std::to_string(1u << w.format.bits), std::to_string(w.centroids.size()));
        }
    }

    std::string within(std::uint64_t block) const {
        return "more than " + std::to_string((blocks_ - 1) * block) + " and at most " + std::to_string(blocks_ * block);
    }

    /// Layout, block and width of codes that have no meta: by element type and width of a row.
    void match_shapes(packed_matrix_view& w) {
        meta_cols_ = 0;
        const stored_tensor& codes = parts_->codes();
        const bool is_signed = codes.type == safetensors::dtype::i8;
        if ((!is_signed && codes.type != safetensors::dtype::u8) || codes.shape.size() != 2 ||
            codes.shape[0] != w.rows || codes.shape[1] == 0 || codes.shape[1] % blocks_ != 0) {
            wrong("codes", "I8 or U8 [" + std::to_string(w.rows) + ", a multiple of " + std::to_string(blocks_) + "]",
                  shape_text(codes));
        }
        const std::uint64_t width = codes.shape[1] / blocks_;  // bytes of a block
        const std::uint64_t known_bits =
            w.centroids.empty() ? recorded_bits() : std::bit_width(w.centroids.size()) - 1u;
        const bool nibbles = (*parts_)[part::nibbles] != nullptr;
        const auto fits = [&](std::uint64_t block) {
            if (!std::has_single_bit(block) || block < min_block || block > max_block) return false;
            if (!nibbles && width == block) return set(w, layout_id::bytes, block, known_bits);
            const bool packable = !is_signed && parts_->family == key_family::dotted;
            if (packable && width == block / 2 && known_bits <= 4) {
                return set(w, layout_id::half_block, block, known_bits);
            }
            if (packable && !nibbles && width * 8 == block * 5 && (known_bits == 5 || known_bits == 0)) {
                return set(w, layout_id::lsb, block, 5);
            }
            return false;
        };
        constexpr std::uint64_t usual = 128;
        // A recorded size counts alone; without one the usual size, then whatever a byte per code, nibbles or a
        // 5-bit stream would need.
        const auto recorded = layer_.block ? layer_.block : polar_.block;
        const bool matched =
            recorded ? fits(*recorded) : fits(usual) || fits(width) || fits(2 * width) || fits(width / 5 * 8);
        if (!matched) {
            wrong("codes",
                  (recorded ? "rows of blocks of " + std::to_string(*recorded) : "rows of whole blocks") +
                      ", as bytes, nibbles or a 5-bit stream, " + std::to_string(blocks_) + " a row" +
                      (known_bits != 0 ? ", " + std::to_string(known_bits) + " bits" : ""),
                  shape_text(codes));
        }
    }

    std::uint64_t recorded_bits() const { return layer_.bits ? *layer_.bits : polar_.bits.value_or(0); }

    bool set(packed_matrix_view& w, layout_id layout, std::uint64_t block, std::uint64_t bits) {
        if (bits == 0) {
            const auto codes = parts_->codes().bytes;
            const unsigned most = largest(codes, layout == layout_id::half_block, release_);
            bits = std::max<std::uint64_t>(std::bit_width(most), min_bits);
            ++guessed_widths[bits];
        }
        w.format.layout = layout;
        w.format.block = block;
        w.format.bits = static_cast<int>(bits);
        saw_lsb |= layout == layout_id::lsb;
        return true;
    }

    /// Columns without padding: from meta, else polar_config.json, else config.json, else all.
    std::size_t columns(std::uint64_t block) {
        agree("in_features", layer_.cols, meta_cols_ != 0 ? meta_cols_ : layer_.cols.value_or(0));
        if (meta_cols_ != 0) return meta_cols_;
        const auto fits = [&](std::uint64_t cols) { return cols <= blocks_ * block && cols > (blocks_ - 1) * block; };
        if (layer_.cols) {
            if (!fits(*layer_.cols))
                wrong("in_features (" + layer_.where + ")", within(block), std::to_string(*layer_.cols));
            return *layer_.cols;
        }
        if (const auto cols = configured_input(model_, parts_->source.name); cols && fits(*cols)) return *cols;
        ++guessed_columns;
        return blocks_ * block;
    }

    std::span<const half> read_norms() {
        const std::span<const std::byte> bytes = parts_->norms().bytes;
        const std::size_t count = bytes.size() / sizeof(half);
        std::span<const half> norms;
        if (reinterpret_cast<std::uintptr_t>(bytes.data()) % alignof(half) == 0) {
            norms = {reinterpret_cast<const half*>(bytes.data()), count};
        } else {
            std::vector<half>& copy = out_.norms.emplace_back(count);
            std::memcpy(copy.data(), bytes.data(), bytes.size());
            norms = copy;
        }
        constexpr unsigned exponent = 0x7c00;
        for (std::size_t i = 0; i < count; ++i) {
            if ((norms[i].bits & exponent) == exponent) [[unlikely]] {
                wrong("norm in row " + std::to_string(i / blocks_) + ", block " + std::to_string(i % blocks_),
                      "a finite number", std::isnan(static_cast<float>(norms[i])) ? "NaN" : "an infinite one");
            }
        }
        return norms;
    }

    /// Codes that have more room than their width stay below 2^bits.
    void check_codes(const packed_matrix_view& w) const {
        const bool nibbles = w.format.layout == layout_id::half_block;
        if (!nibbles && w.format.layout != layout_id::bytes) return;
        const unsigned levels = 1u << w.format.bits, most = largest(w.codes, nibbles, release_);
        if (most < levels) return;
        const std::string range = "0 to " + std::to_string(levels - 1);
        if (nibbles) wrong("codes", range, std::to_string(most));
        const std::size_t row_bytes = blocks_ * w.format.block;
        const auto first =
            std::ranges::find_if(w.codes, [&](std::byte b) { return static_cast<unsigned>(b) >= levels; });
        const auto i = static_cast<std::size_t>(first - w.codes.begin());
        wrong("code in row " + std::to_string(i / row_bytes) + ", column " + std::to_string(i % row_bytes), range,
              std::to_string(static_cast<unsigned>(*first)));
    }

    contents& out_;
    const polar_config& polar_;
    const nlohmann::json& model_;
    const page_release& release_;
    const matrix_parts* parts_ = nullptr;
    layer_entry layer_;
    std::uint64_t blocks_ = 0;
    std::uint64_t meta_cols_ = 0;
    std::uint64_t opened_ = 0;
};

}  // namespace detail
}  // namespace HLWQ_CODE_NAMESPACE
}  // namespace hlwq::checkpoint
