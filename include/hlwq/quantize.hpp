// hlwq/quantize.hpp — weights to codes and norms, and back
//
//   block b of a row:  n = |b|,  z = sqrt(block) H b / n,  code_i = nearest centroid to z_i / alpha,  norm = fp16(n
//   alpha) and back:          b ~ norm / sqrt(block) * H centroid[code] (formats 1.1)
//
// Rows are padded with zeros to whole blocks; the padding is part of the codes and is dropped again by `dequantize`.
//
// Encoders
//   nearest   alpha = 1: the original's rule
//   searched  alpha minimises the error of the block: for a few candidates the codes and <z, c>^2 / <c, c> are
//             computed, the best one is refitted in closed form (alpha = <z, c> / <c, c>), and the codes are chosen
//             again at the norm as rounded to fp16. The same format, read by every reader, with less error.
//             The candidates are anchored at the largest |z| of the block, alpha = max|z| / max|centroid| * anchor: the
//             good scales are those that put the outermost values on a level, wherever the block's tail lies. Six
//             anchors reach what sixteen fixed scales do not (bench/quantize.cpp). alpha = 1 is a candidate too, so
//             `searched` is never worse than `nearest`.
//
// Corner cases (formats 10): a block with n < 1e-10, or whose norm rounds to 0 in half precision, gets norm 0 and
// code 2^(bits-1) - 1 everywhere; a refit that is not positive falls back to nearest.
//
//   threads  rows are divided; codes and norms do not depend on the number of workers
//   throws   shape_error if sizes disagree; value_error, naming matrix, row and column, for a NaN or an infinite
//            weight or a norm above 65504; the lowest row is the one reported
//
// Example
//   const auto centroids = hlwq::codebook_table(hlwq::codebook_id::legacy_a, 5);
//   hlwq::packed_matrix q = hlwq::quantize(hlwq::matrix_view<const float>(w.data(), rows, cols), centroids);
//   hlwq::dequantize(q.view(), hlwq::matrix_view<float>(back.data(), rows, cols));
#pragma once

#include "hlwq/codebook.hpp"
#include "hlwq/config.hpp"
#include "hlwq/error.hpp"
#include "hlwq/executor.hpp"
#include "hlwq/float16.hpp"
#include "hlwq/layout.hpp"
#include "hlwq/matrix_view.hpp"
#include "hlwq/packed_matrix.hpp"
#include "hlwq/packing.hpp"
#include "hlwq/rotation.hpp"
#include "hlwq/simd/backend.hpp"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <memory>
#include <string>
#include <string_view>

namespace hlwq {

/// How codes and norms are chosen.
enum class encoder_id : std::uint8_t { nearest, searched };

/// An element type that weights may have.
template <class T>
concept weight_element =
    std::same_as<T, float> || std::same_as<T, double> || std::same_as<T, half> || std::same_as<T, bfloat16>;

/// Squared error and squared weights, summed over a matrix.
struct quantization_error {
    double error = 0.0;
    double energy = 0.0;
    double relative_mse() const noexcept { return energy > 0.0 ? error / energy : 0.0; }
    quantization_error& operator+=(const quantization_error& other) noexcept {
        error += other.error;
        energy += other.energy;
        return *this;
    }
};

inline namespace HLWQ_CODE_NAMESPACE {

namespace detail {

/// Vectors that one step of the encoders takes; block buffers are padded to it with zeros.
inline constexpr std::size_t encode_step = 64;
/// Blocks below this norm are zero (formats 1.1).
inline constexpr float least_norm = 1e-10f;
/// Values from here on round to infinity in half precision.
inline constexpr float half_overflow = 65520.0f;

/// A codebook prepared for a search by bisection: the thresholds of step k, 2^k of them, stand side by side, so that
/// each step is one lookup by the bits found so far and one comparison. `Steps` comparisons tell 2^Steps levels apart.
template <int Steps>
struct bisection {
    static constexpr std::size_t levels = std::size_t{1} << Steps;
    alignas(64) float threshold[levels] = {};  // step k at 2^k - 1
    alignas(64) float level[levels] = {};

    /// `ascending`: 2^Steps levels; `between`: the 2^Steps - 1 thresholds between them.
    bisection(const float* ascending, const float* between) noexcept {
        std::copy(ascending, ascending + levels, level);
        for (int step = 0; step < Steps; ++step) {
            const std::size_t count = std::size_t{1} << step, width = levels >> step;
            for (std::size_t i = 0; i < count; ++i) threshold[count - 1 + i] = between[i * width + width / 2 - 1];
        }
    }

    /// Number of thresholds strictly below z, per lane.
    template <class S>
    HLWQ_INLINE typename S::i32 find(typename S::f32 z) const noexcept {
        return find_from<S, 0>(S::set_i32(0), z);
    }

  private:
    template <class S, int Step>
    HLWQ_INLINE typename S::i32 find_from(typename S::i32 n, typename S::f32 z) const noexcept {
        if constexpr (Step == Steps) {
            return n;
        } else {
            constexpr std::size_t count = std::size_t{1} << Step;
            const auto t = S::template lookup_f32<count>(threshold + count - 1, n);
            return find_from<S, Step + 1>(S::append_greater(n, z, t), z);
        }
    }
};

/// What the encoders know about a codebook of `Bits` bits.
template <int Bits>
struct encoder_table {
    bisection<Bits> codes;
    /// The upper half as magnitudes; meaningful when the codebook is symmetric.
    bisection<Bits - 1> magnitudes;
    bool symmetric;
    float largest;
    /// Square of the centroid that the value 0 receives.
    float energy_at_zero;

    explicit encoder_table(codebook_view centroids) noexcept : encoder_table(centroids, thresholds(centroids)) {}

  private:
    struct between {
        float value[std::size_t{1} << Bits];
    };
    static between thresholds(codebook_view centroids) noexcept {
        between t{};
        codebook_boundaries(centroids, {t.value, (std::size_t{1} << Bits) - 1});
        return t;
    }
    encoder_table(codebook_view centroids, const between& t) noexcept
        : codes(centroids.data(), t.value),
          magnitudes(centroids.data() + centroids.size() / 2, t.value + centroids.size() / 2),
          symmetric(is_symmetric(centroids)),
          largest(std::max(std::fabs(centroids.front()), std::fabs(centroids.back()))) {
        std::size_t at = 0;
        while (at + 1 < centroids.size() && t.value[at] < 0.0f) ++at;
        energy_at_zero = centroids[at] * centroids[at];
    }
};

/// Scales that `searched` tries, as multiples of max|z| / max|centroid|: quantiles of the best scale over Gaussian
/// blocks, blocks with a mean and blocks with an outlier, of 32, 128 and 1024 weights (bench/anchors.py).
inline constexpr std::size_t anchor_count = 6;
inline constexpr float search_anchors[max_bits + 1][anchor_count] = {
    {},
    {0.26f, 0.30f, 0.34f, 0.37f, 0.41f, 0.47f},
    {0.39f, 0.451f, 0.505f, 0.541f, 0.583f, 0.649f},
    {0.607f, 0.698f, 0.74f, 0.788f, 0.83f, 0.89f},
    {0.806f, 0.878f, 0.908f, 0.939f, 0.969f, 1.017f},
    {0.908f, 0.957f, 0.975f, 0.993f, 1.011f, 1.173f},
    {0.969f, 0.987f, 0.999f, 1.011f, 1.119f, 1.27f},
    {0.999f, 1.09f, 1.17f, 1.25f, 1.35f, 1.5f},
    {0.995f, 1.003f, 1.06f, 1.085f, 1.16f, 1.276f},
};

/// <z, c> and <c, c> of a block for the codes that a scale yields.
struct fit {
    float dot = 0.0f;
    float energy = 0.0f;
    float gain() const noexcept { return energy > 0.0f ? dot * dot / energy : 0.0f; }
    float scale() const noexcept { return energy > 0.0f ? dot / energy : 0.0f; }
};

/// promises: z is readable, and zero, up to a whole vector behind `count`
template <class S, int Bits>
HLWQ_INLINE fit fit_at(const encoder_table<Bits>& table, const float* z, std::size_t count,
                       float inverse_scale) noexcept {
    const auto inverse = S::set(inverse_scale);
    auto dot = S::set(0.0f), energy = S::set(0.0f);
    std::size_t i = 0;
    if (table.symmetric) {
        for (; i < count; i += S::lanes) {
            const auto a = S::abs(S::load(z + i));
            const auto n = table.magnitudes.template find<S>(S::mul(a, inverse));
            const auto c = S::template lookup_f32<(std::size_t{1} << (Bits - 1))>(table.magnitudes.level, n);
            dot = S::fma(a, c, dot);
            energy = S::fma(c, c, energy);
        }
    } else {
        for (; i < count; i += S::lanes) {
            const auto v = S::load(z + i);
            const auto n = table.codes.template find<S>(S::mul(v, inverse));
            const auto c = S::template lookup_f32<(std::size_t{1} << Bits)>(table.codes.level, n);
            dot = S::fma(v, c, dot);
            energy = S::fma(c, c, energy);
        }
    }
    // Zeros behind a block shorter than a vector add nothing to the dot product, and this much to the energy.
    return {S::reduce_add(dot), S::reduce_add(energy) - static_cast<float>(i - count) * table.energy_at_zero};
}

/// Codes of a block at one scale; writes count codes, rounded up to encode_step.
template <class S, int Bits>
HLWQ_INLINE void codes_at(const encoder_table<Bits>& table, const float* z, std::size_t count, float inverse_scale,
                          std::uint8_t* codes) noexcept {
    const auto inverse = S::set(inverse_scale);
    const auto find = [&](const float* p) { return table.codes.template find<S>(S::mul(S::load(p), inverse)); };
    for (std::size_t i = 0; i < count; i += S::bytes) {
        S::store_u8(codes + i, S::narrow_u8(find(z + i), find(z + i + S::lanes), find(z + i + 2 * S::lanes),
                                            find(z + i + 3 * S::lanes)));
    }
}

/// Encoders: `encode` fills the codes of a block whose rotated values are t = n z, and returns the norm to store (zero
/// asks for a zero block).
struct nearest_encoder {
    template <class S, int Bits>
    static HLWQ_INLINE float encode(const encoder_table<Bits>& table, const float* t, std::size_t block, float n,
                                    std::uint8_t* codes) noexcept {
        codes_at<S>(table, t, block, 1.0f / n, codes);
        return n;
    }
};

struct searched_encoder {
    template <class S, int Bits>
    static HLWQ_INLINE float encode(const encoder_table<Bits>& table, const float* t, std::size_t block, float n,
                                    std::uint8_t* codes) noexcept {
        // Everything in units of t, so that z itself is never formed: scale s = n alpha.
        auto highest = S::abs(S::load(t));
        for (std::size_t i = 0; i < block; i += S::lanes) highest = S::max(highest, S::abs(S::load(t + i)));
        const float anchor = S::reduce_max(highest) / table.largest;
        fit best = fit_at<S>(table, t, block, 1.0f / n);
        for (const float factor : search_anchors[Bits]) {
            const fit candidate = fit_at<S>(table, t, block, 1.0f / (anchor * factor));
            if (candidate.gain() > best.gain()) best = candidate;
        }
        const float refit = best.scale();
        const float rounded = refit > 0.0f ? static_cast<float>(half(refit)) : n;
        if (rounded == 0.0f || !(rounded < half_overflow)) return rounded;
        codes_at<S>(table, t, block, 1.0f / rounded, codes);
        return rounded;
    }
};

/// Loads `count` weights and fills up to `padded` with zeros; returns the sum of squares, which is not finite if any
/// weight is not.
template <class S, class T>
HLWQ_INLINE float load_block(const T* w, std::size_t count, std::size_t padded, float* x) noexcept {
    std::size_t i = 0;
    if constexpr (std::same_as<T, bfloat16>) {
        for (; i + S::lanes <= count; i += S::lanes) S::store(x + i, S::load_bfloat16(w + i));
    } else if constexpr (std::same_as<T, half>) {
        for (; i + S::lanes <= count; i += S::lanes) S::store(x + i, S::load_half(w + i));
    }
    for (; i < count; ++i) x[i] = static_cast<float>(w[i]);
    for (; i < padded; ++i) x[i] = 0.0f;
    auto sum = S::set(0.0f), other = S::set(0.0f);
    for (i = 0; i < padded; i += 2 * S::lanes) {
        const auto a = S::load(x + i), b = S::load(x + i + S::lanes);
        sum = S::fma(a, a, sum);
        other = S::fma(b, b, other);
    }
    return S::reduce_add(S::add(sum, other));
}

/// The part of a row that is the same for every block of a matrix.
struct row_job {
    packed_matrix_target out;
    const float* signs;  // one per padded column, or null
    fwht_function fwht;
    void (*pack)(const std::uint8_t*, std::uint8_t*, std::size_t) noexcept;
    std::size_t block_bytes;
};

/// Encodes one row; returns the number of the first block that cannot be encoded, or the number of blocks.
template <class S, class Encoder, int Bits, class T>
std::size_t quantize_row(const encoder_table<Bits>& table, const row_job& job, const T* w, std::size_t row) noexcept {
    const std::size_t cols = job.out.cols, block = job.out.format.block;
    const std::size_t blocks = job.out.format.blocks_per_row(cols);
    const std::size_t padded = (block + encode_step - 1) / encode_step * encode_step;
    alignas(64) float x[max_block];
    alignas(64) std::uint8_t codes[max_block] = {};
    half* norms = job.out.norms.data() + row * blocks;
    auto* packed = reinterpret_cast<std::uint8_t*>(job.out.codes.data()) + row * blocks * job.block_bytes;
    for (std::size_t b = 0; b < blocks; ++b) {
        const std::size_t first = b * block;
        const float squares = load_block<S>(w + first, std::min(block, cols - first), padded, x);
        const float n = std::sqrt(squares);
        if (!(n < half_overflow)) return b;
        float norm = 0.0f;
        if (n >= least_norm) {
            if (job.signs != nullptr) {
                for (std::size_t i = 0; i < block; ++i) x[i] *= job.signs[first + i];
            }
            job.fwht(x, 1);
            norm = Encoder::template encode<S>(table, x, block, n, codes);
            if (!(norm < half_overflow)) return b;
        }
        norms[b] = half(norm);
        if (static_cast<float>(norms[b]) == 0.0f) std::memset(codes, (1 << (Bits - 1)) - 1, block);
        job.pack(codes, packed + b * job.block_bytes, block);
    }
    return blocks;
}

/// Remembers the lowest failing index that any worker meets.
class first_failure {
  public:
    static constexpr std::size_t none = std::numeric_limits<std::size_t>::max();
    void report(std::size_t index) noexcept {
        std::size_t seen = index_.load(std::memory_order_relaxed);
        while (index < seen && !index_.compare_exchange_weak(seen, index, std::memory_order_relaxed)) {
        }
    }
    std::size_t index() const noexcept { return index_.load(std::memory_order_relaxed); }

  private:
    std::atomic<std::size_t> index_{none};
};

template <class T>
[[noreturn]] HLWQ_COLD void throw_bad_block(matrix_view<const T> w, const block_format& format, std::size_t index,
                                            std::string_view name) {
    const std::size_t blocks = format.blocks_per_row(w.cols), row = index / blocks, b = index % blocks;
    const std::size_t end = std::min(w.cols, (b + 1) * format.block);
    for (std::size_t col = b * format.block; col < end; ++col) {
        const float value = static_cast<float>(w.row(row)[col]);
        if (!std::isfinite(value)) {
            throw_error<value_error>("weight of " + std::string(name) + ": row " + to_text(row) + ", column " +
                                     to_text(col) + ": expected a finite number, found " +
                                     (std::isnan(value) ? "NaN"
                                      : value > 0       ? "+infinity"
                                                        : "-infinity"));
        }
    }
    throw_error<value_error>("norm of " + std::string(name) + ": row " + to_text(row) + ", columns " +
                             to_text(b * format.block) + " to " + to_text(end - 1) +
                             ": expected at most 65504 (half precision), found more");
}

template <class S, class Encoder, int Bits, class T, class E>
std::size_t quantize_rows(matrix_view<const T> w, const row_job& job, E& ex) {
    const encoder_table<Bits> table(job.out.centroids);
    const std::size_t blocks = job.out.format.blocks_per_row(w.cols);
    first_failure failure;
    ex.parallel_for(w.rows, 1, [&](std::size_t begin, std::size_t end, unsigned) noexcept {
        for (std::size_t row = begin; row < end; ++row) {
            const std::size_t done = quantize_row<S, Encoder>(table, job, w.row(row).data(), row);
            if (done != blocks) return failure.report(row * blocks + done);
        }
    });
    return failure.index();
}

template <class S, class T, class E>
std::size_t quantize_checked(matrix_view<const T> w, const row_job& job, encoder_id encoder, E& ex) {
    std::size_t failure = first_failure::none;
    // Widths rather than layouts select the encoder: the layout only enters through the packing function.
    with_layout(layout_id::bytes, job.out.format.bits, [&]<class Layout>() {
        constexpr int bits = Layout::bits;
        failure = encoder == encoder_id::nearest ? quantize_rows<S, nearest_encoder, bits>(w, job, ex)
                                                 : quantize_rows<S, searched_encoder, bits>(w, job, ex);
    });
    return failure;
}

/// Throws unless `out` is a place for `w`, with a codebook to encode with.
template <class T>
void check_quantize(matrix_view<const T> w, const packed_matrix_target& out, std::string_view name) {
    check(packed_matrix_view(out), name);
    check_codebook(out.centroids);
    HLWQ_EXPECTS(out.rows == w.rows && out.cols == w.cols, shape_error, std::string(name) + ": quantized shape",
                 to_text(w.rows) + " x " + to_text(w.cols), to_text(out.rows) + " x " + to_text(out.cols));
}

/// `quantize` without a check; returns the lowest block, counted through all rows, that cannot be encoded, or
/// first_failure::none.
template <class S, class T, class E>
std::size_t quantize_promised(matrix_view<const T> w, const packed_matrix_target& out, encoder_id encoder, E& ex) {
    row_job job{out, nullptr, fwht_of_size<S>(out.format.block), nullptr, out.format.block_bytes()};
    with_format(out.format, [&]<class Layout>() {
        job.pack = [](const std::uint8_t* codes, std::uint8_t* packed, std::size_t block) noexcept {
            pack_block<Layout>(codes, packed, block);
        };
    });
    std::unique_ptr<float[]> signs;
    if (out.format.signs.enabled) {
        const std::size_t count = out.format.padded_cols(w.cols);
        signs = std::make_unique<float[]>(count);
        for (std::size_t k = 0; k < count; ++k) signs[k] = sign_of(out.format.signs, k);
        job.signs = signs.get();
    }
    return quantize_checked<S>(w, job, encoder, ex);
}

}  // namespace detail

/// Quantizes `w` into memory of the caller. `name` stands for the matrix in messages.
///
/// `out` has the shape of `w`, a format, codes and norms of the sizes that the format asks for, and the centroids to
/// encode with. On an exception its contents are unspecified.
template <class S = simd::native, weight_element T, executor E = serial_executor>
void quantize(matrix_view<const T> w, const packed_matrix_target& out, encoder_id encoder = encoder_id::searched,
              E&& ex = {}, std::string_view name = "matrix") {
    detail::check_quantize(w, out, name);
    const std::size_t failure = detail::quantize_promised<S>(w, out, encoder, ex);
    if (failure != detail::first_failure::none) detail::throw_bad_block(w, out.format, failure, name);
}

/// Quantizes `w` into a new matrix.
template <class S = simd::native, weight_element T, executor E = serial_executor>
packed_matrix quantize(matrix_view<const T> w, codebook_view centroids, const block_format& format = {},
                       encoder_id encoder = encoder_id::searched, E&& ex = {}, std::string_view name = "matrix") {
    packed_matrix result(w.rows, w.cols, format, centroids);
    quantize<S>(w, result.target(), encoder, ex, name);
    return result;
}
template <class S = simd::native, weight_element T, executor E = serial_executor>
requires(!std::is_const_v<T>) packed_matrix
    quantize(matrix_view<T> w, codebook_view centroids, const block_format& format = {},
             encoder_id encoder = encoder_id::searched, E&& ex = {}, std::string_view name = "matrix") {
    return quantize<S>(matrix_view<const T>(w), centroids, format, encoder, ex, name);
}

namespace detail {

template <class S, class Layout>
void dequantize_block(const std::uint8_t* packed, const float* centroids, std::size_t block, float norm,
                      std::uint8_t* codes, float* x) noexcept {
    constexpr std::size_t levels = std::size_t{1} << Layout::bits;
    unpack_block<Layout>(packed, codes, block);
    // H (c / sqrt(block)) / sqrt(block): both roots at once.
    const float scale = norm / static_cast<float>(block);
    std::size_t i = 0;
    for (; i + S::lanes <= block; i += S::lanes) {
        S::store(x + i, S::template lookup_f32<levels>(centroids, S::widen_u8(codes + i)));
    }
    for (; i < block; ++i) x[i] = centroids[codes[i]];
    fwht_of_size<S>(block)(x, 1);
    for (i = 0; i < block; ++i) x[i] *= scale;
}

/// Blocks of `w`, dequantized by the workers of `ex`; `f(row, first column, values)` is called once per block, in order
/// within a row. Sizes are the caller's promise.
template <class S, class E, class F>
void for_each_dequantized_block(const packed_matrix_view& w, E& ex, F&& f) {
    const std::size_t block = w.format.block, blocks = w.format.blocks_per_row(w.cols);
    ex.parallel_for(w.rows, 1, [&](std::size_t begin, std::size_t end, unsigned) noexcept {
        alignas(64) std::uint8_t codes[max_block] = {};
        alignas(64) float values[max_block];
        with_format(w.format, [&]<class Layout>() {
            const std::size_t block_bytes = Layout::block_bytes(block);
            for (std::size_t i = begin * blocks; i < end * blocks; ++i) {
                const auto* packed = reinterpret_cast<const std::uint8_t*>(w.codes.data()) + i * block_bytes;
                dequantize_block<S, Layout>(packed, w.centroids.data(), block, static_cast<float>(w.norms[i]), codes,
                                            values);
                const std::size_t col = i % blocks * block;
                const std::span<float> inside(values, std::min(block, w.cols - col));
                apply_signs(inside, w.format.signs, col);
                f(i / blocks, col, std::span<const float>(inside));
            }
        });
    });
}

template <class T>
void check_dequantize(const packed_matrix_view& w, matrix_view<T> out, std::string_view name) {
    check(w, name);
    HLWQ_EXPECTS(out.rows == w.rows && out.cols == w.cols, shape_error, std::string(name) + ": dequantized shape",
                 to_text(w.rows) + " x " + to_text(w.cols), to_text(out.rows) + " x " + to_text(out.cols));
}

}  // namespace detail

/// Restores the weights, rounded to T; `out` has the shape of `w`. Throws shape_error if it has not. Allocates nothing.
template <class S = simd::native, weight_element T, executor E = serial_executor>
void dequantize(const packed_matrix_view& w, matrix_view<T> out, E&& ex = {}, std::string_view name = "matrix") {
    detail::check_dequantize(w, out, name);
    detail::for_each_dequantized_block<S>(
        w, ex, [&](std::size_t row, std::size_t col, std::span<const float> values) noexcept {
            const std::span<T> to = out.row(row).subspan(col, values.size());
            for (std::size_t i = 0; i < values.size(); ++i) to[i] = static_cast<T>(values[i]);
        });
}

/// Squared error of the quantized `q` against the weights `w`, and the energy of `w`. Sums are per row and then in row
/// order: the same for any number of workers.
template <class S = simd::native, weight_element T, executor E = serial_executor>
quantization_error measure_error(matrix_view<const T> w, const packed_matrix_view& q, E&& ex = {},
                                 std::string_view name = "matrix") {
    check(q, name);
    HLWQ_EXPECTS(q.rows == w.rows && q.cols == w.cols, shape_error, std::string(name) + ": shape",
                 detail::to_text(w.rows) + " x " + detail::to_text(w.cols),
                 detail::to_text(q.rows) + " x " + detail::to_text(q.cols));
    const auto per_row = std::make_unique<quantization_error[]>(w.rows);
    detail::for_each_dequantized_block<S>(
        q, ex, [&](std::size_t row, std::size_t col, std::span<const float> values) noexcept {
            const auto original = w.row(row).subspan(col, values.size());
            quantization_error& sum = per_row[row];
            for (std::size_t i = 0; i < values.size(); ++i) {
                const double exact = static_cast<double>(original[i]);
                const double difference = exact - static_cast<double>(values[i]);
                sum.error += difference * difference;
                sum.energy += exact * exact;
            }
        });
    quantization_error total;
    for (std::size_t row = 0; row < w.rows; ++row) total += per_row[row];
    return total;
}

}  // namespace HLWQ_CODE_NAMESPACE
}  // namespace hlwq
