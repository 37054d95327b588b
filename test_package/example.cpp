// Quantizes one block and prints the SIMD backend.
#include <hlwq/hlwq.hpp>

#include <cmath>
#include <cstddef>
#include <cstdio>
#include <vector>

int main() {
    std::vector<float> weights(128);
    for (std::size_t i = 0; i < weights.size(); ++i) weights[i] = std::cos(static_cast<float>(i * i));
    const auto centroids = hlwq::codebook_table(hlwq::codebook_id::legacy_a, 5);
    const hlwq::packed_matrix packed =
        hlwq::quantize(hlwq::matrix_view<const float>(weights.data(), 1, weights.size()), centroids);
    std::vector<float> restored(weights.size());
    hlwq::dequantize(packed.view(), hlwq::matrix_view<float>(restored.data(), 1, restored.size()));
    std::printf("hlwq %s, %s, %s: %g became %g\n", hlwq::version, hlwq::isa_name(), hlwq::backend_name(),
                static_cast<double>(weights[0]), static_cast<double>(restored[0]));
    return std::fabs(restored[0] - weights[0]) < 0.2f ? 0 : 1;
}
