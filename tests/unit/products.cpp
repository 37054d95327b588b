#include "hlwq/products.hpp"

#include "backends.hpp"
#include "hlwq/thread_pool.hpp"
#include "matrices.hpp"
#include "reference.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <cstddef>
#include <deque>
#include <span>
#include <vector>

namespace {

using hlwq::layout_id;
using hlwq::precision;

/// Several matrices and inputs, with the results of each product alone.
template <class S>
struct problem {
    std::deque<matrix> weights;
    std::deque<hlwq::rotated_input> inputs;
    std::deque<std::vector<float>> results, alone;
    std::vector<hlwq::product> list;

    void add(std::size_t rows, std::size_t cols, std::size_t tokens, const hlwq::block_format& format, precision mode) {
        const std::size_t seed = list.size();
        weights.emplace_back(rows, cols, format, seed);
        const std::vector<float> x = reference::gaussians(tokens * cols, seed);
        inputs.emplace_back(cols, precision::precise, format, tokens);
        hlwq::rotate_input<S>(hlwq::matrix_view<const float>(x.data(), tokens, cols), inputs.back());
        results.emplace_back(tokens * rows, -1.0f);
        alone.emplace_back(tokens * rows, -2.0f);
        const auto view = [&](std::vector<float>& y) { return hlwq::matrix_view<float>(y.data(), tokens, rows); };
        list.push_back({weights.back().view(), inputs.back(), view(results.back()), mode});
        hlwq::matmul<S>(weights.back().view(), inputs.back(), view(alone.back()), mode);
    }
};

constexpr precision modes[] = {precision::exact, precision::fast, precision::precise};

}  // namespace

TEST_CASE_TEMPLATE("products in one region are those of each alone", S, HLWQ_TEST_BACKENDS) {
    for (const unsigned workers : {1u, 2u, 3u}) {
        hlwq::thread_pool pool(workers);
        for (const precision mode : modes) {
            problem<S> p;
            // More than fit into one region, of very different sizes, widths and numbers of tokens.
            for (std::size_t i = 0; i < hlwq::products_once + 5; ++i) {
                const std::size_t rows = i == 3 ? 700 : 1 + i * 7 % 90, cols = i % 2 == 0 ? 256 : 384;
                p.add(rows, cols, i == 5 ? 20 : i % 4, {2 + static_cast<int>(i % 7), layout_id::wire, 128, {}}, mode);
            }
            hlwq::matmul<S>(p.list, pool);
            CHECK(p.results == p.alone);
        }
    }
}

TEST_CASE_TEMPLATE("products side by side: every row of all is there when the workers finish it", S,
                   HLWQ_TEST_BACKENDS) {
    constexpr std::size_t rows = 333;
    for (const unsigned workers : {1u, 2u, 3u}) {
        hlwq::thread_pool pool(workers);
        for (const precision mode : modes) {
            problem<S> p;
            for (std::size_t i = 0; i < 7; ++i) {
                p.add(rows, 128 * (1 + i % 3), i == 6 ? 11 : 1 + i % 2, {5, layout_id::wire, 128, {}}, mode);
            }
            std::vector<float> sums(rows, 0.0f), expected(rows, 0.0f);
            const auto sum = [&](const std::deque<std::vector<float>>& parts, std::size_t row) {
                float total = 0.0f;
                for (const std::vector<float>& part : parts) total += part[row];
                return total;
            };
            const auto finish = [&](std::size_t begin, std::size_t end) noexcept {
                for (std::size_t row = begin; row < end; ++row) sums[row] += sum(p.results, row);
            };
            hlwq::matmul<S>(p.list, pool, finish);
            for (std::size_t row = 0; row < rows; ++row) expected[row] = sum(p.alone, row);
            CHECK(p.results == p.alone);
            CHECK(sums == expected);
        }
    }
}

TEST_CASE("products side by side are of equal height and not too many") {
    using S = hlwq::simd::native;
    problem<S> p;
    const hlwq::block_format format;
    p.add(4, 128, 1, format, precision::fast);
    const auto nothing = [](std::size_t, std::size_t) noexcept {};
    hlwq::serial_executor serial;
    hlwq::matmul<S>(std::span<const hlwq::product>(), serial, nothing);
    const std::vector<hlwq::product> many(hlwq::products_once + 1, p.list[0]);
    CHECK_THROWS_AS(hlwq::matmul<S>(many, serial, nothing), hlwq::shape_error);
    p.add(8, 128, 1, format, precision::fast);
    CHECK_THROWS_AS(hlwq::matmul<S>(p.list, serial, nothing), hlwq::shape_error);
}
