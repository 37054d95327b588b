// Synthetic checkpoints: the inventory of the real models, weights that depend on nothing but seed and name, and models
// that open and run.
#include "golden.hpp"

#include "qwen_moe_chat/synth.hpp"
#include "qwen_moe_chat/tokenizer.hpp"

#include "hlwq/error.hpp"
#include "hlwq/dispatch/dispatch.hpp"
#include "hlwq/thread_pool.hpp"

#include <map>

#include <unistd.h>

namespace {

using golden::runner;
using hlwq::matrix_view;

struct folder {
    explicit folder(const std::string& name)
        : path(golden::fs::temp_directory_path() / ("qwen-synth-" + name + "-" + std::to_string(::getpid()))) {
        golden::fs::create_directories(path);
    }
    folder(const folder&) = delete;
    ~folder() { golden::fs::remove_all(path); }
    golden::fs::path path;
};

/// name -> content
std::map<std::string, std::string> contents(const golden::fs::path& path) {
    std::map<std::string, std::string> files;
    for (const auto& entry : golden::fs::directory_iterator(path)) {
        files[entry.path().filename().string()] = hlwq::io::read_text_file(entry.path());
    }
    return files;
}

qwen::synth_options tiny(std::optional<int> bits, std::uint64_t seed = 1) {
    qwen::synth_options options;
    options.shape = "tiny";
    options.bits = bits;
    options.seed = seed;
    return options;
}

}  // namespace

TEST_CASE("the real shapes have the tensors and parameters of the published models") {
    struct expectation {
        const char* shape;
        std::size_t tensors;
        std::uint64_t hidden, published;  // parameters, vision and MTP included; 0: not known
        std::uint64_t mtp_mixer_and_ffn;
    };
    const auto inventory = [](const char* shape) {
        qwen::synth_options options;
        options.shape = shape;
        const auto config = qwen::read_config(nlohmann::json::parse(qwen::synth_config(options).dump()));
        return qwen::synth_tensors(config).size();
    };
    CHECK(inventory("35b-a3b") == 693);
    CHECK(inventory("9b") == 427);
    CHECK(inventory("27b") == 851);

    // Of 35,951,822,704 parameters, what is not the text model: a vision tower and an MTP layer.
    const auto vision = [](std::uint64_t out) {
        const std::uint64_t width = 1152, inner = 4304, merged = 4608;
        const std::uint64_t block =
            4 * width + 3 * width * width + 3 * width + width * width + width + 2 * inner * width + inner + width;
        return width * 3 * 2 * 16 * 16 + width + 2304 * width + 27 * block + 2 * width + merged * merged + merged +
               out * merged + out;
    };
    const std::uint64_t hidden = 2048;
    const std::uint64_t mtp = hidden * 2 * hidden + 3 * hidden + 2 * hidden +                     // fc and norms
                              2 * 4096 * hidden + 2 * 512 * hidden + hidden * 4096 + 2 * 256 +    // attention
                              256 * hidden + 256 * 3 * 512 * hidden + 3 * 512 * hidden + hidden;  // experts
    qwen::synth_options options;
    CHECK(qwen::measure_synth(options).parameters == 35'951'822'704 - vision(hidden) - mtp);
    CHECK(qwen::measure_synth(options).bytes == 2 * qwen::measure_synth(options).parameters);

    options.layers = 4;
    options.vocabulary = 1000;
    const auto config = qwen::read_config(nlohmann::json::parse(qwen::synth_config(options).dump()));
    CHECK(config.mixers.size() == 4);
    CHECK(config.mixers[3] == qwen::mixer_kind::attention);
    CHECK(config.vocabulary == 1000);
    CHECK(config.rope.sections == std::array<std::size_t, 3>{11, 11, 10});
    options.bits = 5;
    // Codes and norms: 5.125 bits a weight in experts and linear layers.
    const auto size = qwen::measure_synth(options);
    const std::uint64_t experts = std::uint64_t{4} * 256 * 3 * 512 * hidden;
    CHECK(size.bytes > experts * 41 / 64);
    CHECK(size.bytes < experts * 41 / 64 + 2 * (size.parameters - experts));

    options.shape = "9c";
    CHECK_THROWS_WITH_AS(qwen::synth_config(options), "shape: expected one of 35b-a3b, 9b, 27b, tiny, found 9c",
                         hlwq::value_error);
    options.shape = "tiny";
    options.vocabulary = 260;
    CHECK_THROWS_AS(qwen::synth_config(options), hlwq::value_error);
}

TEST_CASE("weights have the deviation of their tensor, and differ from tensor to tensor") {
    const folder f("weights");
    hlwq::serial_executor serial;
    qwen::write_synth(tiny({}), f.path, serial);
    const hlwq::checkpoint::reader file(f.path);
    const auto config = qwen::read_config(file.config());
    std::map<std::uint16_t, int> first_values;
    for (const auto& expected : qwen::synth_tensors(config)) {
        const auto* t = file.find(expected.name);
        REQUIRE_MESSAGE(t != nullptr, expected.name);
        CHECK(t->shape == expected.shape);
        const std::span<const hlwq::bfloat16> w(reinterpret_cast<const hlwq::bfloat16*>(t->bytes.data()),
                                                t->bytes.size() / 2);
        double sum = 0.0, squares = 0.0, most = 0.0;
        for (const auto x : w) {
            const double distance = static_cast<double>(x) - static_cast<double>(expected.mean);
            sum += distance;
            squares += distance * distance;
            most = std::max(most, std::fabs(distance));
        }
        CHECK(most <
              3.5 * static_cast<double>(expected.deviation) + 0.01 * std::fabs(static_cast<double>(expected.mean)));
        const auto n = static_cast<double>(w.size());
        // Five standard errors of a mean; of a deviation, with the kurtosis of the sum, less than five.
        CHECK(std::fabs(sum / n) < 5.0 * static_cast<double>(expected.deviation) / std::sqrt(n) +
                                       0.004 * std::fabs(static_cast<double>(expected.mean)));
        if (n > 1000.0) {
            CHECK(std::sqrt(squares / n) ==
                  doctest::Approx(static_cast<double>(expected.deviation)).epsilon(5.0 / std::sqrt(n)));
        }
        ++first_values[w[0].bits];
    }
    CHECK(first_values.size() > 30);
}

TEST_CASE("codes are those of the BF16 weights, whatever the threads and the shards; seeds differ") {
    const folder plain("plain"), packed("packed"), again("again"), other("other");
    hlwq::serial_executor serial;
    hlwq::thread_pool three(3);
    qwen::write_synth(tiny({}), plain.path, serial);
    const auto size = qwen::write_synth(tiny(5), packed.path, serial);
    qwen::write_synth(tiny(5), again.path, three);
    qwen::write_synth(tiny(5, 2), other.path, three);
    CHECK(contents(packed.path) == contents(again.path));
    CHECK(contents(packed.path).at("model.safetensors") != contents(other.path).at("model.safetensors"));
    CHECK(size.files == 1);
    CHECK(size.bytes == qwen::measure_synth(tiny(5)).bytes);

    const hlwq::checkpoint::reader bf16(plain.path), codes(packed.path);
    CHECK(codes.kind() == hlwq::checkpoint::dialect::hlwq);
    CHECK(codes.codebook_name() == "legacy-a");
    std::size_t quantized = 0;
    for (const auto& t : codes.tensors()) {
        if (!t.quantized) {
            const auto* same = bf16.find(t.name);
            REQUIRE(same != nullptr);
            CHECK(std::ranges::equal(t.bytes, same->bytes));
            continue;
        }
        const auto* source = t.slice ? bf16.find(t.slice->fused) : bf16.find(t.name);
        REQUIRE_MESSAGE(source != nullptr, t.name);
        const auto* w = reinterpret_cast<const hlwq::bfloat16*>(source->bytes.data()) +
                        (t.slice ? t.slice->index * t.packed.rows * t.packed.cols : 0);
        const auto expected = hlwq::dispatch::quantize(
            matrix_view<const hlwq::bfloat16>(w, t.packed.rows, t.packed.cols), t.packed.centroids, t.packed.format);
        CHECK(std::ranges::equal(expected.view().codes, t.packed.codes));
        CHECK(std::ranges::equal(expected.view().norms, t.packed.norms, {}, &hlwq::half::bits, &hlwq::half::bits));
        ++quantized;
    }
    // Two slices of 8 experts in 4 layers, the shared expert's three, and the mixers'.
    CHECK(quantized == 4 * 2 * 8 + 4 * 3 + 3 * 3 + 4);

    qwen::synth_options small = tiny(5);
    small.shard_bytes = 100'000;
    const folder shards("shards");
    CHECK(qwen::write_synth(small, shards.path, three).files > 5);
    const hlwq::checkpoint::reader many(shards.path);
    REQUIRE(many.tensors().size() == codes.tensors().size());
    for (const auto& t : codes.tensors()) {
        const auto* same = many.find(t.name);
        REQUIRE(same != nullptr);
        CHECK(std::ranges::equal(t.bytes, same->bytes));
        CHECK(std::ranges::equal(t.packed.codes, same->packed.codes));
        CHECK(std::ranges::equal(t.packed.norms, same->packed.norms, {}, &hlwq::half::bits, &hlwq::half::bits));
    }
}

TEST_CASE("the model runs and its logits are neither all alike nor large") {
    for (const std::optional<int> bits : {std::optional<int>(), std::optional(3)}) {
        const folder f("model");
        hlwq::serial_executor serial;
        qwen::write_synth(tiny(bits), f.path, serial);
        CHECK_FALSE(golden::fs::exists(f.path / hlwq::checkpoint::unfinished_marker));
        const qwen::tokenizer tokens(f.path / "tokenizer.json");
        CHECK(tokens.size() == qwen::least_synth_vocabulary);
        const std::string text = "<|im_start|>user\nZwölf Boxkämpfer 拳闘 🥊\x01<|im_end|>";
        const auto ids = tokens.encode(text);
        CHECK(ids.size() == text.size() - 12 - 10 + 2);
        CHECK(tokens.decode(ids) == text);

        const qwen::model model(f.path);
        CHECK(model.weights().notes.empty());
        runner r(model);
        const auto logits = r.logits_of(ids, {ids.size()});
        double squares = 0.0;
        for (const float x : logits.values) squares += static_cast<double>(x) * static_cast<double>(x);
        const double deviation = std::sqrt(squares / static_cast<double>(logits.values.size()));
        CHECK(deviation > 0.3);
        CHECK(deviation < 3.0);
    }
}
