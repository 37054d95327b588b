#include "hlwq/float16.hpp"

#include <doctest/doctest.h>

#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>

#if defined(__F16C__)
#include <immintrin.h>
#endif

using hlwq::bfloat16;
using hlwq::half;

namespace {

/// The value of a half by its definition.
double half_value(std::uint32_t bits) {
    const std::uint32_t exponent = (bits >> 10) & 31u, fraction = bits & 1023u;
    const double sign = (bits & 0x8000u) != 0 ? -1.0 : 1.0;
    if (exponent == 0) return sign * std::ldexp(static_cast<double>(fraction), -24);
    return sign * std::ldexp(1024.0 + static_cast<double>(fraction), static_cast<int>(exponent) - 25);
}

bool is_nan_pattern(std::uint32_t bits) { return (bits & 0x7c00u) == 0x7c00u && (bits & 0x3ffu) != 0; }

}  // namespace

TEST_CASE("every half has the value of its definition and survives the way through float") {
    for (std::uint32_t bits = 0; bits < 65536; ++bits) {
        const half h = half::from_bits(static_cast<std::uint16_t>(bits));
        const float value = h;
        if (is_nan_pattern(bits)) {
            REQUIRE(std::isnan(value));
            REQUIRE(is_nan_pattern(half(value).bits));
            REQUIRE((half(value).bits & 0x8000u) == (bits & 0x8000u));
        } else if ((bits & 0x7fffu) == 0x7c00u) {
            REQUIRE(std::isinf(value));
            REQUIRE(half(value).bits == bits);
        } else {
            REQUIRE(static_cast<double>(value) == half_value(bits));
            REQUIRE(std::signbit(value) == ((bits & 0x8000u) != 0));
            REQUIRE(half(value).bits == bits);
        }
    }
}

TEST_CASE("between two halves: ties go to even, everything else to the nearest") {
    const float up = std::numeric_limits<float>::infinity();
    for (std::uint32_t bits = 0; bits < 0x7bff; ++bits) {
        const auto middle = static_cast<float>((half_value(bits) + half_value(bits + 1)) / 2);
        const std::uint32_t even = bits % 2 == 0 ? bits : bits + 1;
        REQUIRE(half(middle).bits == even);
        REQUIRE(half(std::nextafter(middle, -up)).bits == bits);
        REQUIRE(half(std::nextafter(middle, up)).bits == bits + 1);
        REQUIRE(half(-middle).bits == (even | 0x8000u));
    }
    CHECK(half(65504.0f).bits == 0x7bff);
    CHECK(half(std::nextafter(65520.0f, 0.0f)).bits == 0x7bff);
    CHECK(half(65520.0f).bits == 0x7c00);
    CHECK(half(up).bits == 0x7c00);
    CHECK(half(1e-30f).bits == 0);
    CHECK(half(-1e-30f).bits == 0x8000);
}

TEST_CASE("bfloat16: the upper half of a float, rounded to nearest even") {
    for (std::uint32_t bits = 0; bits < 65536; ++bits) {
        const bfloat16 b = bfloat16::from_bits(static_cast<std::uint16_t>(bits));
        const float value = b;
        REQUIRE(std::bit_cast<std::uint32_t>(value) == bits << 16);
        if (std::isnan(value)) {
            REQUIRE(std::isnan(static_cast<float>(bfloat16(value))));
            continue;
        }
        REQUIRE(bfloat16(value).bits == bits);
        if (std::isinf(value)) continue;
        const auto from = [](std::uint32_t word) { return bfloat16(std::bit_cast<float>(word)).bits; };
        const std::uint32_t word = bits << 16;
        REQUIRE(from(word | 0x7fffu) == bits);
        REQUIRE(from(word | 0x8000u) == (bits % 2 == 0 ? bits : bits + 1));
        REQUIRE(from(word | 0x8001u) == bits + 1);
    }
    // A NaN whose payload lies in the lower half only must not become infinity.
    CHECK(std::isnan(static_cast<float>(bfloat16(std::bit_cast<float>(0x7f800001u)))));
    CHECK(bfloat16(std::numeric_limits<float>::max()).bits == 0x7f80);
}

// Conversions are constant expressions.
static_assert(half(1.0f).bits == 0x3c00);
static_assert(static_cast<float>(half::from_bits(0x0001)) == 0x1p-24f);
static_assert(bfloat16(3.0f).bits == 0x4040);
static_assert(sizeof(half) == 2 && alignof(half) == 2);

#if defined(__F16C__)
TEST_CASE("the processor rounds the same way") {
    std::uint32_t word = 1;
    for (int i = 0; i < 2'000'000; ++i) {
        word = word * 1664525u + 1013904223u;
        const float value = std::bit_cast<float>(word);
        const auto expected = static_cast<std::uint16_t>(_mm_cvtsi128_si32(_mm_cvtps_ph(_mm_set_ss(value), 0)));
        REQUIRE(half(value).bits == expected);
    }
}
#endif
