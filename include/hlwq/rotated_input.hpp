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
//   values     padded columns floats
//   bytes      fast and precise: values / scale, rounded to the nearest integer, -127..127
//   scales     fast and precise: absmax / 127 of each block
//   sums       fast and precise: scale times the sum of the bytes of each block, for what a kernel adds to all weights
//   low_bytes  precise: what the bytes leave over, in 254ths of the scale, -127..127
//   low_sums   precise: scale times the sum of the low bytes of each block
//
//   values ~ scale * (byte + low_byte / 254)
//
// The same input serves matrices of any bits and layout that agree with it in columns, block size and signs, and
// products of its own precision and of those before it: exact, fast, precise. A NaN or an infinity makes its whole
// block NaN.
//
//   cost     about 2 operations a value and stage of the transform; 2 us for 4096 columns with AVX-512
//   memory   4 bytes a column, fast 5, precise 6; allocated by the constructor and by `resize`, nowhere else
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
#include <cstring>
#include <limits>
#include <memory>
#include <span>
#include <utility>

namespace hlwq {

/// How a product is computed: in float with the stored centroids; with inputs and centroids of one byte; with two bytes
/// of each. An input serves its own precision and those before it.
enum class precision : std::uint8_t { exact, fast, precise };
constexpr const char* to_string(precision mode) noexcept {
    return mode == precision::exact ? "exact" : mode == precision::fast ? "fast" : "precise";
}

/// One rotated token: what a kernel reads. Whole blocks, null where the precision has no use for them; scales and sums
/// are readable, as zeros, up to a multiple of 16.
struct rotated_token {
    const float* values = nullptr;
    const std::int8_t* bytes = nullptr;
    const float* scales = nullptr;
    const float* sums = nullptr;
    const std::int8_t* low_bytes = nullptr;
    const float* low_sums = nullptr;
};

/// Storage of rotated tokens. Filled by `rotate_input`. Data without an instruction set, as packed_matrix is.
class rotated_input {
  public:
    HLWQ_INLINE rotated_input() noexcept {}

    /// Room for `tokens` inputs of `cols` columns. Of `format` only the block size and the signs count.
    HLWQ_INLINE rotated_input(std::size_t cols, precision mode, const block_format& format = {}, std::size_t tokens = 1)
        : cols_(cols), block_(format.block), signs_(format.signs), mode_(mode) {
        HLWQ_EXPECTS(std::has_single_bit(block_) && block_ >= min_block && block_ <= max_block, unsupported_error,
                     "rotated_input: block size", "a power of two from 8 to 4096", block_);
        HLWQ_EXPECTS(cols <= limit, shape_error, "rotated_input: columns", "fewer", cols);
        blocks_ = cols / block_ + (cols % block_ != 0 ? 1 : 0);
        resize(tokens);
    }

    HLWQ_INLINE rotated_input(rotated_input&& other) noexcept { swap(other); }
    HLWQ_INLINE rotated_input& operator=(rotated_input&& other) noexcept {
        rotated_input taken(std::move(other));
        swap(taken);
        return *this;
    }
    HLWQ_INLINE ~rotated_input() {}

    /// Another number of tokens. Allocates only beyond the largest number so far; what was rotated before is lost.
    HLWQ_INLINE void resize(std::size_t tokens) {
        if (tokens > capacity_) {
            HLWQ_EXPECTS(tokens <= limit / (padded_cols() + block_), shape_error, "rotated_input: tokens",
                         "fewer for " + detail::to_text(cols_) + " columns", tokens);
            memory_ = aligned_zeros(tokens * token_bytes());
            capacity_ = tokens;
        }
        tokens_ = tokens;
    }

    HLWQ_INLINE std::size_t cols() const noexcept { return cols_; }
    HLWQ_INLINE std::size_t block() const noexcept { return block_; }
    HLWQ_INLINE rotation_signs signs() const noexcept { return signs_; }
    HLWQ_INLINE precision mode() const noexcept { return mode_; }
    HLWQ_INLINE std::size_t tokens() const noexcept { return tokens_; }
    HLWQ_INLINE std::size_t blocks() const noexcept { return blocks_; }
    HLWQ_INLINE std::size_t padded_cols() const noexcept { return blocks() * block_; }

    /// Token number `index`, below tokens().
    HLWQ_INLINE rotated_token token(std::size_t index) const noexcept {
        const planes_of_token p = planes(index);
        return {p.values, p.bytes, p.scales, p.sums, p.low_bytes, p.low_sums};
    }

    /// The same memory, to be written.
    struct planes_of_token {
        float* values = nullptr;
        std::int8_t* bytes = nullptr;
        float* scales = nullptr;
        float* sums = nullptr;
        std::int8_t* low_bytes = nullptr;
        float* low_sums = nullptr;
    };
    HLWQ_INLINE planes_of_token token(std::size_t index) noexcept { return planes(index); }

    /// Bytes of a token, all of its planes together, which is also how far tokens lie apart.
    HLWQ_INLINE std::size_t token_bytes() const noexcept {
        const std::size_t fast = bytes_bytes() + 2 * block_words_bytes();
        const std::size_t low = bytes_bytes() + block_words_bytes();
        return values_bytes() + (mode_ >= precision::fast ? fast : 0) + (mode_ == precision::precise ? low : 0);
    }

  private:
    static constexpr std::size_t limit = std::numeric_limits<std::size_t>::max() / (4 * max_block);

    // Everything begins on a multiple of 64 bytes.
    HLWQ_INLINE static constexpr std::size_t line(std::size_t bytes) noexcept { return (bytes + 63) / 64 * 64; }
    HLWQ_INLINE std::size_t values_bytes() const noexcept { return line(padded_cols() * sizeof(float)); }
    HLWQ_INLINE std::size_t bytes_bytes() const noexcept { return line(padded_cols()); }
    HLWQ_INLINE std::size_t block_words_bytes() const noexcept { return line(blocks() * sizeof(float)); }
    HLWQ_INLINE planes_of_token planes(std::size_t index) const noexcept {
        std::byte* at = static_cast<std::byte*>(memory_.get()) + index * token_bytes();
        planes_of_token p;
        p.values = reinterpret_cast<float*>(at);
        if (mode_ >= precision::fast) {
            at += values_bytes();
            p.bytes = reinterpret_cast<std::int8_t*>(at);
            at += bytes_bytes();
            p.scales = reinterpret_cast<float*>(at);
            at += block_words_bytes();
            p.sums = reinterpret_cast<float*>(at);
        }
        if (mode_ == precision::precise) {
            at += block_words_bytes();
            p.low_bytes = reinterpret_cast<std::int8_t*>(at);
            at += bytes_bytes();
            p.low_sums = reinterpret_cast<float*>(at);
        }
        return p;
    }
    HLWQ_INLINE void swap(rotated_input& other) noexcept {
        std::swap(memory_, other.memory_);
        std::swap(cols_, other.cols_);
        std::swap(block_, other.block_);
        std::swap(blocks_, other.blocks_);
        std::swap(signs_, other.signs_);
        std::swap(mode_, other.mode_);
        std::swap(tokens_, other.tokens_);
        std::swap(capacity_, other.capacity_);
    }

    std::unique_ptr<void, aligned_delete> memory_;
    std::size_t cols_ = 0;
    std::size_t block_ = block_format{}.block;
    std::size_t blocks_ = 0;
    rotation_signs signs_;
    precision mode_ = precision::exact;
    std::size_t tokens_ = 0;
    std::size_t capacity_ = 0;
};

/// Tokens of a rotated input that follow one another: what a product reads. All of them, unless it is said otherwise.
class rotated_tokens {
  public:
    rotated_tokens() = default;
    rotated_tokens(const rotated_input& in) noexcept
        : in_(&in), count_(in.tokens()) {}  // NOLINT: an input is its tokens
    rotated_tokens(const rotated_input& in, std::size_t first, std::size_t count)
        : in_(&in), first_(first), count_(count) {
        HLWQ_EXPECTS(first <= in.tokens() && count <= in.tokens() - first, shape_error, "rotated tokens: end",
                     "at most " + detail::to_text(in.tokens()), first + count);
    }

    std::size_t cols() const noexcept { return in_->cols(); }
    std::size_t block() const noexcept { return in_->block(); }
    rotation_signs signs() const noexcept { return in_->signs(); }
    precision mode() const noexcept { return in_->mode(); }
    std::size_t tokens() const noexcept { return count_; }
    std::size_t token_bytes() const noexcept { return in_->token_bytes(); }
    rotated_token token(std::size_t index) const noexcept { return in_->token(first_ + index); }

  private:
    const rotated_input* in_ = nullptr;
    std::size_t first_ = 0;
    std::size_t count_ = 0;
};

inline namespace HLWQ_CODE_NAMESPACE {
namespace detail {

/// Steps of a low byte to one of the byte above it: half a step up or down is what 127 can still tell.
inline constexpr int low_steps = 254;

/// to[i] = sign of column first + i * x[i] * scale, zeros from x.size() to `count`.
HLWQ_INLINE void scale_input(std::span<const float> x, float* to, std::size_t count, std::size_t first,
                             rotation_signs signs, float scale) noexcept {
    for (std::size_t i = 0; i < x.size(); ++i) to[i] = x[i] * scale;
    if (signs.enabled) apply_signs(std::span<float>(to, x.size()), signs, first);
    for (std::size_t i = x.size(); i < count; ++i) to[i] = 0.0f;
}

/// The byte planes of one block; low_bytes and low_sum may be null together. A block whose values are all below 1e-36,
/// where 127 / absmax is no longer finite, becomes zeros.
/// promises: block a power of two from 8
template <class S>
void quantize_input_block(const float* x, std::size_t block, const rotated_input::planes_of_token& to) noexcept {
    constexpr float smallest = 1e-36f;
    const bool low = to.low_bytes != nullptr;
    std::int32_t sum = 0, low_sum = 0;
    float most = 0.0f, nothing = 0.0f, inverse = 0.0f;
    const auto set_scale = [&] {
        const bool usable = nothing == 0.0f && most >= smallest;
        inverse = usable ? 127.0f / most : 0.0f;
        *to.scales = (usable ? most / 127.0f : 0.0f) + nothing;
        return usable;
    };
    if (block < S::bytes) {
        for (std::size_t i = 0; i < block; ++i) {
            most = std::max(most, std::fabs(x[i]));
            nothing += x[i] * 0.0f;  // NaN if any value is not finite
        }
        const bool usable = set_scale();
        for (std::size_t i = 0; i < block; ++i) {
            const float steps = usable ? x[i] * inverse : 0.0f;
            const auto rounded = static_cast<int>(std::lrintf(steps));
            to.bytes[i] = static_cast<std::int8_t>(rounded);
            sum += rounded;
            if (!low) continue;
            const auto rest = static_cast<int>(std::lrintf((steps - static_cast<float>(rounded)) * low_steps));
            to.low_bytes[i] = static_cast<std::int8_t>(rest);
            low_sum += rest;
        }
    } else {
        constexpr std::size_t lanes = S::lanes;
        auto mosts = S::set(0.0f), nothings = S::set(0.0f);
        for (std::size_t i = 0; i < block; i += lanes) {
            const auto v = S::load(x + i);
            mosts = S::max(mosts, S::abs(v));
            nothings = S::fma(v, S::set(0.0f), nothings);
        }
        most = S::reduce_max(mosts);
        nothing = S::reduce_add(nothings);
        if (!set_scale()) {
            std::fill(to.bytes, to.bytes + block, std::int8_t{0});
            if (low) std::fill(to.low_bytes, to.low_bytes + block, std::int8_t{0});
        } else {
            const auto factor = S::set(inverse), fine = S::set(static_cast<float>(low_steps));
            const auto one = S::set_u8(1);  // a weight of 1 reads the same with and without bias
            auto sums = S::set_i32(0), low_sums = S::set_i32(0);
            for (std::size_t i = 0; i < block; i += S::bytes) {
                typename S::i32 high[4], rest[4];
                HLWQ_UNROLL for (std::size_t k = 0; k < 4; ++k) {
                    const auto steps = S::mul(S::load(x + i + k * lanes), factor);
                    high[k] = S::round_to_i32(steps);
                    rest[k] = S::round_to_i32(S::mul(S::sub(steps, S::to_f32(high[k])), fine));
                }
                const auto narrow = S::narrow_i8(high[0], high[1], high[2], high[3]);
                S::store_i8(to.bytes + i, narrow);
                S::dot4(sums, one, narrow);
                if (!low) continue;
                const auto narrow_rest = S::narrow_i8(rest[0], rest[1], rest[2], rest[3]);
                S::store_i8(to.low_bytes + i, narrow_rest);
                S::dot4(low_sums, one, narrow_rest);
            }
            std::int32_t lane[2][lanes];
            S::store_i32(lane[0], sums);
            S::store_i32(lane[1], low_sums);
            for (std::size_t i = 0; i < lanes; ++i) {
                sum += lane[0][i];
                low_sum += lane[1][i];
            }
        }
    }
    *to.sums = *to.scales * static_cast<float>(sum);
    if (low) *to.low_sums = *to.scales * static_cast<float>(low_sum);
}

/// Throws unless `x` is what `in` has room for.
inline void check_tokens(matrix_view<const float> x, const rotated_input& in) {
    HLWQ_EXPECTS(x.cols == in.cols(), shape_error, "rotate_input: columns", in.cols(), x.cols);
    HLWQ_EXPECTS(x.rows == in.tokens(), shape_error, "rotate_input: tokens", in.tokens(), x.rows);
}

}  // namespace detail

/// Rotates every row of `x`, a token each, into `in`. Blocks are divided among the workers of `ex`. Throws shape_error
/// unless x has the columns of `in` and as many rows as it has tokens.
template <simd::backend S = simd::native, executor E = serial_executor>
void rotate_input(matrix_view<const float> x, rotated_input& in, E&& ex = {}) {
    detail::check_tokens(x, in);
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
            if (in.mode() == precision::exact) continue;
            const bool low = in.mode() == precision::precise;
            for (std::size_t k = 0; k < run; ++k) {
                const std::size_t at = first + k * block;
                detail::quantize_input_block<S>(
                    to.values + at, block,
                    {nullptr, to.bytes + at, to.scales + b + k, to.sums + b + k, low ? to.low_bytes + at : nullptr,
                     low ? to.low_sums + b + k : nullptr});
            }
        }
    });
}

/// The same for a single token.
template <simd::backend S = simd::native, executor E = serial_executor>
void rotate_input(std::span<const float> x, rotated_input& in, E&& ex = {}) {
    rotate_input<S>(matrix_view<const float>(x.data(), 1, x.size()), in, ex);
}

/// Token `target` of `to` becomes token `source` of `from`, without rotating it again. Throws shape_error unless both
/// agree in columns, block size, signs and precision and have these tokens.
inline void copy_token(const rotated_input& from, std::size_t source, rotated_input& to, std::size_t target) {
    HLWQ_EXPECTS(from.cols() == to.cols(), shape_error, "copy_token: columns", to.cols(), from.cols());
    HLWQ_EXPECTS(from.block() == to.block(), shape_error, "copy_token: block size", to.block(), from.block());
    HLWQ_EXPECTS(from.signs() == to.signs(), shape_error, "copy_token: column signs", "those of the target", "others");
    HLWQ_EXPECTS(from.mode() == to.mode(), shape_error, "copy_token: precision", to_string(to.mode()),
                 to_string(from.mode()));
    HLWQ_EXPECTS(source < from.tokens(), shape_error, "copy_token: token to copy",
                 "below " + detail::to_text(from.tokens()), source);
    HLWQ_EXPECTS(target < to.tokens(), shape_error, "copy_token: place of the copy",
                 "below " + detail::to_text(to.tokens()), target);
    std::memcpy(to.token(target).values, from.token(source).values, from.token_bytes());
}

}  // namespace HLWQ_CODE_NAMESPACE
}  // namespace hlwq
