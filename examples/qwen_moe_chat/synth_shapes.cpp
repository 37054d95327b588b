// The shapes that synth.hpp knows: config.json and the list of tensors.
#include "qwen_moe_chat/synth.hpp"

#include "hlwq/error.hpp"

#include <cmath>
#include <iterator>

namespace qwen {

namespace {

struct shape_values {
    std::string_view name;
    std::size_t layers, hidden, vocabulary, heads, kv_heads, head_dim;
    std::size_t gdn_key_heads, gdn_value_heads, gdn_head_dim;
    std::size_t dense_width;                    // 0: a mixture of experts
    std::size_t experts, chosen, expert_width;  // the shared expert has the same width
};

constexpr shape_values shapes[] = {
    {"35b-a3b", 40, 2048, 248320, 16, 2, 256, 16, 32, 128, 0, 256, 8, 512},
    {"9b", 32, 4096, 248320, 16, 4, 256, 16, 32, 128, 12288, 0, 0, 0},
    {"27b", 64, 5120, 248320, 24, 4, 256, 16, 48, 128, 17408, 0, 0, 0},
    {"tiny", 4, 128, 512, 2, 1, 64, 2, 4, 32, 0, 8, 2, 128},
};

const shape_values& find_shape(std::string_view name) {
    std::string names;
    for (const shape_values& shape : shapes) {
        if (shape.name == name) return shape;
        names += (names.empty() ? "" : ", ") + std::string(shape.name);
    }
    hlwq::throw_error<hlwq::value_error>("shape: expected one of " + names + ", found " + std::string(name));
}

}  // namespace

std::span<const std::string_view> synth_shapes() noexcept {
    static constexpr std::string_view names[] = {shapes[0].name, shapes[1].name, shapes[2].name, shapes[3].name};
    static_assert(std::size(names) == std::size(shapes));
    return names;
}

nlohmann::ordered_json synth_config(const synth_options& options) {
    const shape_values& shape = find_shape(options.shape);
    const std::size_t layers = options.layers.value_or(shape.layers);
    const std::size_t vocabulary = options.vocabulary.value_or(shape.vocabulary);
    HLWQ_EXPECTS(vocabulary >= least_synth_vocabulary, hlwq::value_error, "vocabulary",
                 "at least " + std::to_string(least_synth_vocabulary), vocabulary);
    const bool moe = shape.dense_width == 0;
    constexpr std::size_t interval = 4;
    // A quarter of a head is rotated; of its frequencies 11 : 11 : 10 belong to time, height and width.
    const std::size_t frequencies = shape.head_dim / 8, third = (frequencies + 2) / 3;
    nlohmann::ordered_json types = nlohmann::ordered_json::array();
    for (std::size_t i = 0; i < layers; ++i) {
        types.push_back((i + 1) % interval == 0 ? "full_attention" : "linear_attention");
    }
    nlohmann::ordered_json text{
        {"model_type", moe ? "qwen3_5_moe_text" : "qwen3_5_text"},
        {"vocab_size", vocabulary},
        {"hidden_size", shape.hidden},
        {"num_hidden_layers", layers},
        {"layer_types", types},
        {"full_attention_interval", interval},
        {"num_attention_heads", shape.heads},
        {"num_key_value_heads", shape.kv_heads},
        {"head_dim", shape.head_dim},
        {"attn_output_gate", true},
        {"attention_bias", false},
        {"linear_num_key_heads", shape.gdn_key_heads},
        {"linear_num_value_heads", shape.gdn_value_heads},
        {"linear_key_head_dim", shape.gdn_head_dim},
        {"linear_value_head_dim", shape.gdn_head_dim},
        {"linear_conv_kernel_dim", 4},
        {"mamba_ssm_dtype", "float32"},
        {"hidden_act", "silu"},
        {"rms_norm_eps", 1e-6},
        {"max_position_embeddings", 262144},
        {"rope_parameters",
         {{"rope_type", "default"},
          {"rope_theta", 10000000},
          {"partial_rotary_factor", 0.25},
          {"mrope_section", {third, third, frequencies - 2 * third}},
          {"mrope_interleaved", true}}},
        {"tie_word_embeddings", false},
        {"mtp_num_hidden_layers", 0},
        {"eos_token_id", 256},
        {"dtype", "bfloat16"},
    };
    if (moe) {
        text["num_experts"] = shape.experts;
        text["num_experts_per_tok"] = shape.chosen;
        text["moe_intermediate_size"] = shape.expert_width;
        text["shared_expert_intermediate_size"] = shape.expert_width;
    } else {
        text["intermediate_size"] = shape.dense_width;
    }
    return {{"architectures", {moe ? "Qwen3_5MoeForConditionalGeneration" : "Qwen3_5ForConditionalGeneration"}},
            {"model_type", moe ? "qwen3_5_moe" : "qwen3_5"},
            {"language_model_only", true},
            {"tie_word_embeddings", false},
            {"text_config", text}};
}

std::vector<synth_tensor> synth_tensors(const model_config& config) {
    std::vector<synth_tensor> tensors;
    const std::size_t hidden = config.hidden;
    // Every layer adds two outputs to the residual stream.
    const float share = 1.0f / std::sqrt(2.0f * static_cast<float>(config.mixers.size()));
    constexpr float narrow = 0.05f;  // of norms
    const auto add = [&](std::string name, std::vector<std::uint64_t> shape, float mean, float deviation) {
        tensors.push_back({std::move(name), std::move(shape), mean, deviation});
    };
    const auto fan_in = [](std::size_t cols) { return 1.0f / std::sqrt(static_cast<float>(cols)); };
    const auto linear = [&](const std::string& name, std::size_t rows, std::size_t cols, float scale = 1.0f) {
        add(name + ".weight", {rows, cols}, 0.0f, scale * fan_in(cols));
    };
    const auto norm = [&](const std::string& name, std::size_t size, float mean = 0.0f) {
        add(name + ".weight", {size}, mean, narrow);
    };
    const auto feed_forward = [&](const std::string& prefix, std::size_t width) {
        linear(prefix + "gate_proj", width, hidden);
        linear(prefix + "up_proj", width, hidden);
        linear(prefix + "down_proj", hidden, width, share);
    };

    const std::string model = "model.language_model.";
    add(model + "embed_tokens.weight", {config.vocabulary, hidden}, 0.0f, 1.0f);
    for (std::size_t i = 0; i < config.mixers.size(); ++i) {
        const std::string layer = model + "layers." + std::to_string(i) + ".";
        norm(layer + "input_layernorm", hidden);
        if (config.mixers[i] == mixer_kind::attention) {
            const attention_config& a = config.attention;
            linear(layer + "self_attn.q_proj", a.heads * 2 * a.head_dim, hidden);
            linear(layer + "self_attn.k_proj", a.kv_width(), hidden);
            linear(layer + "self_attn.v_proj", a.kv_width(), hidden);
            linear(layer + "self_attn.o_proj", hidden, a.heads * a.head_dim, share);
            norm(layer + "self_attn.q_norm", a.head_dim);
            norm(layer + "self_attn.k_norm", a.head_dim);
        } else {
            const gated_delta_net_config& g = config.gdn;
            linear(layer + "linear_attn.in_proj_qkv", g.channels(), hidden);
            linear(layer + "linear_attn.in_proj_z", g.values(), hidden);
            linear(layer + "linear_attn.in_proj_b", g.value_heads, hidden);
            linear(layer + "linear_attn.in_proj_a", g.value_heads, hidden);
            add(layer + "linear_attn.conv1d.weight", {g.channels(), 1, g.kernel}, 0.0f, fan_in(g.kernel));
            // Decays of a token between 0.2 and 0.9, mostly.
            add(layer + "linear_attn.A_log", {g.value_heads}, 1.5f, 0.5f);
            add(layer + "linear_attn.dt_bias", {g.value_heads}, -2.0f, 0.5f);
            norm(layer + "linear_attn.norm", g.value_dim, 1.0f);
            linear(layer + "linear_attn.out_proj", hidden, g.values(), share);
        }
        norm(layer + "post_attention_layernorm", hidden);
        if (!config.is_moe()) {
            feed_forward(layer + "mlp.", config.dense_width);
            continue;
        }
        const std::size_t experts = config.moe.experts, width = config.moe.width;
        linear(layer + "mlp.gate", experts, hidden);
        add(layer + "mlp.experts.gate_up_proj", {experts, 2 * width, hidden}, 0.0f, fan_in(hidden));
        add(layer + "mlp.experts.down_proj", {experts, hidden, width}, 0.0f, share * fan_in(width));
        feed_forward(layer + "mlp.shared_expert.", config.moe.shared_width);
        linear(layer + "mlp.shared_expert_gate", 1, hidden);
    }
    norm(model + "norm", hidden);
    linear("lm_head", config.vocabulary, hidden);
    return tensors;
}

}  // namespace qwen
