// The embedded model against the logits that Hugging Face transformers computes for it.
#include "golden.hpp"
#include "memory_checkpoint.hpp"

#include <cstddef>
#include <cstdint>
#include <span>
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
