// tests/qwen/memory_checkpoint.hpp — checkpoints that exist in memory only, one for every layout
#pragma once

#include "hlwq/codebook.hpp"
#include "hlwq/dispatch/dispatch.hpp"
#include "hlwq/float16.hpp"
#include "hlwq/packed_matrix.hpp"
#include "hlwq/io/checkpoint.hpp"
#include "hlwq/io/safetensors.hpp"

#include "qwen_moe_chat/model.hpp"

#include <nlohmann/json.hpp>

#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace memory {

using hlwq::safetensors::dtype;

struct stored {
    dtype type = dtype::bf16;
    std::vector<std::uint64_t> shape;
    std::vector<std::byte> bytes;
};

template <class T>
std::vector<std::byte> bytes_of(std::span<const T> values) {
    const auto raw = std::as_bytes(values);
    return {raw.begin(), raw.end()};
}

/// Tensors and config.json of a checkpoint, to be changed before it is opened.
struct checkpoint {
    std::map<std::string, stored> tensors;
    nlohmann::json config;
    std::string polar;
    std::size_t header_padding = 0;  // spaces more than the alignment needs

    /// A folder's plain tensors.
    static checkpoint read(const std::filesystem::path& folder) {
        checkpoint result;
        const hlwq::checkpoint::reader file(folder);
        for (const auto& t : file.tensors()) {
            result.tensors[t.name] = {t.dtype, t.shape, {t.bytes.begin(), t.bytes.end()}};
        }
        result.config = file.config();
        return result;
    }

    /// One safetensors file with all tensors.
    std::vector<std::byte> image() const {
        nlohmann::ordered_json header;
        std::size_t offset = 0;
        for (const auto& [name, t] : tensors) {
            header[name] = {{"dtype", hlwq::safetensors::dtype_name(t.type)},
                            {"shape", t.shape},
                            {"data_offsets", {offset, offset + t.bytes.size()}}};
            offset += t.bytes.size();
        }
        std::string text = header.dump();
        text.append((8 - text.size() % 8) % 8 + header_padding, ' ');
        const std::uint64_t length = text.size();
        std::vector<std::byte> file(8 + text.size());
        std::memcpy(file.data(), &length, 8);
        std::memcpy(file.data() + 8, text.data(), text.size());
        file.reserve(file.size() + offset);
        for (const auto& [name, t] : tensors) file.insert(file.end(), t.bytes.begin(), t.bytes.end());
        return file;
    }
};

/// The model of a checkpoint in memory.
class opened {
  public:
    explicit opened(const checkpoint& source) : image_(source.image()), model_(open(image_, source)) {}
    const qwen::model& model() const { return model_; }

  private:
    static std::unique_ptr<hlwq::checkpoint::reader> open(const std::vector<std::byte>& image,
                                                          const checkpoint& source) {
        const hlwq::checkpoint::memory_file file{"model.safetensors", image};
        return std::make_unique<hlwq::checkpoint::reader>(std::span(&file, 1), source.polar, source.config.dump());
    }
    std::vector<std::byte> image_;
    qwen::model model_;
};

inline std::vector<float> widened(const stored& t) {
    std::vector<float> values(t.bytes.size() / hlwq::safetensors::dtype_size(t.type));
    for (std::size_t i = 0; i < values.size(); ++i) {
        if (t.type == dtype::f32) {
            std::memcpy(&values[i], t.bytes.data() + 4 * i, 4);
            continue;
        }
        std::uint16_t bits = 0;
        std::memcpy(&bits, t.bytes.data() + 2 * i, 2);
        values[i] = t.type == dtype::f16 ? hlwq::half::to_float(bits) : hlwq::bfloat16::to_float(bits);
    }
    return values;
}

inline stored as_f32(const stored& t) { return {dtype::f32, t.shape, bytes_of<float>(widened(t))}; }

/// Experts one by one instead of fused.
inline void split_experts(checkpoint& c) {
    std::map<std::string, stored> split;
    for (auto& [name, t] : c.tensors) {
        const bool pair = name.ends_with(".experts.gate_up_proj");
        if (!pair && !name.ends_with(".experts.down_proj")) {
            split[name] = t;
            continue;
        }
        const std::string folder = name.substr(0, name.rfind('.') + 1);
        const std::size_t parts = pair ? 2 : 1, size = t.bytes.size() / t.shape[0] / parts;
        for (std::size_t i = 0; i < t.shape[0] * parts; ++i) {
            const std::string leaf = !pair ? "down_proj" : i % 2 == 0 ? "gate_proj" : "up_proj";
            const auto* from = t.bytes.data() + i * size;
            split[folder + std::to_string(i / parts) + "." + leaf + ".weight"] = {
                t.type, {t.shape[1] / parts, t.shape[2]}, {from, from + size}};
        }
    }
    c.tensors = std::move(split);
}

/// Names of the text model under another prefix.
inline void rename_prefix(checkpoint& c, std::string_view to) {
    constexpr std::string_view from = "model.language_model.";
    std::map<std::string, stored> renamed;
    for (auto& [name, t] : c.tensors) {
        renamed[name.starts_with(from) ? std::string(to) + name.substr(from.size()) : name] = t;
    }
    c.tensors = std::move(renamed);
}

/// The fields of text_config at the top level.
inline void flatten_config(checkpoint& c) {
    const nlohmann::json text = c.config["text_config"];
    c.config = text;
    c.config["architectures"] = {text["model_type"] == "qwen3_5_moe_text" ? "Qwen3_5MoeForCausalLM"
                                                                          : "Qwen3_5ForCausalLM"};
}

/// Whether a matrix is quantized by the usual recipes: everything but norms, router, gates and the convolution.
inline bool is_quantizable(const std::string& name, const stored& t) {
    if (name.ends_with(".experts.gate_up_proj") || name.ends_with(".experts.down_proj")) return true;
    return t.shape.size() == 2 && !name.ends_with("mlp.gate.weight") && !name.ends_with("shared_expert_gate.weight") &&
           !name.ends_with("in_proj_a.weight") && !name.ends_with("in_proj_b.weight");
}

/// The checkpoint with matrices quantized, fused experts slice by slice; beside it the same with those matrices
/// dequantized to F32.
inline std::pair<checkpoint, checkpoint> quantized(const checkpoint& source, int bits, std::size_t block = 128) {
    std::pair<checkpoint, checkpoint> result;
    auto& [packed, plain] = result;
    packed.config = plain.config = source.config;
    packed.polar = R"({"codebook": "legacy-a"})";
    hlwq::block_format format;
    format.bits = bits;
    format.block = block;
    const auto centroids = hlwq::codebook_table(hlwq::codebook_id::legacy_a, bits);
    for (const auto& [name, t] : source.tensors) {
        if (!is_quantizable(name, t)) {
            packed.tensors[name] = plain.tensors[name] = t;
            continue;
        }
        const bool fused = t.shape.size() == 3;
        const std::size_t slices = fused ? t.shape[0] : 1, rows = t.shape[fused ? 1 : 0], cols = t.shape.back();
        std::vector<float> values = widened(t);
        const std::size_t dot = name.rfind('.');
        for (std::size_t e = 0; e < slices; ++e) {
            const hlwq::matrix_view<float> w(values.data() + e * rows * cols, rows, cols);
            const hlwq::packed_matrix q = hlwq::dispatch::quantize(w, centroids, format);
            hlwq::dispatch::dequantize(q.view(), w);
            const auto view = q.view();
            const std::string base =
                fused ? name.substr(0, dot) + "." + std::to_string(e) + name.substr(dot) + ".weight" : name;
            const std::int64_t meta[] = {
                static_cast<std::int64_t>(rows), static_cast<std::int64_t>(format.blocks_per_row(cols)),
                static_cast<std::int64_t>(block), static_cast<std::int64_t>(rows * format.padded_cols(cols)),
                static_cast<std::int64_t>(cols)};
            packed.tensors[base + "__packed"] = {dtype::u8, {view.codes.size()}, bytes_of<std::byte>(view.codes)};
            packed.tensors[base + "__norms"] = {
                dtype::f16, {rows, format.blocks_per_row(cols)}, bytes_of<hlwq::half>(view.norms)};
            packed.tensors[base + "__meta"] = {dtype::i64, {5}, bytes_of<std::int64_t>(meta)};
        }
        plain.tensors[name] = {dtype::f32, t.shape, bytes_of<float>(values)};
    }
    return result;
}

/// The checkpoint quantized to `bits`, with head and embedding at widths of their own; 16: as they were.
inline checkpoint with_head(const checkpoint& source, int bits, int head_bits, int embedding_bits) {
    checkpoint rest = source;
    const auto move_out = [&](std::string_view leaf) {
        checkpoint part;
        part.config = source.config;
        for (const auto& [name, t] : source.tensors) {
            if (name.find(leaf) == std::string::npos) continue;
            part.tensors[name] = t;
            rest.tensors.erase(name);
        }
        return part;
    };
    const checkpoint head = move_out("lm_head."), embedding = move_out("embed_tokens.");
    checkpoint result = quantized(rest, bits).first;
    const auto put = [&](const checkpoint& part, int width) {
        const checkpoint stored = width == 16 ? part : quantized(part, width).first;
        result.tensors.insert(stored.tensors.begin(), stored.tensors.end());
    };
    put(head, head_bits);
    put(embedding, embedding_bits);
    return result;
}

}  // namespace memory
