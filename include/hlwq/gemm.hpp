// hlwq/gemm.hpp — Y = X W^T for many tokens: weights decoded once, integer dot products in a register tile
//
// `matmul` is the product for any number of tokens and picks the kernel: gemv (gemv.hpp) up to eight, where each token
// keeps the result that it has alone, gemm for more. With AVX-512 gemm is the faster one from three tokens on, for
// callers to whom the last digits do not matter.
//
// gemm takes 32 rows (two vectors of lanes) at a time. A panel of 512 columns is decoded to bytes and turned so that a
// vector holds four columns of one row in each lane:
//
//   tile[column / 4][row vector][lane][column % 4]
//
// One dot product of such a vector with the same four input bytes in every lane adds four columns to the sums of all
// its rows. Two row vectors times up to twelve tokens of sums stay in registers for a block; then norm (a lane each)
// times scale (one for the token) takes them to float. Precise makes three passes: high weights times high bytes, and
// crosswise high times low.
//
//   cost     decoding and turning a weight costs as much as the products of some five tokens; two thirds of the
//            processor's int8 peak from about 100 tokens on, precise a third of it
//   error    that of gemv; integers are the same, floats are added in another order. Of a token neither number nor
//            company of the others changes the result while the kernel stays the same
//   memory   up to 100 KiB of stack for each worker; nothing is allocated
//   threads  rows are divided; the result does not depend on the number of workers
//   formats  blocks from a vector of codes to 512 in precision fast and precise; everything else is a gemv
//   throws   as gemv
//
// Example
//   hlwq::rotated_input in(w.cols, hlwq::precision::precise, w.format, tokens);
//   hlwq::rotate_input(x, in, pool);
//   hlwq::matmul(w, in, y, hlwq::precision::fast, pool);
#pragma once

#include "hlwq/block_dot.hpp"
#include "hlwq/config.hpp"
#include "hlwq/executor.hpp"
#include "hlwq/gemv.hpp"
#include "hlwq/matrix_view.hpp"
#include "hlwq/packed_matrix.hpp"
#include "hlwq/rotated_input.hpp"
#include "hlwq/row_panel.hpp"
#include "hlwq/simd/backend.hpp"

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <utility>

namespace hlwq::inline HLWQ_CODE_NAMESPACE {
namespace detail {

/// Rows of a tile.
template <class S>
inline constexpr std::size_t gemm_rows = 2 * S::lanes;
/// Tokens of a register tile: their sums of two vectors, the weights, the input and what the dot product itself needs
/// fit into the registers.
template <class S>
inline constexpr std::size_t gemm_tokens = S::registers >= 32    ? 12
                                           : S::weight_bias != 0 ? 6
                                                                 : 4;
/// Tokens whose float sums are kept beside a tile; with more, weights are decoded again.
inline constexpr std::size_t gemm_chunk = 256;
/// Blocks whose norms are prepared at once: at least those of a panel.
inline constexpr std::size_t gemm_blocks = 16;

/// A plane of the input: the bytes of the first of some tokens, the scales and sums of their blocks. The same of the
/// next token lies `stride` bytes further on.
struct input_plane {
    const std::int8_t* bytes;
    const float* scales;
    const float* sums;
    std::size_t stride;

    static HLWQ_INLINE float at(const float* first, std::size_t bytes) noexcept {
        return *reinterpret_cast<const float*>(reinterpret_cast<const std::byte*>(first) + bytes);
    }
};

/// sums[token][row] += the product of some blocks. weights: [blocks * block / 4][2][S::bytes], norms: [blocks][rows];
/// every weight is off by `shift`.
using tile_function = void (*)(const std::uint8_t* weights, const float* norms, const input_plane& x, std::size_t block,
                               std::size_t blocks, float shift, float* sums) noexcept;

template <class S, std::size_t Tokens>
void multiply_tile(const std::uint8_t* weights, const float* norms, const input_plane& x, std::size_t block,
                   std::size_t blocks, float shift, float* sums) noexcept {
    for (std::size_t b = 0; b < blocks; ++b) {
        typename S::i32 low[Tokens], high[Tokens];
        HLWQ_UNROLL for (std::size_t t = 0; t < Tokens; ++t) low[t] = high[t] = S::set_i32(0);
        const std::int8_t* bytes = x.bytes + b * block;
        for (std::size_t k = 0; k < block; k += 4, weights += 2 * S::bytes) {
            const auto w0 = S::load_u8(weights), w1 = S::load_u8(weights + S::bytes);
            HLWQ_UNROLL for (std::size_t t = 0; t < Tokens; ++t) {
                const auto four = S::load_dup4(bytes + t * x.stride + k);
                S::dot4(low[t], w0, four);
                S::dot4(high[t], w1, four);
            }
        }
        const float* norm = norms + b * gemm_rows<S>;
        const auto norm0 = S::load(norm), norm1 = S::load(norm + S::lanes);
        HLWQ_UNROLL for (std::size_t t = 0; t < Tokens; ++t) {
            const auto scale = S::set(input_plane::at(x.scales + b, t * x.stride));
            const auto rest = S::mul(S::set(input_plane::at(x.sums + b, t * x.stride)), S::set(shift));
            float* sum = sums + t * gemm_rows<S>;
            S::store(sum, S::fma(S::fma(S::to_f32(low[t]), scale, rest), norm0, S::load(sum)));
            S::store(sum + S::lanes, S::fma(S::fma(S::to_f32(high[t]), scale, rest), norm1, S::load(sum + S::lanes)));
        }
    }
}

/// The tile for 1, 2, ... gemm_tokens tokens.
template <class S>
inline constexpr auto tile_functions = []<std::size_t... Less>(std::index_sequence<Less...>) {
    return std::array<tile_function, sizeof...(Less)>{multiply_tile<S, Less + 1>...};
}
(std::make_index_sequence<gemm_tokens<S>>{});

/// All tokens of a chunk times the panel, in tiles of nearly equal size.
template <class S>
HLWQ_INLINE void multiply_panel(const std::uint8_t* weights, const float* norms, input_plane x, std::size_t tokens,
                                std::size_t block, std::size_t blocks, float shift, float* sums) noexcept {
    const std::size_t tiles = (tokens + gemm_tokens<S> - 1) / gemm_tokens<S>;
    const auto next = [&](auto* p, std::size_t bytes) {
        return reinterpret_cast<decltype(p)>(reinterpret_cast<const std::byte*>(p) + bytes);
    };
    for (std::size_t tile = 0; tile < tiles; ++tile) {
        const std::size_t size = tokens / tiles + (tile < tokens % tiles ? 1 : 0);
        tile_functions<S>[size - 1](weights, norms, x, block, blocks, shift, sums);
        x = {next(x.bytes, size * x.stride), next(x.scales, size * x.stride), next(x.sums, size * x.stride), x.stride};
        sums += size * gemm_rows<S>;
    }
}

/// Bytes of S::lanes rows, `stride` apart, to one row vector of a tile.
template <class S>
HLWQ_INLINE void turn_rows(const std::uint8_t* rows, std::size_t stride, std::size_t columns,
                           std::uint8_t* tile) noexcept {
    for (std::size_t c = 0; c < columns; c += S::bytes) {
        typename S::u8 v[S::lanes];
        HLWQ_UNROLL for (std::size_t i = 0; i < S::lanes; ++i) v[i] = S::load_u8(rows + i * stride + c);
        S::transpose(v);
        HLWQ_UNROLL for (std::size_t i = 0; i < S::lanes; ++i)
            S::store_u8(tile + 2 * (c * S::lanes + i * S::bytes), v[i]);
    }
}

/// norms[block][row] of some blocks, and `low`, a 254th of them, where it is not null.
/// promises: count at most gemm_blocks
template <class S>
HLWQ_INLINE void turn_norms(const row_group<gemm_rows<S>>& rows, std::size_t first, std::size_t count, float* norms,
                            float* low) noexcept {
    for (std::size_t g = 0; g < gemm_rows<S>; g += S::lanes) {
        float row[S::lanes][gemm_blocks];
        for (std::size_t i = 0; i < S::lanes; ++i) load_norms<S>(rows.norms[g + i] + first, count, row[i]);
        for (std::size_t b = 0; b < count; b += S::lanes) {
            typename S::u8 v[S::lanes];
            HLWQ_UNROLL for (std::size_t i = 0; i < S::lanes; ++i) {
                v[i] = S::load_u8(reinterpret_cast<const std::uint8_t*>(row[i] + b));
            }
            S::transpose(v);
            HLWQ_UNROLL for (std::size_t i = 0; i < S::lanes; ++i) {
                S::store_u8(reinterpret_cast<std::uint8_t*>(norms + (b + i) * gemm_rows<S> + g), v[i]);
            }
        }
    }
    if (low == nullptr) return;
    for (std::size_t i = 0; i < count * gemm_rows<S>; i += S::lanes) {
        S::store(low + i, S::mul(S::load(norms + i), S::set(1.0f / low_steps)));
    }
}

/// Rows [begin, end) of y.
/// promises: w.decode set; block from S::bytes to 512
template <class S, precision Mode>
void tiled_rows(const product_matrix& w, std::size_t begin, std::size_t end, const rotated_tokens& x,
                matrix_view<float> y) noexcept {
    constexpr std::size_t tile_rows = gemm_rows<S>;
    constexpr bool precise = Mode == precision::precise;
    constexpr std::size_t planes = precise ? 2 : 1;
    alignas(64) std::uint8_t decoded[planes][S::lanes][panel_columns], weights[planes][tile_rows * panel_columns];
    alignas(64) float norms[planes][gemm_blocks * tile_rows], sums[gemm_chunk * tile_rows];
    constexpr auto bias = static_cast<float>(S::weight_bias);
    const float shift = w.weights.offset - bias;
    const std::size_t panel = panel_blocks(w.block), chunks = (y.rows + gemm_chunk - 1) / gemm_chunk;
    for (std::size_t row = begin; row < end; row += tile_rows) {
        const row_group<tile_rows> rows(w, row, end);
        for (std::size_t chunk = 0, first_token = 0; chunk < chunks; ++chunk) {
            const std::size_t tokens = y.rows / chunks + (chunk < y.rows % chunks ? 1 : 0);
            const rotated_token in = x.token(first_token);
            std::fill_n(sums, tokens * tile_rows, 0.0f);
            for (std::size_t first = 0; first < w.blocks; first += gemm_blocks) {
                const std::size_t count = std::min(gemm_blocks, w.blocks - first);
                turn_norms<S>(rows, first, count, norms[0], precise ? norms[planes - 1] : nullptr);
                for (std::size_t done = 0; done < count; done += panel) {
                    const std::size_t blocks = std::min(panel, count - done), at = first + done;
                    for (std::size_t g = 0; g < 2; ++g) {
                        w.decode(w, rows.codes + g * S::lanes, S::lanes, at * w.block_bytes, blocks, panel_columns,
                                 decoded[0][0], decoded[planes - 1][0]);
                        for (std::size_t p = 0; p < planes; ++p) {
                            turn_rows<S>(decoded[p][0], panel_columns, blocks * w.block, weights[p] + g * S::bytes);
                        }
                    }
                    const auto pass = [&](std::size_t plane, const std::int8_t* bytes, const float* input_sums,
                                          std::size_t norm, float off) {
                        multiply_panel<S>(weights[plane], norms[norm] + done * tile_rows,
                                          {bytes + at * w.block, in.scales + at, input_sums + at, x.token_bytes()},
                                          tokens, w.block, blocks, off, sums);
                    };
                    pass(0, in.bytes, in.sums, 0, shift);
                    if constexpr (precise) {
                        pass(0, in.low_bytes, in.low_sums, 1, shift);
                        pass(1, in.bytes, in.sums, 1, -bias);
                    }
                }
            }
            for (std::size_t t = 0; t < tokens; ++t) {
                float* const out = y.row(first_token + t).data() + row;
                for (std::size_t r = 0; r < rows.count; ++r) out[r] = sums[t * tile_rows + r] * w.weights.step;
            }
            first_token += tokens;
        }
    }
}

/// The tile kernel for a format, or none where products of several tokens are a gemv.
template <class S>
rows_function choose_gemm(const block_format& format, precision mode) noexcept {
    if constexpr (has_vectors<S>) {
        if (mode != precision::exact && format.block >= S::bytes && format.block <= panel_columns) {
            return mode == precision::fast ? tiled_rows<S, precision::fast> : tiled_rows<S, precision::precise>;
        }
    }
    return nullptr;
}

/// The product in tiles where there is a kernel for it, else row by row; `what` names it in messages.
template <class S>
planned_product plan_tiles(const packed_matrix_view& w, const rotated_tokens& x, matrix_view<float> y, precision mode,
                           const char* what) {
    const rows_function rows = choose_gemm<S>(w.format, mode);
    if (rows == nullptr) return plan_rows<S>(w, x, y, mode, what);
    const product_matrix m = make_product_matrix<S>(w, x, y, mode, what, []<class Layout>(const product_matrix&) {});
    return {m, {rows, nullptr, 0, gemm_rows<S>}, w.rows, x, y};
}

/// By the kernel that suits the number of tokens.
template <class S>
planned_product plan_product(const packed_matrix_view& w, const rotated_tokens& x, matrix_view<float> y, precision mode,
                             const char* what) {
    return y.rows <= gemv_tokens ? plan_rows<S>(w, x, y, mode, what) : plan_tiles<S>(w, x, y, mode, what);
}

}  // namespace detail

/// y[token][row] = product of row `row` of w with that token of x, by the kernel for many tokens where there is one.
template <simd::backend S = simd::native, executor E = serial_executor>
void gemm(const packed_matrix_view& w, const rotated_tokens& x, matrix_view<float> y, precision mode, E&& ex = {}) {
    detail::compute(detail::plan_tiles<S>(w, x, y, mode, "gemm"), ex);
}

/// y[token][row] = product of row `row` of w with that token of x, in a precision that x has: as `gemv`, bit for bit
/// the result of each token alone, for up to eight tokens, as `gemm` for more.
template <simd::backend S = simd::native, executor E = serial_executor>
void matmul(const packed_matrix_view& w, const rotated_tokens& x, matrix_view<float> y, precision mode, E&& ex = {}) {
    detail::compute(detail::plan_product<S>(w, x, y, mode, "matmul"), ex);
}

/// The same in the precision of x.
template <simd::backend S = simd::native, executor E = serial_executor>
void matmul(const packed_matrix_view& w, const rotated_tokens& x, matrix_view<float> y, E&& ex = {}) {
    matmul<S>(w, x, y, x.mode(), ex);
}

}  // namespace hlwq::inline HLWQ_CODE_NAMESPACE
