// y = W x from packed codes: bytes of codes and norms per second, and the share of the read bandwidth that the same
// memory gives in the same process. The input is rotated outside the loop. Columns: 4096. The wire layout, and planes.
#include "hlwq/gemv.hpp"

#include "bandwidth.hpp"
#include "hlwq/thread_pool.hpp"

#include <benchmark/benchmark.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <utility>
#include <vector>

namespace {

constexpr std::size_t columns = 4096, block = 128;
constexpr std::size_t l2_bytes = std::size_t{512} << 10, dram_bytes = std::size_t{1280} << 20;

hlwq::thread_pool& pool(unsigned workers) {
    static hlwq::thread_pool one(1), all;
    return workers == 1 ? one : all;
}

/// Random bytes, which are codes of any width.
std::span<const std::byte> random_bytes() {
    static const std::vector<std::byte> bytes = [] {
        std::vector<std::byte> all(dram_bytes);
        std::uint64_t state = 1;
        for (std::size_t i = 0; i < all.size(); ++i) {
            state = state * 6364136223846793005ull + 1442695040888963407ull;
            all[i] = static_cast<std::byte>(state >> 56);
        }
        return all;
    }();
    return bytes;
}

/// Bandwidth of the first `bytes` bytes, measured once for each size and number of workers.
double bandwidth(std::size_t bytes, unsigned workers) {
    static std::map<std::pair<std::size_t, unsigned>, double> known;
    double& rate = known[{bytes, workers}];
    if (rate == 0.0) rate = bench::read_bandwidth(random_bytes().first(bytes), pool(workers));
    return rate;
}

/// Arguments: bits, bytes of codes, workers (0: all).
void gemv(benchmark::State& state, hlwq::precision mode, hlwq::layout_id layout) {
    const auto bits = static_cast<int>(state.range(0));
    const auto bytes = static_cast<std::size_t>(state.range(1));
    const auto workers = static_cast<unsigned>(state.range(2));
    const hlwq::block_format format{bits, layout, block, {}};
    const std::size_t rows = bytes / format.row_bytes(columns) / 4 * 4;
    const std::vector<hlwq::half> norms(format.norm_count(rows, columns), hlwq::half(1.0f));
    const hlwq::packed_matrix_view w{random_bytes().first(format.code_bytes(rows, columns)),
                                     norms,
                                     hlwq::codebook_table(hlwq::codebook_id::converged, bits),
                                     rows,
                                     columns,
                                     format};
    const std::vector<float> x(columns, 0.5f);
    std::vector<float> y(rows);
    hlwq::rotated_input in(columns, mode, format);
    hlwq::rotate_input(std::span<const float>(x), in);
    auto& executor = pool(workers);
    const double read = bandwidth(bytes, workers);
    for (auto _ : state) {
        hlwq::gemv(w, in, std::span<float>(y), executor);
        benchmark::ClobberMemory();
    }
    const double products = static_cast<double>(state.iterations());
    const double per_product = static_cast<double>(w.codes.size() + w.norms.size_bytes());
    state.counters["bytes/s"] = benchmark::Counter(products * per_product, benchmark::Counter::kIsRate);
    state.counters["weights/s"] =
        benchmark::Counter(products * static_cast<double>(rows * columns), benchmark::Counter::kIsRate);
    state.counters["of_read"] = benchmark::Counter(products * per_product / read, benchmark::Counter::kIsRate);
    state.SetLabel(std::string(hlwq::isa_name()) + " " + hlwq::backend_name());
}

void rotate_input(benchmark::State& state, hlwq::precision mode) {
    const std::vector<float> x(columns, 0.5f);
    hlwq::rotated_input in(columns, mode);
    for (auto _ : state) {
        hlwq::rotate_input(std::span<const float>(x), in);
        benchmark::ClobberMemory();
    }
    state.counters["values/s"] =
        benchmark::Counter(static_cast<double>(state.iterations()) * columns, benchmark::Counter::kIsRate);
}

/// What a region costs beyond its bodies.
void empty_region(benchmark::State& state) {
    auto& executor = pool(0);
    for (auto _ : state) {
        executor.parallel_for(executor.concurrency(), 1, [](std::size_t, std::size_t, unsigned) noexcept {});
    }
}

void cases(benchmark::internal::Benchmark* b) {
    b->ArgNames({"bits", "bytes", "workers"})->UseRealTime()->MinTime(0.1);
    for (const std::size_t bytes : {l2_bytes, dram_bytes}) {
        for (int bits = 2; bits <= 8; ++bits) {
            for (const int workers : {1, 0}) b->Args({bits, static_cast<std::int64_t>(bytes), workers});
        }
    }
}

BENCHMARK_CAPTURE(gemv, fast, hlwq::precision::fast, hlwq::layout_id::wire)->Apply(cases);
BENCHMARK_CAPTURE(gemv, precise, hlwq::precision::precise, hlwq::layout_id::wire)->Apply(cases);
BENCHMARK_CAPTURE(gemv, exact, hlwq::precision::exact, hlwq::layout_id::wire)->Apply(cases);
BENCHMARK_CAPTURE(gemv, fast_planes, hlwq::precision::fast, hlwq::layout_id::planes)->Apply(cases);
BENCHMARK_CAPTURE(gemv, precise_planes, hlwq::precision::precise, hlwq::layout_id::planes)->Apply(cases);
BENCHMARK_CAPTURE(gemv, exact_planes, hlwq::precision::exact, hlwq::layout_id::planes)->Apply(cases);
BENCHMARK_CAPTURE(rotate_input, fast, hlwq::precision::fast);
BENCHMARK_CAPTURE(rotate_input, precise, hlwq::precision::precise);
BENCHMARK_CAPTURE(rotate_input, exact, hlwq::precision::exact);
BENCHMARK(empty_region)->UseRealTime();

}  // namespace
