// qwen_moe_chat/config.hpp — config.json of qwen3_5_moe and qwen3_5, as numbers
//
// The text fields stand in `text_config` of the published files and at the top level of text-only exports; both are
// read. A field that asks for something else than this program computes is an error that names it: a wrong answer is
// worse than none.
//
//   throws   format_error for fields that are missing or contradict each other; unsupported_error for the rest
#pragma once

#include <nlohmann/json.hpp>

#include <array>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace qwen {

using token_id = std::uint32_t;

enum class mixer_kind : std::uint8_t { gated_delta_net, attention };

struct gated_delta_net_config {
    std::size_t key_heads = 0;
    std::size_t value_heads = 0;
    std::size_t key_dim = 0;
    std::size_t value_dim = 0;
    std::size_t kernel = 0;  // taps of the convolution

    std::size_t keys() const noexcept { return key_heads * key_dim; }
    std::size_t values() const noexcept { return value_heads * value_dim; }
    /// Channels of the convolution: q, k and v.
    std::size_t channels() const noexcept { return 2 * keys() + values(); }
};

struct attention_config {
    std::size_t heads = 0;
    std::size_t kv_heads = 0;
    std::size_t head_dim = 0;

    std::size_t kv_width() const noexcept { return kv_heads * head_dim; }
};

struct rope_config {
    double theta = 0.0;
    std::size_t rotary_dim = 0;                // of each head; the other dimensions pass
    std::array<std::size_t, 3> sections = {};  // frequencies of the temporal, height and width positions
};

struct moe_config {
    std::size_t experts = 0;
    std::size_t chosen = 0;  // experts a token
    std::size_t width = 0;
    std::size_t shared_width = 0;
};

struct model_config {
    std::size_t hidden = 0;
    std::size_t vocabulary = 0;
    std::size_t max_positions = 0;
    float norm_epsilon = 0.0f;
    std::vector<mixer_kind> mixers;  // of each layer
    gated_delta_net_config gdn;
    attention_config attention;
    rope_config rope;
    moe_config moe;               // no experts: a dense model
    std::size_t dense_width = 0;  // of a dense model
    std::size_t mtp_layers = 0;
    bool tied = false;                 // what the file says; whether there is a head decides
    std::vector<token_id> end_tokens;  // eos_token_id

    bool is_moe() const noexcept { return moe.experts != 0; }
};

/// The configuration of a model from the text of its config.json, parsed.
model_config read_config(const nlohmann::json& json);

}  // namespace qwen
