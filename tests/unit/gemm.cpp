#include "hlwq/gemm.hpp"

#include "backends.hpp"
#include "guard_page.hpp"
#include "hlwq/thread_pool.hpp"
#include "matrices.hpp"
#include "reference.hpp"

#include <doctest/doctest.h>

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <span>
#include <string>
#include <vector>

namespace {

using hlwq::layout_id;
using hlwq::precision;

/// The same codes in two layouts.
struct twins {
    matrix wire, planes;
    twins(std::size_t rows, std::size_t cols, int bits, std::size_t block)
        : wire(rows, cols, format_of(bits, layout_id::wire, block), 3),
          planes(rows, cols, format_of(bits, layout_id::planes, block), 3) {}
};

/// Tokens, rotated in every precision, and room for their products.
template <class S>
struct problem {
    matrix w;
    std::size_t rows, tokens;
    std::vector<float> x;
    hlwq::rotated_input in;

    problem(std::size_t row_count, std::size_t cols, std::size_t token_count, const hlwq::block_format& format)
        : w(row_count, cols, format, row_count + token_count),
          rows(row_count),
          tokens(token_count),
          x(reference::gaussians(tokens * cols, 7)),
          in(cols, precision::precise, format, tokens) {
        hlwq::rotate_input<S>(hlwq::matrix_view<const float>(x.data(), tokens, cols), in);
    }
    template <class Product>
    std::vector<float> result(Product product) const {
        std::vector<float> y(tokens * rows, -1.0f);
        product(hlwq::matrix_view<float>(y.data(), tokens, rows));
        return y;
    }
    std::vector<float> gemv(precision mode) const {
        return result([&](auto y) { hlwq::gemv<S>(w.view(), in, y, mode); });
    }
    std::vector<float> gemm(precision mode) const {
        return result([&](auto y) { hlwq::gemm<S>(w.view(), in, y, mode); });
    }

    /// How far two products in float of the same integers may lie apart: the roundings of a sum over all blocks on both
    /// sides, relative to the magnitudes that they may have met, the bias of the weights included.
    std::vector<double> tolerances() const {
        const std::size_t block = in.block(), blocks = in.blocks();
        const auto step = static_cast<double>(hlwq::make_byte_centroids(w.view().centroids).step);
        std::vector<double> all(tokens * rows);
        for (std::size_t t = 0; t < tokens; ++t) {
            const auto token = in.token(t);
            std::vector<double> sizes(blocks);
            for (std::size_t b = 0; b < blocks; ++b) {
                for (std::size_t i = 0; i < block; ++i) sizes[b] += 259 * std::abs(int{token.bytes[b * block + i]}) + 2;
                sizes[b] *= static_cast<double>(token.scales[b]) * step;
            }
            for (std::size_t r = 0; r < rows; ++r) {
                double& sum = all[t * rows + r];
                for (std::size_t b = 0; b < blocks; ++b) {
                    sum += sizes[b] * static_cast<double>(static_cast<float>(w.view().norms[r * blocks + b]));
                }
                sum *= 2 * static_cast<double>(blocks + 13) * 0x1p-24;
            }
        }
        return all;
    }
    void check_against_gemv(precision mode) const {
        const auto expected = gemv(mode), found = gemm(mode);
        const auto tolerance = tolerances();
        for (std::size_t i = 0; i < found.size(); ++i) {
            CAPTURE(i);
            REQUIRE(std::fabs(static_cast<double>(found[i]) - static_cast<double>(expected[i])) <= tolerance[i]);
        }
    }
};

}  // namespace

TEST_CASE_TEMPLATE("planes give the products of the wire, bit for bit, whatever the number of tokens", S,
                   HLWQ_TEST_BACKENDS) {
    // Rows that are no whole group; the last block is partly padding.
    constexpr std::size_t rows = 7;
    for (int bits = 1; bits <= 8; ++bits) {
        for (const std::size_t block : {std::size_t{128}, std::size_t{256}}) {
            const std::size_t cols = 3 * block - 5;
            const twins w(rows, cols, bits, block);
            for (const std::size_t tokens : {1u, 2u, 3u, 4u, 5u, 6u, 7u, 8u, 17u}) {
                const auto x = reference::gaussians(tokens * cols, static_cast<std::size_t>(bits) + tokens);
                hlwq::rotated_input in(cols, precision::precise, w.wire.view().format, tokens);
                hlwq::rotate_input<S>(hlwq::matrix_view<const float>(x.data(), tokens, cols), in);
                for (const precision mode : {precision::exact, precision::fast, precision::precise}) {
                    CAPTURE(bits);
                    CAPTURE(block);
                    CAPTURE(tokens);
                    CAPTURE(hlwq::to_string(mode));
                    std::vector<float> expected(tokens * rows), found(tokens * rows, -1.0f);
                    const hlwq::matrix_view<float> y(expected.data(), tokens, rows), z(found.data(), tokens, rows);
                    hlwq::gemv<S>(w.wire.view(), in, y, mode);
                    hlwq::gemv<S>(w.planes.view(), in, z, mode);
                    REQUIRE(same_bits(found, expected));
                    hlwq::gemm<S>(w.wire.view(), in, y, mode);
                    hlwq::gemm<S>(w.planes.view(), in, z, mode);
                    REQUIRE(same_bits(found, expected));
                }
            }
        }
    }
}

TEST_CASE_TEMPLATE("every width, layout and block: the integers of gemv", S, HLWQ_TEST_BACKENDS) {
    for (const std::size_t block : {8u, 32u, 64u, 128u, 256u, 512u, 1024u}) {
        for (int bits = 1; bits <= 8; ++bits) {
            for (const layout_id layout : {layout_id::wire, layout_id::lsb, layout_id::bytes, layout_id::planes}) {
                if (layout == layout_id::planes && block % 128 != 0) continue;
                CAPTURE(block);
                CAPTURE(bits);
                CAPTURE(hlwq::layout_name(layout));
                const problem<S> p(5, 2 * block + 40, 3, format_of(bits, layout, block));
                p.check_against_gemv(precision::fast);
                p.check_against_gemv(precision::precise);
                CHECK(same_bits(p.gemm(precision::exact), p.gemv(precision::exact)));
            }
        }
    }
}

TEST_CASE_TEMPLATE("every number of rows and tokens around a tile, a chunk and a panel", S, HLWQ_TEST_BACKENDS) {
    constexpr std::size_t tile = 2 * S::lanes;
    const auto format = format_of(5, layout_id::wire, 128);
    for (const std::size_t rows : {std::size_t{1}, tile - 1, tile, tile + 1, 3 * tile + 5}) {
        for (const std::size_t tokens : {1u, 2u, 4u, 5u, 6u, 7u, 11u, 12u, 13u, 25u}) {
            CAPTURE(rows);
            CAPTURE(tokens);
            const problem<S> p(rows, 700, tokens, format);
            p.check_against_gemv(precision::fast);
            p.check_against_gemv(precision::precise);
        }
    }
    for (const std::size_t tokens : {255u, 256u, 257u, 600u}) {
        CAPTURE(tokens);
        problem<S>(3, 128, tokens, format).check_against_gemv(precision::fast);
    }
    for (const std::size_t blocks : {3u, 4u, 15u, 16u, 17u, 37u}) {
        CAPTURE(blocks);
        problem<S>(9, blocks * 128, 5, format).check_against_gemv(precision::precise);
    }
}

TEST_CASE_TEMPLATE("a token's result has nothing to do with its company", S, HLWQ_TEST_BACKENDS) {
    constexpr std::size_t rows = 40, cols = 900, tokens = 270;
    const auto format = format_of(4, layout_id::wire, 128);
    const problem<S> all(rows, cols, tokens, format);
    for (const precision mode : {precision::fast, precision::precise}) {
        const auto together = all.gemm(mode);
        for (const std::size_t count : {1u, 7u, 20u}) {
            hlwq::rotated_input some(cols, precision::precise, format, count);
            for (std::size_t t = 0; t < count; ++t) hlwq::copy_token(all.in, tokens - 1 - t, some, t);
            std::vector<float> y(count * rows);
            hlwq::gemm<S>(all.w.view(), some, hlwq::matrix_view<float>(y.data(), count, rows), mode);
            for (std::size_t t = 0; t < count; ++t) {
                const auto expected = std::span(together).subspan((tokens - 1 - t) * rows, rows);
                CHECK(same_bits(std::span(y).subspan(t * rows, rows), expected));
            }
        }
    }
}

TEST_CASE("the result does not depend on the number of workers") {
    const problem<hlwq::simd::native> p(131, 700, 30, format_of(5, layout_id::wire, 128));
    for (const precision mode : {precision::exact, precision::fast, precision::precise}) {
        const auto alone = p.gemm(mode);
        for (const unsigned workers : {2u, 3u, 7u}) {
            hlwq::thread_pool pool(workers);
            CHECK(same_bits(p.result([&](auto y) { hlwq::gemm(p.w.view(), p.in, y, mode, pool); }), alone));
            CHECK(same_bits(p.result([&](auto y) { hlwq::gemm(p.w.view(), p.in, y, mode, hlwq::executor_ref(pool)); }),
                            alone));
        }
    }
}

TEST_CASE_TEMPLATE("matmul is gemv for few tokens, gemm for many", S, HLWQ_TEST_BACKENDS) {
    for (const std::size_t tokens : {0u, 1u, 8u, 9u, 40u}) {
        const problem<S> p(21, 640, tokens, format_of(5, layout_id::wire, 128));
        for (const precision mode : {precision::exact, precision::fast, precision::precise}) {
            const auto found = p.result([&](auto y) { hlwq::matmul<S>(p.w.view(), p.in, y, mode); });
            CHECK(same_bits(found, tokens <= 8 ? p.gemv(mode) : p.gemm(mode)));
        }
        const auto own = p.result([&](auto y) { hlwq::matmul<S>(p.w.view(), p.in, y); });
        CHECK(same_bits(own, tokens <= 8 ? p.gemv(precision::precise) : p.gemm(precision::precise)));
    }
}

TEST_CASE_TEMPLATE("codes and norms that end where the page ends; rows of a wider output", S, HLWQ_TEST_BACKENDS) {
    for (int bits = 1; bits <= 8; ++bits) {
        for (const std::size_t rows : {1u, 16u, 37u}) {
            constexpr std::size_t tokens = 10, cols = 384, stride = 50;
            const problem<S> p(rows, cols, tokens, format_of(bits, layout_id::wire, 128));
            const auto inside = p.w.view();
            const guard_page codes(inside.codes.size()), norms(inside.norms.size_bytes());
            auto tight = inside;
            void* const code_bytes = codes.end() - inside.codes.size();
            void* const norm_bytes = norms.end() - inside.norms.size_bytes();
            std::memcpy(code_bytes, inside.codes.data(), inside.codes.size());
            std::memcpy(norm_bytes, inside.norms.data(), inside.norms.size_bytes());
            tight.codes = {static_cast<const std::byte*>(code_bytes), inside.codes.size()};
            tight.norms = {static_cast<const hlwq::half*>(norm_bytes), inside.norms.size()};
            for (const precision mode : {precision::fast, precision::precise}) {
                const auto expected = p.gemm(mode);
                std::vector<float> y(tokens * stride, 99.0f);
                hlwq::gemm<S>(tight, p.in, hlwq::matrix_view<float>(y.data(), tokens, rows, stride), mode);
                for (std::size_t t = 0; t < tokens; ++t) {
                    REQUIRE(
                        same_bits(std::span(y).subspan(t * stride, rows), std::span(expected).subspan(t * rows, rows)));
                    for (std::size_t i = rows; i < stride; ++i) REQUIRE(y[t * stride + i] == 99.0f);
                }
            }
        }
    }
}

TEST_CASE_TEMPLATE("a NaN in the input reaches the outputs of its token, in a norm those of its row", S,
                   HLWQ_TEST_BACKENDS) {
    constexpr std::size_t rows = 35, cols = 512, tokens = 14;
    for (const precision mode : {precision::fast, precision::precise}) {
        problem<S> p(rows, cols, tokens, format_of(4, layout_id::wire, 128));
        p.w.packed.target().norms[17 * 4 + 1] = hlwq::half(std::numeric_limits<float>::quiet_NaN());
        p.x[6 * cols + 300] = std::numeric_limits<float>::infinity();
        hlwq::rotate_input<S>(hlwq::matrix_view<const float>(p.x.data(), tokens, cols), p.in);
        const auto y = p.gemm(mode);
        for (std::size_t t = 0; t < tokens; ++t) {
            for (std::size_t row = 0; row < rows; ++row) {
                REQUIRE(std::isnan(y[t * rows + row]) == (row == 17 || t == 6));
            }
        }
    }
}

TEST_CASE("no rows, no columns, no tokens") {
    using native = hlwq::simd::native;
    const auto format = format_of(5, layout_id::wire, 128);
    CHECK(problem<native>(0, 128, 10, format).gemm(precision::fast).empty());
    CHECK(problem<native>(40, 128, 0, format).gemm(precision::fast).empty());
    CHECK(problem<native>(40, 0, 10, format).gemm(precision::precise) == std::vector<float>(400, 0.0f));
}

TEST_CASE("what disagrees is refused, and nothing is written") {
    const auto format = format_of(5, layout_id::wire, 128);
    const problem<hlwq::simd::native> p(6, 256, 10, format);
    std::vector<float> y(60, 7.0f);
    const hlwq::matrix_view<float> out(y.data(), 10, 6);
    CHECK_THROWS_WITH_AS(hlwq::gemm(p.w.view(), p.in, hlwq::matrix_view<float>(y.data(), 10, 5), precision::fast),
                         "gemm output: columns: expected 6, found 5", hlwq::shape_error);
    CHECK_THROWS_WITH_AS(hlwq::gemm(p.w.view(), p.in, hlwq::matrix_view<float>(y.data(), 9, 6), precision::fast),
                         "gemm output: tokens: expected 10, found 9", hlwq::shape_error);
    CHECK_THROWS_WITH_AS(
        hlwq::gemm(p.w.view(), hlwq::rotated_input(256, precision::fast, format, 10), out, precision::precise),
        "gemm input: precision: expected precise, found fast", hlwq::shape_error);
    CHECK_THROWS_WITH_AS(
        hlwq::matmul(p.w.view(), hlwq::rotated_input(255, precision::fast, format, 10), out, precision::fast),
        "matmul input: columns: expected 256, found 255", hlwq::shape_error);
    auto bad = p.w.view();
    bad.format.bits = 9;
    CHECK_THROWS_AS(hlwq::gemm(bad, p.in, out, precision::fast), hlwq::unsupported_error);
    CHECK(y == std::vector<float>(60, 7.0f));
}
