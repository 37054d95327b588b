// Policies over the key lists of every variant that Hugging Face writes, recipe files, the coverage report.
#include "hlwq/io/recipe.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <cstdint>
#include <string>
#include <vector>

namespace {

using hlwq::checkpoint::decision;
using hlwq::checkpoint::policy_id;
using hlwq::checkpoint::recipe;
using hlwq::safetensors::dtype;
using shape = std::vector<std::uint64_t>;

constexpr auto keep = decision::action::keep;
constexpr auto quantize = decision::action::quantize;
constexpr auto unknown = decision::action::unknown;

decision decide(const recipe& r, const std::string& name, const shape& s, dtype type = dtype::bf16) {
    return r.decide(name, type, s);
}

struct sample {
    const char* name;
    shape extents;
    decision::action action;
};

/// One of each kind of tensor of Qwen3.5/3.6 checkpoints, MoE and dense, below the prefix of the language model.
const std::vector<sample> language_model = {
    {"embed_tokens.weight", {248320, 2048}, keep},
    {"norm.weight", {2048}, keep},
    {"layers.0.input_layernorm.weight", {2048}, keep},
    {"layers.0.post_attention_layernorm.weight", {2048}, keep},
    {"layers.0.linear_attn.A_log", {32}, keep},
    {"layers.0.linear_attn.dt_bias", {32}, keep},
    {"layers.0.linear_attn.conv1d.weight", {8192, 1, 4}, keep},
    {"layers.0.linear_attn.in_proj_a.weight", {32, 2048}, keep},
    {"layers.0.linear_attn.in_proj_b.weight", {32, 2048}, keep},
    {"layers.0.linear_attn.norm.weight", {128}, keep},
    {"layers.0.linear_attn.in_proj_qkv.weight", {8192, 2048}, quantize},
    {"layers.0.linear_attn.in_proj_z.weight", {4096, 2048}, quantize},
    {"layers.0.linear_attn.out_proj.weight", {2048, 4096}, quantize},
    {"layers.3.self_attn.q_norm.weight", {256}, keep},
    {"layers.3.self_attn.q_proj.weight", {8192, 2048}, quantize},
    {"layers.3.self_attn.k_proj.weight", {512, 2048}, quantize},
    {"layers.3.self_attn.v_proj.weight", {512, 2048}, quantize},
    {"layers.3.self_attn.o_proj.weight", {2048, 4096}, quantize},
    {"layers.3.mlp.gate.weight", {256, 2048}, keep},
    {"layers.3.mlp.shared_expert_gate.weight", {1, 2048}, keep},
    {"layers.3.mlp.shared_expert.gate_proj.weight", {512, 2048}, quantize},
    {"layers.3.mlp.shared_expert.up_proj.weight", {512, 2048}, quantize},
    {"layers.3.mlp.shared_expert.down_proj.weight", {2048, 512}, quantize},
    {"layers.3.mlp.experts.gate_up_proj", {256, 1024, 2048}, quantize},
    {"layers.3.mlp.experts.down_proj", {256, 2048, 512}, quantize},
    {"layers.3.mlp.experts.17.gate_proj.weight", {512, 2048}, quantize},
    {"layers.3.mlp.experts.17.up_proj.weight", {512, 2048}, quantize},
    {"layers.3.mlp.experts.17.down_proj.weight", {2048, 512}, quantize},
    {"layers.3.mlp.gate_proj.weight", {12288, 4096}, quantize},
    {"layers.3.mlp.up_proj.weight", {12288, 4096}, quantize},
    {"layers.3.mlp.down_proj.weight", {4096, 12288}, quantize},
};

}  // namespace

TEST_CASE("the published policy under every prefix") {
    const recipe r;
    for (const std::string prefix :
         {"model.", "model.language_model.", "language_model.model.", "language_model.", ""}) {
        for (const sample& s : language_model) {
            CAPTURE(prefix + s.name);
            const decision d = decide(r, prefix + s.name, s.extents);
            CHECK(d.what == s.action);
            CHECK(d.bits == (s.action == quantize ? 5 : 16));
            CHECK(!d.reason.empty());
        }
    }
    CHECK(decide(r, "lm_head.weight", {248320, 2048}).what == keep);
    for (const char* name :
         {"mtp.fc.weight", "mtp.layers.0.self_attn.q_proj.weight", "mtp.layers.0.mlp.experts.0.down_proj.weight",
          "model.mtp.layers.0.mlp.up_proj.weight", "model.visual.blocks.0.attn.qkv.weight",
          "model.visual.blocks.0.mlp.linear_fc1.weight", "model.visual.merger.linear_fc2.weight",
          "model.visual.pos_embed.weight", "visual.blocks.0.attn.proj.weight"}) {
        CAPTURE(name);
        CHECK(decide(r, name, {1152, 3456}).what == keep);
    }
    CHECK(decide(r, "mtp.layers.0.mlp.experts.gate_up_proj", {256, 1024, 2048}).what == keep);
    CHECK(decide(r, "model.visual.patch_embed.proj.weight", {1152, 3, 2, 16, 16}).what == keep);
}

TEST_CASE("a fused tensor is one whatever the number of experts") {
    for (const std::uint64_t experts : {1u, 4u, 64u, 512u}) {
        CHECK(decide(recipe(), "model.layers.0.mlp.experts.gate_up_proj", {experts, 64, 64}).what == quantize);
    }
    CHECK(decide(recipe(), "model.layers.0.mlp.experts.gate_up_proj_bias", {64, 64}).what == keep);
}

TEST_CASE("the published checkpoint's counts come out of the policy") {
    const recipe r;
    std::uint64_t matrices = 0, parameters = 0;
    const auto add = [&](const std::string& name, const shape& s) {
        if (decide(r, name, s).what != quantize) return;
        std::uint64_t elements = 1;
        for (const std::uint64_t extent : s) elements *= extent;
        matrices += s.size() == 3 ? s[0] : 1;
        parameters += elements;
    };
    for (int layer = 0; layer < 40; ++layer) {
        const bool full = layer % 4 == 3;
        for (const sample& s : language_model) {
            std::string name = s.name;
            const bool attention = name.find("self_attn") != std::string::npos;
            const bool linear = name.find("linear_attn") != std::string::npos;
            if (name.find(".17.") != std::string::npos || name.find(".mlp.gate_proj") != std::string::npos ||
                name.find(".mlp.up_proj") != std::string::npos || name.find(".mlp.down_proj") != std::string::npos ||
                (attention && !full) || (linear && full)) {
                continue;
            }
            add("model.language_model." + name, s.extents);
        }
    }
    CHECK(matrices == 20730);
    CHECK(parameters == 33'617'346'560);
}

TEST_CASE("large tensors that no rule knows are unknown, small ones kept") {
    CHECK(decide(recipe(), "model.layers.0.novelty", {256, 256}).what == unknown);
    CHECK(decide(recipe(), "model.layers.0.novelty", {255, 257}).what == keep);
    CHECK(decide(recipe(), "model.layers.0.novelty", {65536}).what == keep);
    CHECK(decide(recipe(), "model.layers.0.novelty", {16, 64, 64}).what == unknown);
    CHECK(decide(recipe(), "model.layers.0.novelty", {1u << 20, 1u << 20}, dtype::i64).what == keep);
    CHECK(decide(recipe(), "model.layers.0.novelty", {0, 1u << 20}).what == keep);
}

TEST_CASE("package policy: the original's own rules and widths") {
    const recipe r(policy_id::package);
    const auto bits = [&](const char* name, const shape& s = {512, 512}) {
        const decision d = decide(r, name, s);
        return d.what == quantize ? d.bits : 16;
    };
    CHECK(bits("model.embed_tokens.weight") == 5);
    CHECK(bits("lm_head.weight") == 6);
    CHECK(bits("model.layers.0.self_attn.q_proj.weight") == 5);
    CHECK(bits("model.layers.0.self_attn.o_proj.weight") == 6);
    CHECK(bits("model.layers.0.linear_attn.out_proj.weight") == 6);
    CHECK(bits("model.layers.0.mlp.gate_proj.weight") == 3);
    CHECK(bits("model.layers.0.mlp.gate_up_proj.weight") == 3);
    CHECK(bits("model.layers.0.mlp.down_proj.weight") == 4);
    CHECK(bits("model.layers.0.linear_attn.in_proj_a.weight") == 5);
    CHECK(bits("model.layers.0.mlp.shared_expert_gate.weight", {1, 512}) == 5);
    CHECK(bits("model.layers.0.something.weight") == 5);
    CHECK(bits("model.layers.0.mlp.gate.weight") == 16);
    CHECK(bits("model.layers.0.router.weight") == 16);
    CHECK(bits("model.layers.0.mixer.D") == 16);
    CHECK(bits("model.layers.0.ssm.dt_proj.weight") == 16);
    CHECK(bits("model.layers.0.mlp.experts.gate_up_proj", {64, 64, 64}) == 16);
    CHECK(bits("model.layers.0.x.weight", {15, 17}) == 16);
    CHECK(decide(recipe(policy_id::package, 4), "lm_head.weight", {512, 512}).bits == 4);
}

TEST_CASE("linear-layers and video policies") {
    const recipe linear(policy_id::linear_layers);
    CHECK(decide(linear, "lm_head.weight", {512, 512}).what == quantize);
    CHECK(decide(linear, "model.layers.0.linear_attn.in_proj_a.weight", {32, 512}).what == quantize);
    CHECK(decide(linear, "model.embed_tokens.weight", {512, 512}).what == keep);
    CHECK(decide(linear, "model.layers.0.mlp.experts.down_proj", {64, 64, 64}).what == keep);
    CHECK(decide(linear, "model.layers.0.mlp.gate.weight", {256, 512}).what == keep);
    CHECK(decide(linear, "model.visual.blocks.0.mlp.linear_fc1.weight", {512, 512}).what == keep);
    // Linear layers of Qwen3.5-9B: 24 with linear attention, 8 with full attention, 32 feed-forward, the head.
    int count = 0;
    for (int layer = 0; layer < 32; ++layer) {
        for (const sample& s : language_model) {
            const std::string name = s.name;
            const bool full = layer % 4 == 3;
            const bool dense = name.find(".mlp.gate_proj") != std::string::npos ||
                               name.find(".mlp.up_proj") != std::string::npos ||
                               name.find(".mlp.down_proj") != std::string::npos;
            const bool here = dense || (full && name.find("self_attn") != std::string::npos) ||
                              (!full && name.find("linear_attn") != std::string::npos);
            if (here && decide(linear, "model.language_model." + name, s.extents).what == quantize) ++count;
        }
    }
    CHECK(count + 1 == 249);

    const recipe video(policy_id::video, 6);
    CHECK(decide(video, "blocks.0.attn.weight", {32, 32}).bits == 6);
    CHECK(decide(video, "blocks.0.attn.weight", {16, 16}).what == keep);
    for (const char* name : {"blocks.0.norm1.weight", "blocks.0.modulation", "patch_embedding.weight",
                             "time_embed.weight", "vae.x.weight", "text_encoder.x.weight"}) {
        CHECK(decide(video, name, {512, 512}).what == keep);
    }
}

TEST_CASE("recipe lines: first match wins, the policy catches the rest") {
    const recipe r = recipe::parse(
        "# widths by hand\n"
        "\n"
        "layers\\.0\\..*down_proj = keep   # sensitive\n"
        "down_proj=3\r\n"
        "\tlm_head\\.weight$ = 8\n"
        "^x=y$ = 2\n"
        "a#b = 7");
    CHECK(decide(r, "model.layers.0.mlp.down_proj.weight", {512, 512}).what == keep);
    CHECK(decide(r, "model.layers.0.mlp.down_proj.weight", {512, 512}).reason ==
          "recipe, line 3: layers\\.0\\..*down_proj");
    CHECK(decide(r, "model.layers.10.mlp.down_proj.weight", {512, 512}).bits == 3);
    CHECK(decide(r, "model.layers.1.mlp.experts.down_proj", {8, 512, 512}).bits == 3);
    CHECK(decide(r, "lm_head.weight", {512, 512}).bits == 8);
    CHECK(decide(r, "x=y", {512, 512}).bits == 2);
    CHECK(decide(r, "a#b", {512, 512}).bits == 7);
    CHECK(decide(r, "model.layers.0.mlp.up_proj.weight", {512, 512}).bits == 5);
    CHECK(decide(r, "model.embed_tokens.weight", {512, 512}).what == keep);
    // What a matrix must be, no line can change.
    const recipe all = recipe::parse(". = 4");
    CHECK(decide(all, "model.norm.weight", {512}).what == keep);
    CHECK(decide(all, "model.conv1d.weight", {512, 1, 4}).what == keep);
    CHECK(decide(all, "ids", {512, 512}, dtype::i64).what == keep);
    CHECK(decide(all, "fp8", {512, 512}, dtype::f8_e4m3).what == keep);
    CHECK(decide(all, "model.embed_tokens.weight", {512, 512}).bits == 4);
    CHECK(decide(recipe::parse("", policy_id::package), "lm_head.weight", {512, 512}).bits == 6);
}

TEST_CASE("recipes that cannot be read name file and line") {
    const auto message = [](const std::string& text) -> std::string {
        try {
            recipe::parse(text, policy_id::published_moe, {}, "my.recipe");
        } catch (const hlwq::format_error& e) {
            return e.what();
        }
        return {};
    };
    for (const char* line : {"down_proj", "= 4", "x =", "x = 1", "x = 9", "x = five", "x = -3", "x = 4.5", "x = 05",
                             "x = Keep", "( = 4", "[a = 4", "a{2,1} = 4", "* = 4", "(a)\\1 = 4", "a{99999} = 3"}) {
        CAPTURE(line);
        const std::string found = message("# one\n\n" + std::string(line) + "\ny = 4\n");
        CHECK(found.find("my.recipe, line 3: expected") == 0);
        CHECK(found.find("found") != std::string::npos);
    }
    CHECK(message(std::string(401, 'x') + " = 4").find("at most 400 characters") != std::string::npos);
    CHECK(message("ok = 4\nkeep = keep").empty());
    CHECK_THROWS_AS(recipe(policy_id::package, 9), hlwq::unsupported_error);
    CHECK_THROWS_AS(recipe(policy_id::package, 1), hlwq::unsupported_error);
}

TEST_CASE("a pattern that backtracking engines die of ends") {
    const recipe r = recipe::parse("^(([a-z])+.)+[A-Z]([a-z])+$ = 4\n(a*)*b = 3\n(x+x+)+y = 2");
    CHECK(decide(r, std::string(300, 'a'), {512, 512}).what == unknown);
    CHECK(decide(r, std::string(300, 'x'), {512, 512}).what == unknown);
    CHECK(decide(r, std::string(100000, 'x') + "y", {512, 512}).what == unknown);
}

TEST_CASE("names of policies") {
    for (const char* name : {"published-moe", "package", "linear-layers", "video"}) {
        CHECK(to_string(hlwq::checkpoint::parse_policy(name).value()) == name);
    }
    CHECK(!hlwq::checkpoint::parse_policy("r3"));
}

TEST_CASE("kinds are short and tell sorts apart") {
    const auto kind = [](const char* name) { return hlwq::checkpoint::tensor_kind(name); };
    CHECK(kind("model.language_model.layers.7.mlp.experts.gate_up_proj") == "experts.gate_up_proj");
    CHECK(kind("model.layers.7.mlp.experts.17.down_proj.weight") == "experts.down_proj");
    CHECK(kind("model.layers.0.linear_attn.in_proj_qkv.weight") == "linear_attn.in_proj_qkv");
    CHECK(kind("model.layers.0.self_attn.q_proj.weight") == "self_attn.q_proj");
    CHECK(kind("model.layers.0.mlp.shared_expert.up_proj.weight") == "shared_expert.up_proj");
    CHECK(kind("model.layers.0.mlp.up_proj.weight") == "mlp.up_proj");
    CHECK(kind("model.layers.0.mlp.gate.weight") == "router");
    CHECK(kind("model.layers.0.mlp.shared_expert_gate.weight") == "shared_expert_gate");
    CHECK(kind("model.layers.0.self_attn.q_norm.weight") == "norm");
    CHECK(kind("model.norm.weight") == "norm");
    CHECK(kind("model.embed_tokens.weight") == "embed_tokens");
    CHECK(kind("lm_head.weight") == "lm_head");
    CHECK(kind("mtp.layers.0.mlp.gate.weight") == "mtp");
    CHECK(kind("model.visual.blocks.3.attn.qkv.weight") == "vision");
    CHECK(kind("weight") == "weight");
    CHECK(kind("0") == "0");
    CHECK(kind("") == "");
    CHECK(kind("..") != "norm");
}

TEST_CASE("a rule stands behind the lines of a recipe and above the policy") {
    const std::vector<std::uint64_t> shape = {512, 256};
    auto rules = hlwq::checkpoint::recipe::parse("first = 3\n");
    rules.add_rule("(first|second)", 8, "an option");
    const auto decide = [&](std::string_view name) {
        return rules.decide(name, hlwq::safetensors::dtype::bf16, shape);
    };
    CHECK(decide("first.weight").bits == 3);
    CHECK(decide("second.weight").bits == 8);
    CHECK(decide("second.weight").reason == "an option");
    CHECK(decide("lm_head.weight").what == keep);
    CHECK_THROWS_AS(rules.add_rule("first", 9, "an option"), hlwq::unsupported_error);
    CHECK_THROWS_AS(rules.add_rule("(first", 8, "an option"), hlwq::format_error);
}

TEST_CASE("coverage adds up") {
    hlwq::checkpoint::coverage c;
    const decision five{quantize, 5, "linear layer"}, kept{keep, 16, "vector"};
    c.add("model.layers.0.self_attn.q_proj.weight", five, 1, 1000, 640, hlwq::quantization_error{2.0, 100.0});
    c.add("model.layers.1.self_attn.q_proj.weight", five, 1, 1000, 640, hlwq::quantization_error{1.0, 100.0});
    c.add("model.layers.1.mlp.experts.down_proj", five, 4, 4000, 2560);
    c.add("model.norm.weight", kept, 1, 2000, 4000);
    const auto rows = c.rows();
    REQUIRE(rows.size() == 3);
    CHECK(rows[0].kind == "experts.down_proj");
    CHECK(rows[0].count == 4);
    CHECK(rows[1].error.relative_mse() == doctest::Approx(0.015));
    CHECK(rows[2].what == keep);
    CHECK(c.total().parameters == 8000);
    CHECK(c.total(true).bytes == 3840);
    CHECK(c.fraction() == doctest::Approx(0.75));
    CHECK(c.bits_per_weight() == doctest::Approx(5.12));
    const auto json = c.to_json();
    REQUIRE(json.size() == 3);
    CHECK(json[0]["relative_mse"].is_null());
    CHECK(json[1]["relative_mse"].get<double>() == doctest::Approx(0.015));
    CHECK(json[1]["kind"] == "self_attn.q_proj");
    const std::string table = c.table();
    CHECK(std::count(table.begin(), table.end(), '\n') == 6);
    CHECK(table.find("experts.down_proj") < table.find("self_attn.q_proj"));
    CHECK(hlwq::checkpoint::coverage().fraction() == 0.0);
}
