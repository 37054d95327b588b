// hlwq/rotated_input.hpp — the input of a product, rotated once and shared by every matrix that reads it
//
// A quantized row times x is a sum over blocks (formats 8.1)
//
//   y = sum_b norm_b * sum_i centroids[code_i] * values_i      values = H S x / block
//
// with the unnormalised H of rotation.hpp and the column signs S of the format, if any: both square roots of the block
// size, that of the orthonormal rotation and that of the centroids, are in `values`, where they cost nothing. What is
// kept for each token, in natural order and padded to whole blocks with zeros:
//
//   values   padded columns floats
//   bytes    precision fast: values / scale, rounded to the nearest integer, -127..127
//   scales   precision fast: absmax / 127 of each block
//   sums     precision fast: the sum of the bytes of each block, for what a kernel adds to all weights alike
//
// The same input serves matrices of any bits and layout that agree with it in columns, block size and signs. A NaN or
// an infinity makes its whole block NaN.
//
//   cost     about 2 operations a value and stage of the transform; 2 us for 4096 columns with AVX-512
//   memory   4 bytes a column, fast 5; allocated by the constructor and by `resize`, nowhere else
//   throws   shape_error if sizes disagree; unsupported_error for a block size that does not exist
//
// Example
//   hlwq::rotated_input in(w.cols, hlwq::precision::fast, w.format);
//   hlwq::rotate_input(x, in);
#pragma once

#include "hlwq/config.hpp"
#include "hlwq/error.hpp"
#include "hlwq/executor.hpp"
#include "hlwq/matrix_view.hpp"
#include "hlwq/packed_matrix.hpp"
#include "hlwq/rotation.hpp"
#include "hlwq/simd/backend.hpp"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <memory>
#include <span>
#include <utility>

namespace hlwq {

/// How a product is computed: with the stored centroids in float, or with int8 inputs and int8 centroids.
enum class precision : std::uint8_t { exact, fast };

/// One rotated token: what a kernel reads. Whole blocks; `bytes`, `scales` and `sums` only with precision fast, the
/// latter two readable, as zeros, up to a multiple of 16.
struct rotated_token {
    const float* values = nullptr;
    const std::int8_t* bytes = nullptr;
    const float* scales = nullptr;
    const std::int32_t* sums = nullptr;
};

inline namespace HLWQ_CODE_NAMESPACE {

/// Storage of rotated tokens. Filled by `rotate_input`.
class rotated_input {
  public:
    rotated_input() = default;

    /// Room for `tokens` inputs of `cols` columns. Of `format` only the block size and the signs count.
    rotated_input(std::size_t cols, precision mode, const block_format& format = {}, std::size_t tokens = 1)
        : cols_(cols), block_(format.block), signs_(format.signs), mode_(mode) {
        HLWQ_EXPECTS(std::has_single_bit(block_) && block_ >= min_block && block_ <= max_block, unsupported_error,
                     "rotated_input: block size", "a power of two from 8 to 4096", block_);
        HLWQ_EXPECTS(cols <= limit, shape_error, "rotated_input: columns", "fewer", cols);
        resize(tokens);
    }

    rotated_input(rotated_input&& other) noexcept { swap(other); }
    rotated_input& operator=(rotated_input&& other) noexcept {
        rotated_input taken(std::move(other));
        swap(taken);
        return *this;
    }
    ~rotated_input() = default;

    /// Another number of tokens. Allocates only beyond the largest number so far; what was rotated before is lost.
    void resize(std::size_t tokens) {
        if (tokens > capacity_) {
            HLWQ_EXPECTS(tokens <= limit / (padded_cols() + block_), shape_error, "rotated_input: tokens",
                         "fewer for " + detail::to_text(cols_) + " columns", tokens);
            memory_ = detail::aligned_zeros(tokens * token_bytes());
            capacity_ = tokens;
        }
        tokens_ = tokens;
    }

    std::size_t cols() const noexcept { return cols_; }
    std::size_t block() const noexcept { return block_; }
    rotation_signs signs() const noexcept { return signs_; }
    precision mode() const noexcept { return mode_; }
    std::size_t tokens() const noexcept { return tokens_; }
    std::size_t blocks() const noexcept { return cols_ / block_ + (cols_ % block_ != 0 ? 1 : 0); }
    std::size_t padded_cols() const noexcept { return blocks() * block_; }

    /// Token number `index`, below tokens().
    rotated_token token(std::size_t index) const noexcept {
        const planes_of_token p = planes(index);
        return {p.values, p.bytes, p.scales, p.sums};
    }

    /// The same memory, to be written.
    struct planes_of_token {
        float* values = nullptr;
        std::int8_t* bytes = nullptr;
        float* scales = nullptr;
        std::int32_t* sums = nullptr;
    };
    planes_of_token token(std::size_t index) noexcept { return planes(index); }

  private:
    static constexpr std::size_t limit = std::numeric_limits<std::size_t>::max() / (4 * max_block);

    // Everything begins on a multiple of 64 bytes.
    static constexpr std::size_t line(std::size_t bytes) noexcept { return (bytes + 63) / 64 * 64; }
    std::size_t values_bytes() const noexcept { return line(padded_cols() * sizeof(float)); }
    std::size_t bytes_bytes() const noexcept { return line(padded_cols()); }
    std::size_t block_words_bytes() const noexcept { return line(blocks() * sizeof(float)); }
    std::size_t token_bytes() const noexcept {
        return values_bytes() + (mode_ == precision::fast ? bytes_bytes() + 2 * block_words_bytes() : 0);
    }
    planes_of_token planes(std::size_t index) const noexcept {
        std::byte* at = static_cast<std::byte*>(memory_.get()) + index * token_bytes();
        planes_of_token p;
        p.values = reinterpret_cast<float*>(at);
        if (mode_ == precision::fast) {
            at += values_bytes();
            p.bytes = reinterpret_cast<std::int8_t*>(at);
            at += bytes_bytes();
            p.scales = reinterpret_cast<float*>(at);
            at += block_words_bytes();
            p.sums = reinterpret_cast<std::int32_t*>(at);
        }
        return p;
    }
    void swap(rotated_input& other) noexcept {
        std::swap(memory_, other.memory_);
        std::swap(cols_, other.cols_);
        std::swap(block_, other.block_);
        std::swap(signs_, other.signs_);
        std::swap(mode_, other.mode_);
        std::swap(tokens_, other.tokens_);
        std::swap(capacity_, other.capacity_);
    }

    std::unique_ptr<void, detail::aligned_delete> memory_;
    std::size_t cols_ = 0;
    std::size_t block_ = block_format{}.block;
    rotation_signs signs_;
    precision mode_ = precision::exact;
    std::size_t tokens_ = 0;
    std::size_t capacity_ = 0;
};

namespace detail {

/// to[i] = sign of column first + i * x[i] * scale, zeros from x.size() to `count`.
HLWQ_INLINE void scale_input(std::span<const float> x, float* to, std::size_t count, std::size_t first,
                             rotation_signs signs, float scale) noexcept {
    for (std::size_t i = 0; i < x.size(); ++i) to[i] = x[i] * scale;
    if (signs.enabled) apply_signs(std::span<float>(to, x.size()), signs, first);
    for (std::size_t i = x.size(); i < count; ++i) to[i] = 0.0f;
}

/// int8 form of one block. A block whose values are all below 1e-36, where 127 / absmax is no longer finite, becomes
/// zeros.
/// promises: block a power of two from 8
template <class S>
void quantize_input_block(const float* x, std::size_t block, std::int8_t* bytes, float& scale,
                          std::int32_t& sum) noexcept {
    constexpr float smallest = 1e-36f;
    if (block < S::bytes) {
        float most = 0.0f, nothing = 0.0f;
        for (std::size_t i = 0; i < block; ++i) {
            most = std::max(most, std::fabs(x[i]));
            nothing += x[i] * 0.0f;  // NaN if any value is not finite
        }
        const float inverse = most < smallest ? 0.0f : 127.0f / most;
        scale = (most < smallest ? 0.0f : most / 127.0f) + nothing;
        sum = 0;
        for (std::size_t i = 0; i < block; ++i) {
            const auto rounded = nothing == 0.0f ? static_cast<int>(std::lrintf(x[i] * inverse)) : 0;
            bytes[i] = static_cast<std::int8_t>(rounded);
            sum += rounded;
        }
        return;
    }
    constexpr std::size_t lanes = S::lanes;
    auto most = S::set(0.0f), nothing = S::set(0.0f);
    for (std::size_t i = 0; i < block; i += lanes) {
        const auto v = S::load(x + i);
        most = S::max(most, S::abs(v));
        nothing = S::fma(v, S::set(0.0f), nothing);
    }
    const float absmax = S::reduce_max(most), poison = S::reduce_add(nothing);
    const bool usable = poison == 0.0f && absmax >= smallest;
    const auto inverse = S::set(usable ? 127.0f / absmax : 0.0f);
    scale = (usable ? absmax / 127.0f : 0.0f) + poison;
    if (!usable) {
        std::fill(bytes, bytes + block, std::int8_t{0});
        sum = 0;
        return;
    }
    auto sums = S::set_i32(0);
    for (std::size_t i = 0; i < block; i += S::bytes) {
        const auto part = [&](std::size_t k) { return S::round_to_i32(S::mul(S::load(x + i + k * lanes), inverse)); };
        const auto narrow = S::narrow_i8(part(0), part(1), part(2), part(3));
        S::store_i8(bytes + i, narrow);
        S::dot4(sums, S::set_u8(1), narrow);  // a weight of 1 reads the same with and without bias
    }
    std::int32_t lane[lanes];
    S::store_i32(lane, sums);
    sum = 0;
    for (std::size_t i = 0; i < lanes; ++i) sum += lane[i];
}

}  // namespace detail

/// Rotates every row of `x`, a token each, into `in`. Blocks are divided among the workers of `ex`. Throws shape_error
/// unless x has the columns of `in` and as many rows as it has tokens.
template <simd::backend S = simd::native, executor E = serial_executor>
void rotate_input(matrix_view<const float> x, rotated_input& in, E&& ex = {}) {
    HLWQ_EXPECTS(x.cols == in.cols(), shape_error, "rotate_input: columns", in.cols(), x.cols);
    HLWQ_EXPECTS(x.rows == in.tokens(), shape_error, "rotate_input: tokens", in.tokens(), x.rows);
    const std::size_t block = in.block(), blocks = in.blocks();
    const detail::fwht_function transform = detail::fwht_of_size<S>(block);
    const float scale = 1.0f / static_cast<float>(block);
    // A region costs as much as the rotation of some ten thousand values.
    const std::size_t grain = std::max<std::size_t>(1, 8192 / block);
    ex.parallel_for(x.rows * blocks, grain, [&](std::size_t begin, std::size_t end, unsigned) noexcept {
        for (std::size_t i = begin, run; i < end; i += run) {
            // Neighbouring blocks of a token, not more than the first-level cache holds.
            const std::size_t b = i % blocks, first = b * block;
            run = std::min({end - i, blocks - b, std::max<std::size_t>(1, 2048 / block)});
            const auto to = in.token(i / blocks);
            float* values = to.values + first;
            const auto row = x.row(i / blocks);
            detail::scale_input(row.subspan(first, std::min(run * block, x.cols - first)), values, run * block, first,
                                in.signs(), scale);
            transform(values, run);
            if (in.mode() == precision::fast) {
                for (std::size_t k = 0; k < run; ++k) {
                    const std::size_t at = k * block;
                    detail::quantize_input_block<S>(values + at, block, to.bytes + first + at, to.scales[b + k],
                                                    to.sums[b + k]);
                }
            }
        }
    });
}

/// The same for a single token.
template <simd::backend S = simd::native, executor E = serial_executor>
void rotate_input(std::span<const float> x, rotated_input& in, E&& ex = {}) {
    rotate_input<S>(matrix_view<const float>(x.data(), 1, x.size()), in, ex);
}

}  // namespace HLWQ_CODE_NAMESPACE
}  // namespace hlwq
