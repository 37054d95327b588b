// Quantizes a matrix, restores it and checks the error, with whatever components the build gives.
#include <hlwq/hlwq.hpp>

#include <cmath>
#include <cstddef>
#include <cstdio>
#include <vector>

#if defined(CONSUMER_THREADS)
#include <hlwq/thread_pool.hpp>
#endif
#if defined(CONSUMER_IO)
#include <hlwq/io/safetensors.hpp>
#endif
#if defined(CONSUMER_DISPATCH)
#include <hlwq/dispatch/dispatch.hpp>
#endif
#if defined(CONSUMER_ISAS)
#include <consumer_isas.hpp>
#define DECLARE(name) const char* isa_of_##name();
HLWQ_COMPILED_ISAS(DECLARE)
#endif

int main() {
    constexpr std::size_t rows = 4, cols = 256;
    std::vector<float> weights(rows * cols), restored(rows * cols);
    for (std::size_t i = 0; i < weights.size(); ++i) weights[i] = std::sin(static_cast<float>(i * i % 997));

    const auto centroids = hlwq::codebook_table(hlwq::codebook_id::legacy_a, 5);
    const hlwq::packed_matrix packed =
        hlwq::quantize(hlwq::matrix_view<const float>(weights.data(), rows, cols), centroids);
    const hlwq::matrix_view<float> out(restored.data(), rows, cols);
#if defined(CONSUMER_THREADS)
    hlwq::thread_pool pool(2);
    hlwq::dequantize(packed.view(), out, pool);
#else
    hlwq::dequantize(packed.view(), out);
#endif

    double error = 0, energy = 0;
    for (std::size_t i = 0; i < weights.size(); ++i) {
        const double difference = static_cast<double>(restored[i]) - static_cast<double>(weights[i]);
        error += difference * difference;
        energy += static_cast<double>(weights[i]) * static_cast<double>(weights[i]);
    }
#if defined(CONSUMER_DISPATCH)
    std::vector<float> again(rows * cols);
    const hlwq::packed_matrix other = hlwq::dispatch::quantize(
        hlwq::matrix_view<const float>(weights.data(), rows, cols), centroids, packed.format());
    hlwq::dispatch::dequantize(other.view(), hlwq::matrix_view<float>(again.data(), rows, cols));
    double difference = 0;
    for (std::size_t i = 0; i < weights.size(); ++i) {
        difference += std::fabs(static_cast<double>(again[i]) - static_cast<double>(restored[i]));
    }
    std::printf("dispatch: %s\n", hlwq::dispatch::isa().data());
    if (difference / energy > 0.01) return 1;
#endif
#if defined(CONSUMER_ISAS)
    bool found = false;
#define COMPARE(name) found = found || isa_of_##name() == hlwq::dispatch::isa();
    HLWQ_COMPILED_ISAS(COMPARE)
    if (!found) return 1;
#endif
    std::printf("note: %s, %s, relative MSE %.5f\n", hlwq::isa_name(), hlwq::backend_name(), error / energy);
    return error / energy < 0.01 ? 0 : 1;
}
