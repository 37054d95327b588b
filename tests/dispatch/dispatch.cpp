#include "hlwq/dispatch/dispatch.hpp"

#include "hlwq/dispatch/processor.hpp"
#include "hlwq/hlwq.hpp"
#include "hlwq/thread_pool.hpp"
#include "matrices.hpp"
#include "own_kernels.hpp"
#include "reference.hpp"

#include "dispatch_tests_isas.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <limits>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#define DECLARE(isa) extern const own_kernels own_kernels_##isa;
HLWQ_COMPILED_ISAS(DECLARE)

namespace {

using hlwq::layout_id;
using hlwq::precision;

#define ADDRESS(isa) &own_kernels_##isa,
const own_kernels* const all_own_kernels[] = {HLWQ_COMPILED_ISAS(ADDRESS)};

hlwq::matrix_view<const float> view_of(const std::vector<float>& x, std::size_t rows) {
    return {x.data(), rows, x.size() / rows};
}

/// A product in double, and how far one in float may lie from it.
struct expected_product {
    double value = 0.0;
    double tolerance = 0.0;
};

/// Row `row` of w times a rotated token, from the codes: what the bounds of tests/unit/gemv.cpp and gemm.cpp say.
expected_product expect(const matrix& w, std::size_t row, const hlwq::rotated_token& x, precision mode) {
    const auto view = w.view();
    const auto bytes = hlwq::make_byte_centroids(view.centroids);
    const std::size_t block = view.format.block, blocks = view.format.blocks_per_row(view.cols);
    double sum = 0.0, magnitudes = 0.0;
    for (std::size_t b = 0; b < blocks; ++b) {
        const auto norm = static_cast<double>(static_cast<float>(view.norms[row * blocks + b]));
        const std::uint8_t* codes = w.codes.data() + (row * blocks + b) * block;
        if (mode == precision::exact) {
            for (std::size_t i = 0; i < block; ++i) {
                const double term =
                    norm * static_cast<double>(view.centroids[codes[i]]) * static_cast<double>(x.values[b * block + i]);
                sum += term;
                magnitudes += std::fabs(term);
            }
            continue;
        }
        std::int64_t dot = 0, low = 0, bytes_sum = 0, low_sum = 0, sizes = 0;
        for (std::size_t i = 0; i < block; ++i) {
            const std::int8_t byte = x.bytes[b * block + i];
            dot += bytes.weight[codes[i]] * byte;
            bytes_sum += byte;
            sizes += 259 * std::abs(int{byte}) + 2;
            if (mode != precision::precise) continue;
            const std::int8_t low_byte = x.low_bytes[b * block + i];
            low += bytes.weight[codes[i]] * low_byte + bytes.low[codes[i]] * byte;
            low_sum += low_byte;
        }
        const double factor = norm * static_cast<double>(x.scales[b]) * static_cast<double>(bytes.step);
        const auto offset = static_cast<double>(bytes.offset);
        sum += factor * (static_cast<double>(dot) + offset * static_cast<double>(bytes_sum));
        sum += factor * (static_cast<double>(low) + offset * static_cast<double>(low_sum)) / 254.0;
        magnitudes += factor * static_cast<double>(sizes);
    }
    // In float every product and at most block / 4 additions round; with integers seven operations a block, and those
    // of a sum over blocks in each of three passes.
    const auto roundings = mode == precision::exact ? static_cast<double>(block) / 4 + 2 * static_cast<double>(blocks)
                                                    : 3 * static_cast<double>(blocks) + 9;
    return {sum, (roundings + 13) * 0x1p-24 * magnitudes};
}

}  // namespace

TEST_CASE("the instruction set is the one that was asked for") {
    const char* const wanted = std::getenv("HLWQ_ISA");
    const auto runnable = hlwq::dispatch::runnable();
    REQUIRE(!runnable.empty());
    CHECK(hlwq::dispatch::isa() == (wanted != nullptr ? std::string_view(wanted) : runnable.front()));
    MESSAGE("instruction set ", std::string(hlwq::dispatch::isa()), " of ", runnable.size(), " that run here");
}

TEST_CASE("what the processor runs is what the compiler's library says") {
    CHECK(hlwq::dispatch::processor_runs("generic"));
    for (const std::string_view none : {"", "avx", "native", "AVX2"}) CHECK(!hlwq::dispatch::processor_runs(none));
#if defined(__x86_64__)
    CHECK(!hlwq::dispatch::processor_runs("neon"));
    const bool v3 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("bmi2");
    const bool v4 = v3 && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
                    __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512cd");
    CHECK(hlwq::dispatch::processor_runs("avx2") == v3);
    CHECK(hlwq::dispatch::processor_runs("avx512") == v4);
    CHECK(hlwq::dispatch::processor_runs("avx512vnni") == (v4 && __builtin_cpu_supports("avx512vnni")));
    CHECK(hlwq::dispatch::processor_runs("avx512vbmi") ==
          (v4 && __builtin_cpu_supports("avx512vbmi") && __builtin_cpu_supports("avx512vnni")));
#elif defined(__aarch64__)
    CHECK(hlwq::dispatch::processor_runs("neon"));
    CHECK(!hlwq::dispatch::processor_runs("avx2"));
#endif
}

TEST_CASE("a choice that cannot be had is refused and names what can") {
    const std::string_view none[] = {"sparc_vis", "mips_msa"}, some[] = {"sparc_vis", "generic"};
    CHECK(hlwq::dispatch::choose_isa(some, nullptr) == 1);
    CHECK(hlwq::dispatch::choose_isa(some, "") == 1);
    CHECK(hlwq::dispatch::choose_isa(some, "generic") == 1);
    CHECK_THROWS_WITH_AS(hlwq::dispatch::choose_isa(some, "sparc_vis"),
                         "environment variable HLWQ_ISA: expected an instruction set that runs here (generic) of those "
                         "compiled (sparc_vis, generic), found \"sparc_vis\"",
                         hlwq::unsupported_error);
    CHECK_THROWS_WITH_AS(hlwq::dispatch::choose_isa(some, "avx9"),
                         "environment variable HLWQ_ISA: expected an instruction set that runs here (generic) of those "
                         "compiled (sparc_vis, generic), found \"avx9\"",
                         hlwq::unsupported_error);
    CHECK_THROWS_WITH_AS(hlwq::dispatch::choose_isa(none, nullptr),
                         "instruction set of this processor: expected one of those compiled (sparc_vis, mips_msa), "
                         "found none of them",
                         hlwq::unsupported_error);
}

TEST_CASE("inputs: values against double, bytes against the values") {
    for (const std::size_t block : {64u, 128u, 256u}) {
        const std::size_t cols = 3 * block - 5, tokens = 3;
        const auto x = reference::gaussians(cols * tokens, block);
        for (const bool signs : {false, true}) {
            const auto format = format_of(5, layout_id::wire, block, {signs, 11});
            hlwq::rotated_input in(cols, precision::precise, format, tokens),
                plain(cols, precision::exact, format, tokens);
            hlwq::dispatch::rotate_input(view_of(x, tokens), in);
            hlwq::rotate_input<hlwq::simd::scalar_backend>(view_of(x, tokens), plain);
            for (std::size_t t = 0; t < tokens; ++t) {
                const hlwq::rotated_token found = std::as_const(in).token(t), other = std::as_const(plain).token(t);
                for (std::size_t i = 0; i < 3 * block; ++i) {
                    // A value is a sum of block numbers up to 6, over block.
                    REQUIRE(std::fabs(found.values[i] - other.values[i]) <= 2 * 6 * 8 * 0x1p-24f);
                    const float scale = found.scales[i / block];
                    const float read =
                        scale * (static_cast<float>(found.bytes[i]) + static_cast<float>(found.low_bytes[i]) / 254.0f);
                    REQUIRE(std::fabs(read - found.values[i]) <= scale * 0.51f / 254.0f);
                }
            }
        }
    }
}

TEST_CASE("products of every width, block, precision and number of tokens against double") {
    constexpr std::size_t rows = 37, most = 20;  // a tile and a group, and some more
    for (const std::size_t block : {64u, 128u, 256u}) {
        const std::size_t cols = 3 * block - 3;
        const auto x = reference::gaussians(most * cols, block);
        for (int bits = 2; bits <= 8; ++bits) {
            for (const layout_id layout : {layout_id::wire, layout_id::planes}) {
                if (layout == layout_id::planes && block % 128 != 0) continue;
                const matrix w(rows, cols, format_of(bits, layout, block), block);
                for (const precision mode : {precision::exact, precision::fast, precision::precise}) {
                    CAPTURE(bits);
                    CAPTURE(block);
                    CAPTURE(hlwq::layout_name(layout));
                    CAPTURE(hlwq::to_string(mode));
                    hlwq::rotated_input in(cols, mode, w.view().format, most);
                    std::vector<expected_product> expected;
                    for (const std::size_t tokens : {20u, 1u, 3u, 8u}) {
                        in.resize(tokens);
                        hlwq::dispatch::rotate_input({x.data(), tokens, cols}, in);
                        if (expected.empty()) {
                            for (std::size_t t = 0; t < tokens; ++t) {
                                for (std::size_t row = 0; row < rows; ++row) {
                                    expected.push_back(expect(w, row, std::as_const(in).token(t), mode));
                                }
                            }
                        }
                        std::vector<float> by_gemv(tokens * rows), by_gemm(tokens * rows), by_matmul(tokens * rows);
                        const auto of = [&](std::vector<float>& y) {
                            return hlwq::matrix_view<float>(y.data(), tokens, rows);
                        };
                        hlwq::dispatch::gemv(w.view(), in, of(by_gemv));
                        hlwq::dispatch::gemm(w.view(), in, of(by_gemm), mode);
                        hlwq::dispatch::matmul(w.view(), in, of(by_matmul));
                        CHECK(same_bits(by_matmul, tokens <= 8 ? by_gemv : by_gemm));
                        for (std::size_t i = 0; i < by_gemv.size(); ++i) {
                            REQUIRE(std::fabs(static_cast<double>(by_gemv[i]) - expected[i].value) <=
                                    expected[i].tolerance);
                            REQUIRE(std::fabs(static_cast<double>(by_gemm[i]) - expected[i].value) <=
                                    expected[i].tolerance);
                        }
                    }
                }
            }
        }
    }
}

TEST_CASE("the same code under the same flags gives the same bits") {
    // The kernels of this translation unit, where it was compiled for the set in use.
    if (hlwq::dispatch::isa() != hlwq::isa_name()) return;
    constexpr std::size_t rows = 21, cols = 500;
    const auto x = reference::gaussians(cols, 3);
    const matrix w(rows, cols, format_of(5, layout_id::wire, 128));
    hlwq::rotated_input in(cols, precision::precise, w.view().format);
    hlwq::dispatch::rotate_input(std::span<const float>(x), in);
    std::vector<float> here(rows), there(rows);
    hlwq::gemv(w.view(), in, std::span<float>(here));
    hlwq::dispatch::gemv(w.view(), in, std::span<float>(there));
    CHECK(same_bits(here, there));
}

TEST_CASE("executors: the result does not depend on the workers") {
    constexpr std::size_t rows = 250, cols = 700;
    const auto x = reference::gaussians(cols, 2);
    const matrix w(rows, cols, format_of(5, layout_id::wire, 128));
    hlwq::rotated_input in(cols, precision::precise, w.view().format);
    hlwq::dispatch::rotate_input(std::span<const float>(x), in);
    std::vector<float> alone(rows);
    hlwq::dispatch::gemv(w.view(), in, std::span<float>(alone));
    for (const unsigned workers : {2u, 3u, 7u}) {
        hlwq::thread_pool pool(workers);
        hlwq::dispatch::rotate_input(std::span<const float>(x), in, pool);
        std::vector<float> y(rows);
        hlwq::dispatch::gemv(w.view(), in, std::span<float>(y), pool);
        CHECK(same_bits(y, alone));
    }
}

TEST_CASE("rotation is its own inverse") {
    const auto x = reference::gaussians(4 * 512, 9);
    auto y = x;
    hlwq::dispatch::rotate(std::span<float>(y), 512);
    auto expected = x;
    hlwq::rotate<hlwq::simd::scalar_backend>(std::span<float>(expected), 512);
    for (std::size_t i = 0; i < x.size(); ++i) REQUIRE(std::fabs(y[i] - expected[i]) <= 1e-5f);
    hlwq::dispatch::rotate(hlwq::matrix_view<float>(y.data(), 4, 512), 512);
    for (std::size_t i = 0; i < x.size(); ++i) REQUIRE(std::fabs(y[i] - x[i]) <= 1e-5f);
    CHECK_THROWS_WITH_AS(hlwq::dispatch::rotate(std::span<float>(y), 100),
                         "rotation block: expected a power of two from 2 to 4096, found 100", hlwq::shape_error);
}

TEST_CASE_TEMPLATE("weights to codes and back as the scalar backend does", T, float, hlwq::half, hlwq::bfloat16) {
    constexpr std::size_t rows = 6, cols = 500;
    const auto values = reference::gaussians(rows * cols, 4);
    std::vector<T> weights;
    for (const float v : values) weights.push_back(static_cast<T>(v * 0.02f));
    const hlwq::matrix_view<const T> w(weights.data(), rows, cols);
    for (int bits = 2; bits <= 8; ++bits) {
        const auto centroids = hlwq::codebook_table(hlwq::codebook_id::converged, bits);
        for (const std::size_t block : {64u, 128u, 256u}) {
            for (const auto encoder : {hlwq::encoder_id::nearest, hlwq::encoder_id::searched}) {
                CAPTURE(bits);
                CAPTURE(block);
                const auto format = format_of(bits, layout_id::wire, block, {block == 64, 5});
                const auto found = hlwq::dispatch::quantize(w, centroids, format, encoder);
                const auto plain = hlwq::quantize<hlwq::simd::scalar_backend>(w, centroids, format, encoder);
                // Sums in another order may choose a neighbouring code, or another scale, here and there.
                const auto error = hlwq::measure_error(w, found.view()).relative_mse();
                const auto other = hlwq::measure_error(w, plain.view()).relative_mse();
                CHECK(std::fabs(error / other - 1.0) < 0.005);

                std::vector<T> back(rows * cols), expected(rows * cols);
                hlwq::dispatch::dequantize(found.view(), hlwq::matrix_view<T>(back.data(), rows, cols));
                hlwq::dequantize<hlwq::simd::scalar_backend>(found.view(),
                                                             hlwq::matrix_view<T>(expected.data(), rows, cols));
                for (std::size_t i = 0; i < back.size(); ++i) {
                    const auto a = static_cast<float>(back[i]), b = static_cast<float>(expected[i]);
                    // Of 256 sums of values up to 0.1, and half a unit of bfloat16 where those fall on either side.
                    REQUIRE(std::fabs(a - b) <= (std::same_as<T, float> ? 1e-7f : 1e-7f + std::fabs(b) / 128));
                }
            }
        }
    }
}

TEST_CASE("errors are those of hlwq") {
    const auto format = format_of(5, layout_id::wire, 128);
    const matrix w(6, 256, format);
    hlwq::rotated_input in(256, precision::fast, format);
    std::vector<float> y(6), x(256, 1.0f);
    CHECK_THROWS_WITH_AS(hlwq::dispatch::rotate_input(std::span<const float>(x).first(255), in),
                         "rotate_input: columns: expected 256, found 255", hlwq::shape_error);
    CHECK_THROWS_WITH_AS(hlwq::dispatch::gemv(w.view(), in, std::span<float>(y).first(5)),
                         "gemv output: expected 6, found 5", hlwq::shape_error);
    const hlwq::matrix_view<float> out(y.data(), 1, 6);
    CHECK_THROWS_WITH_AS(hlwq::dispatch::gemm(w.view(), in, out, precision::precise),
                         "gemm input: precision: expected precise, found fast", hlwq::shape_error);
    auto truncated = w.view();
    truncated.codes = truncated.codes.first(100);
    CHECK_THROWS_WITH_AS(hlwq::dispatch::matmul(truncated, in, out),
                         "matmul weights: packed bytes: expected 960, found 100", hlwq::shape_error);

    x[130] = std::numeric_limits<float>::infinity();
    const auto centroids = hlwq::codebook_table(hlwq::codebook_id::converged, 5);
    CHECK_THROWS_WITH_AS(hlwq::dispatch::quantize(view_of(x, 2), centroids, {}, hlwq::encoder_id::nearest,
                                                  hlwq::dispatch::calling_thread(), "w"),
                         "weight of w: row 1, column 2: expected a finite number, found +infinity", hlwq::value_error);
}

TEST_CASE("a program's own kernels, of the same instruction set") {
    const auto isa = hlwq::dispatch::isa();
    const auto* const* const found = std::find_if(std::begin(all_own_kernels), std::end(all_own_kernels),
                                                  [&](const own_kernels* kernels) { return kernels->isa == isa; });
    REQUIRE(found != std::end(all_own_kernels));
    CHECK((*found)->bytes == (isa.starts_with("avx512") ? 64 : isa.starts_with("avx2") ? 32 : 16));
    const auto a = reference::gaussians(1001, 1), b = reference::gaussians(1001, 2);
    double expected = 0.0;
    for (std::size_t i = 0; i < a.size(); ++i) expected += static_cast<double>(a[i]) * static_cast<double>(b[i]);
    CHECK(static_cast<double>((*found)->dot(a.data(), b.data(), a.size())) == doctest::Approx(expected).epsilon(1e-5));
}
