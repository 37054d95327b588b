// Checkpoints of every layout that Hugging Face and others write, quantized ones, and broken ones.
#include "golden.hpp"
#include "memory_checkpoint.hpp"

#include <functional>

namespace {

using golden::distance;
using golden::rows;
using golden::runner;

const std::vector<qwen::token_id> some_ids = {1, 5, 9, 60, 33, 2, 2, 47, 11, 30, 12, 0, 63};

memory::checkpoint source(const std::string& name = "moe_tiny") {
    return memory::checkpoint::read(golden::data_folder() / name);
}

rows logits_of(const memory::checkpoint& c, hlwq::precision mode = hlwq::precision::exact) {
    const memory::opened file(c);
    runner r(file.model(), mode);
    return r.logits_of(some_ids, {some_ids.size() - 3, 1});
}

void refuses(const memory::checkpoint& c, const std::string& message) {
    CAPTURE(message);
    try {
        const memory::opened file(c);
        FAIL("accepted");
    } catch (const hlwq::error& error) {
        CHECK(std::string(error.what()) == message);
    }
}

const std::string text = "model.language_model.";

}  // namespace

TEST_CASE("prefix, nesting of the configuration and layout of the experts are independent of each other") {
    const rows expected = logits_of(source());
    for (const std::string prefix : {"model.language_model.", "model.", "language_model.model."}) {
        for (const bool flat : {false, true}) {
            for (const bool split : {false, true}) {
                CAPTURE(prefix);
                CAPTURE(flat);
                CAPTURE(split);
                memory::checkpoint c = source();
                if (flat) memory::flatten_config(c);
                if (split) memory::split_experts(c);
                memory::rename_prefix(c, prefix);
                CHECK(logits_of(c).values == expected.values);
            }
        }
    }
}

TEST_CASE("every list of names that transformers writes") {
    const auto variants = golden::read_json(golden::data_folder() / "key_names" / "hf_keys.json")["variants"];
    REQUIRE(variants.size() == 9);
    for (const auto& listed : variants.items()) {
        const std::string title = listed.key();
        const nlohmann::json& variant = listed.value();
        CAPTURE(title);
        memory::checkpoint c = source(title.starts_with("moe") ? "moe_tiny" : "dense_tiny");
        nlohmann::json& fields = c.config["text_config"];
        fields["num_hidden_layers"] = 4;
        fields["layer_types"].erase(fields["layer_types"].begin() + 4, fields["layer_types"].end());
        fields["vocab_size"] = 64;
        fields["eos_token_id"] = 63;
        if (title.starts_with("moe")) {
            fields["num_experts"] = 4;
            fields["num_experts_per_tok"] = 2;
        }
        if (title.ends_with("tied")) fields["tie_word_embeddings"] = true;
        if (!variant["text_config_nested"].get<bool>()) memory::flatten_config(c);
        c.tensors.clear();
        std::size_t vision = 0;
        for (const auto& [name, entry] : variant["tensors"].items()) {
            memory::stored t{memory::dtype::bf16, entry[1].get<std::vector<std::uint64_t>>(), {}};
            std::size_t count = 1;
            for (const std::uint64_t extent : t.shape) count *= extent;
            // Something that differs from tensor to tensor and stays small.
            std::vector<hlwq::bfloat16> values(count);
            std::size_t seed = std::hash<std::string>()(name);
            for (auto& value : values) {
                seed = seed * 6364136223846793005u + 1442695040888963407u;
                value = hlwq::bfloat16(static_cast<float>(seed >> 40) * 0x1p-24f * 0.5f - 0.25f);
            }
            t.bytes = memory::bytes_of<hlwq::bfloat16>(values);
            c.tensors[name] = std::move(t);
            vision += name.starts_with("model.visual.") ? 1 : 0;
        }
        const memory::opened file(c);
        CHECK_FALSE(file.model().has_mtp());
        std::string notes;
        for (const auto& note : file.model().weights().notes) notes += note + "\n";
        CHECK(notes == std::string("no multi-token prediction layer: the checkpoint has no tensors of it\n") +
                           (vision != 0 ? std::to_string(vision) + " vision tensors skipped: text only\n" : ""));
        runner r(file.model());
        const rows one = r.logits_of(some_ids, {some_ids.size()}), pieces = r.logits_of(some_ids, {1});
        CHECK(distance(pieces.view(), one.view()) < 2e-4);
    }
}

TEST_CASE("a head of its own counts, whatever the configuration says; without one the embedding is the head") {
    memory::checkpoint c = source("dense_tiny");
    const rows own = logits_of(c);
    c.config["text_config"]["tie_word_embeddings"] = true;
    c.config["tie_word_embeddings"] = true;
    CHECK(logits_of(c).values == own.values);
    c.tensors.erase("lm_head.weight");
    const rows tied = logits_of(c);
    CHECK(distance(tied.view(), own.view()) > 0.1);
    c.tensors["lm_head.weight"] = c.tensors.at(text + "embed_tokens.weight");
    CHECK(logits_of(c).values == tied.values);
}

TEST_CASE("element types and alignment make no difference") {
    memory::checkpoint c = source();
    const rows expected = logits_of(c);
    memory::checkpoint shifted = c;
    shifted.header_padding = 1;
    CHECK(logits_of(shifted).values == expected.values);
    for (auto& [name, t] : c.tensors) t = memory::as_f32(t);
    CHECK(logits_of(c).values == expected.values);
    // The published 3.5 files: two small tensors in F32, everything else in BF16.
    memory::checkpoint published = source();
    for (auto& [name, t] : published.tensors) {
        if (name.ends_with("A_log") || name.ends_with("linear_attn.norm.weight")) t = memory::as_f32(t);
    }
    CHECK(logits_of(published).values == expected.values);
}

TEST_CASE("MTP experts one by one beside fused experts of the trunk") {
    memory::checkpoint c = source(), all = source();
    memory::split_experts(all);
    for (const char* leaf : {"gate_up_proj", "down_proj"})
        c.tensors.erase(std::string("mtp.layers.0.mlp.experts.") + leaf);
    for (const auto& [name, t] : all.tensors) {
        if (name.starts_with("mtp.")) c.tensors[name] = t;
    }
    const memory::opened file(c);
    CHECK(file.model().has_mtp());
    CHECK(file.model().weights().notes.empty());
}

TEST_CASE("packed codes compute what the dequantized matrices compute") {
    for (const char* name : {"moe_tiny", "dense_tiny"}) {
        for (const int bits : {3, 5, 8}) {
            CAPTURE(name);
            CAPTURE(bits);
            const auto [packed, plain] = memory::quantized(source(name), bits);
            const rows expected = logits_of(plain);
            CHECK(distance(logits_of(packed).view(), expected.view()) < 2e-4);
        }
    }
}

TEST_CASE("other block sizes, experts quantized one by one, codes through mapped slices") {
    memory::checkpoint split = source();
    memory::split_experts(split);
    const auto [packed, plain] = memory::quantized(split, 5, 64);
    CHECK(distance(logits_of(packed).view(), logits_of(plain).view()) < 2e-4);
}

TEST_CASE("quantized models are close to BF16: 8 bits closer than 5, fast arithmetic not far from exact") {
    for (const std::string name : {"moe_tiny", "dense_tiny"}) {
        CAPTURE(name);
        const golden::results results(golden::data_folder() / name / "golden_ref64.safetensors");
        const auto ids = results.integers("p70d6.ids");
        const auto run = [&](const memory::checkpoint& c, hlwq::precision mode) {
            const memory::opened file(c);
            runner r(file.model(), mode);
            return r.logits_of(ids, {ids.size()});
        };
        const auto eight = memory::quantized(source(name), 8).first, five = memory::quantized(source(name), 5).first;
        const rows base = run(source(name), hlwq::precision::exact);
        const rows exact5 = run(five, hlwq::precision::exact);
        const double kl8 = golden::divergence(base.view(), run(eight, hlwq::precision::exact).view());
        const double kl5 = golden::divergence(base.view(), exact5.view());
        const double fast = golden::divergence(exact5.view(), run(five, hlwq::precision::fast).view());
        MESSAGE(name << ": KL of 8 bits " << kl8 << ", 5 bits " << kl5 << ", fast against exact at 5 bits " << fast);
        // bf16 activations, off by 0.17 % rms, cost the mixture of experts 2.8e-3 in the reference. 8-bit codes are off
        // by 0.64 %, and the divergence grows with the square: 4e-2. The dense model is steadier.
        CHECK(kl8 < (name == "moe_tiny" ? 6e-2 : 1.5e-2));
        CHECK(kl5 < 0.3);
        CHECK(kl8 < kl5 / 4.0);
        CHECK(fast < kl5 / 2.0);
    }
}

TEST_CASE("a tensor that is missing") {
    for (const std::string& name : {text + "layers.3.self_attn.k_norm.weight", text + "layers.7.mlp.experts.down_proj",
                                    text + "embed_tokens.weight", std::string("mtp.norm.weight")}) {
        memory::checkpoint c = source();
        const auto shape = c.tensors.at(name).shape;
        REQUIRE(c.tensors.erase(name) == 1);
        if (name.ends_with("experts.down_proj")) {
            refuses(c, "tensor " + text +
                           "layers.7.mlp.experts.0.down_proj.weight: expected [64, 32], "
                           "found no tensor of that name");
        } else {
            const std::string extent = shape.size() == 2 ? "[512, 64]" : "[" + std::to_string(shape[0]) + "]";
            refuses(c, "tensor " + name + ": expected " + extent + ", found no tensor of that name");
        }
    }
}

TEST_CASE("a tensor of the wrong shape or type") {
    memory::checkpoint c = source();
    auto& q = c.tensors.at(text + "layers.3.self_attn.q_proj.weight");
    q.shape = {256, 128};
    refuses(c, "tensor " + text +
                   "layers.3.self_attn.q_proj.weight (model.safetensors): expected [512, 64], "
                   "found BF16 [256, 128]");
    c = source();
    c.tensors.at(text + "layers.0.linear_attn.A_log").type = memory::dtype::i16;
    refuses(c, "tensor " + text +
                   "layers.0.linear_attn.A_log (model.safetensors): expected BF16, F16, F32 or packed "
                   "codes, found I16 [4]");
    c = source();
    auto& fused = c.tensors.at(text + "layers.2.mlp.experts.gate_up_proj");
    fused.shape = {64, 16, 64};
    refuses(c, "tensor " + text +
                   "layers.2.mlp.experts.gate_up_proj (model.safetensors): expected [16, 64, 64], "
                   "found BF16 [64, 16, 64]");
    auto packed = memory::quantized(source("dense_tiny"), 5).first;
    packed.config["text_config"]["intermediate_size"] = 128;
    refuses(packed, "tensor " + text +
                        "layers.0.mlp.gate_proj.weight (model.safetensors): expected [128, 96], "
                        "found 5-bit codes [160, 96]");
}

TEST_CASE("tensors of no known use are reported, not refused") {
    memory::checkpoint c = source();
    c.tensors["model.language_model.rotary.inv_freq"] = {memory::dtype::f32, {1}, std::vector<std::byte>(4)};
    const memory::opened file(c);
    REQUIRE(file.model().weights().notes.size() == 1);
    CHECK(file.model().weights().notes[0] == "1 tensors of no known use skipped: model.language_model.rotary.inv_freq");
}
