// What exponentials, divisions and two-byte storage ask of a backend.
#include "backends.hpp"
#include "reference.hpp"
#include "tally.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>

TEST_CASE_TEMPLATE("exp2i is a power of two, 0 below and infinite above", S, HLWQ_TEST_BACKENDS) {
    tally t;
    for (std::int32_t first = -127; first <= 128; ++first) {
        std::int32_t n[S::lanes];
        float found[S::lanes], expected[S::lanes];
        for (std::size_t i = 0; i < S::lanes; ++i) {
            n[i] = std::min(first + static_cast<std::int32_t>(i), 128);
            expected[i] = n[i] == -127  ? 0.0f
                          : n[i] == 128 ? std::numeric_limits<float>::infinity()
                                        : std::ldexp(1.0f, n[i]);
        }
        S::store(found, S::exp2i(S::load_i32(n)));
        t.same(found, expected, S::lanes, "exp2i");
    }
    t.finish(256 * S::lanes);
}

TEST_CASE_TEMPLATE("quotients are rounded once", S, HLWQ_TEST_BACKENDS) {
    reference::random source(11);
    tally t;
    float a[S::lanes], b[S::lanes], found[S::lanes], expected[S::lanes];
    for (int round = 0; round < 2000; ++round) {
        for (std::size_t i = 0; i < S::lanes; ++i) {
            a[i] = static_cast<float>(source.gaussian() * std::exp2(20.0 * source.gaussian()));
            b[i] = static_cast<float>(source.gaussian() * std::exp2(20.0 * source.gaussian()));
            if (round == 0) b[i] = 0.0f;
            volatile float quotient = a[i] / b[i];
            expected[i] = quotient;
        }
        S::store(found, S::div(S::load(a), S::load(b)));
        t.same(found, expected, S::lanes, "div");
    }
    t.finish(2000 * S::lanes);
}

TEST_CASE_TEMPLATE("a NaN behind wins against any number", S, HLWQ_TEST_BACKENDS) {
    const auto nan = S::set(std::numeric_limits<float>::quiet_NaN());
    for (const float number : {-std::numeric_limits<float>::infinity(), -1.0f, 0.0f, 1e30f}) {
        float least[S::lanes], most[S::lanes];
        S::store(least, S::min(S::set(number), nan));
        S::store(most, S::max(S::set(number), nan));
        for (std::size_t i = 0; i < S::lanes; ++i) {
            CHECK(std::isnan(least[i]));
            CHECK(std::isnan(most[i]));
        }
    }
}

TEST_CASE_TEMPLATE("two-byte floats are stored rounded to the nearest, and nothing behind them", S,
                   HLWQ_TEST_BACKENDS) {
    reference::random source(12);
    tally t, nans;
    const auto check = [&](const float* x) {
        tight_buffer<hlwq::half> halves(S::lanes);
        tight_buffer<hlwq::bfloat16> truncated(S::lanes);
        S::store_half(halves.data, S::load(x));
        S::store_bfloat16(truncated.data, S::load(x));
        for (std::size_t i = 0; i < S::lanes; ++i) {
            const float found[2] = {halves.data[i], truncated.data[i]};
            if (std::isnan(x[i])) {
                // Which NaN it becomes is the processor's choice; its sign is kept.
                const bool kept[4] = {std::isnan(found[0]), std::isnan(found[1]),
                                      std::signbit(found[0]) == std::signbit(x[i]),
                                      std::signbit(found[1]) == std::signbit(x[i])};
                const bool right[4] = {true, true, true, true};
                nans.same(kept, right, 4, "NaN");
                continue;
            }
            const std::uint16_t expected[2] = {hlwq::half(x[i]).bits, hlwq::bfloat16(x[i]).bits};
            const std::uint16_t bits[2] = {halves.data[i].bits, truncated.data[i].bits};
            t.same(bits, expected, 2, "store");
        }
    };
    float x[S::lanes];
    // Every upper half of a float; below it nothing, the middle between two bfloat16 and both sides of it, everything.
    for (const std::uint32_t low : {0u, 1u, 0x7fffu, 0x8000u, 0x8001u, 0xffffu}) {
        for (std::uint32_t high = 0; high < 0x10000; high += S::lanes) {
            for (std::uint32_t i = 0; i < S::lanes; ++i) x[i] = std::bit_cast<float>(((high + i) << 16) | low);
            check(x);
        }
    }
    // Half-way between two halves, and next to it.
    for (std::uint32_t bits = 0; bits < 0x7c00; ++bits) {
        const float a = hlwq::half::from_bits(static_cast<std::uint16_t>(bits));
        const float b =
            bits == 0x7bff ? 65536.0f : static_cast<float>(hlwq::half::from_bits(static_cast<std::uint16_t>(bits + 1)));
        const float middle = 0.5f * (a + b);
        for (std::size_t i = 0; i < S::lanes; ++i) {
            const float near = i % 3 == 0 ? middle : std::nextafter(middle, i % 3 == 1 ? 0.0f : 1e9f);
            x[i] = (bits + i) % 2 == 0 ? near : -near;
        }
        check(x);
    }
    t.finish(2 * 6 * 65000);
    nans.finish(4 * 6 * 200);
}
