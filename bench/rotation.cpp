// FWHT speed in cache: elements per second and per cycle, every backend, beside plain loops.
#include "hlwq/rotation.hpp"

#include "clock.hpp"

#if !defined(HLWQ_ISA_GENERIC) && __has_include(<xsimd/xsimd.hpp>)
#include "hlwq/simd/xsimd.hpp"
#define HLWQ_BENCH_XSIMD
#endif

#include <benchmark/benchmark.h>

#include <cstddef>
#include <iterator>
#include <string>

namespace {

void report(benchmark::State& state, std::size_t elements) {
    const double total = static_cast<double>(state.iterations()) * static_cast<double>(elements);
    state.counters["elements/s"] = benchmark::Counter(total, benchmark::Counter::kIsRate);
    state.counters["elements/cycle"] =
        benchmark::Counter(total / bench::cycles_per_second(), benchmark::Counter::kIsRate);
    state.SetLabel(std::string(hlwq::isa_name()) + " " + hlwq::backend_name());
}

/// 16 KiB, in the first-level cache. Zeros keep their magnitude, whatever the number of passes.
struct buffer {
    alignas(64) float x[4096] = {};
};

template <class S, std::size_t N>
void fwht_batch(benchmark::State& state) {
    buffer b;
    for (auto _ : state) {
        hlwq::detail::fwht_blocks<S, N>(b.x, std::size(b.x) / N);
        benchmark::ClobberMemory();
    }
    report(state, std::size(b.x));
}

template <class S, std::size_t N>
void fwht(benchmark::State& state) {
    buffer b;
    for (auto _ : state) {
        for (std::size_t i = 0; i < std::size(b.x); i += N) hlwq::detail::fwht_kernel<S, N>(b.x + i);
        benchmark::ClobberMemory();
    }
    report(state, std::size(b.x));
}

void plain_loops(benchmark::State& state) {
    buffer b;
    for (auto _ : state) {
        for (std::size_t i = 0; i < std::size(b.x); i += 128) hlwq::detail::fwht_plain(b.x + i, 128);
        benchmark::ClobberMemory();
    }
    report(state, std::size(b.x));
}

using native = hlwq::simd::native;
BENCHMARK(fwht_batch<native, 128>)->Repetitions(5)->ReportAggregatesOnly();
BENCHMARK(fwht<native, 32>);
BENCHMARK(fwht<native, 64>);
BENCHMARK(fwht<native, 128>)->Repetitions(5)->ReportAggregatesOnly();
BENCHMARK(fwht<native, 256>);
BENCHMARK(fwht<native, 1024>);
BENCHMARK(fwht<native, 4096>);
#if defined(HLWQ_BENCH_XSIMD)
BENCHMARK(fwht<hlwq::simd::xsimd_backend, 128>);
#endif
BENCHMARK(fwht<hlwq::simd::scalar_backend, 128>);
BENCHMARK(plain_loops);

}  // namespace
