// Y = X W^T for several tokens: products a second by the number of tokens, of the kernel for few tokens (gemv) and of
// the one for many (gemm), one thread. The input is rotated outside the loop.
#include "hlwq/gemm.hpp"

#include "clock.hpp"

#include <benchmark/benchmark.h>

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace {

enum class kernel { gemv, gemm };

/// Arguments: bits, rows, columns, tokens.
void product(benchmark::State& state, kernel which, hlwq::precision mode) {
    const auto bits = static_cast<int>(state.range(0));
    const auto rows = static_cast<std::size_t>(state.range(1)), columns = static_cast<std::size_t>(state.range(2));
    const auto tokens = static_cast<std::size_t>(state.range(3));
    const hlwq::block_format format{bits, hlwq::layout_id::wire, 128, {}};
    hlwq::packed_matrix w(rows, columns, format, hlwq::codebook_table(hlwq::codebook_id::converged, bits));
    std::uint64_t word = 1;
    const auto next = [&] { return (word = word * 6364136223846793005ull + 1442695040888963407ull) >> 40; };
    for (auto& byte : w.target().codes) byte = static_cast<std::byte>(next());
    for (auto& norm : w.target().norms) norm = hlwq::half(1.0f);
    std::vector<float> x(tokens * columns), y(tokens * rows);
    for (auto& v : x) v = static_cast<float>(next()) * 0x1p-24f - 0.5f;
    hlwq::rotated_input in(columns, mode, format, tokens);
    hlwq::rotate_input(hlwq::matrix_view<const float>(x.data(), tokens, columns), in);
    const hlwq::matrix_view<float> out(y.data(), tokens, rows);
    for (auto _ : state) {
        if (which == kernel::gemm) {
            hlwq::gemm(w.view(), in, out, mode);
        } else {
            hlwq::gemv(w.view(), in, out, mode);
        }
        benchmark::ClobberMemory();
    }
    const double products = static_cast<double>(state.iterations()) * static_cast<double>(rows * columns * tokens);
    state.counters["mac/s"] = benchmark::Counter(products, benchmark::Counter::kIsRate);
    state.counters["mac/cycle"] =
        benchmark::Counter(products / bench::cycles_per_second(), benchmark::Counter::kIsRate);
    state.SetLabel(std::string(hlwq::isa_name()) + " " + hlwq::backend_name());
}

constexpr std::int64_t shapes[][2] = {{512, 2048}, {2048, 512}, {2048, 2048}, {2048, 4096}};

void few(benchmark::internal::Benchmark* b) {
    b->ArgNames({"bits", "rows", "columns", "tokens"})->MinTime(0.1);
    for (const auto& shape : shapes) {
        for (const int tokens : {1, 2, 4, 8}) b->Args({5, shape[0], shape[1], tokens});
    }
}
void many(benchmark::internal::Benchmark* b) {
    b->ArgNames({"bits", "rows", "columns", "tokens"})->MinTime(0.1);
    for (const auto& shape : shapes) {
        for (const int tokens : {1, 2, 4, 8, 16, 32, 128, 512}) b->Args({5, shape[0], shape[1], tokens});
    }
    for (const int bits : {2, 3, 4, 6, 7, 8}) {
        for (const int tokens : {16, 128}) b->Args({bits, 2048, 2048, tokens});
    }
}

BENCHMARK_CAPTURE(product, gemv_fast, kernel::gemv, hlwq::precision::fast)->Apply(few);
BENCHMARK_CAPTURE(product, gemv_precise, kernel::gemv, hlwq::precision::precise)->Apply(few);
BENCHMARK_CAPTURE(product, gemm_fast, kernel::gemm, hlwq::precision::fast)->Apply(many);
BENCHMARK_CAPTURE(product, gemm_precise, kernel::gemm, hlwq::precision::precise)->Apply(many);

}  // namespace
