#include "hlwq/rotation.hpp"

#include "backends.hpp"
#include "reference.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <vector>

namespace {

/// Integers in -8..8: every partial sum of a transform of 4096 of them is exact in float.
std::vector<float> small_integers(std::size_t count, std::uint64_t seed) {
    reference::random source(seed);
    std::vector<float> x(count);
    for (float& v : x) v = static_cast<float>(source.below(17)) - 8.0f;
    return x;
}

}  // namespace

TEST_CASE_TEMPLATE("fwht equals the dense matrix exactly on small integers, every length", S, HLWQ_TEST_BACKENDS) {
    for (std::size_t n = 2; n <= 4096; n *= 2) {
        CAPTURE(n);
        const auto x = small_integers(n, n);
        auto fast = x;
        hlwq::fwht<S>(std::span<float>(fast));
        // Dense rows of large transforms are sampled: n^2 products of 4096 would be 16 million per backend.
        const std::size_t step = n > 512 ? n / 64 + 1 : 1;
        for (std::size_t i = 0; i < n; i += step) {
            double exact = 0.0;
            for (std::size_t j = 0; j < n; ++j) exact += reference::hadamard(i, j) * static_cast<double>(x[j]);
            REQUIRE(static_cast<double>(fast[i]) == exact);
        }
        auto twice = fast;
        hlwq::fwht<S>(std::span<float>(twice));
        for (std::size_t i = 0; i < n; ++i) REQUIRE(twice[i] == x[i] * static_cast<float>(n));
    }
}

TEST_CASE_TEMPLATE("every unit vector becomes its column of the matrix", S, HLWQ_TEST_BACKENDS) {
    for (const std::size_t n : {std::size_t{8}, std::size_t{64}, std::size_t{128}, std::size_t{256}}) {
        for (std::size_t j = 0; j < n; ++j) {
            std::vector<float> x(n, 0.0f);
            x[j] = 1.0f;
            hlwq::fwht<S>(std::span<float>(x));
            for (std::size_t i = 0; i < n; ++i) REQUIRE(static_cast<double>(x[i]) == reference::hadamard(i, j));
        }
    }
}

TEST_CASE_TEMPLATE("rotation keeps lengths, is its own inverse, and agrees with the dense matrix", S,
                   HLWQ_TEST_BACKENDS) {
    for (const std::size_t block : {std::size_t{2}, std::size_t{32}, std::size_t{128}, std::size_t{1024}}) {
        const std::size_t count = 3 * block;
        const auto x = reference::gaussians(count, block);
        auto y = x;
        hlwq::rotate<S>(std::span<float>(y), block);
        for (std::size_t first = 0; first < count; first += block) {
            const std::vector<double> part(x.begin() + static_cast<std::ptrdiff_t>(first),
                                           x.begin() + static_cast<std::ptrdiff_t>(first + block));
            const auto exact = reference::rotate(part);
            double length = 0.0;
            for (const double v : part) length += v * v;
            // log2(block) roundings of eps/2 relative to the length of the block, and one for the scale.
            const double tolerance = (std::log2(static_cast<double>(block)) + 2) * 6e-8 * std::sqrt(length);
            for (std::size_t i = 0; i < block; ++i) {
                REQUIRE(std::fabs(static_cast<double>(y[first + i]) - exact[i]) <= tolerance);
            }
        }
        hlwq::unrotate<S>(std::span<float>(y), block);
        for (std::size_t i = 0; i < count; ++i) REQUIRE(y[i] == doctest::Approx(x[i]).epsilon(1e-5).scale(4.0));
    }
}

TEST_CASE("double precision, the same transform") {
    for (std::size_t n = 2; n <= 4096; n *= 2) {
        const auto x = small_integers(n, n + 1);
        std::vector<double> wide(x.begin(), x.end());
        auto narrow = x;
        hlwq::fwht(wide);
        hlwq::fwht(narrow);
        for (std::size_t i = 0; i < n; ++i) REQUIRE(wide[i] == static_cast<double>(narrow[i]));
    }
    std::vector<double> x(256);
    for (std::size_t i = 0; i < 256; ++i) x[i] = std::sin(static_cast<double>(i));
    auto y = x;
    hlwq::rotate(y, 128, {true, 9});
    hlwq::unrotate(y, 128, {true, 9});
    for (std::size_t i = 0; i < 256; ++i) CHECK(y[i] == doctest::Approx(x[i]).epsilon(1e-13));
}

TEST_CASE("signs follow their definition") {
    // splitmix64 from state 0 and 1: first outputs of the published generator.
    CHECK(hlwq::detail::splitmix64(0) == 0xe220a8397b1dcdafull);
    CHECK(hlwq::detail::splitmix64(0x9e3779b97f4a7c15ull) == 0x6e789e6aa1b965f4ull);
    const hlwq::rotation_signs on{true, 0};
    for (std::size_t k = 0; k < 64; ++k) {
        const bool negative = ((0xe220a8397b1dcdafull >> k) & 1u) != 0;
        CHECK(hlwq::sign_of(on, k) == (negative ? -1.0f : 1.0f));
    }
    CHECK(hlwq::sign_of({false, 5}, 3) == 1.0f);
    std::size_t negatives = 0;
    for (std::size_t k = 0; k < 4096; ++k) negatives += hlwq::sign_of({true, 42}, k) < 0 ? 1u : 0u;
    CHECK(negatives > 1900);
    CHECK(negatives < 2200);
}

TEST_CASE("signs spread a constant block over all coefficients") {
    std::vector<float> plain(128, 1.0f), signed_block(128, 1.0f);
    hlwq::rotate(plain, 128);
    hlwq::rotate(signed_block, 128, {true, 0});
    CHECK(plain[0] == doctest::Approx(std::sqrt(128.0)));
    CHECK(plain[1] == 0.0f);
    float largest = 0.0f;
    for (const float v : signed_block) largest = std::max(largest, std::fabs(v));
    CHECK(largest < 5.0f);
}

TEST_CASE("rows of a matrix rotate in place") {
    auto x = reference::gaussians(3 * 300, 5);
    auto expected = x;
    hlwq::matrix_view<float> view(x.data(), 3, 256, 300);
    hlwq::rotate(view, 128, {true, 1});
    for (std::size_t row = 0; row < 3; ++row) {
        hlwq::rotate(std::span<float>(expected).subspan(row * 300, 256), 128, {true, 1});
    }
    CHECK(x == expected);
}

TEST_CASE("lengths that are no power of two are refused") {
    std::vector<float> x(8192, 0.0f);
    for (const std::size_t n : {std::size_t{0}, std::size_t{1}, std::size_t{3}, std::size_t{100}, std::size_t{8192}}) {
        CHECK_THROWS_AS(hlwq::fwht(std::span<float>(x).first(n)), hlwq::shape_error);
        CHECK_THROWS_AS(hlwq::rotate(std::span<float>(x).first(100), n), hlwq::shape_error);
    }
    CHECK_THROWS_WITH_AS(hlwq::rotate(std::span<float>(x).first(130), 128),
                         "rotate: length: expected whole blocks of 128, found 130", hlwq::shape_error);
}
