// The rate at which this machine reads memory right now, as the measure of kernels that are bound by it.
#pragma once

#include "hlwq/executor.hpp"
#include "hlwq/simd/backend.hpp"

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace bench {

/// Bytes per second at which the workers of `ex` read `memory`, the best of several passes that take `seconds` in all.
/// Every worker reads its share with four chains of vector loads and nothing else.
template <hlwq::executor E>
double read_bandwidth(std::span<const std::byte> memory, E&& ex, double seconds = 0.3) {
    using S = hlwq::simd::native;
    using clock = std::chrono::steady_clock;
    constexpr std::size_t step = 4 * S::bytes;
    const auto* first = reinterpret_cast<const std::uint8_t*>(memory.data());
    const std::size_t steps = memory.size() / step;
    // Small memory is read again and again, so that a pass is long against the clock and the start of a region.
    const std::size_t rounds = std::max<std::size_t>(1, (std::size_t{64} << 20) / memory.size());
    std::vector<std::uint8_t> sinks(64 * ex.concurrency());

    double best = 0.0;
    const auto end = clock::now() + std::chrono::duration<double>(seconds);
    do {
        const auto start = clock::now();
        ex.parallel_for(steps, 16, [&](std::size_t from, std::size_t to, unsigned worker) noexcept {
            auto a = S::set_u8(0), b = a, c = a, d = a;
            for (std::size_t round = 0; round < rounds; ++round) {
                for (std::size_t i = from; i < to; ++i) {
                    const std::uint8_t* p = first + i * step;
                    S::prefetch(p + 4096);
                    a = S::xor_(a, S::load_u8(p));
                    b = S::xor_(b, S::load_u8(p + S::bytes));
                    c = S::xor_(c, S::load_u8(p + 2 * S::bytes));
                    d = S::xor_(d, S::load_u8(p + 3 * S::bytes));
                }
                asm volatile("" ::: "memory");
            }
            S::store_u8(sinks.data() + 64 * worker, S::xor_(S::xor_(a, b), S::xor_(c, d)));
        });
        const std::chrono::duration<double> taken = clock::now() - start;
        best = std::max(best, static_cast<double>(steps * step * rounds) / taken.count());
    } while (clock::now() < end);
    return best;
}

}  // namespace bench
