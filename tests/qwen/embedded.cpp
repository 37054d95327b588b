// The embedded model against the logits that Hugging Face transformers computes for it.
#include "golden.hpp"

#include <span>
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
