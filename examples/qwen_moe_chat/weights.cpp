#include "qwen_moe_chat/weights.hpp"

#include "hlwq/dispatch/dispatch.hpp"
#include "hlwq/block_dot.hpp"
#include "hlwq/error.hpp"
#include "hlwq/io/safetensors.hpp"
#include "hlwq/io/tensor_names.hpp"

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <initializer_list>
#include <span>
#include <string_view>
#include <unordered_set>
#include <utility>

namespace qwen {

namespace {

using hlwq::checkpoint::tensor;
using hlwq::safetensors::dtype;

std::string shape_text(std::span<const std::uint64_t> shape) {
    std::string text = "[";
    for (const std::uint64_t extent : shape) text += (text.size() == 1 ? "" : ", ") + std::to_string(extent);
    return text + "]";
}

std::string describe(const tensor& t) {
    if (!t.quantized) return hlwq::safetensors::describe(t.dtype, t.shape);
    return std::to_string(t.packed.format.bits) + "-bit codes " + shape_text(t.shape);
}

/// Fetches tensors by name and shape, and knows which ones nobody asked for.
class loader {
  public:
    loader(const hlwq::checkpoint::reader& file, model_weights& out) : file_(file), out_(out) {}

    bool has(std::string_view name) const { return find(name) != nullptr; }

    /// A small tensor, widened.
    std::vector<float> vector(const std::string& name, std::initializer_list<std::uint64_t> shape) {
        const tensor& t = fetch(name, shape);
        if (t.quantized) wrong(t, shape);
        return std::visit(
            [](const auto& view) -> std::vector<float> {
                if constexpr (requires { view.data; }) {
                    return {view.data, view.data + view.cols};
                } else {
                    return {};
                }
            },
            plain(t, 1, hlwq::safetensors::element_count(t.shape).value_or(0)));
    }

    matrix linear(const std::string& name, std::uint64_t rows, std::uint64_t cols) {
        const tensor& t = fetch(name, {rows, cols});
        return t.quantized ? matrix(t.packed) : plain(t, rows, cols);
    }

    /// A fused tensor [slices, rows, cols] as a matrix of all rows.
    matrix fused(const std::string& name, std::uint64_t slices, std::uint64_t rows, std::uint64_t cols) {
        const tensor& t = fetch(name, {slices, rows, cols});
        if (t.quantized) wrong(t, std::initializer_list<std::uint64_t>{slices, rows, cols});
        return plain(t, slices * rows, cols);
    }

    /// What was not fetched, in words.
    void report_rest() {
        std::size_t vision = 0;
        std::vector<std::string> others;
        for (const tensor& t : file_.tensors()) {
            if (used_.contains(&t)) continue;
            if (hlwq::checkpoint::is_vision(t.name)) {
                ++vision;
            } else {
                others.push_back(t.name);
            }
        }
        if (vision != 0) out_.notes.push_back(std::to_string(vision) + " vision tensors skipped: text only");
        if (others.empty()) return;
        constexpr std::size_t shown = 4;
        std::string names;
        for (std::size_t i = 0; i < std::min(shown, others.size()); ++i) names += (i == 0 ? "" : ", ") + others[i];
        if (others.size() > shown) names += ", ...";
        out_.notes.push_back(std::to_string(others.size()) + " tensors of no known use skipped: " + names);
    }

  private:
    const tensor* find(std::string_view name) const {
        const tensor* t = file_.find(name);
        // Not every dialect keeps ".weight" in its names.
        return t != nullptr ? t : file_.find(hlwq::checkpoint::without_weight(name));
    }

    const tensor& fetch(const std::string& name, std::initializer_list<std::uint64_t> shape) {
        const tensor* t = find(name);
        if (t == nullptr) {
            const std::string folder = file_.folder().string();
            hlwq::throw_error<hlwq::format_error>("tensor " + name + (folder.empty() ? "" : " (" + folder + ")") +
                                                  ": expected " + shape_text(shape) + ", found no tensor of that name");
        }
        if (!std::ranges::equal(t->shape, shape)) wrong(*t, shape);
        used_.insert(t);
        return *t;
    }

    [[noreturn]] static void wrong(const tensor& t, std::initializer_list<std::uint64_t> shape) {
        hlwq::throw_error<hlwq::format_error>("tensor " + t.name + " (" + t.file + "): expected " + shape_text(shape) +
                                              ", found " + describe(t));
    }

    matrix plain(const tensor& t, std::uint64_t rows, std::uint64_t cols) {
        switch (t.dtype) {
            case dtype::bf16: return view<hlwq::bfloat16>(t, rows, cols);
            case dtype::f16: return view<hlwq::half>(t, rows, cols);
            case dtype::f32: return view<float>(t, rows, cols);
            default: break;
        }
        hlwq::throw_error<hlwq::unsupported_error>("tensor " + t.name + " (" + t.file +
                                                   "): expected BF16, F16, F32 or packed codes, found " + describe(t));
    }

    template <class T>
    matrix_view<const T> view(const tensor& t, std::uint64_t rows, std::uint64_t cols) {
        std::span<const std::byte> bytes = t.bytes;
        if (reinterpret_cast<std::uintptr_t>(bytes.data()) % alignof(T) != 0) {
            bytes = out_.copies.emplace_back(bytes.begin(), bytes.end());
        }
        return {reinterpret_cast<const T*>(bytes.data()), rows, cols};
    }

    const hlwq::checkpoint::reader& file_;
    model_weights& out_;
    std::unordered_set<const tensor*> used_;
};

feed_forward load_feed_forward(loader& from, const std::string& prefix, std::size_t hidden, std::size_t width) {
    return {from.linear(prefix + "gate_proj.weight", width, hidden),
            from.linear(prefix + "up_proj.weight", width, hidden),
            from.linear(prefix + "down_proj.weight", hidden, width)};
}

/// Experts in any of three layouts: fused [experts, out, in], slices of a fused tensor quantized one by one, and three
/// matrices for each expert. Gate and up lie one behind the other in the first two.
std::vector<feed_forward> load_experts(loader& from, const std::string& prefix, const model_config& config) {
    const std::size_t count = config.moe.experts, width = config.moe.width, hidden = config.hidden;
    std::vector<feed_forward> experts(count);
    std::optional<matrix> gate_up, down;
    if (from.has(prefix + "gate_up_proj")) gate_up = from.fused(prefix + "gate_up_proj", count, 2 * width, hidden);
    if (from.has(prefix + "down_proj")) down = from.fused(prefix + "down_proj", count, hidden, width);
    for (std::size_t e = 0; e < count; ++e) {
        feed_forward& expert = experts[e];
        const std::string name = prefix + std::to_string(e) + ".";
        std::optional<matrix> pair;
        if (gate_up) {
            pair = rows_between(*gate_up, e * 2 * width, (e + 1) * 2 * width);
        } else if (from.has(name + "gate_up_proj.weight")) {
            pair = from.linear(name + "gate_up_proj.weight", 2 * width, hidden);
        }
        if (pair) {
            expert.gate = rows_between(*pair, 0, width);
            expert.up = rows_between(*pair, width, 2 * width);
        } else {
            expert.gate = from.linear(name + "gate_proj.weight", width, hidden);
            expert.up = from.linear(name + "up_proj.weight", width, hidden);
        }
        expert.down = down ? rows_between(*down, e * hidden, (e + 1) * hidden)
                           : from.linear(name + "down_proj.weight", hidden, width);
    }
    return experts;
}

std::variant<feed_forward, moe> load_ffn(loader& from, const std::string& prefix, const model_config& config) {
    if (!config.is_moe()) return load_feed_forward(from, prefix, config.hidden, config.dense_width);
    moe w;
    w.router = from.linear(prefix + "gate.weight", config.moe.experts, config.hidden);
    w.experts = load_experts(from, prefix + "experts.", config);
    w.shared = load_feed_forward(from, prefix + "shared_expert.", config.hidden, config.moe.shared_width);
    w.shared_gate = from.linear(prefix + "shared_expert_gate.weight", 1, config.hidden);
    return w;
}

gated_delta_net load_gated_delta_net(loader& from, const std::string& prefix, const model_config& config) {
    const gated_delta_net_config& dims = config.gdn;
    gated_delta_net w;
    w.in_qkv = from.linear(prefix + "in_proj_qkv.weight", dims.channels(), config.hidden);
    w.in_z = from.linear(prefix + "in_proj_z.weight", dims.values(), config.hidden);
    w.in_b = from.linear(prefix + "in_proj_b.weight", dims.value_heads, config.hidden);
    w.in_a = from.linear(prefix + "in_proj_a.weight", dims.value_heads, config.hidden);
    const std::vector<float> conv = from.vector(prefix + "conv1d.weight", {dims.channels(), 1, dims.kernel});
    w.conv.resize(conv.size());
    for (std::size_t c = 0; c < dims.channels(); ++c) {
        for (std::size_t j = 0; j < dims.kernel; ++j) w.conv[j * dims.channels() + c] = conv[c * dims.kernel + j];
    }
    w.a_log = from.vector(prefix + "A_log", {dims.value_heads});
    w.dt_bias = from.vector(prefix + "dt_bias", {dims.value_heads});
    w.norm = from.vector(prefix + "norm.weight", {dims.value_dim});
    w.out = from.linear(prefix + "out_proj.weight", config.hidden, dims.values());
    return w;
}

attention load_attention(loader& from, const std::string& prefix, const model_config& config) {
    const attention_config& dims = config.attention;
    attention w;
    w.q = from.linear(prefix + "q_proj.weight", dims.heads * 2 * dims.head_dim, config.hidden);
    w.k = from.linear(prefix + "k_proj.weight", dims.kv_width(), config.hidden);
    w.v = from.linear(prefix + "v_proj.weight", dims.kv_width(), config.hidden);
    w.o = from.linear(prefix + "o_proj.weight", config.hidden, dims.heads * dims.head_dim);
    w.q_norm = from.vector(prefix + "q_norm.weight", {dims.head_dim});
    w.k_norm = from.vector(prefix + "k_norm.weight", {dims.head_dim});
    return w;
}

decoder_layer load_layer(loader& from, const std::string& prefix, mixer_kind kind, const model_config& config) {
    decoder_layer layer;
    layer.input_norm = from.vector(prefix + "input_layernorm.weight", {config.hidden});
    layer.post_attention_norm = from.vector(prefix + "post_attention_layernorm.weight", {config.hidden});
    if (kind == mixer_kind::attention) {
        layer.mixer = load_attention(from, prefix + "self_attn.", config);
    } else {
        layer.mixer = load_gated_delta_net(from, prefix + "linear_attn.", config);
    }
    layer.ffn = load_ffn(from, prefix + "mlp.", config);
    return layer;
}

mtp_layer load_mtp(loader& from, const model_config& config) {
    mtp_layer w;
    w.embedding_norm = from.vector("mtp.pre_fc_norm_embedding.weight", {config.hidden});
    w.hidden_norm = from.vector("mtp.pre_fc_norm_hidden.weight", {config.hidden});
    w.fc = from.linear("mtp.fc.weight", config.hidden, 2 * config.hidden);
    w.layer = load_layer(from, "mtp.layers.0.", mixer_kind::attention, config);
    w.norm = from.vector("mtp.norm.weight", {config.hidden});
    return w;
}

/// Published checkpoints, text-only exports, MLX exports.
std::string text_prefix(const loader& from) {
    constexpr std::string_view known[] = {"model.language_model.", "model.", "language_model.model."};
    for (const std::string_view prefix : known) {
        if (from.has(std::string(prefix) + "embed_tokens.weight")) return std::string(prefix);
    }
    return std::string(known[0]);  // the message about the embedding then names it
}

}  // namespace

hlwq::layout_id layout_in_memory(const tensor& t, std::optional<hlwq::layout_id> asked) {
    const hlwq::block_format& own = t.packed.format;
    hlwq::block_format other = own;
    other.layout = asked.value_or(hlwq::dispatch::preferred_layout(own));
    const bool fits =
        other.layout == hlwq::layout_id::planes ? hlwq::planes<1>::allows(own.block) : hlwq::wire<1>::allows(own.block);
    if (!t.quantized || !fits || other.block_bytes() != own.block_bytes()) return own.layout;
    return hlwq::checkpoint::is_vision(t.name) ? own.layout : other.layout;
}

model_weights load_weights(const hlwq::checkpoint::reader& file, const model_config& config) {
    model_weights w;
    loader from(file, w);
    const std::string prefix = text_prefix(from);
    w.embedding = from.linear(prefix + "embed_tokens.weight", config.vocabulary, config.hidden);
    // The file decides, not the configuration, which is wrong in some exports.
    w.head = w.embedding;
    const std::string own_head =
        prefix.starts_with("language_model.") ? "language_model.lm_head.weight" : "lm_head.weight";
    for (const std::string& name : {own_head, std::string("lm_head.weight")}) {
        if (!from.has(name)) continue;
        w.head = from.linear(name, config.vocabulary, config.hidden);
        break;
    }
    w.norm = from.vector(prefix + "norm.weight", {config.hidden});
    for (std::size_t i = 0; i < config.mixers.size(); ++i) {
        w.layers.push_back(load_layer(from, prefix + "layers." + std::to_string(i) + ".", config.mixers[i], config));
    }
    if (from.has("mtp.fc.weight")) {
        w.mtp = load_mtp(from, config);
    } else if (config.mtp_layers != 0) {
        w.notes.push_back("no multi-token prediction layer: the checkpoint has no tensors of it");
    }
    from.report_rest();
    return w;
}

}  // namespace qwen
