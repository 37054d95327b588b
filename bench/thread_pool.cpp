// What a parallel region costs beyond its bodies, right after the one before it and after a pause of the calling
// thread, such as the serial steps between the products of a layer.
//
//   pause   microseconds that the calling thread is busy with something else before each region
//
// The time is from the call of parallel_for to its return, with empty bodies for every worker.
#include "hlwq/thread_pool.hpp"

#include <benchmark/benchmark.h>

#include <chrono>
#include <cstddef>

namespace {

using clock_type = std::chrono::steady_clock;

void empty_region(benchmark::State& state) {
    static hlwq::thread_pool pool;
    const auto pause = std::chrono::microseconds(state.range(0));
    for (auto _ : state) {
        const auto ready = clock_type::now() + pause;
        while (clock_type::now() < ready) {
        }
        const auto begin = clock_type::now();
        pool.parallel_for(pool.concurrency(), 1, [](std::size_t, std::size_t, unsigned) noexcept {});
        state.SetIterationTime(std::chrono::duration<double>(clock_type::now() - begin).count());
    }
}

BENCHMARK(empty_region)
    ->ArgName("pause")
    ->Arg(0)
    ->Arg(10)
    ->Arg(30)
    ->Arg(50)
    ->Arg(100)
    ->Arg(200)
    ->Arg(500)
    ->Arg(2000)
    ->UseManualTime()
    ->Iterations(4000)
    ->Unit(benchmark::kMicrosecond);

}  // namespace
