#include "qwen_moe_chat/config.hpp"

#include "hlwq/error.hpp"

#include <algorithm>
#include <cmath>
#include <optional>
#include <string>
#include <string_view>

namespace qwen {

namespace {

using nlohmann::json;

// Products of any four sizes stay within 64 bits.
constexpr std::size_t largest_size = std::size_t{1} << 24;
constexpr std::size_t most_layers = 4096;

/// A value for a message; nested ones only by their kind, for their depth is the file's choice.
std::string shown(const json& value) {
    const bool nested = std::ranges::any_of(value, [](const json& inner) { return inner.is_structured(); });
    if (value.is_object() || (value.is_array() && nested)) return value.is_object() ? "an object" : "a nested list";
    std::string text = value.dump(-1, ' ', true, json::error_handler_t::replace);
    return text.size() > 80 ? text.substr(0, 77) + "..." : text;
}

/// An object of config.json, and where it stands.
class fields {
  public:
    fields(const json& object, std::string path) : object_(&object), path_(std::move(path)) {}

    /// Null if the field is absent or null.
    const json* find(const char* key) const {
        const auto at = object_->find(key);
        return at == object_->end() || at->is_null() ? nullptr : &*at;
    }
    std::string where(const char* key) const { return "config.json: " + path_ + key; }

    [[noreturn]] void wrong(const char* key, std::string_view expected) const {
        const json* value = find(key);
        hlwq::throw_error<hlwq::format_error>(where(key) + ": expected " + std::string(expected) + ", found " +
                                              (value == nullptr ? "none" : shown(*value)));
    }
    [[noreturn]] void unsupported(const char* key, std::string_view expected) const {
        hlwq::throw_error<hlwq::unsupported_error>(where(key) + ": expected " + std::string(expected) + ", found " +
                                                   shown(*find(key)));
    }

    std::size_t size(const char* key, std::size_t most = largest_size) const {
        const json* value = find(key);
        if (value == nullptr || !value->is_number_unsigned() || *value == 0u || value->get<std::uint64_t>() > most) {
            wrong(key, "an integer from 1 to " + std::to_string(most));
        }
        return value->get<std::size_t>();
    }
    std::optional<std::size_t> maybe_size(const char* key) const {
        if (find(key) == nullptr) return std::nullopt;
        return *find(key) == 0u ? 0 : size(key);
    }
    std::optional<double> maybe_number(const char* key) const {
        const json* value = find(key);
        if (value == nullptr) return std::nullopt;
        if (!value->is_number() || !(value->get<double>() > 0.0) || !std::isfinite(value->get<double>())) {
            wrong(key, "a positive number");
        }
        return value->get<double>();
    }
    std::optional<bool> maybe_flag(const char* key) const {
        const json* value = find(key);
        if (value == nullptr) return std::nullopt;
        if (!value->is_boolean()) wrong(key, "true or false");
        return value->get<bool>();
    }
    /// The field is absent or has the only value that is computed here.
    void require_flag(const char* key, bool computed) const {
        if (maybe_flag(key).value_or(computed) != computed) unsupported(key, computed ? "true" : "false");
    }
    void require_text(const char* key, std::initializer_list<std::string_view> computed) const {
        const json* value = find(key);
        if (value == nullptr) return;
        if (!value->is_string()) wrong(key, "a string");
        if (std::ranges::find(computed, value->get_ref<const std::string&>()) != computed.end()) return;
        std::string names;
        for (const auto name : computed) names += (names.empty() ? "" : " or ") + std::string(name);
        unsupported(key, names);
    }
    std::optional<fields> maybe_object(const char* key) const {
        const json* value = find(key);
        if (value == nullptr) return std::nullopt;
        if (!value->is_object()) wrong(key, "an object");
        return fields(*value, path_ + key + ".");
    }

  private:
    const json* object_;
    std::string path_;
};

void refuse_what_is_not_computed(const fields& top, const fields& text) {
    for (const fields* level : {&top, &text}) {
        level->require_text("model_type", {"qwen3_5_moe", "qwen3_5", "qwen3_5_moe_text", "qwen3_5_text"});
    }
    if (const json* names = top.find("architectures")) {
        static constexpr std::string_view known[] = {"Qwen3_5MoeForConditionalGeneration",
                                                     "Qwen3_5ForConditionalGeneration", "Qwen3_5MoeForCausalLM",
                                                     "Qwen3_5ForCausalLM"};
        if (!names->is_array() || names->empty() || !names->front().is_string()) {
            top.wrong("architectures", "a list of names");
        }
        if (std::ranges::find(known, names->front().get_ref<const std::string&>()) == std::end(known)) {
            top.unsupported("architectures", "Qwen3_5MoeForConditionalGeneration or a sibling");
        }
    }
    text.require_text("hidden_act", {"silu"});
    text.require_text("output_gate_type", {"silu", "swish"});
    text.require_flag("attn_output_gate", true);
    text.require_flag("norm_topk_prob", true);
    text.require_flag("attention_bias", false);
    text.require_flag("use_sliding_window", false);
    text.require_flag("mtp_use_dedicated_embeddings", false);
    if (text.maybe_size("decoder_sparse_step").value_or(1) != 1) text.unsupported("decoder_sparse_step", "1");
    if (const json* layers = text.find("mlp_only_layers"); layers != nullptr && *layers != json::array()) {
        text.unsupported("mlp_only_layers", "an empty list");
    }
}

std::vector<mixer_kind> read_mixers(const fields& text) {
    const std::size_t layers = text.size("num_hidden_layers", most_layers);
    std::vector<mixer_kind> mixers(layers, mixer_kind::gated_delta_net);
    const json* types = text.find("layer_types");
    if (types == nullptr) {
        const std::size_t interval = text.size("full_attention_interval");
        for (std::size_t i = interval - 1; i < layers; i += interval) mixers[i] = mixer_kind::attention;
        return mixers;
    }
    if (!types->is_array() || types->size() != layers) {
        text.wrong("layer_types", "a list of " + std::to_string(layers) + " names, as num_hidden_layers says");
    }
    for (std::size_t i = 0; i < layers; ++i) {
        const json& type = (*types)[i];
        if (type == "full_attention") {
            mixers[i] = mixer_kind::attention;
        } else if (type != "linear_attention") {
            hlwq::throw_error<hlwq::unsupported_error>(text.where("layer_types") + ", layer " + std::to_string(i) +
                                                       ": expected linear_attention or full_attention, found " +
                                                       shown(type));
        }
    }
    return mixers;
}

rope_config read_rope(const fields& text, std::size_t head_dim) {
    // Originals have rope_parameters; older exports the fields themselves, some beside a rope_scaling.
    auto parameters = text.maybe_object("rope_parameters");
    if (!parameters) parameters = text.maybe_object("rope_scaling");
    const fields& inner = parameters ? *parameters : text;
    for (const char* key : {"rope_type", "type"}) {
        if (parameters) parameters->require_text(key, {"default"});
    }
    const auto number = [&](const char* key) {
        auto value = inner.maybe_number(key);
        if (!value) value = text.maybe_number(key);
        if (!value) inner.wrong(key, "a positive number");
        return *value;
    };
    rope_config rope;
    rope.theta = number("rope_theta");
    const double factor = number("partial_rotary_factor");
    const double rotary = static_cast<double>(head_dim) * factor;
    if (factor > 1.0 || rotary < 2.0) inner.wrong("partial_rotary_factor", "a part of head_dim, at least two of it");
    rope.rotary_dim = static_cast<std::size_t>(rotary);
    if (rope.rotary_dim % 2 != 0) inner.wrong("partial_rotary_factor", "an even number of dimensions of head_dim");

    const std::size_t frequencies = rope.rotary_dim / 2;
    rope.sections = {frequencies, 0, 0};
    if (const json* sections = inner.find("mrope_section")) {
        inner.require_flag("mrope_interleaved", true);
        std::size_t sum = 0;
        if (!sections->is_array() || sections->size() != 3) inner.wrong("mrope_section", "three numbers");
        for (std::size_t axis = 0; axis < 3; ++axis) {
            const json& count = (*sections)[axis];
            if (!count.is_number_unsigned() || count.get<std::uint64_t>() > frequencies) {
                inner.wrong("mrope_section", "three numbers up to " + std::to_string(frequencies));
            }
            sum += rope.sections[axis] = count.get<std::size_t>();
        }
        if (sum != frequencies) inner.wrong("mrope_section", "a sum of " + std::to_string(frequencies));
    }
    return rope;
}

void read_gated_delta_net(const fields& text, gated_delta_net_config& gdn) {
    gdn.key_heads = text.size("linear_num_key_heads");
    gdn.value_heads = text.size("linear_num_value_heads");
    gdn.key_dim = text.size("linear_key_head_dim", 4096);
    gdn.value_dim = text.size("linear_value_head_dim", 4096);
    gdn.kernel = text.size("linear_conv_kernel_dim", 64);
    if (gdn.value_heads % gdn.key_heads != 0) {
        text.wrong("linear_num_value_heads", "a multiple of linear_num_key_heads");
    }
}

void read_feed_forward(const fields& top, const fields& text, model_config& config) {
    const json* type = text.find("model_type") != nullptr ? text.find("model_type") : top.find("model_type");
    const bool named_moe = type != nullptr && type->get_ref<const std::string&>().starts_with("qwen3_5_moe");
    if (!named_moe && (type != nullptr || text.maybe_size("num_experts").value_or(0) == 0)) {
        config.dense_width = text.size("intermediate_size");
        return;
    }
    config.moe.experts = text.size("num_experts", 1 << 16);
    config.moe.chosen = text.size("num_experts_per_tok", 1 << 16);
    if (config.moe.chosen > config.moe.experts) text.wrong("num_experts_per_tok", "at most num_experts");
    config.moe.width = text.size("moe_intermediate_size");
    config.moe.shared_width = text.size("shared_expert_intermediate_size");
}

/// Of both levels: an answer ends at the tokens of either.
std::vector<token_id> read_end_tokens(const fields& top, const fields& text, std::size_t vocabulary) {
    std::vector<token_id> tokens;
    for (const fields* level : {&text, &top}) {
        const json* value = level->find("eos_token_id");
        if (value == nullptr) continue;
        const json list = value->is_array() ? *value : json::array({*value});
        for (const json& token : list) {
            if (!token.is_number_unsigned() || token.get<std::uint64_t>() >= vocabulary) {
                level->wrong("eos_token_id", "token ids below vocab_size");
            }
            if (std::ranges::find(tokens, token.get<token_id>()) == tokens.end()) {
                tokens.push_back(token.get<token_id>());
            }
        }
    }
    return tokens;
}

}  // namespace

model_config read_config(const json& parsed) {
    const fields top(parsed, "");
    if (!parsed.is_object() || parsed.empty()) {
        hlwq::throw_error<hlwq::format_error>("config.json: expected an object with the fields of the model, found " +
                                              shown(parsed));
    }
    const auto nested = top.maybe_object("text_config");
    const fields& text = nested ? *nested : top;
    refuse_what_is_not_computed(top, text);

    model_config config;
    config.hidden = text.size("hidden_size");
    config.vocabulary = text.size("vocab_size");
    config.max_positions = text.size("max_position_embeddings");
    const double epsilon = text.maybe_number("rms_norm_eps").value_or(1e-6);
    if (epsilon >= 1.0) text.wrong("rms_norm_eps", "a number below 1");
    config.norm_epsilon = static_cast<float>(epsilon);
    config.mixers = read_mixers(text);
    if (std::ranges::count(config.mixers, mixer_kind::gated_delta_net) != 0) read_gated_delta_net(text, config.gdn);
    config.attention = {text.size("num_attention_heads", 1 << 16), text.size("num_key_value_heads", 1 << 16),
                        text.size("head_dim", 4096)};
    if (config.attention.heads % config.attention.kv_heads != 0) {
        text.wrong("num_attention_heads", "a multiple of num_key_value_heads");
    }
    config.rope = read_rope(text, config.attention.head_dim);
    read_feed_forward(top, text, config);
    config.mtp_layers = text.maybe_size("mtp_num_hidden_layers").value_or(0);
    if (config.mtp_layers > 1) text.unsupported("mtp_num_hidden_layers", "0 or 1");
    config.tied =
        text.maybe_flag("tie_word_embeddings").value_or(top.maybe_flag("tie_word_embeddings").value_or(false));
    config.end_tokens = read_end_tokens(top, text, config.vocabulary);
    return config;
}

}  // namespace qwen
