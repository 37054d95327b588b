// The four ways to quantize: their values against the library's, their order, the models made from them.
#include "golden.hpp"
#include "memory_checkpoint.hpp"
#include "qwen_moe_chat/ablation.hpp"

#include "hlwq/codebook.hpp"
#include "hlwq/dispatch/dispatch.hpp"

#include <doctest/doctest.h>

#include <cmath>
#include <cstdint>
#include <random>
#include <vector>

namespace {

std::vector<float> gaussian(std::size_t count) {
    std::mt19937 random(7);
    std::normal_distribution<float> normal;
    std::vector<float> values(count);
    for (float& v : values) v = 0.02f * normal(random);
    return values;
}

double relative_mse(const std::vector<float>& a, const std::vector<float>& b) {
    double error = 0.0, energy = 0.0;
    for (std::size_t i = 0; i < a.size(); ++i) {
        error += std::pow(static_cast<double>(a[i]) - static_cast<double>(b[i]), 2);
        energy += std::pow(static_cast<double>(a[i]), 2);
    }
    return error / energy;
}

}  // namespace

TEST_CASE("both steps together are what the library's nearest encoder writes") {
    const std::size_t cols = 300;  // two whole blocks and a padded one
    const std::vector<float> exact = gaussian(cols);
    for (const int bits : {2, 3, 5, 8}) {
        CAPTURE(bits);
        std::vector<float> ours = exact, theirs(cols);
        qwen::quantize_row(ours, qwen::ablation_variants[3], bits);
        hlwq::block_format format;
        format.bits = bits;
        const hlwq::packed_matrix q = hlwq::dispatch::quantize(hlwq::matrix_view<const float>(exact.data(), 1, cols),
                                                               hlwq::codebook_table(hlwq::codebook_id::converged, bits),
                                                               format, hlwq::encoder_id::nearest);
        hlwq::dispatch::dequantize(q.view(), hlwq::matrix_view<float>(theirs.data(), 1, cols));
        CHECK(relative_mse(theirs, ours) < 1e-9);
    }
}

TEST_CASE("on normal weights the centroids help, on a block with an outlier the rotation") {
    const std::vector<float> normal = gaussian(4096);
    std::vector<float> spiked = normal;
    for (std::size_t i = 5; i < spiked.size(); i += 128) spiked[i] = 0.12f;
    const auto error = [](const std::vector<float>& exact, int variant) {
        std::vector<float> x = exact;
        qwen::quantize_row(x, qwen::ablation_variants[variant], 5);
        return relative_mse(exact, x);
    };
    CHECK(error(normal, 2) < error(normal, 0));
    CHECK(error(spiked, 1) < 0.5 * error(spiked, 0));
    CHECK(error(spiked, 3) < error(spiked, 2));
    CHECK(error(spiked, 3) < error(spiked, 1));
}

TEST_CASE("zeros and single values survive") {
    for (const auto& variant : qwen::ablation_variants) {
        CAPTURE(variant.name);
        std::vector<float> zeros(130), one(128);
        qwen::quantize_row(zeros, variant, 3);
        for (const float v : zeros) CHECK(v == 0.0f);
        one[17] = 2.0f;
        qwen::quantize_row(one, variant, 8);
        CHECK(std::isfinite(one[17]));
    }
}

TEST_CASE("an altered model runs, and is the closer the more bits it has") {
    const hlwq::checkpoint::reader original(golden::data_folder() / "moe_tiny");
    hlwq::serial_executor serial;
    double last = 1.0;
    for (const int bits : {3, 5, 8}) {
        const qwen::altered_model altered(original, qwen::ablation_variants[3], bits, serial);
        CHECK(altered.error().relative_mse() < 0.2 * last);
        CHECK(altered.error().relative_mse() > 0.0);
        last = altered.error().relative_mse();
        CHECK(altered.model().config().vocabulary > 0);
    }
}

TEST_CASE("quantized checkpoints and weights that are not finite are refused") {
    hlwq::serial_executor serial;
    memory::checkpoint c = memory::checkpoint::read(golden::data_folder() / "moe_tiny");
    for (auto& entry : c.tensors) {
        if (!entry.first.ends_with("q_proj.weight")) continue;
        std::vector<float> values = memory::widened(entry.second);
        values[3] = NAN;
        entry.second = {memory::dtype::f32, entry.second.shape, memory::bytes_of<float>(values)};
    }
    const std::vector<std::byte> image = c.image();
    const hlwq::checkpoint::memory_file file{"model.safetensors", image};
    const hlwq::checkpoint::reader broken(std::span(&file, 1), "", c.config.dump());
    CHECK_THROWS_AS(qwen::altered_model(broken, qwen::ablation_variants[0], 5, serial), hlwq::value_error);
}
