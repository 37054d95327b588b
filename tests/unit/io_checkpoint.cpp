// Checkpoints of every dialect as an independent implementation wrote them (tests/data/dialects), and hostile ones.
#include "hlwq/io/checkpoint.hpp"

#include "checkpoint_draft.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include <unistd.h>

namespace {

namespace fs = std::filesystem;
using checkpoint_tests::dequantized;
using checkpoint_tests::draft;
using checkpoint_tests::require_close;
using hlwq::checkpoint::reader;
using hlwq::checkpoint::tensor;
using hlwq::safetensors::dtype;
using json = nlohmann::json;

fs::path data_folder() { return fs::path(HLWQ_TEST_DATA) / "dialects"; }

std::vector<float> as_floats(dtype type, std::span<const std::byte> bytes) {
    const std::size_t size = hlwq::safetensors::dtype_size(type);
    std::vector<float> values;
    for (std::size_t at = 0; at < bytes.size(); at += size) {
        std::uint32_t word = 0;
        std::memcpy(&word, bytes.data() + at, size);
        const auto low = static_cast<std::uint16_t>(word);
        values.push_back(type == dtype::f32   ? std::bit_cast<float>(word)
                         : type == dtype::f16 ? hlwq::half::to_float(low)
                         : type == dtype::u8  ? static_cast<float>(word)
                                              : hlwq::bfloat16::to_float(low));
    }
    return values;
}

}  // namespace

TEST_CASE("every dialect and spelling gives the weights that it was written with") {
    std::size_t cases = 0;
    for (const auto& file : fs::directory_iterator(data_folder() / "expected")) {
        CAPTURE(file.path().string());
        ++cases;
        const hlwq::safetensors::reader expected(file.path());
        const auto& metadata = expected.metadata();
        const reader model(data_folder() / metadata.at("folder"));
        CHECK(to_string(model.kind()) == metadata.at("dialect"));
        CHECK(model.codebook_name() == metadata.at("codebook"));
        CHECK(model.codebook_source() == metadata.at("source"));
        CHECK(model.tensors().size() == expected.tensors().size());
        const json bits = json::parse(metadata.at("bits")), slices = json::parse(metadata.at("slices"));
        for (const auto& want : expected.tensors()) {
            CAPTURE(want.name);
            const auto* t = model.find(want.name);
            REQUIRE(t != nullptr);
            CHECK(t->shape == want.shape);
            REQUIRE(t->quantized == bits.contains(want.name));
            REQUIRE(t->slice.has_value() == slices.contains(want.name));
            if (t->slice) {
                CHECK(t->slice->fused == slices[want.name][0].get<std::string>());
                CHECK(t->slice->index == slices[want.name][1].get<std::uint64_t>());
            }
            const auto values = as_floats(dtype::f32, want.bytes);
            if (!t->quantized) {
                CHECK(as_floats(t->dtype, t->bytes) == values);
                continue;
            }
            CHECK(t->packed.format.bits == bits[want.name].get<int>());
            require_close(dequantized(*t), values, t->packed.cols);
        }
    }
    CHECK(cases >= 20);
}

namespace {

/// A matrix of 2 rows, 2 blocks and 200 columns under `name`, in the published format.
draft published(int bits = 5, const std::string& name = "m.layers.0.q_proj.weight") {
    draft d;
    d.put(name + "__packed", dtype::u8, {64 * static_cast<unsigned>(bits)},
          std::vector<std::uint8_t>(64 * static_cast<unsigned>(bits), 0x5a));
    d.put(name + "__norms", dtype::f16, {2, 2}, std::vector<std::uint16_t>{0x3c00, 0x4000, 0x3800, 0x3c00});
    d.put(name + "__meta", dtype::i64, {5}, std::vector<std::int64_t>{2, 2, 128, 512, 200});
    return d;
}

/// The same shape as a byte per code with a stored table.
draft bytes_with_table(int bits = 4) {
    draft d;
    const std::string name = "m.layers.0.q_proj";
    const std::vector<std::uint8_t> codes(512, static_cast<std::uint8_t>((1 << bits) - 1));
    d.put(name + ".codes", dtype::i8, {2, 256}, codes);
    d.put(name + ".norms", dtype::f16, {2, 2}, std::vector<std::uint16_t>{0x3c00, 0x4000, 0x3800, 0x3c00});
    const auto table = hlwq::codebook_table(hlwq::codebook_id::legacy_a, bits);
    d.put(name + ".ct", dtype::f32, {table.size()}, std::vector<float>(table.begin(), table.end()));
    return d;
}

void require_refusal(const draft& d, std::initializer_list<const char*> words) {
    const std::string message = d.refusal();
    CAPTURE(message);
    REQUIRE(!message.empty());
    for (const char* word : words) {
        CAPTURE(word);
        CHECK(message.find(word) != std::string::npos);
    }
}

const std::string weight = "m.layers.0.q_proj.weight";
const std::string prefix = "m.layers.0.q_proj";

}  // namespace

TEST_CASE("the draft itself is readable") {
    published().open([](const reader& model) {
        REQUIRE(model.find(weight) != nullptr);
        CHECK(model.find(weight)->shape == std::vector<std::uint64_t>{2, 200});
        CHECK(model.bits() == 5);
    });
    bytes_with_table().open([](const reader& model) { CHECK(model.find(weight)->packed.cols == 256); });
}

TEST_CASE("missing and mixed keys are named") {
    for (const char* part : {"__packed", "__norms", "__meta"}) {
        draft d = published();
        d.tensors.erase(weight + part);
        require_refusal(d, {weight.c_str(), part + 2});
    }
    for (const char* part : {".codes", ".norms"}) {
        draft d = bytes_with_table();
        d.polar = json::object();
        d.tensors.erase(prefix + part);
        require_refusal(d, {prefix.c_str(), part + 1});
    }
    draft without_table = bytes_with_table(), other = bytes_with_table();
    without_table.tensors.erase(prefix + ".ct");
    for (const auto& [name, e] : other.tensors) without_table.tensors["z" + name] = e;
    require_refusal(without_table, {prefix.c_str(), "without centroids"});

    draft both = published();
    for (const auto& [name, e] : bytes_with_table().tensors) both.tensors["b." + name] = e;
    require_refusal(both, {"__packed", ".codes"});

    draft twice = published();
    twice.put(weight, dtype::f32, {1}, std::vector<float>{1});
    require_refusal(twice, {weight.c_str(), "expected once"});

    draft many;
    for (int i = 0; i < 40; ++i)
        many.put(std::string("l").append(std::to_string(i)) + "__packed", dtype::u8, {1}, std::vector<char>(1));
    require_refusal(many, {"l0 without", "and 32 more"});
    CHECK(many.refusal().size() < 2000);
}

TEST_CASE("a plain model may call its parameters norms or ct") {
    draft d;
    d.put("block.norms", dtype::f32, {1}, std::vector<float>{1});
    d.put("block.ct", dtype::f32, {1}, std::vector<float>{2});
    d.open([](const reader& model) {
        CHECK(model.kind() == hlwq::checkpoint::dialect::plain);
        CHECK(model.find("block.norms") != nullptr);
    });
}

TEST_CASE("both readings of meta, and no other") {
    const auto with_meta = [](std::vector<std::int64_t> numbers, dtype type = dtype::i64) {
        draft d = published();
        const std::uint64_t count = numbers.size();
        if (type == dtype::i64) {
            d.put(weight + "__meta", type, {count}, numbers);
        } else {
            d.put(weight + "__meta", type, {count}, std::vector<std::int32_t>(numbers.begin(), numbers.end()));
        }
        return d;
    };
    for (const auto& numbers : std::vector<std::vector<std::int64_t>>{
             {2, 2, 128, 512}, {2, 2, 128, 512, 256}, {5, 256}, {5, 256, 128}, {5, 256, 128, 512}}) {
        for (const dtype type : {dtype::i64, dtype::i32}) {
            with_meta(numbers, type).open([&](const reader& model) {
                const auto& w = model.find(weight)->packed;
                CHECK(w.format.bits == 5);
                CHECK(w.format.block == 128);
                CHECK(w.cols == 256);
            });
        }
    }
    constexpr std::int64_t huge = std::numeric_limits<std::int64_t>::max();
    for (const auto& numbers : std::vector<std::vector<std::int64_t>>{{5},
                                                                      {2, 2, 128},
                                                                      {2, 2, 128, 512, 257},
                                                                      {2, 2, 128, 512, 128},
                                                                      {2, 2, 128, 512, -200},
                                                                      {2, 2, 128, 512, 0},
                                                                      {3, 2, 128, 512, 200},
                                                                      {2, 2, 64, 512, 200},
                                                                      {2, 2, 128, 511, 200},
                                                                      {2, 2, 100, 400, 200},
                                                                      {2, 2, -128, 512, 200},
                                                                      {huge, huge, huge, huge, huge},
                                                                      {4, 256},
                                                                      {5, 255},
                                                                      {5, 512},
                                                                      {5, huge},
                                                                      {-5, 256},
                                                                      {5, 256, 64, 512},
                                                                      {5, 256, 128, 500},
                                                                      {0, 0, 0, 0, 0},
                                                                      {2, 2, 128, 512, 200, 1}}) {
        CAPTURE(json(numbers).dump());
        require_refusal(with_meta(numbers), {"meta", weight.c_str(), "draft.safetensors", "expected", "found"});
    }
    draft floats = published();
    floats.put(weight + "__meta", dtype::f32, {5}, std::vector<float>{2, 2, 128, 512, 200});
    require_refusal(floats, {"meta", "F32 [5]"});
}

TEST_CASE("where the width of a byte per code comes from is told") {
    const auto notes = [](const char* folder) {
        const reader model(data_folder() / folder);
        std::string all;
        for (const std::string& note : model.notes()) all += note + "\n";
        return all;
    };
    CHECK(notes("dunder").find("widths taken from the largest code") == 0);
    CHECK(notes("dunder").find("5 bits (tensors: 2)") != std::string::npos);
    CHECK(notes("dunder_bits").find("widths as polar_config.json records them") == 0);
}

TEST_CASE("norms are finite F16 of the right shape") {
    for (const int bad : {0x7c00, 0xfc00, 0x7e01}) {
        draft d = published();
        d.put(weight + "__norms", dtype::f16, {2, 2},
              std::vector<std::uint16_t>{0x3c00, 0x3c00, 0x3c00, static_cast<std::uint16_t>(bad)});
        require_refusal(d, {"norm in row 1, block 1", weight.c_str(), "finite"});
    }
    draft wide = published();
    wide.put(weight + "__norms", dtype::f32, {2, 2}, std::vector<float>{1, 1, 1, 1});
    require_refusal(wide, {"norms", "F32 [2, 2]"});
    draft flat = published();
    flat.put(weight + "__norms", dtype::f16, {4}, std::vector<std::uint16_t>(4));
    require_refusal(flat, {"norms", "F16 [4]"});
    draft none = published();
    none.put(weight + "__norms", dtype::f16, {0, 2}, std::vector<std::uint16_t>());
    require_refusal(none, {"norms", "F16 [0, 2]"});
    draft negative = published();
    negative.put(weight + "__norms", dtype::f16, {2, 2}, std::vector<std::uint16_t>(4, 0xbc00));
    negative.open([](const reader& model) { CHECK(static_cast<float>(model.find(weight)->packed.norms[0]) == -1.0f); });
}

TEST_CASE("norms at odd addresses are copied") {
    for (std::size_t shift = 0; shift < 2; ++shift) {
        published().open(
            [](const reader& model) {
                const auto norms = model.find(weight)->packed.norms;
                CHECK(reinterpret_cast<std::uintptr_t>(norms.data()) % alignof(hlwq::half) == 0);
                CHECK(static_cast<float>(norms[1]) == 2.0f);
            },
            shift);
    }
}

TEST_CASE("codes beyond their width are found") {
    draft d = bytes_with_table(4);
    d.tensors[prefix + ".codes"].bytes[256 + 7] = std::byte{16};
    require_refusal(d, {"code in row 1, column 7", "0 to 15", "found 16"});
    d.tensors[prefix + ".codes"].bytes[256 + 7] = std::byte{0xff};
    require_refusal(d, {"found 255"});

    draft nibbles = bytes_with_table(3);
    nibbles.put(prefix + ".codes", dtype::u8, {2, 128}, std::vector<std::uint8_t>(256, 0x77));
    nibbles.open([](const reader& m) { CHECK(m.find(weight)->packed.format.layout == hlwq::layout_id::half_block); });
    nibbles.tensors[prefix + ".codes"].bytes[5] = std::byte{0x80};
    require_refusal(nibbles, {"codes of", "0 to 7", "found 8"});
}

TEST_CASE("a stored table is finite, ascending, and of a size that the codes have") {
    const auto with_table = [](std::vector<float> table) {
        draft d = bytes_with_table(2);
        d.put(prefix + ".ct", dtype::f32, {table.size()}, table);
        return d;
    };
    with_table({-2, -1, 1, 2}).open([](const reader& model) {
        CHECK(model.codebook_name() == "custom");
        CHECK(model.codebook_source() == "stored table");
        CHECK(model.find(weight)->packed.centroids[3] == 2.0f);
    });
    require_refusal(with_table({-2, 1, -1, 2}), {"centroid"});
    require_refusal(with_table({-2, -1, -1, 2}), {"centroid"});
    require_refusal(with_table({-2, 1, 2}), {"centroids", "F32 [3]"});
    require_refusal(with_table({-2, 2}), {"code in row", "0 to 1"});
    CHECK_THROWS_AS(with_table({-2, -1, 1, NAN}).open([](const reader&) {}), hlwq::error);
}

TEST_CASE("the configuration must agree with the shapes") {
    const auto with_layer = [](const char* key, json value, bool by_prefix = true) {
        draft d = published();
        d.polar = {{"format", "hlwq-q5"}, {"layers", {{by_prefix ? prefix : weight, {{key, std::move(value)}}}}}};
        return d;
    };
    for (const bool by_prefix : {true, false}) {
        CHECK(with_layer("bits", 5, by_prefix).refusal().empty());
        require_refusal(with_layer("bits", 4, by_prefix), {"bits of", weight.c_str(), "4", "found 5"});
    }
    CHECK(with_layer("in_features", 200).refusal().empty());
    require_refusal(with_layer("in_features", 199), {"in_features", "found 200"});
    require_refusal(with_layer("in_features_padded", 384), {"in_features_padded", "found 256"});
    require_refusal(with_layer("in_f_padded", 384), {"in_features_padded", "found 256"});
    require_refusal(with_layer("out_features", 3), {"out_features", "found 2"});
    require_refusal(with_layer("n_blocks", 3), {"n_blocks", "found 2"});
    require_refusal(with_layer("block_size", 64), {"block_size", "found 128"});
    draft missing = with_layer("bits", 5);
    missing.polar["layers"]["m.layers.0.k_proj"] = {{"bits", 5}};
    require_refusal(missing, {"m.layers.0.k_proj", "no codes"});
    draft trimmed = bytes_with_table();
    trimmed.polar = {{"layers", {{prefix, {{"in_features", 129}}}}}};
    trimmed.open([](const reader& model) { CHECK(model.find(weight)->packed.cols == 129); });
    trimmed.polar["layers"][prefix]["in_features"] = 128;
    require_refusal(trimmed, {"in_features", "more than 128 and at most 256", "found 128"});
    trimmed.polar["layers"][prefix]["in_features"] = 257;
    require_refusal(trimmed, {"in_features", "found 257"});
}

TEST_CASE("hostile configurations are errors") {
    const std::vector<json> values = {-1,  0,   1e30,      1.5,        "5",   true, json::array({5}), json::object(),
                                      300, NAN, INT64_MIN, UINT64_MAX, "\xff"};
    for (const char* key : {"bits", "in_features", "out_features", "n_blocks", "block_size", "in_f_padded"}) {
        for (const json& value : values) {
            draft d = published();
            d.polar = {{"layers", {{prefix, {{key, value}}}}}};
            const std::string text = d.polar.dump(-1, ' ', false, json::error_handler_t::replace);
            CAPTURE(text);
            if (value.is_number_float() && std::isnan(value.get<double>())) continue;  // dumped as null: unknown
            const auto bytes = d.file();
            const hlwq::checkpoint::memory_file files[] = {{"draft.safetensors", bytes}};
            CHECK_THROWS_AS(reader(files, text, ""), hlwq::format_error);
        }
    }
    const auto refuses = [](const char* polar, const char* config = "") {
        const auto bytes = published().file();
        const hlwq::checkpoint::memory_file files[] = {{"draft.safetensors", bytes}};
        CAPTURE(polar);
        CHECK_THROWS_AS(reader(files, polar, config), hlwq::error);
    };
    for (const char* text : {"[]", "{", "null", "3", "{\"format\": 5}", "{\"block_size\": -128}", "{\"codebook\": 1}",
                             "{\"codebook\": \"legacy-c\"}", "{\"codebook\": \"custom\"}", "{\"layers\": []}",
                             "{\"layers\": {\"m.layers.0.q_proj\": 5}}", "{\"bits\": 99}", "{\"signs\": -1}"}) {
        refuses(text);
    }
    refuses((std::string(100000, '[')).c_str());
    std::string deep;
    for (int i = 0; i < 100000; ++i) deep += "{\"a\":";
    refuses((deep + "1" + std::string(100000, '}')).c_str());
    refuses("", "[1]");
}

TEST_CASE("config.json tells the columns where nothing else does") {
    const auto cols = [](const std::string& name, json config) {
        draft d = published(5, name + ".weight");
        d.put(name + ".weight__meta", dtype::i64, {4}, std::vector<std::int64_t>{2, 2, 128, 512});
        d.config = std::move(config);
        std::size_t found = 0;
        d.open([&](const reader& model) { found = model.find(name + ".weight")->packed.cols; });
        return found;
    };
    const std::string layer = "model.layers.3.";
    CHECK(cols(layer + "self_attn.q_proj", {{"hidden_size", 190}}) == 190);
    CHECK(cols(layer + "mlp.shared_expert.down_proj", {{"shared_expert_intermediate_size", 150}}) == 150);
    CHECK(cols(layer + "mlp.experts.0.down_proj", {{"text_config", {{"moe_intermediate_size", 160}}}}) == 160);
    CHECK(cols(layer + "mlp.down_proj", {{"intermediate_size", 170}}) == 170);
    CHECK(cols(layer + "linear_attn.out_proj", {{"linear_num_value_heads", 9}, {"linear_value_head_dim", 16}}) == 144);
    CHECK(cols(layer + "self_attn.o_proj", {{"num_attention_heads", 3}, {"head_dim", 64}}) == 192);
    CHECK(cols(layer + "linear_attn.in_proj_qkv", {{"hidden_size", 201}}) == 201);
    // What does not fit into the blocks, or is no number, says nothing.
    for (const json& wrong : {json(64), json(257), json(-1), json("200"), json(1e99), json(nullptr)}) {
        CHECK(cols(layer + "self_attn.q_proj", {{"hidden_size", wrong}}) == 256);
    }
    CHECK(cols("model.visual.blocks.0.mlp.gate_proj", {{"hidden_size", 200}}) == 256);
}

TEST_CASE("down_proj beside gate_up_proj is a slice, beside gate_proj it is not") {
    const auto slice = [](std::initializer_list<const char*> leaves) {
        draft d;
        for (const char* leaf : leaves) {
            for (const auto& [name, e] : published(5, std::string("l.0.mlp.experts.3.") + leaf + ".weight").tensors) {
                d.tensors[name] = e;
            }
        }
        std::optional<hlwq::checkpoint::expert_slice> found;
        d.open([&](const reader& model) { found = model.find("l.0.mlp.experts.3.down_proj.weight")->slice; });
        return found;
    };
    CHECK(slice({"gate_up_proj", "down_proj"}) == hlwq::checkpoint::expert_slice{"l.0.mlp.experts.down_proj", 3});
    CHECK(!slice({"gate_proj", "up_proj", "down_proj"}));
    CHECK(!slice({"down_proj"}));
}

TEST_CASE("slices of one tensor have one shape, and missing ones are remarked") {
    draft d = published(5, "l.experts.0.gate_up_proj.weight");
    for (const auto& [name, e] : published(5, "l.experts.2.gate_up_proj.weight").tensors) d.tensors[name] = e;
    d.open([](const reader& model) {
        const auto& notes = model.notes();
        CHECK(std::any_of(notes.begin(), notes.end(), [](const std::string& note) {
            return note.find("slices are missing: l.experts.gate_up_proj") != std::string::npos;
        }));
    });
    d.put("l.experts.2.gate_up_proj.weight__meta", dtype::i64, {5}, std::vector<std::int64_t>{2, 2, 128, 512, 201});
    require_refusal(d, {"l.experts.2.gate_up_proj", "2 x 200", "2 x 201"});
}

TEST_CASE("folders that are no checkpoint say what they are") {
    const auto message = [](const fs::path& folder) -> std::string {
        try {
            const reader model(folder);
        } catch (const hlwq::error& e) {
            return e.what();
        }
        return {};
    };
    CHECK(message(data_folder() / "multi").find("PQ2, PQ3, PQ4, PQ5, PQ6, PQ7, PQ8") != std::string::npos);
    CHECK(message(data_folder() / "none").find("none") != std::string::npos);

    const fs::path folder = fs::temp_directory_path() / ("hlwq_io_checkpoint_" + std::to_string(::getpid()));
    fs::remove_all(folder);
    fs::create_directories(folder);
    const auto write = [&](const char* name, std::span<const std::byte> bytes) {
        hlwq::io::atomic_file file(folder / name);
        file.write(bytes);
        file.commit();
    };
    CHECK(message(folder).find(".safetensors") != std::string::npos);
    write("model_int4.pt", {});
    CHECK(message(folder).find("torch pickle") != std::string::npos);
    const auto bytes = published().file();
    write("model-00001-of-00002.safetensors", bytes);
    CHECK(message(folder).find("expected 2 files, found 1") != std::string::npos);
    fs::rename(folder / "model-00001-of-00002.safetensors", folder / "model.safetensors");
    CHECK(message(folder).empty());
    write(".hlwq-state.json", {});
    CHECK(message(folder).find("unfinished") != std::string::npos);
    fs::remove(folder / ".hlwq-state.json");
    write("polar_config.json", {});
    CHECK(message(folder).find("polar_config.json: expected JSON") != std::string::npos);
    fs::remove_all(folder);

    draft foreign;
    foreign.put("x.weight_packed", dtype::i32, {1}, std::vector<int>{1});
    CHECK_THROWS_AS(foreign.open([](const reader&) {}), hlwq::unsupported_error);
}

TEST_CASE("codes are repacked in memory, and the file stays as it is") {
    std::string pattern = (std::filesystem::temp_directory_path() / "hlwq_repack.XXXXXX").string();
    REQUIRE(::mkdtemp(pattern.data()) != nullptr);
    const std::filesystem::path folder = pattern;
    draft d;
    const auto table = hlwq::codebook_table(hlwq::codebook_id::legacy_a, 5);
    for (const std::string name : {"a.weight", "b.weight"}) {
        std::vector<float> w(7 * 300);
        for (std::size_t i = 0; i < w.size(); ++i) w[i] = std::sin(static_cast<float>(i * i % 977));
        const auto q = hlwq::quantize(hlwq::matrix_view<const float>(w.data(), 7, 300), table, hlwq::block_format{});
        const auto view = q.view();
        d.put(name + "__packed", dtype::u8, {view.codes.size()},
              std::vector<std::byte>(view.codes.begin(), view.codes.end()));
        d.put(name + "__norms", dtype::f16, {7, 3}, std::vector<hlwq::half>(view.norms.begin(), view.norms.end()));
        d.put(name + "__meta", dtype::i64, {5}, std::vector<std::int64_t>{7, 3, 128, 7 * 3 * 128, 300});
    }
    const auto bytes = d.file(3);
    std::ofstream(folder / "model.safetensors", std::ios::binary)
        .write(reinterpret_cast<const char*>(bytes.data()), static_cast<std::streamsize>(bytes.size()));
    {
        hlwq::checkpoint::reader model(folder);
        const auto a = dequantized(*model.find("a.weight")), b = dequantized(*model.find("b.weight"));
        const auto choose = [](const tensor& t) {
            return t.name == "a.weight" ? hlwq::layout_id::planes : t.packed.format.layout;
        };
        CHECK(model.repack(choose) == 7 * 3 * 80);
        CHECK(model.repack(choose) == 0);
        CHECK(model.find("a.weight")->packed.format.layout == hlwq::layout_id::planes);
        CHECK(model.find("b.weight")->packed.format.layout == hlwq::layout_id::wire);
        CHECK(dequantized(*model.find("a.weight")) == a);
        CHECK(dequantized(*model.find("b.weight")) == b);
        const hlwq::checkpoint::reader again(folder);
        CHECK(dequantized(*again.find("a.weight")) == a);
    }
    std::filesystem::remove_all(folder);

    const hlwq::checkpoint::memory_file files[] = {{"draft.safetensors", bytes}};
    hlwq::checkpoint::reader in_memory(files, "", "");
    CHECK_THROWS_WITH_AS(in_memory.repack([](const tensor&) { return hlwq::layout_id::planes; }),
                         "repack of a checkpoint: expected one in files, found one in memory", hlwq::unsupported_error);
}

TEST_CASE("no truncation and no single changed byte does worse than an error") {
    const auto survives = [](std::span<const std::byte> bytes) {
        // A copy of its own size, so that a sanitizer sees any read beyond the end.
        const std::vector<std::byte> exact(bytes.begin(), bytes.end());
        const hlwq::checkpoint::memory_file files[] = {{"draft.safetensors", exact}};
        try {
            const reader model(files, "{\"layers\":{\"m.layers.0.q_proj\":{\"bits\":5}}}", "");
            for (const auto& t : model.tensors()) {
                if (t.quantized) dequantized(t);
            }
            return true;
        } catch (const hlwq::error&) {
            return false;
        }
    };
    std::vector<std::byte> whole = published().file();
    REQUIRE(survives(whole));
    for (std::size_t size = 0; size < whole.size(); ++size) CHECK(!survives(std::span(whole).first(size)));
    std::size_t survived = 0;
    for (std::byte& b : whole) {
        const std::byte kept = b;
        for (const int flip : {1, 0x20, 0x80, 0xff}) {
            b = kept ^ static_cast<std::byte>(flip);
            survived += survives(whole) ? 1 : 0;
        }
        b = kept;
    }
    CHECK(survived > 0);  // codes may be anything
}
