#include "hlwq/gemv.hpp"

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
#include <map>
#include <span>
#include <string>
#include <vector>

namespace {

using hlwq::layout_id;
using hlwq::precision;

constexpr layout_id all_layouts[] = {layout_id::wire, layout_id::lsb, layout_id::half_block, layout_id::bytes,
                                     layout_id::planes};

/// Calls f for every format with that block that exists.
template <class F>
void each_format(std::size_t block, F f) {
    for (int bits = 1; bits <= 8; ++bits) {
        for (const layout_id layout : all_layouts) {
            if (layout == layout_id::half_block && bits > 4) continue;
            if (layout == layout_id::planes && block % 128 != 0) continue;
            const auto format = format_of(bits, layout, block);
            CAPTURE(bits);
            CAPTURE(hlwq::layout_name(layout));
            CAPTURE(block);
            f(format);
        }
    }
}

/// Blocks of x, padded, times the dense H / block, in double.
std::vector<double> rotated(std::span<const float> x, std::size_t block) {
    std::vector<double> all;
    for (std::size_t first = 0; first < x.size(); first += block) {
        std::vector<double> part(block, 0.0);
        for (std::size_t i = 0; i < block && first + i < x.size(); ++i) part[i] = static_cast<double>(x[first + i]);
        for (const double v : reference::rotate(part)) all.push_back(v / std::sqrt(static_cast<double>(block)));
    }
    return all;
}

/// The product of a row with rotated values in double, and how far a product in float may be from it.
struct exact_product {
    double value = 0.0;
    double tolerance = 0.0;

    exact_product(const matrix& w, std::size_t row, std::span<const float> x, std::span<const double> values) {
        const auto view = w.view();
        const std::size_t block = view.format.block, blocks = view.format.blocks_per_row(view.cols);
        // A product of centroid and value meets its own rounding, at most block/4 additions, those of the reduction,
        // and two for each block. The value itself went through log2(block) stages, each of which rounded a sum of at
        // most all magnitudes of the block of x.
        const double roundings = static_cast<double>(block) / 4 + 2 * static_cast<double>(blocks) + 8;
        for (std::size_t b = 0; b < blocks; ++b) {
            const auto norm = static_cast<double>(static_cast<float>(view.norms[row * blocks + b]));
            double magnitudes = 0.0;
            for (std::size_t i = b * block; i < std::min((b + 1) * block, x.size()); ++i) {
                magnitudes += std::fabs(static_cast<double>(x[i]));
            }
            const double drift = std::log2(static_cast<double>(block)) * magnitudes / static_cast<double>(block);
            for (std::size_t i = 0; i < block; ++i) {
                const std::uint8_t code = w.codes[(row * blocks + b) * block + i];
                const auto centroid = static_cast<double>(view.centroids[code]);
                value += norm * centroid * values[b * block + i];
                tolerance += norm * std::fabs(centroid) * (roundings * std::fabs(values[b * block + i]) + drift);
            }
        }
        tolerance *= 0x1p-24;
    }
};

template <class S>
std::vector<float> product(const hlwq::packed_matrix_view& w, std::span<const float> x, precision mode) {
    hlwq::rotated_input in(w.cols, mode, w.format);
    hlwq::rotate_input<S>(x, in);
    std::vector<float> y(w.rows, -1.0f);
    hlwq::gemv<S>(w, in, std::span<float>(y));
    return y;
}

/// The products of two equal tokens, which take the way of several.
template <class S>
std::vector<float> twice(const hlwq::packed_matrix_view& w, std::span<const float> x, precision mode) {
    hlwq::rotated_input in(w.cols, mode, w.format, 2);
    hlwq::rotate_input<S>(hlwq::matrix_view<const float>(x.data(), 2, x.size(), 0), in);
    std::vector<float> y(2 * w.rows, -1.0f);
    hlwq::gemv<S>(w, in, hlwq::matrix_view<float>(y.data(), 2, w.rows));
    return y;
}

}  // namespace

TEST_CASE_TEMPLATE("exact: every width, layout and block against double", S, HLWQ_TEST_BACKENDS) {
    for (const std::size_t block : {8u, 16u, 32u, 64u, 128u, 256u, 512u, 1024u, 4096u}) {
        // A last block that is partly padding; six rows are one group and a half.
        const std::size_t rows = 6, cols = (block <= 64 ? 5 : 2) * block - 3;
        const auto x = reference::gaussians(cols, block);
        static std::map<std::size_t, std::vector<double>> known;  // the dense rotation, once for all backends
        auto& values = known[block];
        if (values.empty()) values = rotated(x, block);
        each_format(block, [&](const hlwq::block_format& format) {
            const matrix w(rows, cols, format, block);
            const auto y = product<S>(w.view(), x, precision::exact);
            for (std::size_t row = 0; row < rows; ++row) {
                const exact_product expected(w, row, x, values);
                REQUIRE(std::fabs(static_cast<double>(y[row]) - expected.value) <= expected.tolerance);
            }
        });
    }
}

TEST_CASE_TEMPLATE("the product with dequantized weights, with and without signs", S, HLWQ_TEST_BACKENDS) {
    for (const bool with_signs : {false, true}) {
        for (const std::size_t block : {std::size_t{32}, std::size_t{128}}) {
            const hlwq::rotation_signs signs{with_signs, 77};
            const std::size_t rows = 5, cols = 3 * block - 9;
            const auto format = format_of(5, layout_id::wire, block, signs);
            const matrix w(rows, cols, format);
            const auto x = reference::gaussians(cols, 8);
            const auto y = product<S>(w.view(), x, precision::exact);
            for (std::size_t row = 0; row < rows; ++row) {
                double exact = 0.0, magnitudes = 0.0;
                for (std::size_t b = 0; b < 3; ++b) {
                    std::vector<double> c(block);
                    for (std::size_t i = 0; i < block; ++i) {
                        c[i] = static_cast<double>(w.view().centroids[w.codes[(row * 3 + b) * block + i]]);
                    }
                    const auto norm = static_cast<double>(static_cast<float>(w.view().norms[row * 3 + b]));
                    const auto turned = reference::rotate(c);
                    for (std::size_t i = 0; i < block && b * block + i < cols; ++i) {
                        const double weight = norm / std::sqrt(static_cast<double>(block)) * turned[i] *
                                              static_cast<double>(hlwq::sign_of(signs, b * block + i));
                        exact += weight * static_cast<double>(x[b * block + i]);
                        magnitudes += std::fabs(weight * static_cast<double>(x[b * block + i]));
                    }
                }
                CHECK(std::fabs(static_cast<double>(y[row]) - exact) <= 20 * 0x1p-23 * magnitudes);
            }
        }
    }
}

TEST_CASE_TEMPLATE("fast and precise: integers and scales, every width, layout and block", S, HLWQ_TEST_BACKENDS) {
    for (const std::size_t block : {8u, 32u, 64u, 128u, 256u, 1024u, 4096u}) {
        const std::size_t rows = 6, cols = (block <= 64 ? 37 : 2) * block - 3;
        const auto x = reference::gaussians(cols, block);
        each_format(block, [&](const hlwq::block_format& format) {
            const matrix w(rows, cols, format, block);
            hlwq::rotated_input in(cols, precision::precise, format);
            hlwq::rotate_input<S>(std::span<const float>(x), in);
            std::vector<float> fast(rows), precise(rows);
            hlwq::gemv<S>(w.view(), in, hlwq::matrix_view<float>(fast.data(), 1, rows), precision::fast);
            hlwq::gemv<S>(w.view(), in, std::span<float>(precise));
            const auto token = std::as_const(in).token(0);
            const auto centroids = hlwq::make_byte_centroids(w.view().centroids);
            const std::size_t blocks = in.blocks();
            for (std::size_t row = 0; row < rows; ++row) {
                double exact = 0.0, exact_low = 0.0, magnitudes = 0.0;
                for (std::size_t b = 0; b < blocks; ++b) {
                    std::int64_t dot = 0, low = 0, sizes = 0, sum = 0, low_sum = 0;
                    for (std::size_t i = 0; i < block; ++i) {
                        const std::uint8_t code = w.codes[(row * blocks + b) * block + i];
                        const std::int8_t byte = token.bytes[b * block + i], low_byte = token.low_bytes[b * block + i];
                        dot += centroids.weight[code] * byte;
                        low += centroids.weight[code] * low_byte + centroids.low[code] * byte;
                        sum += byte;
                        low_sum += low_byte;
                        // Weight, bias of the dot product and offset; of low bytes 2/254 in two products.
                        sizes += 259 * std::abs(int{byte}) + 2;
                    }
                    const double factor = static_cast<double>(static_cast<float>(w.view().norms[row * blocks + b])) *
                                          static_cast<double>(token.scales[b]) * static_cast<double>(centroids.step);
                    const auto offset = static_cast<double>(centroids.offset);
                    exact += factor * (static_cast<double>(dot) + offset * static_cast<double>(sum));
                    exact_low += factor * (static_cast<double>(low) + offset * static_cast<double>(low_sum)) / 254.0;
                    magnitudes += factor * static_cast<double>(sizes);
                }
                // Five roundings a block, those of a sum over all blocks, and of the reduction.
                const double tolerance = static_cast<double>(blocks + 13) * 0x1p-24 * magnitudes;
                REQUIRE(std::fabs(static_cast<double>(fast[row]) - exact) <= tolerance);
                REQUIRE(std::fabs(static_cast<double>(precise[row]) - exact - exact_low) <= tolerance);
            }
        });
    }
}

TEST_CASE_TEMPLATE("fast and precise: the error is the expected one", S, HLWQ_TEST_BACKENDS) {
    constexpr std::size_t rows = 200, cols = 1024;
    const auto x = reference::gaussians(cols, 3);
    double length = 0.0;
    for (const float v : x) length += static_cast<double>(v) * static_cast<double>(v);
    for (int bits = 2; bits <= 8; ++bits) {
        CAPTURE(bits);
        // Codes of Gaussian values, so that all centroids are met as often as in weights.
        matrix w(rows, cols, format_of(bits, layout_id::wire, 128));
        const auto z = reference::gaussians(w.codes.size(), 4);
        for (std::size_t i = 0; i < z.size(); ++i) {
            w.codes[i] = reference::nearest(static_cast<double>(z[i]), w.view().centroids);
        }
        hlwq::with_format(w.view().format,
                          [&]<class Layout>() { hlwq::pack<Layout>(w.codes, w.packed.target().codes, 128); });
        for (auto& n : w.packed.target().norms) n = hlwq::half(std::sqrt(128.0f));
        const auto exact = product<S>(w.view(), x, precision::exact);
        const auto error = [&](precision mode) {
            const auto found = product<S>(w.view(), x, mode);
            double sum = 0.0;
            for (std::size_t row = 0; row < rows; ++row) {
                const double difference = static_cast<double>(exact[row]) - static_cast<double>(found[row]);
                sum += difference * difference;
            }
            // Rows of unit variance: a product has the variance of x times its length.
            return std::sqrt(sum / (static_cast<double>(rows) * length));
        };
        // Of the inputs, and of the centroids' grid (block_dot.hpp): 0.0036, 0.0047, 0.0083, 0.012 at 4, 5, 7, 8 bits.
        const double fast = error(precision::fast);
        CHECK(fast < (bits <= 5 ? 0.009 : bits <= 7 ? 0.011 : 0.013));
        CHECK(fast > 0.005);  // int8 inputs cannot be better
        // Of the low bytes on both sides, each rounded, and of their product, which is left out.
        const double precise = error(precision::precise);
        CHECK(precise < (bits <= 5 ? 5e-5 : bits <= 7 ? 7e-5 : 9e-5));
        CHECK(precise > 2e-5);  // nor two bytes of inputs
    }
}

TEST_CASE("the result does not depend on the number of workers") {
    for (const std::size_t rows : {1u, 4u, 37u, 250u}) {
        for (const precision mode : {precision::exact, precision::fast, precision::precise}) {
            for (const layout_id layout : {layout_id::wire, layout_id::planes}) {
                const std::size_t cols = 700;
                const matrix w(rows, cols, format_of(5, layout, 128));
                const auto x = reference::gaussians(cols, 2);
                const auto alone = product<hlwq::simd::native>(w.view(), x, mode);
                hlwq::rotated_input in(cols, mode, w.view().format);
                for (const unsigned workers : {1u, 2u, 3u, 7u}) {
                    CAPTURE(rows);
                    CAPTURE(workers);
                    hlwq::thread_pool pool(workers);
                    hlwq::rotate_input(std::span<const float>(x), in, pool);
                    std::vector<float> y(rows);
                    hlwq::gemv(w.view(), in, std::span<float>(y), pool);
                    CHECK(same_bits(y, alone));
                    std::vector<float> through_ref(rows);
                    hlwq::gemv(w.view(), in, std::span<float>(through_ref), hlwq::executor_ref(pool));
                    CHECK(same_bits(through_ref, alone));
                }
            }
        }
    }
}

TEST_CASE_TEMPLATE("several tokens are several products, bit for bit", S, HLWQ_TEST_BACKENDS) {
    constexpr std::size_t rows = 11, cols = 300, most = 19, stride = 13;
    const auto x = reference::gaussians(most * cols, 6);
    for (const precision mode : {precision::exact, precision::fast, precision::precise}) {
        for (const std::size_t block : {8u, 64u, 128u, 256u, 4096u}) {
            for (const layout_id layout : {layout_id::wire, layout_id::lsb}) {
                const matrix w(rows, cols, format_of(block == 64 ? 3 : 5, layout, block));
                hlwq::rotated_input in(cols, mode, w.view().format, most);
                for (const std::size_t tokens : {2u, 3u, 8u, 9u, 19u}) {
                    in.resize(tokens);
                    const hlwq::matrix_view<const float> all(x.data(), tokens, cols);
                    hlwq::rotate_input<S>(all, in);
                    std::vector<float> y(tokens * stride, 99.0f);
                    hlwq::gemv<S>(w.view(), in, hlwq::matrix_view<float>(y.data(), tokens, rows, stride));
                    for (std::size_t t = 0; t < tokens; ++t) {
                        const std::span<const float> found(y.data() + t * stride, rows);
                        REQUIRE(same_bits(found, product<S>(w.view(), all.row(t), mode)));
                        for (std::size_t i = rows; i < stride; ++i) REQUIRE(y[t * stride + i] == 99.0f);
                    }
                }
            }
        }
    }
}

TEST_CASE_TEMPLATE("long rows of several tokens", S, HLWQ_TEST_BACKENDS) {
    // More blocks than factors are prepared for at once, and a last panel that is not whole.
    constexpr std::size_t rows = 5, cols = 75 * 128, tokens = 3;
    const auto x = reference::gaussians(tokens * cols, 6);
    const hlwq::matrix_view<const float> all(x.data(), tokens, cols);
    for (int bits = 1; bits <= 8; ++bits) {
        const matrix w(rows, cols, format_of(bits, layout_id::wire, 128));
        for (const precision mode : {precision::exact, precision::fast, precision::precise}) {
            hlwq::rotated_input in(cols, mode, w.view().format, tokens);
            hlwq::rotate_input<S>(all, in);
            std::vector<float> y(tokens * rows);
            hlwq::gemv<S>(w.view(), in, hlwq::matrix_view<float>(y.data(), tokens, rows));
            for (std::size_t t = 0; t < tokens; ++t) {
                REQUIRE(same_bits(std::span(y).subspan(t * rows, rows), product<S>(w.view(), all.row(t), mode)));
            }
        }
    }
}

TEST_CASE_TEMPLATE("an input serves its own precision and those before it", S, HLWQ_TEST_BACKENDS) {
    constexpr std::size_t rows = 9, cols = 500;
    const matrix w(rows, cols, format_of(5, layout_id::wire, 128));
    const auto x = reference::gaussians(cols, 6);
    hlwq::rotated_input in(cols, precision::precise, w.view().format);
    hlwq::rotate_input<S>(std::span<const float>(x), in);
    std::vector<float> y(rows);
    for (const precision mode : {precision::exact, precision::fast, precision::precise}) {
        hlwq::gemv<S>(w.view(), in, hlwq::matrix_view<float>(y.data(), 1, rows), mode);
        CHECK(same_bits(y, product<S>(w.view(), x, mode)));
    }
    const hlwq::rotated_input poor(cols, precision::fast, w.view().format);
    CHECK_THROWS_WITH_AS(hlwq::gemv<S>(w.view(), poor, hlwq::matrix_view<float>(y.data(), 1, rows), precision::precise),
                         "gemv input: precision: expected precise, found fast", hlwq::shape_error);
}

TEST_CASE_TEMPLATE("codes, norms and centroids that end where the page ends", S, HLWQ_TEST_BACKENDS) {
    for (const std::size_t block : {8u, 32u, 64u, 128u, 1024u}) {
        for (const std::size_t rows : {1u, 4u, 23u}) {
            const std::size_t cols = block <= 32 ? block : 3 * block;
            const auto x = reference::gaussians(cols, 1);
            each_format(block, [&](const hlwq::block_format& format) {
                const matrix w(rows, cols, format, rows);
                const auto inside = w.view();
                const guard_page codes(inside.codes.size()), norms(inside.norms.size_bytes()),
                    centroids(inside.centroids.size_bytes());
                auto tight = inside;
                const auto place = [](const guard_page& page, const void* from, std::size_t size) {
                    return std::memcpy(page.end() - size, from, size);
                };
                tight.codes = {static_cast<const std::byte*>(place(codes, inside.codes.data(), inside.codes.size())),
                               inside.codes.size()};
                tight.norms = {
                    static_cast<const hlwq::half*>(place(norms, inside.norms.data(), inside.norms.size_bytes())),
                    inside.norms.size()};
                tight.centroids = {
                    static_cast<const float*>(place(centroids, inside.centroids.data(), inside.centroids.size_bytes())),
                    inside.centroids.size()};
                for (const precision mode : {precision::exact, precision::fast, precision::precise}) {
                    REQUIRE(same_bits(product<S>(tight, x, mode), product<S>(inside, x, mode)));
                    REQUIRE(same_bits(twice<S>(tight, x, mode), twice<S>(inside, x, mode)));
                }
            });
        }
    }
}

TEST_CASE_TEMPLATE("a NaN in the input reaches every output, in a norm its row", S, HLWQ_TEST_BACKENDS) {
    for (const precision mode : {precision::exact, precision::fast, precision::precise}) {
        for (const std::size_t block : {8u, 128u}) {
            matrix w(9, 256, format_of(4, layout_id::wire, block));
            auto x = reference::gaussians(256, 1);
            w.packed.target().norms[3 * (256 / block)] = hlwq::half(std::numeric_limits<float>::quiet_NaN());
            auto y = product<S>(w.view(), x, mode);
            for (std::size_t row = 0; row < 9; ++row) CHECK(std::isnan(y[row]) == (row == 3));
            x[100] = std::numeric_limits<float>::infinity();
            y = product<S>(w.view(), x, mode);
            for (std::size_t row = 0; row < 9; ++row) CHECK(!std::isfinite(y[row]));
        }
    }
}

TEST_CASE("no rows, and no columns") {
    for (const precision mode : {precision::exact, precision::fast, precision::precise}) {
        const matrix none(0, 128, format_of(5, layout_id::wire, 128));
        CHECK(product<hlwq::simd::native>(none.view(), reference::gaussians(128, 1), mode).empty());
        const matrix narrow(6, 0, format_of(5, layout_id::wire, 128));
        CHECK(product<hlwq::simd::native>(narrow.view(), {}, mode) == std::vector<float>(6, 0.0f));
    }
}

TEST_CASE("what disagrees is refused, and nothing is written") {
    const auto format = format_of(5, layout_id::wire, 128);
    const matrix w(6, 256, format);
    hlwq::rotated_input in(256, precision::exact, format);
    hlwq::rotate_input(std::span<const float>(reference::gaussians(256, 1)), in);
    std::vector<float> y(6, 7.0f);
    const std::span<float> out(y);

    CHECK_THROWS_WITH_AS(hlwq::gemv(w.view(), in, out.first(5)), "gemv output: expected 6, found 5", hlwq::shape_error);
    CHECK_THROWS_WITH_AS(hlwq::gemv(w.view(), in, hlwq::matrix_view<float>(y.data(), 1, 5)),
                         "gemv output: columns: expected 6, found 5", hlwq::shape_error);
    CHECK_THROWS_WITH_AS(hlwq::gemv(w.view(), in, hlwq::matrix_view<float>(y.data(), 2, 6, 0)),
                         "gemv output: tokens: expected 1, found 2", hlwq::shape_error);
    CHECK_THROWS_WITH_AS(hlwq::gemv(w.view(), hlwq::rotated_input(255, precision::exact, format), out),
                         "gemv input: columns: expected 256, found 255", hlwq::shape_error);
    const auto other_block = format_of(5, layout_id::wire, 64);
    CHECK_THROWS_WITH_AS(hlwq::gemv(w.view(), hlwq::rotated_input(256, precision::exact, other_block), out),
                         "gemv input: block size: expected 128, found 64", hlwq::shape_error);
    const auto other_signs = format_of(5, layout_id::wire, 128, {true, 3});
    CHECK_THROWS_WITH_AS(hlwq::gemv(w.view(), hlwq::rotated_input(256, precision::exact, other_signs), out),
                         "gemv input: column signs: expected those of the weights, found signs of seed 3",
                         hlwq::shape_error);

    auto bad = w.view();
    bad.codes = bad.codes.first(bad.codes.size() - 1);
    CHECK_THROWS_WITH_AS(hlwq::gemv(bad, in, out), "gemv weights: packed bytes: expected 960, found 959",
                         hlwq::shape_error);
    bad = w.view();
    bad.norms = bad.norms.first(11);
    CHECK_THROWS_WITH_AS(hlwq::gemv(bad, in, out), "gemv weights: norms: expected 12, found 11", hlwq::shape_error);
    bad = w.view();
    bad.centroids = bad.centroids.first(16);
    CHECK_THROWS_WITH_AS(hlwq::gemv(bad, in, out), "gemv weights: centroids: expected 32, found 16", hlwq::shape_error);
    bad = w.view();
    bad.format.bits = 9;
    CHECK_THROWS_AS(hlwq::gemv(bad, in, out), hlwq::unsupported_error);
    bad = w.view();
    bad.format.layout = layout_id::half_block;
    CHECK_THROWS_AS(hlwq::gemv(bad, in, out), hlwq::unsupported_error);
    CHECK(y == std::vector<float>(6, 7.0f));
}
