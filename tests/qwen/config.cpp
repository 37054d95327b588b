// config.json: where fields may stand, what absent ones mean, and what is refused by name.
#include "golden.hpp"

#include <functional>

namespace {

nlohmann::json published(const std::string& name = "moe_tiny") {
    return golden::read_json(golden::data_folder() / name / "config.json");
}

/// The error that a change of text_config leads to.
std::string refusal(const std::function<void(nlohmann::json& top, nlohmann::json& text)>& change,
                    const std::string& name = "moe_tiny") {
    nlohmann::json json = published(name);
    change(json, json["text_config"]);
    try {
        qwen::read_config(nlohmann::json::parse(json.dump()));
    } catch (const hlwq::unsupported_error& error) {
        return std::string("unsupported: ") + error.what();
    } catch (const hlwq::format_error& error) {
        return error.what();
    }
    return "accepted";
}

std::string refusal_of(const char* field, nlohmann::json value) {
    return refusal([&](nlohmann::json&, nlohmann::json& text) { text[field] = std::move(value); });
}

}  // namespace

TEST_CASE("nested and flat give the same") {
    for (const char* name : {"moe_tiny", "dense_tiny"}) {
        const auto nested = qwen::read_config(published(name));
        const auto flat = qwen::read_config(published(name)["text_config"]);
        CHECK(nested.hidden == flat.hidden);
        CHECK(nested.mixers == flat.mixers);
        CHECK(nested.moe.experts == flat.moe.experts);
        CHECK(nested.dense_width == flat.dense_width);
        CHECK(nested.rope.sections == flat.rope.sections);
        CHECK(nested.end_tokens == std::vector<qwen::token_id>{511});
    }
    CHECK(qwen::read_config(published("dense_tiny")).dense_width == 160);
    CHECK_FALSE(qwen::read_config(published("dense_tiny")).is_moe());
}

TEST_CASE("layer types are derived from the interval where they are absent") {
    nlohmann::json json = published();
    const auto given = qwen::read_config(json).mixers;
    json["text_config"].erase("layer_types");
    CHECK(qwen::read_config(json).mixers == given);
}

TEST_CASE("rope fields beside the parameters, as older exports have them") {
    nlohmann::json json = published();
    nlohmann::json& text = json["text_config"];
    text["rope_theta"] = text["rope_parameters"]["rope_theta"];
    text["partial_rotary_factor"] = 0.25;
    text.erase("rope_parameters");
    CHECK(qwen::read_config(json).rope.rotary_dim == 16);
    CHECK(qwen::read_config(json).rope.sections == std::array<std::size_t, 3>{8, 0, 0});
    text["rope_scaling"] = nlohmann::json::parse(R"({"type": "default", "mrope_section": [3, 3, 2]})");
    CHECK(qwen::read_config(json).rope.sections == std::array<std::size_t, 3>{3, 3, 2});
    text["rope_scaling"]["type"] = "linear";
    CHECK_THROWS_AS(qwen::read_config(json), hlwq::unsupported_error);
}

TEST_CASE("what is not computed is refused by name") {
    CHECK(refusal_of("attention_bias", true) ==
          "unsupported: config.json: text_config.attention_bias: expected false, found true");
    CHECK(refusal_of("hidden_act", "gelu") ==
          "unsupported: config.json: text_config.hidden_act: expected silu, found \"gelu\"");
    CHECK(refusal_of("output_gate_type", "sigmoid") ==
          "unsupported: config.json: text_config.output_gate_type: expected silu or swish, found \"sigmoid\"");
    CHECK(refusal_of("attn_output_gate", false).starts_with("unsupported: config.json: text_config.attn_output_gate"));
    CHECK(refusal_of("norm_topk_prob", false).starts_with("unsupported: config.json: text_config.norm_topk_prob"));
    CHECK(
        refusal_of("decoder_sparse_step", 2).starts_with("unsupported: config.json: text_config.decoder_sparse_step"));
    CHECK(refusal_of("mlp_only_layers", {1}).starts_with("unsupported: config.json: text_config.mlp_only_layers"));
    CHECK(refusal_of("mtp_num_hidden_layers", 2)
              .starts_with("unsupported: config.json: text_config.mtp_num_hidden_layers"));
    CHECK(refusal_of("mtp_use_dedicated_embeddings", true)
              .starts_with("unsupported: config.json: text_config.mtp_use_dedicated_embeddings"));
    CHECK(refusal_of("model_type", "qwen3_next").starts_with("unsupported: config.json: text_config.model_type"));
    CHECK(refusal([](auto& top, auto&) {
              top["architectures"] = {"LlamaForCausalLM"};
          }).starts_with("unsupported: config.json: architectures"));
    CHECK(refusal([](auto&, auto& text) { text["rope_parameters"]["rope_type"] = "yarn"; }) ==
          "unsupported: config.json: text_config.rope_parameters.rope_type: expected default, found \"yarn\"");
    CHECK(refusal([](auto&, auto& text) { text["layer_types"][2] = "sliding_attention"; }) ==
          "unsupported: config.json: text_config.layer_types, layer 2: expected linear_attention or full_attention, "
          "found \"sliding_attention\"");
}

TEST_CASE("what contradicts itself is refused by name") {
    CHECK(refusal([](auto&, auto& text) { text.erase("hidden_size"); }) ==
          "config.json: text_config.hidden_size: expected an integer from 1 to 16777216, found none");
    CHECK(refusal_of("vocab_size", -5).starts_with("config.json: text_config.vocab_size"));
    CHECK(refusal_of("num_hidden_layers", 1e300).starts_with("config.json: text_config.num_hidden_layers"));
    CHECK(refusal_of("num_hidden_layers", 7).starts_with("config.json: text_config.layer_types"));
    CHECK(refusal_of("num_key_value_heads", 3).starts_with("config.json: text_config.num_attention_heads"));
    CHECK(refusal_of("linear_num_value_heads", 5).starts_with("config.json: text_config.linear_num_value_heads"));
    CHECK(refusal_of("num_experts_per_tok", 17).starts_with("config.json: text_config.num_experts_per_tok"));
    CHECK(refusal_of("eos_token_id", "x").starts_with("config.json: text_config.eos_token_id"));
    CHECK(refusal_of("rms_norm_eps", "small").starts_with("config.json: text_config.rms_norm_eps"));
    CHECK(refusal_of("rms_norm_eps", 1e300).starts_with("config.json: text_config.rms_norm_eps"));
    CHECK(refusal_of("hidden_size", {{1}}) ==
          "config.json: text_config.hidden_size: expected an integer from 1 to 16777216, found a nested list");
    CHECK(refusal_of("rope_parameters", 5).starts_with("config.json: text_config.rope_parameters"));
    CHECK(refusal_of("model_type", 5).starts_with("config.json: text_config.model_type"));
    CHECK(refusal([](auto&, auto& text) {
              text["rope_parameters"]["mrope_section"] = {3, 3, 3};
          }).starts_with("config.json: text_config.rope_parameters.mrope_section"));
    CHECK(refusal([](auto&, auto& text) {
              text["rope_parameters"]["partial_rotary_factor"] = 2;
          }).starts_with("config.json: text_config.rope_parameters.partial_rotary_factor"));
    CHECK(refusal([](auto& top, auto&) { top["text_config"] = 1; }).starts_with("config.json: text_config"));
    CHECK_THROWS_AS(qwen::read_config(nlohmann::json::object()), hlwq::format_error);
    CHECK_THROWS_AS(qwen::read_config(nlohmann::json::array()), hlwq::format_error);
}
