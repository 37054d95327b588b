#include "hlwq/rotated_input.hpp"

#include "backends.hpp"
#include "reference.hpp"

#include <doctest/doctest.h>

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <span>
#include <string>
#include <type_traits>
#include <vector>

namespace {

hlwq::block_format format_of(std::size_t block, hlwq::rotation_signs signs = {}) {
    hlwq::block_format format;
    format.block = block;
    format.signs = signs;
    return format;
}

/// Runs the shares of a number of workers one after the other, last worker first.
struct backward_executor {
    unsigned workers;
    unsigned concurrency() const { return workers; }
    template <class F>
    void parallel_for(std::size_t count, std::size_t grain, F&& body) const {
        const unsigned shares = hlwq::share_count(count, grain, workers);
        for (unsigned k = shares; k-- > 0;) {
            const auto [begin, end] = hlwq::share_of(count, grain, shares, k);
            body(begin, end, k);
        }
    }
};

/// Block b of x, padded with zeros, and the sum of the magnitudes of its values.
std::vector<double> block_of(std::span<const float> x, std::size_t block, std::size_t b, hlwq::rotation_signs signs,
                             double& magnitudes) {
    std::vector<double> part(block, 0.0);
    magnitudes = 0.0;
    for (std::size_t i = 0; i < block && b * block + i < x.size(); ++i) {
        part[i] = static_cast<double>(x[b * block + i] * hlwq::sign_of(signs, b * block + i));
        magnitudes += std::fabs(part[i]);
    }
    return part;
}

template <class S>
void check_values(std::span<const float> x, const hlwq::rotated_token& token, std::size_t block,
                  hlwq::rotation_signs signs = {}) {
    for (std::size_t b = 0; b * block < x.size(); ++b) {
        double magnitudes = 0.0;
        const auto part = block_of(x, block, b, signs, magnitudes);
        // Each of log2(block) stages rounds a sum that is at most the sum of all magnitudes; the scale is exact.
        const double tolerance =
            std::log2(static_cast<double>(block)) * 0x1p-24 * magnitudes / static_cast<double>(block);
        const std::size_t step = block > 512 ? block / 64 + 1 : 1;  // dense rows of large transforms are sampled
        for (std::size_t i = 0; i < block; i += step) {
            double exact = 0.0;
            for (std::size_t j = 0; j < block; ++j) exact += reference::hadamard(i, j) * part[j];
            exact /= static_cast<double>(block);
            REQUIRE(std::fabs(static_cast<double>(token.values[b * block + i]) - exact) <= tolerance);
        }
    }
}

void check_bytes(const hlwq::rotated_input& in) {
    const auto token = in.token(0);
    for (std::size_t b = 0; b < in.blocks(); ++b) {
        const float* values = token.values + b * in.block();
        const std::int8_t* bytes = token.bytes + b * in.block();
        const std::int8_t* low_bytes = token.low_bytes + b * in.block();
        float most = 0.0f;
        std::int32_t sum = 0, low_sum = 0;
        int largest = 0;
        for (std::size_t i = 0; i < in.block(); ++i) {
            most = std::max(most, std::fabs(values[i]));
            sum += bytes[i];
            low_sum += low_bytes[i];
            largest = std::max(largest, std::abs(int{bytes[i]}));
            REQUIRE(int{low_bytes[i]} >= -127);
        }
        REQUIRE(token.scales[b] == most / 127.0f);
        REQUIRE(token.sums[b] == token.scales[b] * static_cast<float>(sum));
        REQUIRE(token.low_sums[b] == token.scales[b] * static_cast<float>(low_sum));
        REQUIRE(largest == 127);
        const auto scale = static_cast<double>(token.scales[b]);
        for (std::size_t i = 0; i < in.block(); ++i) {
            // Half a step, and the roundings of scale, inverse and product at up to 127 steps.
            const double error = static_cast<double>(values[i]) - scale * bytes[i];
            REQUIRE(std::fabs(error) <= scale * (0.5 + 127 * 3 * 0x1p-24));
            REQUIRE(std::fabs(error - scale * low_bytes[i] / 254.0) <= scale * (0.5 / 254.0 + 127 * 4 * 0x1p-24));
        }
    }
}

}  // namespace

static_assert(std::is_trivially_copyable_v<hlwq::rotated_token>);
static_assert(!std::is_copy_constructible_v<hlwq::rotated_input>);
static_assert(std::is_nothrow_move_constructible_v<hlwq::rotated_input>);

TEST_CASE_TEMPLATE("values are H x / block, padded with zeros", S, HLWQ_TEST_BACKENDS) {
    for (std::size_t block = hlwq::min_block; block <= hlwq::max_block; block *= 2) {
        for (const std::size_t cols : {block, 2 * block + 1, 3 * block - 3}) {
            CAPTURE(block);
            CAPTURE(cols);
            const auto x = reference::gaussians(cols, cols);
            hlwq::rotated_input in(cols, hlwq::precision::exact, format_of(block));
            CHECK(in.padded_cols() == (cols + block - 1) / block * block);
            hlwq::rotate_input<S>(std::span<const float>(x), in);
            const auto token = std::as_const(in).token(0);
            CHECK(token.bytes == nullptr);
            check_values<S>(x, token, block);
        }
    }
}

TEST_CASE_TEMPLATE("column signs come first", S, HLWQ_TEST_BACKENDS) {
    const hlwq::rotation_signs signs{true, 42};
    for (const std::size_t block : {std::size_t{8}, std::size_t{32}, std::size_t{128}, std::size_t{512}}) {
        const std::size_t cols = 2 * block + 5;
        const auto x = reference::gaussians(cols, 1);
        hlwq::rotated_input in(cols, hlwq::precision::exact, format_of(block, signs));
        hlwq::rotate_input<S>(std::span<const float>(x), in);
        check_values<S>(x, std::as_const(in).token(0), block, signs);
    }
}

TEST_CASE_TEMPLATE("the planes of bytes: scale, nearest integers, what they leave over, sums", S, HLWQ_TEST_BACKENDS) {
    for (std::size_t block = hlwq::min_block; block <= hlwq::max_block; block *= 2) {
        CAPTURE(block);
        const std::size_t cols = 3 * block + 7;
        const auto x = reference::gaussians(cols, block);
        hlwq::rotated_input in(cols, hlwq::precision::precise, format_of(block));
        hlwq::rotate_input<S>(std::span<const float>(x), in);
        check_values<S>(x, std::as_const(in).token(0), block);
        check_bytes(in);
        hlwq::rotated_input fast(cols, hlwq::precision::fast, format_of(block));
        hlwq::rotate_input<S>(std::span<const float>(x), fast);
        const auto all = std::as_const(in).token(0), some = std::as_const(fast).token(0);
        CHECK(some.low_bytes == nullptr);
        CHECK(std::memcmp(some.bytes, all.bytes, in.padded_cols()) == 0);
        CHECK(std::memcmp(some.scales, all.scales, in.blocks() * sizeof(float)) == 0);
        CHECK(std::memcmp(some.sums, all.sums, in.blocks() * sizeof(float)) == 0);
    }
}

TEST_CASE_TEMPLATE("blocks of zeros, of numbers too small for a scale, and of one value", S, HLWQ_TEST_BACKENDS) {
    for (const std::size_t block : {std::size_t{8}, std::size_t{128}}) {
        std::vector<float> x(4 * block, 0.0f);
        x[block + 3] = 1e-40f;
        x[2 * block] = static_cast<float>(block);  // becomes a block of ones
        x[3 * block + 1] = std::numeric_limits<float>::max() / 2;
        hlwq::rotated_input in(x.size(), hlwq::precision::precise, format_of(block));
        hlwq::rotate_input<S>(std::span<const float>(x), in);
        const auto token = std::as_const(in).token(0);
        for (std::size_t i = 0; i < 2 * block; ++i) REQUIRE(token.bytes[i] == 0);
        for (std::size_t i = 0; i < 3 * block; ++i) REQUIRE(token.low_bytes[i] == 0);
        CHECK(token.scales[0] == 0.0f);
        CHECK(token.scales[1] == 0.0f);
        CHECK(token.sums[0] == 0.0f);
        CHECK(token.sums[1] == 0.0f);
        CHECK(token.scales[2] == 1.0f / 127.0f);
        CHECK(token.sums[2] == 1.0f / 127.0f * static_cast<float>(127 * block));
        CHECK(std::isfinite(token.scales[3]));
        for (std::size_t i = 3 * block; i < 4 * block; ++i) REQUIRE(std::abs(int{token.bytes[i]}) == 127);
    }
}

TEST_CASE_TEMPLATE("a NaN or an infinity makes its block NaN and no other", S, HLWQ_TEST_BACKENDS) {
    const float bad[] = {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity(),
                         -std::numeric_limits<float>::infinity()};
    for (const float value : bad) {
        for (const std::size_t block : {std::size_t{8}, std::size_t{32}, std::size_t{128}}) {
            auto x = reference::gaussians(3 * block, 9);
            x[block + block / 2] = value;
            hlwq::rotated_input in(x.size(), hlwq::precision::precise, format_of(block));
            hlwq::rotate_input<S>(std::span<const float>(x), in);
            const auto token = std::as_const(in).token(0);
            CHECK(std::isfinite(token.scales[0]));
            CHECK(std::isnan(token.scales[1]));
            CHECK(std::isnan(token.sums[1]));
            CHECK(std::isnan(token.low_sums[1]));
            CHECK(std::isfinite(token.scales[2]));
            for (std::size_t i = block; i < 2 * block; ++i) REQUIRE(!std::isfinite(token.values[i]));
        }
    }
}

TEST_CASE("many tokens are each what they are alone, however the work is divided, and copied they stay so") {
    constexpr std::size_t cols = 1000, stride = 1003, tokens = 21;
    const auto x = reference::gaussians(tokens * stride, 5);
    const hlwq::matrix_view<const float> all(x.data(), tokens, cols, stride);
    hlwq::rotated_input together(cols, hlwq::precision::precise, format_of(128), tokens);
    hlwq::rotated_input divided(cols, hlwq::precision::precise, format_of(128), tokens);
    hlwq::rotated_input copied(cols, hlwq::precision::precise, format_of(128), tokens);
    hlwq::rotated_input alone(cols, hlwq::precision::precise, format_of(128));
    hlwq::rotate_input(all, together);
    hlwq::rotate_input(all, divided, backward_executor{3});
    for (std::size_t t = 0; t < tokens; ++t) hlwq::copy_token(together, t, copied, tokens - 1 - t);
    for (std::size_t t = 0; t < tokens; ++t) {
        hlwq::rotate_input(all.row(t), alone);
        const auto expected = alone.token(0);
        for (const auto& token : {together.token(t), divided.token(t), copied.token(tokens - 1 - t)}) {
            CHECK(std::memcmp(token.values, expected.values, alone.padded_cols() * sizeof(float)) == 0);
            CHECK(std::memcmp(token.bytes, expected.bytes, alone.padded_cols()) == 0);
            CHECK(std::memcmp(token.scales, expected.scales, alone.blocks() * sizeof(float)) == 0);
            CHECK(std::memcmp(token.sums, expected.sums, alone.blocks() * sizeof(float)) == 0);
            CHECK(std::memcmp(token.low_bytes, expected.low_bytes, alone.padded_cols()) == 0);
            CHECK(std::memcmp(token.low_sums, expected.low_sums, alone.blocks() * sizeof(float)) == 0);
        }
    }
    hlwq::rotated_input fast(cols, hlwq::precision::fast, format_of(128), tokens);
    CHECK_THROWS_WITH_AS(hlwq::copy_token(together, 0, fast, 0), "copy_token: precision: expected fast, found precise",
                         hlwq::shape_error);
    CHECK_THROWS_WITH_AS(hlwq::copy_token(together, tokens, divided, 0),
                         "copy_token: token to copy: expected below 21, found 21", hlwq::shape_error);
    CHECK_THROWS_AS(hlwq::copy_token(together, 0, divided, tokens), hlwq::shape_error);
    hlwq::rotated_input narrow(999, hlwq::precision::precise);
    CHECK_THROWS_AS(hlwq::copy_token(alone, 0, narrow, 0), hlwq::shape_error);
}

TEST_CASE("scales and sums are zeros up to a multiple of 16, also after use") {
    hlwq::rotated_input in(5 * 128, hlwq::precision::precise);
    const auto x = reference::gaussians(in.cols(), 2);
    hlwq::rotate_input(std::span<const float>(x), in);
    for (std::size_t b = in.blocks(); b < 16; ++b) {
        CHECK(in.token(0).scales[b] == 0.0f);
        CHECK(in.token(0).sums[b] == 0.0f);
        CHECK(in.token(0).low_sums[b] == 0.0f);
    }
}

TEST_CASE("memory is taken for the largest number of tokens and kept") {
    hlwq::rotated_input in(300, hlwq::precision::fast, {}, 4);
    const float* const first = in.token(0).values;
    CHECK(reinterpret_cast<std::uintptr_t>(first) % 64 == 0);
    in.resize(1);
    CHECK(in.tokens() == 1);
    in.resize(4);
    CHECK(in.token(0).values == first);
    in.resize(5);
    CHECK(in.tokens() == 5);

    const float* const moved = in.token(4).values;
    hlwq::rotated_input taken = std::move(in);
    CHECK(taken.tokens() == 5);
    CHECK(taken.token(4).values == moved);
    hlwq::rotated_input other;
    CHECK(other.tokens() == 0);
    other = std::move(taken);
    CHECK(other.token(4).values == moved);
    CHECK(other.cols() == 300);
    CHECK(other.mode() == hlwq::precision::fast);
}

TEST_CASE("no columns and no tokens are inputs like others") {
    hlwq::rotated_input nothing(0, hlwq::precision::fast);
    CHECK(nothing.blocks() == 0);
    hlwq::rotate_input(std::span<const float>(), nothing);
    hlwq::rotated_input none(128, hlwq::precision::fast, {}, 0);
    CHECK(none.tokens() == 0);
    hlwq::rotate_input(hlwq::matrix_view<const float>(nullptr, 0, 128), none);
}

TEST_CASE("what disagrees is refused") {
    const std::vector<float> x(300);
    hlwq::rotated_input in(299, hlwq::precision::exact);
    CHECK_THROWS_WITH_AS(hlwq::rotate_input(std::span<const float>(x), in),
                         "rotate_input: columns: expected 299, found 300", hlwq::shape_error);
    in = hlwq::rotated_input(300, hlwq::precision::exact, {}, 2);
    CHECK_THROWS_WITH_AS(hlwq::rotate_input(std::span<const float>(x), in), "rotate_input: tokens: expected 2, found 1",
                         hlwq::shape_error);
    for (const std::size_t block : {std::size_t{0}, std::size_t{4}, std::size_t{100}, std::size_t{8192}}) {
        CHECK_THROWS_AS(hlwq::rotated_input(300, hlwq::precision::exact, format_of(block)), hlwq::unsupported_error);
    }
    constexpr std::size_t huge = std::numeric_limits<std::size_t>::max();
    CHECK_THROWS_AS(hlwq::rotated_input(huge, hlwq::precision::fast), hlwq::shape_error);
    CHECK_THROWS_AS(hlwq::rotated_input(300, hlwq::precision::fast, {}, huge / 300), hlwq::shape_error);
}
