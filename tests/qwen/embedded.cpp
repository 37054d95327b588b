// The embedded model against the logits that Hugging Face transformers computes for it.
#include "golden.hpp"
#include "memory_checkpoint.hpp"

#include "hlwq/thread_pool.hpp"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <utility>
#include <vector>

namespace {

const std::filesystem::path folder = golden::data_folder() / "../../examples/qwen_moe_chat/tiny/model";
constexpr double tolerance = 2e-5;  // of the largest logit

}  // namespace

TEST_CASE("the embedded model gives the logits of transformers, at any division of the text") {
    const golden::results expected(golden::data_folder() / "embedded" / "logits.safetensors");
    const std::vector<std::uint32_t> ids = expected.integers("ids");
    const golden::rows logits = expected.floats("logits");
    const qwen::model model(folder);
    golden::runner run(model);
    for (const std::vector<std::size_t>& pieces : {std::vector<std::size_t>{ids.size()}, {64, 33, 1}, {1}}) {
        CAPTURE(pieces[0]);
        const golden::rows found = run.logits_of(ids, pieces);
        CHECK(golden::distance(found.view(), logits.view()) < tolerance);
    }
}

namespace {

/// The embedded model at 5 bits, head and embedding at theirs.
memory::checkpoint with_head(int head_bits, int embedding_bits = 16) {
    return memory::with_head(memory::checkpoint::read(folder), 5, head_bits, embedding_bits);
}

std::vector<std::uint32_t> text_ids() {
    return golden::results(golden::data_folder() / "embedded" / "logits.safetensors").integers("ids");
}

}  // namespace

TEST_CASE("a head of 8 bits gives the logits of one in BF16 within 0.5 % of the largest") {
    const std::vector<std::uint32_t> ids = text_ids();
    const memory::opened wide(with_head(16)), narrow(with_head(8)), both(with_head(8, 8));
    // 8-bit centroids are too many for a byte: `fast` computes such a head in two, as `precise` does.
    for (const auto mode : {hlwq::precision::exact, hlwq::precision::precise, hlwq::precision::fast}) {
        CAPTURE(std::string(hlwq::to_string(mode)));
        for (const std::size_t piece : {ids.size(), std::size_t{1}}) {
            const auto run = [&](const memory::opened& model) {
                golden::runner one(model.model(), mode);
                return one.logits_of(ids, {piece});
            };
            const golden::rows expected = run(wide);
            CHECK(golden::distance(run(narrow).view(), expected.view()) < 0.005);
            CHECK(golden::divergence(expected.view(), run(narrow).view()) < 3e-5);
            CHECK(golden::divergence(expected.view(), run(both).view()) < 3e-4);
        }
    }
}

TEST_CASE("four sequences decoded together give the logits that each gives alone, bit by bit") {
    const std::vector<std::uint32_t> ids = text_ids();
    const memory::opened packed(with_head(8));
    const qwen::model& model = packed.model();
    constexpr std::size_t count = 4, length = 12;
    hlwq::thread_pool pool(2);
    for (const auto mode : {hlwq::precision::exact, hlwq::precision::fast, hlwq::precision::precise}) {
        CAPTURE(std::string(hlwq::to_string(mode)));
        std::vector<golden::rows> alone;
        std::vector<qwen::sequence_state> states;
        for (std::size_t i = 0; i < count; ++i) {
            golden::runner one(model, mode);
            alone.push_back(one.logits_of(std::span(ids).subspan(length * i, length), {1}));
            states.emplace_back(model.config(), qwen::kv_type_for(mode));
        }
        qwen::workspace space(model.config());
        golden::rows logits{std::vector<float>(count * model.config().vocabulary), model.config().vocabulary};
        for (std::size_t t = 0; t < length; ++t) {
            std::vector<qwen::sequence_input> inputs;
            for (std::size_t i = 0; i < count; ++i) {
                inputs.push_back({std::span(ids).subspan(length * i + t, 1), &states[i], {}});
            }
            const auto h = model.forward(inputs, space, {pool, mode});
            model.logits(h, {logits.values.data(), count, logits.cols}, space, {pool, mode});
            for (std::size_t i = 0; i < count; ++i) {
                CHECK(std::ranges::equal(logits.view().row(i), alone[i].view().row(t)));
            }
        }
    }
}

TEST_CASE("at 5 bits byte arithmetic stays close to float") {
    const memory::opened packed(memory::quantized(memory::checkpoint::read(folder), 5).first);
    const std::vector<std::uint32_t> ids =
        golden::results(golden::data_folder() / "embedded" / "logits.safetensors").integers("ids");
    const auto run = [&](hlwq::precision mode, std::vector<std::size_t> pieces) {
        golden::runner one(packed.model(), mode);
        return one.logits_of(ids, std::move(pieces));
    };
    for (const std::size_t piece : {ids.size(), std::size_t{1}}) {
        CAPTURE(piece);
        const golden::rows exact = run(hlwq::precision::exact, {piece});
        CHECK(golden::divergence(exact.view(), run(hlwq::precision::precise, {piece}).view()) < 1e-7);
        // 6e-5 to 1.1e-4, as compilers round: where two experts are nearly equal the router may choose the other one.
        CHECK(golden::divergence(exact.view(), run(hlwq::precision::fast, {piece}).view()) < 2e-4);
    }
}
