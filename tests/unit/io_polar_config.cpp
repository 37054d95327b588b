// What is written with the names and the configuration of a format is read back.
#include "hlwq/io/polar_config.hpp"

#include "checkpoint_draft.hpp"

#include <doctest/doctest.h>

#include <cmath>
#include <map>
#include <optional>
#include <string>
#include <vector>

namespace {

using checkpoint_tests::dequantized;
using checkpoint_tests::draft;
using checkpoint_tests::require_close;
using hlwq::checkpoint::dialect;
using hlwq::checkpoint::extra_bytes;
using hlwq::checkpoint::format_id;
using hlwq::checkpoint::layer_record;
using hlwq::checkpoint::layout_of;
using hlwq::checkpoint::make_polar_config;
using hlwq::checkpoint::packed_keys;
using hlwq::checkpoint::packed_names;
using hlwq::checkpoint::parse_format;
using hlwq::checkpoint::reader;
using hlwq::checkpoint::slice_name;
using hlwq::checkpoint::tensor;
using hlwq::safetensors::dtype;

}  // namespace

TEST_CASE("what is written is read back: names, shapes, meta, tables, configuration") {
    struct written {
        format_id format;
        bool planes;
    };
    for (const auto& [format, planes] :
         {written{format_id::hlwq, false}, written{format_id::hlwq, true}, written{format_id::polar_v5, false}}) {
        draft d;
        std::vector<layer_record> records;
        std::map<std::string, std::vector<float>> expected;
        for (int bits = 2; bits <= 8; ++bits) {
            for (const std::size_t cols : {128u, 200u}) {
                hlwq::block_format f;
                f.bits = bits;
                f.layout = planes ? hlwq::layout_id::planes : layout_of(format, bits);
                const auto table = hlwq::codebook_table(hlwq::codebook_id::converged, bits);
                std::vector<float> w(3 * cols);
                for (std::size_t i = 0; i < w.size(); ++i) w[i] = std::sin(static_cast<float>(i * i % 977));
                const auto q = hlwq::quantize(hlwq::matrix_view<const float>(w.data(), 3, cols), table, f);
                const bool fused = cols == 128;
                const std::string source = "model.layers." + std::to_string(bits) +
                                           (fused ? ".mlp.experts.gate_up_proj" : ".mlp.down_proj.weight");
                const auto slice = fused ? std::optional<std::uint64_t>(0) : std::nullopt;
                const packed_keys keys = packed_names(format, source, slice, 3, cols, f);
                const auto view = q.view();
                const auto raw = [&](const auto& planned, std::span<const std::byte> content) {
                    d.put(planned.name, planned.type, planned.shape,
                          std::vector<std::byte>(content.begin(), content.end()));
                };
                raw(keys.codes, view.codes);
                raw(keys.norms, std::as_bytes(view.norms));
                raw(keys.extra, extra_bytes(format, 3, cols, f, table));
                const std::string name = fused ? slice_name(source, 0) : source;
                records.push_back({name, 3, cols, f});
                auto& back = expected[name];
                back.resize(w.size());
                hlwq::dequantize(view, hlwq::matrix_view<float>(back.data(), 3, cols));
            }
        }
        d.polar = make_polar_config(format, records, hlwq::codebook_id::converged);
        CHECK(d.polar.contains("layout") == planes);
        const auto kind = format == format_id::hlwq ? dialect::hlwq : dialect::polar_v5;
        d.open([&](const reader& model) {
            CHECK(model.kind() == kind);
            CHECK(model.codebook_name() == "converged");
            CHECK(model.tensors().size() == expected.size());
            for (const auto& [wanted, w] : expected) {
                const std::string& name = wanted;
                CAPTURE(name);
                const tensor* t = model.find(name);
                REQUIRE(t != nullptr);
                CHECK(t->slice.has_value() == (name.find("experts") != std::string::npos));
                require_close(dequantized(*t), w, t->packed.cols);
            }
        });
        CHECK(d.polar["format"] == (format == format_id::hlwq ? "hlwq" : "polar_engine_v5"));
    }
}

TEST_CASE("names, types and shapes of the two formats") {
    hlwq::block_format f;
    const packed_keys own = packed_names(format_id::hlwq, "a.experts.gate_up_proj", 7, 6, 200, f);
    CHECK(own.codes.name == "a.experts.7.gate_up_proj.weight__packed");
    CHECK(own.codes.type == dtype::u8);
    CHECK(own.codes.shape == std::vector<std::uint64_t>{6 * 2 * 80});
    CHECK(own.norms.shape == std::vector<std::uint64_t>{6, 2});
    CHECK(own.extra.name == "a.experts.7.gate_up_proj.weight__meta");
    CHECK(own.extra.type == dtype::i64);
    const auto meta = extra_bytes(format_id::hlwq, 6, 200, f, {});
    std::int64_t numbers[5];
    REQUIRE(meta.size() == sizeof numbers);
    std::memcpy(numbers, meta.data(), sizeof numbers);
    CHECK(std::vector<std::int64_t>(numbers, numbers + 5) == std::vector<std::int64_t>{6, 2, 128, 1536, 200});

    struct form {
        int bits;
        dtype type;
        std::uint64_t row_bytes;
    };
    for (const form& expected : {form{4, dtype::u8, 128}, form{5, dtype::u8, 160}, form{8, dtype::i8, 256}}) {
        f.bits = expected.bits;
        f.layout = layout_of(format_id::polar_v5, f.bits);
        const packed_keys v5 = packed_names(format_id::polar_v5, "a.q_proj.weight", {}, 6, 200, f);
        CHECK(v5.codes.name == "a.q_proj.codes");
        CHECK(v5.codes.type == expected.type);
        CHECK(v5.codes.shape == std::vector<std::uint64_t>{6, expected.row_bytes});
        CHECK(v5.extra.name == "a.q_proj.ct_scaled");
        CHECK(v5.extra.shape == std::vector<std::uint64_t>{std::uint64_t{1} << f.bits});
    }
    f.layout = hlwq::layout_id::wire;
    CHECK_THROWS_AS(packed_names(format_id::polar_v5, "a", {}, 6, 200, f), hlwq::shape_error);
    CHECK(parse_format("polar-v5") == format_id::polar_v5);
    CHECK(!parse_format("polar"));
}

TEST_CASE("the configuration of a uniform checkpoint names its width") {
    const std::vector<layer_record> records = {{"a.weight", 2, 200, {}}, {"b.weight", 3, 128, {}}};
    const auto config = make_polar_config(format_id::hlwq, records, hlwq::codebook_id::legacy_a);
    CHECK(config["format"] == "hlwq-q5");
    CHECK(config["block_size"] == 128);
    CHECK(config["codebook"] == "legacy-a");
    CHECK(config["layers"]["a"]["in_features"] == 200);
    CHECK(config["layers"]["a"]["in_features_padded"] == 256);
    CHECK(config["layers"].size() == 2);
    CHECK(make_polar_config(format_id::hlwq, {}, hlwq::codebook_id::legacy_a)["format"] == "hlwq");
}

TEST_CASE("the layout is wire or planes, and planes have whole units") {
    draft d;
    const std::vector<layer_record> records = {{"a.weight", 2, 256, {5, hlwq::layout_id::planes, 128, {}}}};
    const auto put = [&](std::size_t block) {
        d.tensors.clear();
        d.put("a.weight__packed", dtype::u8, {320}, std::vector<std::uint8_t>(320));
        d.put("a.weight__norms", dtype::f16, {2, 256 / block}, std::vector<hlwq::half>(512 / block, hlwq::half(1.0f)));
        const auto blocks = static_cast<std::int64_t>(256 / block);
        d.put("a.weight__meta", dtype::i64, {5},
              std::vector<std::int64_t>{2, blocks, static_cast<std::int64_t>(block), 512, 256});
    };
    put(128);
    d.polar = make_polar_config(format_id::hlwq, records, hlwq::codebook_id::legacy_a);
    d.open([](const reader& model) { CHECK(model.tensors()[0].packed.format.layout == hlwq::layout_id::planes); });
    d.polar["layout"] = "wire";
    d.open([](const reader& model) { CHECK(model.tensors()[0].packed.format.layout == hlwq::layout_id::wire); });
    d.polar["layout"] = "tiles";
    CHECK(d.refusal() == "polar_config.json: layout: expected wire or planes, found tiles");
    put(64);
    d.polar = {{"layout", "planes"}};
    CHECK(d.refusal() ==
          "block size in the planes layout of a.weight (draft.safetensors): expected a multiple of 128, found 64");
}

TEST_CASE("a configuration is one JSON object and nothing else") {
    const auto refusal = [](std::string_view text) {
        try {
            hlwq::checkpoint::parse_json_object(text, "config.json");
        } catch (const hlwq::format_error& error) {
            return std::string(error.what());
        }
        return std::string();
    };
    CHECK(refusal(" {} \n").empty());
    CHECK(refusal("") == "config.json: expected JSON, found nothing");
    CHECK(refusal(std::string_view("{}\0", 3)) == "config.json: expected JSON, found a zero byte at byte 2");
    CHECK(refusal(std::string_view("{}\0{}", 5)) == "config.json: expected JSON, found a zero byte at byte 2");
    CHECK(refusal("{}{}") == "config.json: expected JSON, found a syntax error at byte 3");
    CHECK(refusal("[1]") == "config.json: expected a JSON object, found an array");
}
