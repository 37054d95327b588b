// hlwq/io/polar_config.hpp — polar_config.json and the names under which quantized matrices are written
//
// Reading takes the schemas of all writers (formats 4.3): a field that is absent or null is unknown, one of the wrong
// type or beyond all reason is an error that names it. Writing knows two formats:
//   hlwq      name.weight__packed U8 [bytes], wire or planes, __norms F16 [rows, blocks], __meta I64 [rows, blocks,
//   block, codes, cols] polar-v5  name.codes, .norms F16 [rows, blocks], .ct_scaled F32 [2^bits]; codes are nibbles U8
//   up to 4 bits, the
//             5-bit lsb stream U8, a byte each I8 above
// Slices of fused experts become `A.experts.<e>.leaf`, which inference engines map to their fused experts.
//
//   throws   format_error
//
// Example
//   const auto keys = hlwq::checkpoint::packed_names(format_id::hlwq, name, slice, rows, cols, format);
//   // keys.codes, keys.norms, keys.extra: name, type and shape; extra_bytes() is what the last one holds
#pragma once

#include "hlwq/codebook.hpp"
#include "hlwq/config.hpp"
#include "hlwq/error.hpp"
#include "hlwq/layout.hpp"
#include "hlwq/packed_matrix.hpp"
#include "hlwq/io/json.hpp"
#include "hlwq/io/safetensors_writer.hpp"
#include "hlwq/io/tensor_names.hpp"

#include <nlohmann/json.hpp>

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <iterator>
#include <limits>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace hlwq::checkpoint {

/// The formats that can be written.
enum class format_id : std::uint8_t { hlwq, polar_v5 };

/// What a checkpoint's configuration says about one matrix; nothing is known that is not set.
struct layer_entry {
    std::string where;  // for messages
    std::string key;    // of the entry in "layers"; empty if there is none
    std::optional<std::uint64_t> bits, rows, cols, padded_cols, blocks, block;
};

/// The three tensors of a quantized matrix.
struct packed_keys {
    safetensors::planned_tensor codes, norms, extra;
};

/// A quantized matrix, as polar_config.json records it.
struct layer_record {
    std::string name;  // dotted, with or without ".weight"
    std::uint64_t rows = 0;
    std::uint64_t cols = 0;
    block_format format;
};

inline namespace HLWQ_CODE_NAMESPACE {

namespace detail {

/// Text of a value for messages, cut where it is long.
inline std::string brief(const nlohmann::json& value) {
    if (value.is_structured()) return value.is_array() ? "an array" : "an object";
    std::string text = value.dump(-1, ' ', true, nlohmann::json::error_handler_t::replace);
    if (text.size() > 60) text = text.substr(0, 57) + "...";
    return text;
}

[[noreturn]] inline void bad_field(const std::string& where, std::string_view expected, std::string_view found) {
    throw_error<format_error>(where + ": expected " + std::string(expected) + ", found " + std::string(found));
}

/// A member that is neither absent nor null.
inline const nlohmann::json* member(const nlohmann::json& object, const char* key) {
    const auto found = object.find(key);
    return found == object.end() || found->is_null() ? nullptr : &*found;
}

/// A whole number from `least` to `most`, if the member is there.
inline std::optional<std::uint64_t> number_field(const nlohmann::json& object, const char* key,
                                                 const std::string& where, std::uint64_t least = 1,
                                                 std::uint64_t most = std::uint64_t{1} << 40) {
    const nlohmann::json* value = member(object, key);
    if (value == nullptr) return std::nullopt;
    const bool whole = value->is_number_unsigned() || (value->is_number_integer() && value->get<std::int64_t>() >= 0);
    if (!whole || value->get<std::uint64_t>() < least || value->get<std::uint64_t>() > most) {
        bad_field(where + ": " + key, "a whole number from " + std::to_string(least) + " to " + std::to_string(most),
                  brief(*value));
    }
    return value->get<std::uint64_t>();
}

inline std::optional<std::string> text_field(const nlohmann::json& object, const char* key, const std::string& where) {
    const nlohmann::json* value = member(object, key);
    if (value == nullptr) return std::nullopt;
    if (!value->is_string()) bad_field(where + ": " + key, "a string", brief(*value));
    return value->get<std::string>();
}

}  // namespace detail

/// Parses a JSON object nested at most 64 deep; `where` names it in messages.
inline nlohmann::json parse_json_object(std::string_view text, const std::string& where) {
    std::string found;
    nlohmann::json value = io::parse_json(text, &found);
    if (value.is_discarded()) detail::bad_field(where, "JSON", found);
    if (!value.is_object()) detail::bad_field(where, "a JSON object", detail::brief(value));
    return value;
}

/// A layout that `__packed` codes may have: "wire", which every reader of the format knows, or "planes". Nothing for
/// any other text.
constexpr std::optional<layout_id> parse_layout(std::string_view name) noexcept {
    for (const auto id : {layout_id::wire, layout_id::planes})
        if (name == layout_name(id)) return id;
    return std::nullopt;
}

/// polar_config.json, its types checked; everything is unknown where there is none.
class polar_config {
  public:
    polar_config() = default;
    explicit polar_config(nlohmann::json raw) : raw_(std::move(raw)), present_(true) {
        const std::string where = "polar_config.json";
        format = detail::text_field(raw_, "format", where);
        block = detail::number_field(raw_, "block_size", where, min_block, max_block);
        bits = detail::number_field(raw_, "bits", where, 1, 8);
        if (const auto seed =
                detail::number_field(raw_, "signs", where, 0, std::numeric_limits<std::uint64_t>::max())) {
            signs = {true, *seed};
        }
        if (const auto name = detail::text_field(raw_, "codebook", where)) {
            codebook = parse_codebook(*name);
            if (!codebook || *codebook == codebook_id::custom) {
                throw_error<unsupported_error>(where + ": codebook: expected legacy-a, legacy-b or converged, found " +
                                               *name);
            }
        }
        if (const auto name = detail::text_field(raw_, "layout", where)) {
            layout = parse_layout(*name);
            if (!layout) detail::bad_field(where + ": layout", "wire or planes", *name);
        }
        if (const nlohmann::json* layers = detail::member(raw_, "layers")) {
            if (!layers->is_object()) detail::bad_field(where + ": layers", "an object", detail::brief(*layers));
            layers_ = layers;
        }
    }
    polar_config(const polar_config&) = delete;
    polar_config& operator=(const polar_config&) = delete;

    bool present() const noexcept { return present_; }
    const nlohmann::json& raw() const noexcept { return raw_; }

    std::optional<std::string> format;
    std::optional<std::uint64_t> block, bits;
    std::optional<codebook_id> codebook;
    std::optional<layout_id> layout;  // of `__packed` codes
    rotation_signs signs;

    /// The entry under the first of `names` that is there.
    layer_entry layer(std::span<const std::string> names) const {
        layer_entry entry;
        if (layers_ == nullptr) return entry;
        for (const std::string& name : names) {
            const auto found = layers_->find(name);
            if (found == layers_->end()) continue;
            entry.key = name;
            entry.where = "polar_config.json: layers[" + name + "]";
            if (!found->is_object()) detail::bad_field(entry.where, "an object", detail::brief(*found));
            entry.bits = detail::number_field(*found, "bits", entry.where, 1, 8);
            entry.rows = detail::number_field(*found, "out_features", entry.where);
            entry.cols = detail::number_field(*found, "in_features", entry.where);
            entry.padded_cols = detail::number_field(*found, "in_features_padded", entry.where);
            if (!entry.padded_cols) entry.padded_cols = detail::number_field(*found, "in_f_padded", entry.where);
            entry.blocks = detail::number_field(*found, "n_blocks", entry.where);
            entry.block = detail::number_field(*found, "block_size", entry.where, min_block, max_block);
            return entry;
        }
        return entry;
    }

    /// Keys of all entries.
    std::vector<std::string> layer_names() const {
        std::vector<std::string> names;
        if (layers_ == nullptr) return names;
        for (const auto& entry : layers_->items()) names.push_back(entry.key());
        return names;
    }

  private:
    nlohmann::json raw_ = nlohmann::json::object();
    const nlohmann::json* layers_ = nullptr;
    bool present_ = false;
};

/// "hlwq" or "polar-v5".
constexpr std::string_view to_string(format_id format) noexcept {
    return format == format_id::hlwq ? "hlwq" : "polar-v5";
}

/// The inverse of `to_string`; nothing for any other text.
constexpr std::optional<format_id> parse_format(std::string_view name) noexcept {
    for (const auto id : {format_id::hlwq, format_id::polar_v5})
        if (name == to_string(id)) return id;
    return std::nullopt;
}

/// The layout of codes in a format; hlwq may have planes instead.
constexpr layout_id layout_of(format_id format, int bits) noexcept {
    if (format == format_id::hlwq) return layout_id::wire;
    return bits <= 4 ? layout_id::half_block : bits == 5 ? layout_id::lsb : layout_id::bytes;
}

/// Names, types and shapes of the three tensors that hold a quantized matrix. `source` is the matrix's name, or with
/// `slice` the name of the fused tensor that it is a slice of; `block` is the format that it was quantized to, whose
/// layout is `layout_of(format, bits)`, or planes in format hlwq.
inline packed_keys packed_names(format_id format, std::string_view source, std::optional<std::uint64_t> slice,
                                std::uint64_t rows, std::uint64_t cols, const block_format& block) {
    const bool planes = format == format_id::hlwq && block.layout == layout_id::planes;
    HLWQ_EXPECTS(planes || block.layout == layout_of(format, block.bits), shape_error,
                 "layout of " + std::string(source) + " in " + std::string(to_string(format)),
                 layout_name(layout_of(format, block.bits)), layout_name(block.layout));
    const std::string name = slice ? slice_name(source, *slice) : std::string(source);
    const std::uint64_t blocks = block.blocks_per_row(cols), row_bytes = block.row_bytes(cols);
    if (format == format_id::hlwq) {
        return {{name + "__packed", safetensors::dtype::u8, {rows * row_bytes}},
                {name + "__norms", safetensors::dtype::f16, {rows, blocks}},
                {name + "__meta", safetensors::dtype::i64, {5}}};
    }
    const std::string prefix(without_weight(name));
    return {{prefix + ".codes", block.bits <= 5 ? safetensors::dtype::u8 : safetensors::dtype::i8, {rows, row_bytes}},
            {prefix + ".norms", safetensors::dtype::f16, {rows, blocks}},
            {prefix + ".ct_scaled", safetensors::dtype::f32, {std::uint64_t{1} << block.bits}}};
}

/// What the third tensor of `packed_names` holds: the meta numbers or the scaled centroids.
inline std::vector<std::byte> extra_bytes(format_id format, std::uint64_t rows, std::uint64_t cols,
                                          const block_format& block, codebook_view centroids) {
    std::vector<std::byte> bytes;
    const auto copy = [&](const auto& values) {
        bytes.resize(std::size(values) * sizeof values[0]);
        std::memcpy(bytes.data(), std::data(values), bytes.size());
    };
    if (format == format_id::hlwq) {
        const std::uint64_t blocks = block.blocks_per_row(cols);
        const std::uint64_t meta[] = {rows, blocks, block.block, rows * blocks * block.block, cols};
        copy(meta);
    } else {
        const auto root = static_cast<float>(std::sqrt(static_cast<double>(block.block)));
        std::vector<float> scaled(centroids.begin(), centroids.end());
        for (float& centroid : scaled) centroid /= root;
        copy(scaled);
    }
    return bytes;
}

/// The content of polar_config.json for a written checkpoint, whose matrices have planes either all or none. Further
/// fields may be added to what it returns.
inline nlohmann::json make_polar_config(format_id format, std::span<const layer_record> records, codebook_id codebook,
                                        std::size_t block = 128) {
    int bits = records.empty() ? 0 : records[0].format.bits;
    bool lsb_stream = false, planes = false;
    rotation_signs signs;
    nlohmann::json layers = nlohmann::json::object();
    for (const layer_record& record : records) {
        const block_format& f = record.format;
        if (f.bits != bits) bits = 0;
        signs = f.signs;
        planes |= f.layout == layout_id::planes;
        nlohmann::json entry{{"in_features", record.cols},
                             {"out_features", record.rows},
                             {"in_features_padded", f.padded_cols(record.cols)},
                             {"n_blocks", f.blocks_per_row(record.cols)},
                             {"bits", f.bits},
                             {"block_size", f.block}};
        if (format == format_id::polar_v5) {
            entry["packed"] = f.layout == layout_id::half_block;
            entry["scale_dtype"] = "float16";
            if (f.layout == layout_id::lsb) entry["packed_q5"] = lsb_stream = true;
        }
        layers[std::string(without_weight(record.name))] = std::move(entry);
    }
    nlohmann::json config;
    if (format == format_id::hlwq) {
        config["format"] = bits == 0 ? "hlwq" : "hlwq-q" + std::to_string(bits);
    } else {
        config["format"] = lsb_stream ? "polar_engine_v5" : "polar_engine_v4";
        config["quantization"] = "polarengine";
        config["bit_assignment"] = nlohmann::json::object();
    }
    config["block_size"] = block;
    if (bits != 0) config["bits"] = bits;
    config["codebook"] = to_string(codebook);
    if (signs.enabled) config["signs"] = signs.seed;
    if (planes) config["layout"] = layout_name(layout_id::planes);
    config["version"] = version;
    config["layers"] = std::move(layers);
    return config;
}

}  // namespace HLWQ_CODE_NAMESPACE
}  // namespace hlwq::checkpoint
