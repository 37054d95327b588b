// hlwq/gemv.hpp — y = W x from packed codes
//
//   y[row] = sum_b norm[row][b] * dot(centroids[codes[row][b]], x_b)        (formats 8.1; x_b from rotated_input.hpp)
//
// The input is rotated once and shared; weights are read once, in order, four rows at a time. The precision is that of
// the input. Several tokens are several products: each has the result that it would have alone.
//
//   cost     bits/8 + 2/block bytes a weight from memory. Straight from the wire layout; other layouts, and blocks that
//            are shorter than a vector of codes (64 with AVX-512), are unpacked first and cost several times as much
//   error    exact: rounding in float, some 1e-6 of sum |w||x|. fast, rms, as a share of the length of a row times that
//            of x: 0.6 to 0.75 % at 2 to 5 bits, 1 % at 6 and 7, 1.2 % at 8 (block_dot.hpp says why)
//   threads  rows are divided; the result does not depend on the number of workers
//   reads    the bytes of the view and no other: codes may end where a page ends
//   throws   shape_error if sizes, blocks or signs disagree; unsupported_error for a format that does not exist
//
// Example
//   hlwq::rotated_input in(w.cols, hlwq::precision::fast, w.format);
//   hlwq::rotate_input(x, in);
//   hlwq::gemv(w, in, y);
#pragma once

#include "hlwq/block_dot.hpp"
#include "hlwq/config.hpp"
#include "hlwq/error.hpp"
#include "hlwq/executor.hpp"
#include "hlwq/float16.hpp"
#include "hlwq/layout.hpp"
#include "hlwq/matrix_view.hpp"
#include "hlwq/packed_matrix.hpp"
#include "hlwq/rotated_input.hpp"
#include "hlwq/simd/backend.hpp"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>

namespace hlwq::inline HLWQ_CODE_NAMESPACE {
namespace detail {

/// Rows that are computed together. Shares of workers begin at multiples of it, so that a row has the same company, and
/// the same result, whoever computes it.
inline constexpr std::size_t gemv_rows = 4;
/// Blocks whose factors are prepared at once.
inline constexpr std::size_t gemv_blocks = 32;
/// How far ahead packed bytes are asked for: past what the memory needs to answer, short of what the cache would drop.
inline constexpr std::size_t gemv_prefetch = 12 * 1024;

/// What the row loops need of a matrix.
struct gemv_matrix {
    const std::uint8_t* codes;
    const std::uint8_t* codes_end;
    const half* norms;
    const float* centroids;
    const byte_centroids* weights;  // precision fast
    unpack_function unpack;
    std::size_t blocks, block, block_bytes, row_bytes;
};

/// Codes and norms of four rows; the last group repeats its last row.
struct gemv_group {
    const std::uint8_t* codes[gemv_rows];
    const half* norms[gemv_rows];
};

/// y[token][row] for rows [begin, end); product(rows, token, out) computes the rows of a group.
template <class Product>
HLWQ_INLINE void each_group(const gemv_matrix& w, std::size_t begin, std::size_t end, const rotated_input& x,
                            matrix_view<float> y, Product product) noexcept {
    for (std::size_t row = begin; row < end; row += gemv_rows) {
        const std::size_t count = std::min(gemv_rows, end - row);
        gemv_group rows;
        for (std::size_t r = 0; r < gemv_rows; ++r) {
            const std::size_t at = row + std::min(r, count - 1);
            rows.codes[r] = w.codes + at * w.row_bytes;
            rows.norms[r] = w.norms + at * w.blocks;
        }
        for (std::size_t token = 0; token < y.rows; ++token) {
            float out[gemv_rows];
            product(rows, x.token(token), out);
            std::copy(out, out + count, y.row(token).data() + row);
        }
    }
}

/// out[i] = norms[i] for i < count, 0 up to the next multiple of 16.
/// promises: out has room for that
template <class S>
HLWQ_INLINE void load_norms(const half* norms, std::size_t count, float* out) noexcept {
    std::size_t i = 0;
    for (; i + S::lanes <= count; i += S::lanes) S::store(out + i, S::load_half(norms + i));
    for (; i < count; ++i) out[i] = static_cast<float>(norms[i]);
    for (; i % 16 != 0; ++i) out[i] = 0.0f;
}

HLWQ_INLINE const void* ahead(const std::uint8_t* p) noexcept {
    return reinterpret_cast<const void*>(reinterpret_cast<std::uintptr_t>(p) + gemv_prefetch);
}

/// out[r] = row r of the group times x, with int8 inputs. dot(packed, bytes) is the product of one block in lanes.
template <class S, class Dot>
HLWQ_INLINE void fast_group(const gemv_matrix& w, const gemv_group& rows, const rotated_token& x, Dot dot,
                            float* out) noexcept {
    constexpr std::size_t lanes = S::lanes;
    typename S::f32 sum[gemv_rows], rest[gemv_rows];
    for (std::size_t r = 0; r < gemv_rows; ++r) sum[r] = rest[r] = S::set(0.0f);
    // Every weight of a block is off by the same amount: half a step of the grid, less the bias of the dot product.
    const auto shift = S::set(w.weights->offset - static_cast<float>(S::weight_bias));
    for (std::size_t first = 0; first < w.blocks; first += gemv_blocks) {
        const std::size_t count = std::min(gemv_blocks, w.blocks - first);
        float factor[gemv_rows][gemv_blocks];
        for (std::size_t r = 0; r < gemv_rows; ++r) {
            load_norms<S>(rows.norms[r] + first, count, factor[r]);
            for (std::size_t i = 0; i < count; i += lanes) {
                const auto product = S::mul(S::load(factor[r] + i), S::load(x.scales + first + i));
                const auto sums = S::mul(S::to_f32(S::load_i32(x.sums + first + i)), shift);
                S::store(factor[r] + i, product);
                rest[r] = S::fma(product, sums, rest[r]);
            }
        }
        for (std::size_t i = 0; i < count; ++i) {
            const std::size_t at = (first + i) * w.block_bytes;
            const std::int8_t* bytes = x.bytes + (first + i) * w.block;
            HLWQ_UNROLL for (std::size_t r = 0; r < gemv_rows; ++r) {
                S::prefetch(ahead(rows.codes[r] + at));
                const auto lane = S::to_f32(dot(rows.codes[r] + at, bytes));
                sum[r] = S::fma(lane, S::set(factor[r][i]), sum[r]);
            }
        }
    }
    for (std::size_t r = 0; r < gemv_rows; ++r) {
        out[r] = S::reduce_add(S::add(sum[r], rest[r])) * w.weights->step;
    }
}

/// out[r] = row r of the group times x, in float. dot(packed, values) is the product of one block in lanes.
template <class S, class Dot>
HLWQ_INLINE void exact_group(const gemv_matrix& w, const gemv_group& rows, const rotated_token& x, Dot dot,
                             float* out) noexcept {
    typename S::f32 sum[gemv_rows];
    for (std::size_t r = 0; r < gemv_rows; ++r) sum[r] = S::set(0.0f);
    for (std::size_t first = 0; first < w.blocks; first += gemv_blocks) {
        const std::size_t count = std::min(gemv_blocks, w.blocks - first);
        float norm[gemv_rows][gemv_blocks];
        for (std::size_t r = 0; r < gemv_rows; ++r) load_norms<S>(rows.norms[r] + first, count, norm[r]);
        for (std::size_t i = 0; i < count; ++i) {
            const std::size_t at = (first + i) * w.block_bytes;
            const float* values = x.values + (first + i) * w.block;
            for (std::size_t r = 0; r < gemv_rows; ++r) {
                sum[r] = S::fma(dot(rows.codes[r] + at, values), S::set(norm[r][i]), sum[r]);
            }
        }
    }
    for (std::size_t r = 0; r < gemv_rows; ++r) out[r] = S::reduce_add(sum[r]);
}

/// Rows [begin, end) of y, begin a multiple of gemv_rows.
using rows_function = void (*)(const gemv_matrix& w, std::size_t begin, std::size_t end, const rotated_input& x,
                               matrix_view<float> y) noexcept;

/// Calls `dot` with a block from which `Overread` bytes beyond its end can be read: the block itself, or a copy where
/// the codes end before.
template <std::size_t Overread, class Dot>
HLWQ_INLINE auto with_margin(const gemv_matrix& w, const std::uint8_t* packed, Dot dot) noexcept {
    if constexpr (Overread != 0) {
        if (static_cast<std::size_t>(w.codes_end - packed) < w.block_bytes + Overread) {
            std::uint8_t copy[max_block + Overread] = {};
            std::memcpy(copy, packed, w.block_bytes);
            return dot(copy);
        }
    }
    return dot(packed);
}

/// Straight from the wire layout, blocks of 128.
/// promises: the codes go on for wire_reader::overread bytes behind row end - 1
template <class S, int Bits>
void wire_fast_rows_128(const gemv_matrix& w, std::size_t begin, std::size_t end, const rotated_input& x,
                        matrix_view<float> y) noexcept {
    const byte_codebook<S, Bits> look_up(*w.weights);
    const auto dot = [&](const std::uint8_t* packed, const std::int8_t* bytes) noexcept {
        return wire_dot<S, Bits>(packed, look_up, bytes, 128);
    };
    each_group(w, begin, end, x, y, [&](const gemv_group& rows, const rotated_token& token, float* out) noexcept {
        fast_group<S>(w, rows, token, dot, out);
    });
}

/// Straight from the wire layout, blocks of whole vectors of codes.
template <class S, int Bits>
void wire_fast_rows(const gemv_matrix& w, std::size_t begin, std::size_t end, const rotated_input& x,
                    matrix_view<float> y) noexcept {
    const byte_codebook<S, Bits> look_up(*w.weights);
    const auto dot = [&](const std::uint8_t* packed, const std::int8_t* bytes) noexcept {
        return with_margin<wire_reader<S, Bits>::overread>(
            w, packed, [&](const std::uint8_t* p) noexcept { return wire_dot<S, Bits>(p, look_up, bytes, w.block); });
    };
    each_group(w, begin, end, x, y, [&](const gemv_group& rows, const rotated_token& token, float* out) noexcept {
        fast_group<S>(w, rows, token, dot, out);
    });
}
template <class S, int Bits>
void wire_exact_rows(const gemv_matrix& w, std::size_t begin, std::size_t end, const rotated_input& x,
                     matrix_view<float> y) noexcept {
    const auto dot = [&](const std::uint8_t* packed, const float* values) noexcept {
        return with_margin<wire_reader<S, Bits>::overread>(w, packed, [&](const std::uint8_t* p) noexcept {
            return wire_dot<S, Bits>(p, w.centroids, values, w.block);
        });
    };
    each_group(w, begin, end, x, y, [&](const gemv_group& rows, const rotated_token& token, float* out) noexcept {
        exact_group<S>(w, rows, token, dot, out);
    });
}

/// Any layout, unpacked first. Fast: blocks of whole vectors of codes. Exact: of whole vectors of floats.
template <class S, int Bits>
void unpacked_fast_rows(const gemv_matrix& w, std::size_t begin, std::size_t end, const rotated_input& x,
                        matrix_view<float> y) noexcept {
    const byte_codebook<S, Bits> look_up(*w.weights);
    const auto dot = [&](const std::uint8_t* packed, const std::int8_t* bytes) noexcept {
        std::uint8_t codes[max_block];
        w.unpack(packed, codes, w.block);
        return codes_dot<S, Bits>(codes, look_up, bytes, w.block);
    };
    each_group(w, begin, end, x, y, [&](const gemv_group& rows, const rotated_token& token, float* out) noexcept {
        fast_group<S>(w, rows, token, dot, out);
    });
}
template <class S, int Bits>
void unpacked_exact_rows(const gemv_matrix& w, std::size_t begin, std::size_t end, const rotated_input& x,
                         matrix_view<float> y) noexcept {
    const auto dot = [&](const std::uint8_t* packed, const float* values) noexcept {
        std::uint8_t codes[max_block];
        w.unpack(packed, codes, w.block);
        return codes_dot<S, Bits>(codes, w.centroids, values, w.block);
    };
    each_group(w, begin, end, x, y, [&](const gemv_group& rows, const rotated_token& token, float* out) noexcept {
        exact_group<S>(w, rows, token, dot, out);
    });
}

/// Plain loops: the scalar backend, and blocks below a vector.
template <precision Mode>
void plain_rows(const gemv_matrix& w, std::size_t begin, std::size_t end, const rotated_input& x,
                matrix_view<float> y) noexcept {
    for (std::size_t row = begin; row < end; ++row) {
        for (std::size_t token = 0; token < y.rows; ++token) {
            const rotated_token in = x.token(token);
            float sum = 0.0f;
            for (std::size_t b = 0; b < w.blocks; ++b) {
                std::uint8_t codes[max_block];
                w.unpack(w.codes + row * w.row_bytes + b * w.block_bytes, codes, w.block);
                const auto norm = static_cast<float>(w.norms[row * w.blocks + b]);
                if constexpr (Mode == precision::fast) {
                    const std::int32_t dot = plain_dot(codes, w.weights->weight, in.bytes + b * w.block, w.block);
                    const float rest = w.weights->offset * static_cast<float>(in.sums[b]);
                    sum += norm * in.scales[b] * (static_cast<float>(dot) + rest);
                } else {
                    sum += norm * plain_dot(codes, w.centroids, in.values + b * w.block, w.block);
                }
            }
            y.row(token)[row] = Mode == precision::fast ? sum * w.weights->step : sum;
        }
    }
}

/// The row loops for a format: `rows` everywhere; `inner`, where it is set, for rows behind which the codes go on for
/// `overread` bytes.
struct gemv_plan {
    rows_function rows = nullptr;
    rows_function inner = nullptr;
    std::size_t overread = 0;
};

template <class S, class Layout>
gemv_plan plan_gemv(precision mode, std::size_t block) noexcept {
    constexpr int bits = Layout::bits;
    const bool fast = mode == precision::fast;
    if constexpr (has_vectors<S>) {
        if constexpr (Layout::id == layout_id::wire) {
            if (fast && block == 128) {
                return {wire_fast_rows<S, bits>, wire_fast_rows_128<S, bits>, wire_reader<S, bits>::overread};
            }
            if (block >= S::bytes) return {fast ? wire_fast_rows<S, bits> : wire_exact_rows<S, bits>};
        }
        if (fast && block >= S::bytes) return {unpacked_fast_rows<S, bits>};
        if (!fast && block >= S::lanes) return {unpacked_exact_rows<S, bits>};
    }
    return {fast ? plain_rows<precision::fast> : plain_rows<precision::exact>};
}

inline void check_gemv(const packed_matrix_view& w, const rotated_input& x) {
    check(w, "gemv weights");
    HLWQ_EXPECTS(x.cols() == w.cols, shape_error, "gemv input: columns", w.cols, x.cols());
    HLWQ_EXPECTS(x.block() == w.format.block, shape_error, "gemv input: block size", w.format.block, x.block());
    HLWQ_EXPECTS(x.signs() == w.format.signs, shape_error, "gemv input: column signs", "those of the weights",
                 x.signs().enabled ? "signs of seed " + to_text(x.signs().seed) : std::string("none"));
}

}  // namespace detail

/// y[token][row] = product of row `row` of w with that token of x. y has a row for each token of x and a column for
/// each row of w.
template <simd::backend S = simd::native, executor E = serial_executor>
void gemv(const packed_matrix_view& w, const rotated_input& x, matrix_view<float> y, E&& ex = {}) {
    detail::check_gemv(w, x);
    HLWQ_EXPECTS(y.cols == w.rows, shape_error, "gemv output: columns", w.rows, y.cols);
    HLWQ_EXPECTS(y.rows == x.tokens(), shape_error, "gemv output: tokens", x.tokens(), y.rows);

    detail::gemv_matrix m{};
    detail::gemv_plan plan{};
    with_format(w.format, [&]<class Layout>() {
        m.unpack = detail::unpack_any<Layout>;
        m.block_bytes = Layout::block_bytes(w.format.block);
        plan = detail::plan_gemv<S, Layout>(x.mode(), w.format.block);
    });
    byte_centroids weights;
    if (x.mode() == precision::fast) weights = make_byte_centroids(w.centroids);
    m.codes = reinterpret_cast<const std::uint8_t*>(w.codes.data());
    m.codes_end = m.codes + w.codes.size();
    m.norms = w.norms.data();
    m.centroids = w.centroids.data();
    m.weights = &weights;
    m.block = w.format.block;
    m.blocks = w.format.blocks_per_row(w.cols);
    m.row_bytes = m.blocks * m.block_bytes;

    // From the rows behind `inner_end` a whole vector could reach beyond the codes.
    constexpr std::size_t group = detail::gemv_rows;
    std::size_t inner_end = 0;
    if (plan.inner != nullptr && m.row_bytes != 0) {
        const std::size_t last = (plan.overread + m.row_bytes - 1) / m.row_bytes;
        inner_end = w.rows > last ? (w.rows - last) / group * group : 0;
    }
    // A region costs as much as the product of some 16 KiB of codes.
    const std::size_t grain = group * (16384 / (group * m.row_bytes + 1) + 1);
    ex.parallel_for(w.rows, grain, [&](std::size_t begin, std::size_t end, unsigned) noexcept {
        const std::size_t middle = std::clamp(inner_end, begin, end);
        if (begin < middle) plan.inner(m, begin, middle, x, y);
        if (middle < end) plan.rows(m, middle, end, x, y);
    });
}

/// The same for a single token: y[row], one for each row of w.
template <simd::backend S = simd::native, executor E = serial_executor>
void gemv(const packed_matrix_view& w, const rotated_input& x, std::span<float> y, E&& ex = {}) {
    HLWQ_EXPECTS(y.size() == w.rows, shape_error, "gemv output", w.rows, y.size());
    gemv<S>(w, x, matrix_view<float>(y.data(), 1, y.size()), ex);
}

}  // namespace hlwq::inline HLWQ_CODE_NAMESPACE
