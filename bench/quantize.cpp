// Encoders: weights per second from bf16 in cache, and the error that each leaves on Gaussian weights.
#include "hlwq/quantize.hpp"

#include <benchmark/benchmark.h>

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace {

constexpr std::size_t rows = 128, cols = 4096;  // 1 MiB of bf16

const std::vector<hlwq::bfloat16>& gaussian_weights() {
    static const std::vector<hlwq::bfloat16> weights = [] {
        std::vector<hlwq::bfloat16> w(rows * cols);
        std::uint64_t state = 1;
        const auto uniform = [&] {
            return (static_cast<double>(hlwq::detail::splitmix64(state++) >> 11) + 0.5) * 0x1p-53;
        };
        for (auto& v : w) {
            const double radius = std::sqrt(-2.0 * std::log(uniform()));
            v = hlwq::bfloat16(static_cast<float>(0.02 * radius * std::cos(6.283185307179586 * uniform())));
        }
        return w;
    }();
    return weights;
}

void encode(benchmark::State& state, hlwq::encoder_id encoder, hlwq::codebook_id codebook) {
    hlwq::block_format format;
    format.bits = static_cast<int>(state.range(0));
    const hlwq::matrix_view<const hlwq::bfloat16> w(gaussian_weights().data(), rows, cols);
    hlwq::packed_matrix q(rows, cols, format, hlwq::codebook_table(codebook, format.bits));
    for (auto _ : state) {
        hlwq::quantize(w, q.target(), encoder);
        benchmark::ClobberMemory();
    }
    const double weights = static_cast<double>(rows * cols);
    state.counters["weights/s"] =
        benchmark::Counter(static_cast<double>(state.iterations()) * weights, benchmark::Counter::kIsRate);
    state.counters["relative_mse"] = hlwq::measure_error(w, q.view()).relative_mse();
    state.SetLabel(std::string(hlwq::isa_name()) + " " + hlwq::backend_name());
}

void decode(benchmark::State& state) {
    hlwq::block_format format;
    format.bits = static_cast<int>(state.range(0));
    const hlwq::matrix_view<const hlwq::bfloat16> w(gaussian_weights().data(), rows, cols);
    const auto q = hlwq::quantize(w, hlwq::codebook_table(hlwq::codebook_id::legacy_a, format.bits), format);
    std::vector<hlwq::bfloat16> out(rows * cols);
    for (auto _ : state) {
        hlwq::dequantize(q.view(), hlwq::matrix_view<hlwq::bfloat16>(out.data(), rows, cols));
        benchmark::ClobberMemory();
    }
    const double weights = static_cast<double>(rows * cols);
    state.counters["weights/s"] =
        benchmark::Counter(static_cast<double>(state.iterations()) * weights, benchmark::Counter::kIsRate);
    state.SetLabel(std::string(hlwq::isa_name()) + " " + hlwq::backend_name());
}

using hlwq::codebook_id;
using hlwq::encoder_id;
BENCHMARK_CAPTURE(encode, nearest_table_a, encoder_id::nearest, codebook_id::legacy_a)->DenseRange(2, 8);
BENCHMARK_CAPTURE(encode, nearest_table_b, encoder_id::nearest, codebook_id::legacy_b)->Arg(5);
BENCHMARK_CAPTURE(encode, nearest_converged, encoder_id::nearest, codebook_id::converged)->Arg(5);
BENCHMARK_CAPTURE(encode, searched_table_a, encoder_id::searched, codebook_id::legacy_a)->DenseRange(2, 8);
BENCHMARK_CAPTURE(encode, searched_table_b, encoder_id::searched, codebook_id::legacy_b)->Arg(5);
BENCHMARK_CAPTURE(encode, searched_converged, encoder_id::searched, codebook_id::converged)->Arg(5);
BENCHMARK(decode)->DenseRange(2, 8);

}  // namespace
