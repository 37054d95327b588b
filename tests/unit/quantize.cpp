#include "hlwq/quantize.hpp"

#include "backends.hpp"
#include "reference.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>
#include <thread>
#include <vector>

namespace {

using hlwq::codebook_id;
using hlwq::encoder_id;

struct plain_result {
    std::vector<std::uint8_t> codes;
    std::vector<float> norms;
};

/// The original's rule, block by block in double (formats 1.1).
plain_result quantize_plainly(const std::vector<float>& w, std::size_t rows, std::size_t cols, std::size_t block,
                              std::span<const float> centroids) {
    const std::size_t blocks = (cols + block - 1) / block;
    plain_result result;
    for (std::size_t row = 0; row < rows; ++row) {
        for (std::size_t b = 0; b < blocks; ++b) {
            std::vector<double> x(block, 0.0);
            double squares = 0.0;
            for (std::size_t i = 0; i < block && b * block + i < cols; ++i) {
                x[i] = static_cast<double>(w[row * cols + b * block + i]);
                squares += x[i] * x[i];
            }
            const double n = std::max(std::sqrt(squares), 1e-10);
            for (double& v : x) v /= n;
            for (const double t : reference::rotate(x)) {
                result.codes.push_back(reference::nearest(t * std::sqrt(static_cast<double>(block)), centroids));
            }
            result.norms.push_back(static_cast<float>(hlwq::half(static_cast<float>(n))));
        }
    }
    return result;
}

std::vector<std::uint8_t> codes_of(const hlwq::packed_matrix& q) {
    const auto view = q.view();
    std::vector<std::uint8_t> codes(view.rows * view.format.padded_cols(view.cols));
    hlwq::with_format(view.format, [&]<class Layout>() { hlwq::unpack<Layout>(view.codes, codes, view.format.block); });
    return codes;
}

hlwq::matrix_view<const float> view_of(const std::vector<float>& w, std::size_t rows, std::size_t cols) {
    return {w.data(), rows, cols};
}

bool same(const hlwq::packed_matrix& a, const hlwq::packed_matrix& b) {
    const auto x = a.view(), y = b.view();
    return std::ranges::equal(x.codes, y.codes) &&
           std::ranges::equal(x.norms, y.norms, [](hlwq::half p, hlwq::half q) { return p.bits == q.bits; });
}

/// Runs ranges on real threads, so that the partition matters.
struct threads_executor {
    unsigned workers;
    unsigned concurrency() const { return workers; }
    template <class F>
    void parallel_for(std::size_t count, std::size_t grain, F&& body) const {
        const unsigned shares = hlwq::share_count(count, grain, workers);
        std::vector<std::thread> threads;
        for (unsigned k = 0; k < shares; ++k) {
            threads.emplace_back([&, k] {
                const auto range = hlwq::share_of(count, grain, shares, k);
                body(range.begin, range.end, k);
            });
        }
        for (auto& t : threads) t.join();
    }
};

}  // namespace

TEST_CASE_TEMPLATE("nearest makes the codes of the definition", S, HLWQ_TEST_BACKENDS) {
    for (const int bits : {1, 2, 3, 4, 5, 6, 7, 8}) {
        for (const std::size_t block : {std::size_t{8}, std::size_t{32}, std::size_t{128}, std::size_t{256}}) {
            CAPTURE(bits);
            CAPTURE(block);
            const std::size_t rows = 5, cols = 2 * block + block / 2 + 1;
            const auto w = reference::gaussians(rows * cols, block + static_cast<std::size_t>(bits));
            const auto centroids = hlwq::codebook_table(codebook_id::legacy_b, bits);
            hlwq::block_format format;
            format.bits = bits;
            format.block = block;
            const auto q = hlwq::quantize<S>(view_of(w, rows, cols), centroids, format, encoder_id::nearest);
            const auto expected = quantize_plainly(w, rows, cols, block, centroids);
            const auto codes = codes_of(q);
            REQUIRE(codes.size() == expected.codes.size());
            std::size_t different = 0;
            for (std::size_t i = 0; i < codes.size(); ++i) {
                different += codes[i] != expected.codes[i] ? 1u : 0u;
                CHECK(std::abs(int{codes[i]} - int{expected.codes[i]}) <= 1);
            }
            // A value closer to a threshold than float rounding (about 1e-6 of a step) may fall on either side.
            CHECK(different <= codes.size() / 1000);
            for (std::size_t i = 0; i < expected.norms.size(); ++i) {
                CHECK(static_cast<float>(q.view().norms[i]) == doctest::Approx(expected.norms[i]).epsilon(0.0006));
            }
        }
    }
}

TEST_CASE_TEMPLATE("every element type, layout and block comes back within the error of its width", S,
                   HLWQ_TEST_BACKENDS) {
    // Relative mean squared error of N(0,1) with table A (formats 2.3), plus a margin for 6,000 samples.
    constexpr double limit[9] = {0, 0.385, 0.125, 0.037, 0.0102, 0.0031, 0.00115, 0.00034, 0.000092};
    const std::size_t rows = 4, cols = 1024 + 512;
    const auto w = reference::gaussians(rows * cols, 77);
    std::vector<double> as_double(w.begin(), w.end());
    std::vector<hlwq::half> as_half(w.size());
    std::vector<hlwq::bfloat16> as_bfloat16(w.size());
    for (std::size_t i = 0; i < w.size(); ++i) {
        as_half[i] = hlwq::half(w[i]);
        as_bfloat16[i] = hlwq::bfloat16(w[i]);
    }
    const auto check = [&]<class T>(const std::vector<T>& source, const hlwq::block_format& format) {
        const hlwq::matrix_view<const T> view(source.data(), rows, cols);
        const auto centroids = hlwq::codebook_table(codebook_id::legacy_a, format.bits);
        const auto near = hlwq::quantize<S>(view, centroids, format, encoder_id::nearest);
        const auto best = hlwq::quantize<S>(view, centroids, format, encoder_id::searched);
        const double near_error = hlwq::measure_error<S>(view, near.view()).relative_mse();
        const double best_error = hlwq::measure_error<S>(view, best.view()).relative_mse();
        CHECK(near_error < limit[format.bits]);
        // Both norms are rounded to half, so "never worse" holds up to that rounding.
        CHECK(best_error <= near_error * 1.0001);
        std::vector<T> back(source.size());
        hlwq::dequantize<S>(best.view(), hlwq::matrix_view<T>(back.data(), rows, cols));
        double error = 0.0, energy = 0.0;
        for (std::size_t i = 0; i < back.size(); ++i) {
            const double difference = static_cast<double>(back[i]) - static_cast<double>(source[i]);
            error += difference * difference;
            energy += static_cast<double>(source[i]) * static_cast<double>(source[i]);
        }
        // Rounding to the element type adds at most 2^-18 of relative energy (bfloat16), and a cross term that is
        // nearly uncorrelated with the quantization error.
        CHECK(error / energy < best_error * 1.001 + 8e-6);
    };
    for (int bits = 1; bits <= 8; ++bits) {
        CAPTURE(bits);
        hlwq::block_format format;
        format.bits = bits;
        for (const auto layout : {hlwq::layout_id::wire, hlwq::layout_id::lsb, hlwq::layout_id::half_block,
                                  hlwq::layout_id::bytes, hlwq::layout_id::planes}) {
            if (layout == hlwq::layout_id::half_block && bits > 4) continue;
            format.layout = layout;
            check(as_bfloat16, format);
        }
        format.layout = hlwq::layout_id::wire;
        check(w, format);
        check(as_double, format);
        check(as_half, format);
        format.signs = {true, 11};
        check(w, format);
        format.signs = {};
        for (const std::size_t block : {std::size_t{8}, std::size_t{64}, std::size_t{512}}) {
            format.block = block;
            check(w, format);
        }
    }
}

TEST_CASE("searched reaches the error that the format allows on Gaussian weights") {
    const std::size_t rows = 64, cols = 4096;
    const auto w = reference::gaussians(rows * cols, 2024);
    const auto error = [&](codebook_id id, encoder_id encoder) {
        const auto q = hlwq::quantize(view_of(w, rows, cols), hlwq::codebook_table(id, 5), {}, encoder);
        return hlwq::measure_error(view_of(w, rows, cols), q.view()).relative_mse();
    };
    CHECK(error(codebook_id::legacy_b, encoder_id::nearest) <= 0.00290);
    CHECK(error(codebook_id::legacy_a, encoder_id::searched) <= 0.00197);
    CHECK(error(codebook_id::legacy_b, encoder_id::searched) <= 0.00200);
    CHECK(error(codebook_id::converged, encoder_id::searched) <= 0.00195);
}

TEST_CASE("blocks with a mean keep most of their quality when the scale is searched") {
    auto w = reference::gaussians(16 * 2048, 5);
    for (float& v : w) v += 0.3f;
    const auto error = [&](encoder_id encoder) {
        const auto q =
            hlwq::quantize(view_of(w, 16, 2048), hlwq::codebook_table(codebook_id::legacy_a, 5), {}, encoder);
        return hlwq::measure_error(view_of(w, 16, 2048), q.view()).relative_mse();
    };
    CHECK(error(encoder_id::searched) < 0.7 * error(encoder_id::nearest));
}

TEST_CASE("an asymmetric codebook takes the general path") {
    const std::vector<float> centroids = {-2.5f, -1.0f, -0.25f, 0.5f, 0.9f, 1.3f, 1.9f, 2.8f};
    hlwq::block_format format;
    format.bits = 3;
    const auto w = reference::gaussians(8 * 512, 31);
    const auto near = hlwq::quantize(view_of(w, 8, 512), centroids, format, encoder_id::nearest);
    const auto expected = quantize_plainly(w, 8, 512, 128, centroids);
    const auto codes = codes_of(near);
    std::size_t different = 0;
    for (std::size_t i = 0; i < codes.size(); ++i) different += codes[i] != expected.codes[i] ? 1u : 0u;
    CHECK(different <= codes.size() / 1000);
    const auto best = hlwq::quantize(view_of(w, 8, 512), centroids, format, encoder_id::searched);
    CHECK(hlwq::measure_error(view_of(w, 8, 512), best.view()).relative_mse() <
          hlwq::measure_error(view_of(w, 8, 512), near.view()).relative_mse());
}

TEST_CASE("results do not depend on the number of workers") {
    const std::size_t rows = 37, cols = 300;
    const auto w = reference::gaussians(rows * cols, 8);
    const auto centroids = hlwq::codebook_table(codebook_id::legacy_a, 5);
    const auto one = hlwq::quantize(view_of(w, rows, cols), centroids);
    const double error = hlwq::measure_error(view_of(w, rows, cols), one.view()).error;
    for (const unsigned workers : {1u, 2u, 3u, 7u}) {
        const auto many =
            hlwq::quantize(view_of(w, rows, cols), centroids, {}, encoder_id::searched, threads_executor{workers});
        CHECK(same(one, many));
        CHECK(hlwq::measure_error(view_of(w, rows, cols), many.view(), threads_executor{workers}).error == error);
        std::vector<float> a(w.size()), b(w.size());
        hlwq::dequantize(one.view(), hlwq::matrix_view<float>(a.data(), rows, cols));
        hlwq::dequantize(one.view(), hlwq::matrix_view<float>(b.data(), rows, cols), threads_executor{workers});
        CHECK(a == b);
    }
}

TEST_CASE("zero, tiny and huge blocks") {
    const auto centroids = hlwq::codebook_table(codebook_id::legacy_a, 5);
    for (const auto encoder : {encoder_id::nearest, encoder_id::searched}) {
        std::vector<float> w(5 * 128, 0.0f);
        const auto gauss = reference::gaussians(128, 3);
        for (std::size_t i = 0; i < 128; ++i) {
            w[128 + i] = 1e-12f;                                    // norm 1e-11: below the limit
            w[256 + i] = std::numeric_limits<float>::denorm_min();  // squares underflow
            w[384 + i] = (i % 2 != 0 ? 1.0f : -1.0f) * 2e-9f;       // norm 2.3e-8: rounds to zero in half
            w[512 + i] = 4e-6f * gauss[i];                          // norm in the subnormal range of half
        }
        const auto q = hlwq::quantize(view_of(w, 1, w.size()), centroids, {}, encoder);
        const auto codes = codes_of(q);
        // An alternating block is one coefficient, for which the searched norm is three times the length: it stays.
        const std::size_t zeros = encoder == encoder_id::nearest ? 4 : 3;
        for (std::size_t b = 0; b < zeros; ++b) {
            CHECK(q.view().norms[b].bits == 0);
            for (std::size_t i = 0; i < 128; ++i) CHECK(codes[b * 128 + i] == 15);
        }
        CHECK(static_cast<float>(q.view().norms[4]) > 0.0f);
        std::vector<float> back(w.size());
        hlwq::dequantize(q.view(), hlwq::matrix_view<float>(back.data(), 1, back.size()));
        for (std::size_t i = 0; i < zeros * 128; ++i) CHECK(back[i] == 0.0f);
        for (std::size_t i = 512; i < 640; ++i) CHECK(std::fabs(back[i] - w[i]) < 1.5e-6f);

        std::vector<float> big(128, 0.0f);
        big[5] = 65504.0f;
        const auto fits = hlwq::quantize(view_of(big, 1, 128), centroids, {}, encoder_id::nearest);
        CHECK(static_cast<float>(fits.view().norms[0]) == 65504.0f);
        big[5] = 65521.0f;
        CHECK_THROWS_WITH_AS(
            hlwq::quantize(view_of(big, 1, 128), centroids, {}, encoder, hlwq::serial_executor{}, "big"),
            "norm of big: row 0, columns 0 to 127: expected at most 65504 (half precision), found more",
            hlwq::value_error);
        big[5] = 3e38f;  // the sum of squares overflows, the weight itself is finite
        CHECK_THROWS_AS(hlwq::quantize(view_of(big, 1, 128), centroids, {}, encoder), hlwq::value_error);
    }
}

TEST_CASE("weights that are not finite are named by row and column, the lowest row first") {
    const std::size_t rows = 40, cols = 200;
    auto w = reference::gaussians(rows * cols, 4);
    w[33 * cols + 150] = std::numeric_limits<float>::quiet_NaN();
    w[12 * cols + 7] = -std::numeric_limits<float>::infinity();
    w[12 * cols + 190] = std::numeric_limits<float>::quiet_NaN();
    const auto centroids = hlwq::codebook_table(codebook_id::legacy_a, 4);
    hlwq::block_format format;
    format.bits = 4;
    for (const unsigned workers : {1u, 2u, 5u}) {
        CHECK_THROWS_WITH_AS(hlwq::quantize(view_of(w, rows, cols), centroids, format, encoder_id::searched,
                                            threads_executor{workers}, "layers.3.q_proj"),
                             "weight of layers.3.q_proj: row 12, column 7: expected a finite number, found -infinity",
                             hlwq::value_error);
    }
    std::vector<double> wide(128, 1.0);
    wide[3] = 1e300;
    CHECK_THROWS_WITH_AS(hlwq::quantize(hlwq::matrix_view<const double>(wide.data(), 1, 128), centroids, format),
                         "weight of matrix: row 0, column 3: expected a finite number, found +infinity",
                         hlwq::value_error);
}

TEST_CASE("sizes that disagree are refused before any work") {
    const auto w = reference::gaussians(256, 1);
    const auto five = hlwq::codebook_table(codebook_id::legacy_a, 5);
    hlwq::block_format format;
    format.bits = 4;
    CHECK_THROWS_AS(hlwq::quantize(view_of(w, 2, 128), five, format), hlwq::shape_error);
    format = {};
    format.block = 100;
    CHECK_THROWS_AS(hlwq::quantize(view_of(w, 2, 128), five, format), hlwq::unsupported_error);
    format = {};
    hlwq::packed_matrix q(2, 128, format, five);
    CHECK_THROWS_WITH_AS(hlwq::quantize(view_of(w, 1, 256), q.target()),
                         "matrix: quantized shape: expected 1 x 256, found 2 x 128", hlwq::shape_error);
    auto view = q.view();
    view.norms = view.norms.first(1);
    std::vector<float> out(256);
    CHECK_THROWS_AS(hlwq::dequantize(view, hlwq::matrix_view<float>(out.data(), 2, 128)), hlwq::shape_error);
    auto wrong = q.view();
    wrong.format.layout = hlwq::layout_id::half_block;
    CHECK_THROWS_AS(hlwq::dequantize(wrong, hlwq::matrix_view<float>(out.data(), 2, 128)), hlwq::unsupported_error);
    const hlwq::packed_matrix none = hlwq::quantize(hlwq::matrix_view<const float>(nullptr, 0, 128), five);
    CHECK(none.view().codes.empty());
}

TEST_CASE("a packed matrix copies and moves whole") {
    const auto w = reference::gaussians(3 * 256, 6);
    auto q = hlwq::quantize(view_of(w, 3, 256), hlwq::codebook_table(codebook_id::legacy_b, 5));
    const auto copy = q;
    CHECK(same(copy, q));
    CHECK(copy.view().codes.data() != q.view().codes.data());
    CHECK(reinterpret_cast<std::uintptr_t>(copy.view().codes.data()) % 64 == 0);
    const auto moved = std::move(q);
    CHECK(same(copy, moved));
    const hlwq::packed_matrix nothing;
    CHECK(nothing.view().rows == 0);
}
