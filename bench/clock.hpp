// The clock that the core runs at right now, so that speeds can be given per cycle.
#pragma once

#include <algorithm>
#include <chrono>

namespace bench {

/// Cycles per second: a chain of additions takes one cycle each on every processor of the last twenty years. The
/// fastest of a few short runs, because the machine may be busy.
inline double cycles_per_second() {
    double best = 0.0;
    for (int run = 0; run < 20; ++run) {
        constexpr long additions = 1'000'000;
        unsigned long value = 1;
        const auto start = std::chrono::steady_clock::now();
        for (long i = 0; i < additions; ++i) {
#if defined(__x86_64__)
            asm volatile("add $1, %0" : "+r"(value));
#elif defined(__aarch64__)
            asm volatile("add %0, %0, #1" : "+r"(value));
#else
            asm volatile("" : "+r"(value));
            ++value;
#endif
        }
        const std::chrono::duration<double> taken = std::chrono::steady_clock::now() - start;
        best = std::max(best, static_cast<double>(additions) / taken.count());
    }
    return best;
}

}  // namespace bench
