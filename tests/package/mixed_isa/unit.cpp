// Compiled once for each instruction set, under the name UNIT; all three must agree.
#include "unit.hpp"

#include <hlwq/hlwq.hpp>

#include <cstddef>

void UNIT(unit_result& result) {
    constexpr std::size_t cols = 256;
    float weights[cols], restored[cols], product[1];
    for (std::size_t i = 0; i < cols; ++i) weights[i] = static_cast<float>(i * i % 997) / 997.0f - 0.5f;
    const auto centroids = hlwq::codebook_table(hlwq::codebook_id::legacy_a, 5);
    const hlwq::packed_matrix packed = hlwq::quantize(hlwq::matrix_view<const float>(weights, 1, cols), centroids);
    hlwq::dequantize(packed.view(), hlwq::matrix_view<float>(restored, 1, cols));

    hlwq::rotated_input input(cols, hlwq::precision::exact, packed.view().format);
    hlwq::rotate_input(weights, input);
    hlwq::gemv(packed.view(), input, product);

    result.isa = hlwq::isa_name();
    result.code_sum = 0;
    for (const std::byte code : packed.view().codes)
        result.code_sum = result.code_sum * 31 + static_cast<unsigned>(code);
    result.product = static_cast<double>(product[0]);
    result.error = 0;
    for (std::size_t i = 0; i < cols; ++i) {
        const double difference = static_cast<double>(weights[i]) - static_cast<double>(restored[i]);
        result.error += difference * difference;
    }
}
