// hlwq/gemv.hpp — y = W x from packed codes
//
//   y[row] = sum_b norm[row][b] * dot(centroids[codes[row][b]], x_b)        (formats 8.1; x_b from rotated_input.hpp)
//
// The input is rotated once and shared; weights are read once, in order, four rows at a time. Of several tokens, up to
// eight share one reading of the weights, and each has the result that it would have alone, bit for bit.
//
//   cost     bits/8 + 2/block bytes a weight from memory. Straight from the wire layout and from planes, the faster of
//            which `preferred_layout` names; other layouts, and blocks that are shorter than a vector of codes (64 with
//            AVX-512), are unpacked first and cost several times as much
//   error    rms, as a share of the length of a row times that of x: fast 0.6 to 0.75 % at 2 to 5 bits, 1 % at 6 and 7,
//            1.2 % at 8 (block_dot.hpp says why); precise 0.005 % at every width; exact: rounding in float
//   threads  rows are divided; the result does not depend on the number of workers
//   reads    the bytes of the view and no other: codes may end where a page ends
//   throws   shape_error if sizes, blocks or signs disagree or the input lacks what the precision needs;
//            unsupported_error for a format that does not exist
//
// Example
//   hlwq::rotated_input in(w.cols, hlwq::precision::precise, w.format);
//   hlwq::rotate_input(x, in);
//   hlwq::gemv(w, in, y);
#pragma once

#include "hlwq/block_dot.hpp"
#include "hlwq/config.hpp"
#include "hlwq/error.hpp"
#include "hlwq/executor.hpp"
#include "hlwq/layout.hpp"
#include "hlwq/matrix_view.hpp"
#include "hlwq/packed_matrix.hpp"
#include "hlwq/rotated_input.hpp"
#include "hlwq/row_panel.hpp"
#include "hlwq/simd/backend.hpp"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>

namespace hlwq::inline HLWQ_CODE_NAMESPACE {

/// Tokens that share one reading of the codes.
inline constexpr std::size_t gemv_tokens = 8;

namespace detail {

/// Rows that are computed together, side by side, so that they share the loads of the input. Shares of workers begin at
/// multiples of it, so that a row has the same company, and the same result, whoever computes it.
inline constexpr std::size_t gemv_rows = 4;
/// How far behind the rows that are being read packed bytes are asked for: the slower the arithmetic, the farther the
/// processor's own look ahead falls short.
template <precision Mode>
inline constexpr std::size_t gemv_distance = Mode == precision::fast ? 2 * 1024 : 8 * 1024;
/// Blocks whose factors are prepared at once.
inline constexpr std::size_t gemv_blocks = 32;

/// y[row] for rows [begin, end); product(rows, out) computes the rows of a group.
template <class Product>
HLWQ_INLINE void each_group(const product_matrix& w, std::size_t begin, std::size_t end, std::span<float> y,
                            Product product) noexcept {
    for (std::size_t row = begin; row < end; row += gemv_rows) {
        const row_group<gemv_rows> rows(w, row, end);
        prefetch_norms(w, row + 4 * gemv_rows, gemv_rows);
        float out[gemv_rows];
        product(rows, out);
        std::copy(out, out + rows.count, y.data() + row);
    }
}

/// The product of a row with a token on its way: sums over blocks, still in lanes.
template <class S, precision Mode>
struct row_sums {
    typename S::f32 high = S::set(0.0f);
    typename S::f32 low = S::set(0.0f);   // precision precise, in 254ths
    typename S::f32 rest = S::set(0.0f);  // what the shift of the weights adds

    HLWQ_INLINE void add(const block_sums<S, Mode>& sums, float factor) noexcept {
        const auto f = S::set(factor);
        high = S::fma(S::to_f32(sums.high), f, high);
        if constexpr (Mode == precision::precise) low = S::fma(S::to_f32(sums.low), f, low);
    }
    HLWQ_INLINE typename S::f32 total(float step) const noexcept {
        auto sum = S::add(high, rest);
        if constexpr (Mode == precision::precise) sum = S::fma(low, S::set(1.0f / low_steps), sum);
        return S::mul(sum, S::set(step));
    }
};

/// out[r] = the sum of the lanes of sums(r).
template <class S, class Sums>
HLWQ_INLINE void reduce_rows(Sums sums, float* out) noexcept {
    static_assert(gemv_rows == 4);
    S::reduce_add4(sums(0), sums(1), sums(2), sums(3), out);
}

/// out[r] = row r of the group times x, with int8 inputs. dot(packed, bytes, low_bytes) gives the block_sums of a
/// block; Block and BlockBytes are those of the matrix where they are known, else 0.
template <class S, precision Mode, std::size_t Block = 0, std::size_t BlockBytes = 0, class Dot>
HLWQ_INLINE void integer_group(const product_matrix& w, const row_group<gemv_rows>& rows, const rotated_token& x,
                               const weight_shift<S>& shift, prefetcher& ahead, Dot dot, float* out) noexcept {
    constexpr std::size_t lanes = S::lanes;
    const std::size_t block = Block != 0 ? Block : w.block, block_bytes = BlockBytes != 0 ? BlockBytes : w.block_bytes;
    const std::int8_t* const low_bytes = low_bytes_of<Mode>(x);
    row_sums<S, Mode> sum[gemv_rows];
    for (std::size_t first = 0; first < w.blocks; first += gemv_blocks) {
        const std::size_t count = std::min(gemv_blocks, w.blocks - first);
        alignas(64) float factor[gemv_rows][gemv_blocks];
        for (std::size_t i = 0; i < count; i += lanes) {
            const auto scale = S::load(x.scales + first + i);
            const auto rest = shift.template of<Mode>(x, first + i);
            HLWQ_UNROLL for (std::size_t r = 0; r < gemv_rows; ++r) {
                const auto norm = load_norms<S>(rows.norms[r] + first + i, count - i);
                S::store(factor[r] + i, S::mul(norm, scale));
                sum[r].rest = S::fma(norm, rest, sum[r].rest);
            }
        }
        const auto add = [&](std::size_t r, std::size_t i) {
            const std::size_t at = (first + i) * block_bytes, column = (first + i) * block;
            sum[r].add(dot(rows.codes[r] + at, x.bytes + column, low_bytes + column), factor[r][i]);
        };
        for (std::size_t i = 0; i < count; ++i) {
            ahead.next(gemv_rows * block_bytes);
            HLWQ_UNROLL for (std::size_t r = 0; r < gemv_rows; ++r) add(r, i);
        }
    }
    reduce_rows<S>([&](std::size_t r) { return sum[r].total(w.weights.step); }, out);
}

/// out[r] = row r of the group times x, in float. dot(packed, values) is the product of one block in lanes.
template <class S, class Dot>
HLWQ_INLINE void exact_group(const product_matrix& w, const row_group<gemv_rows>& rows, const rotated_token& x, Dot dot,
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
    reduce_rows<S>([&](std::size_t r) { return sum[r]; }, out);
}

/// Rows [begin, end) of y, begin a multiple of gemv_rows.
using rows_function = void (*)(const product_matrix& w, std::size_t begin, std::size_t end, const rotated_tokens& x,
                               matrix_view<float> y) noexcept;

// ---- one token

/// Straight from the wire layout, blocks of 128.
/// promises: the codes go on for wire_reader::overread bytes behind row end - 1
template <class S, int Bits, precision Mode>
void wire_rows_128(const product_matrix& w, std::size_t begin, std::size_t end, const rotated_tokens& x,
                   matrix_view<float> y) noexcept {
    const plane_codebooks<S, Bits, Mode> look_up(w.planes);
    const auto dot = [&](const std::uint8_t* packed, const std::int8_t* bytes, const std::int8_t* low_bytes) noexcept {
        return wire_dot<S, Bits, Mode>(packed, look_up, bytes, low_bytes, 128);
    };
    const rotated_token token = x.token(0);
    const weight_shift<S> shift(w.weights, Mode);
    prefetcher ahead(w, begin, end, gemv_rows, gemv_distance<Mode>);
    each_group(w, begin, end, y.row(0), [&](const row_group<gemv_rows>& rows, float* out) noexcept {
        integer_group<S, Mode, 128, wire<Bits>::block_bytes(128)>(w, rows, token, shift, ahead, dot, out);
    });
}

/// Straight from the wire layout, blocks of whole vectors of codes.
template <class S, int Bits, precision Mode>
void wire_rows(const product_matrix& w, std::size_t begin, std::size_t end, const rotated_tokens& x,
               matrix_view<float> y) noexcept {
    constexpr std::size_t overread = wire_reader<S, Bits>::overread;
    const rotated_token token = x.token(0);
    if constexpr (Mode == precision::exact) {
        const auto dot = [&](const std::uint8_t* packed, const float* values) noexcept {
            return with_margin<overread>(w, packed, w.block_bytes, [&](const std::uint8_t* p) noexcept {
                return wire_dot<S, Bits>(p, w.centroids, values, w.block);
            });
        };
        each_group(w, begin, end, y.row(0), [&](const row_group<gemv_rows>& rows, float* out) noexcept {
            exact_group<S>(w, rows, token, dot, out);
        });
    } else {
        const plane_codebooks<S, Bits, Mode> look_up(w.planes);
        const weight_shift<S> shift(w.weights, Mode);
        prefetcher ahead(w, begin, end, gemv_rows, gemv_distance<Mode>);
        const auto dot = [&](const std::uint8_t* packed, const std::int8_t* bytes,
                             const std::int8_t* low_bytes) noexcept {
            return with_margin<overread>(w, packed, w.block_bytes, [&](const std::uint8_t* p) noexcept {
                return wire_dot<S, Bits, Mode>(p, look_up, bytes, low_bytes, w.block);
            });
        };
        each_group(w, begin, end, y.row(0), [&](const row_group<gemv_rows>& rows, float* out) noexcept {
            integer_group<S, Mode>(w, rows, token, shift, ahead, dot, out);
        });
    }
}

/// Straight from the planes layout. Block: 128, or 0 where it is longer.
template <class S, int Bits, precision Mode, table_fold Fold, std::size_t Block>
void plane_rows(const product_matrix& w, std::size_t begin, std::size_t end, const rotated_tokens& x,
                matrix_view<float> y) noexcept {
    const split_codebooks<S, Bits, Mode, Fold> look_up(w.planes);
    const auto dot = [&](const std::uint8_t* packed, const std::int8_t* bytes, const std::int8_t* low_bytes) noexcept {
        return plane_dot<S, Bits, Mode, Fold>(packed, look_up, bytes, low_bytes, Block != 0 ? Block : w.block);
    };
    const rotated_token token = x.token(0);
    const weight_shift<S> shift(w.weights, Mode);
    prefetcher ahead(w, begin, end, gemv_rows, gemv_distance<Mode>);
    each_group(w, begin, end, y.row(0), [&](const row_group<gemv_rows>& rows, float* out) noexcept {
        integer_group<S, Mode, Block, planes<Bits>::block_bytes(Block)>(w, rows, token, shift, ahead, dot, out);
    });
}

/// Any layout, unpacked first: blocks of whole vectors of codes, exact of whole vectors of floats.
template <class S, int Bits, precision Mode>
void unpacked_rows(const product_matrix& w, std::size_t begin, std::size_t end, const rotated_tokens& x,
                   matrix_view<float> y) noexcept {
    const rotated_token token = x.token(0);
    if constexpr (Mode == precision::exact) {
        const auto dot = [&](const std::uint8_t* packed, const float* values) noexcept {
            std::uint8_t codes[max_block];
            w.unpack(packed, codes, w.block);
            return codes_dot<S, Bits>(codes, w.centroids, values, w.block);
        };
        each_group(w, begin, end, y.row(0), [&](const row_group<gemv_rows>& rows, float* out) noexcept {
            exact_group<S>(w, rows, token, dot, out);
        });
    } else {
        const plane_codebooks<S, Bits, Mode> look_up(w.planes);
        const weight_shift<S> shift(w.weights, Mode);
        prefetcher ahead(w, begin, end, gemv_rows, gemv_distance<Mode>);
        const auto dot = [&](const std::uint8_t* packed, const std::int8_t* bytes,
                             const std::int8_t* low_bytes) noexcept {
            std::uint8_t codes[max_block];
            w.unpack(packed, codes, w.block);
            return codes_dot<S, Bits, Mode>(codes, look_up, bytes, low_bytes, w.block);
        };
        each_group(w, begin, end, y.row(0), [&](const row_group<gemv_rows>& rows, float* out) noexcept {
            integer_group<S, Mode>(w, rows, token, shift, ahead, dot, out);
        });
    }
}

/// Plain loops, any number of tokens: the scalar backend, and blocks below a vector.
template <precision Mode>
void plain_rows(const product_matrix& w, std::size_t begin, std::size_t end, const rotated_tokens& x,
                matrix_view<float> y) noexcept {
    for (std::size_t row = begin; row < end; ++row) {
        for (std::size_t first = 0; first < y.rows; first += gemv_tokens) {
            const std::size_t tokens = std::min(gemv_tokens, y.rows - first);
            float sum[gemv_tokens] = {};
            for (std::size_t b = 0; b < w.blocks; ++b) {
                std::uint8_t codes[max_block];
                w.unpack(w.codes + row * w.row_bytes + b * w.block_bytes, codes, w.block);
                const auto norm = static_cast<float>(w.norms[row * w.blocks + b]);
                for (std::size_t t = 0; t < tokens; ++t) {
                    const rotated_token in = x.token(first + t);
                    if constexpr (Mode == precision::exact) {
                        sum[t] += norm * plain_dot(codes, w.centroids, in.values + b * w.block, w.block);
                    } else {
                        const std::int8_t* bytes = in.bytes + b * w.block;
                        auto dot = static_cast<float>(plain_dot(codes, w.weights.weight, bytes, w.block));
                        float bytes_sum = in.sums[b];
                        if constexpr (Mode == precision::precise) {
                            const std::int32_t low =
                                plain_dot(codes, w.weights.weight, in.low_bytes + b * w.block, w.block) +
                                plain_dot(codes, w.weights.low, bytes, w.block);
                            dot += static_cast<float>(low) * (1.0f / low_steps);
                            bytes_sum += in.low_sums[b] * (1.0f / low_steps);
                        }
                        sum[t] += norm * (in.scales[b] * dot + w.weights.offset * bytes_sum);
                    }
                }
            }
            for (std::size_t t = 0; t < tokens; ++t) {
                y.row(first + t)[row] = Mode == precision::exact ? sum[t] : sum[t] * w.weights.step;
            }
        }
    }
}

// ---- several tokens

/// A decoded panel: the weights of some rows, `stride` bytes apart, as one plane or two.
struct panel_view {
    const std::uint8_t* high;
    const std::uint8_t* low;
    std::size_t stride, block, blocks;
};

/// One token on its way through the panels of some rows.
template <class S, std::size_t Rows>
struct token_state {
    const std::int8_t* bytes;
    const std::int8_t* low_bytes;
    float factor[Rows][gemv_blocks];
    typename S::f32 high[Rows], low[Rows], rest[Rows];
};

/// Adds the products of a panel with some tokens, in registers: of `token[t].factor` those from `first` on belong to
/// it, as do bytes and low_bytes. Vectors: of codes in a block where that is known, else 0.
template <class S, precision Mode, std::size_t Rows, std::size_t Vectors, std::size_t Tokens>
void add_panel(const panel_view& w, token_state<S, Rows>* token, std::size_t first) noexcept {
    constexpr bool precise = Mode == precision::precise;
    typename S::f32 sum[Tokens][Rows], low_sum[Tokens][Rows];
    HLWQ_UNROLL for (std::size_t t = 0; t < Tokens; ++t) {
        HLWQ_UNROLL for (std::size_t r = 0; r < Rows; ++r) {
            sum[t][r] = token[t].high[r];
            low_sum[t][r] = token[t].low[r];
        }
    }
    std::size_t column = 0;
    for (std::size_t b = 0; b < w.blocks; ++b) {
        typename S::i32 dot[Tokens][Rows], low_dot[Tokens][Rows];
        HLWQ_UNROLL for (std::size_t t = 0; t < Tokens; ++t) {
            HLWQ_UNROLL for (std::size_t r = 0; r < Rows; ++r) dot[t][r] = low_dot[t][r] = S::set_i32(0);
        }
        const std::size_t vectors = Vectors != 0 ? Vectors : w.block / S::bytes;
        for (std::size_t v = 0; v < vectors; ++v, column += S::bytes) {
            HLWQ_UNROLL for (std::size_t r = 0; r < Rows; ++r) {
                const auto weights = S::load_u8(w.high + r * w.stride + column);
                HLWQ_UNROLL for (std::size_t t = 0; t < Tokens; ++t) {
                    const auto x = S::load_i8(token[t].bytes + column);
                    S::dot4(dot[t][r], weights, x);
                    if constexpr (precise) {
                        S::dot4(low_dot[t][r], weights, S::load_i8(token[t].low_bytes + column));
                        S::dot4(low_dot[t][r], S::load_u8(w.low + r * w.stride + column), x);
                    }
                }
            }
        }
        HLWQ_UNROLL for (std::size_t t = 0; t < Tokens; ++t) {
            HLWQ_UNROLL for (std::size_t r = 0; r < Rows; ++r) {
                const auto f = S::set(token[t].factor[r][first + b]);
                sum[t][r] = S::fma(S::to_f32(dot[t][r]), f, sum[t][r]);
                if constexpr (precise) low_sum[t][r] = S::fma(S::to_f32(low_dot[t][r]), f, low_sum[t][r]);
            }
        }
    }
    HLWQ_UNROLL for (std::size_t t = 0; t < Tokens; ++t) {
        HLWQ_UNROLL for (std::size_t r = 0; r < Rows; ++r) {
            token[t].high[r] = sum[t][r];
            token[t].low[r] = low_sum[t][r];
        }
    }
}

/// out[t][r] = row r of the group times token first_token + t, for up to gemv_tokens tokens: each float operation is
/// one of `integer_group`, in its order.
template <class S, precision Mode, std::size_t Vectors, std::size_t Rows>
HLWQ_INLINE void integer_tokens(const product_matrix& w, const row_group<Rows>& rows, const rotated_tokens& x,
                                std::size_t first_token, std::size_t tokens, float (*out)[Rows]) noexcept {
    constexpr std::size_t lanes = S::lanes;
    constexpr std::size_t stride = Vectors == 0 ? max_block : panel_columns;
    constexpr std::size_t planes = Mode == precision::precise ? 2 : 1;
    alignas(64) std::uint8_t weights[planes][Rows][stride];
    const weight_shift<S> shift(w.weights, Mode);
    const std::size_t panel = panel_blocks(w.block);
    rotated_token input[gemv_tokens];
    token_state<S, Rows> token[gemv_tokens];
    for (std::size_t t = 0; t < tokens; ++t) {
        input[t] = x.token(first_token + t);
        for (std::size_t r = 0; r < Rows; ++r) token[t].high[r] = token[t].low[r] = token[t].rest[r] = S::set(0.0f);
    }
    for (std::size_t first = 0; first < w.blocks; first += gemv_blocks) {
        const std::size_t count = std::min(gemv_blocks, w.blocks - first);
        float norm[Rows][gemv_blocks];
        for (std::size_t r = 0; r < Rows; ++r) load_norms<S>(rows.norms[r] + first, count, norm[r]);
        for (std::size_t t = 0; t < tokens; ++t) {
            for (std::size_t i = 0; i < count; i += lanes) {
                const auto scale = S::load(input[t].scales + first + i);
                const auto rest = shift.template of<Mode>(input[t], first + i);
                for (std::size_t r = 0; r < Rows; ++r) {
                    const auto n = S::load(norm[r] + i);
                    S::store(token[t].factor[r] + i, S::mul(n, scale));
                    token[t].rest[r] = S::fma(n, rest, token[t].rest[r]);
                }
            }
        }
        for (std::size_t done = 0; done < count; done += panel) {
            const std::size_t blocks = std::min(panel, count - done), at = first + done;
            w.decode(w, rows.codes, rows.count, at * w.block_bytes, blocks, stride, weights[0][0],
                     weights[planes - 1][0]);
            const panel_view view{weights[0][0], weights[planes - 1][0], stride, w.block, blocks};
            for (std::size_t t = 0; t < tokens; ++t) {
                token[t].bytes = input[t].bytes + at * w.block;
                token[t].low_bytes = low_bytes_of<Mode>(input[t]) + at * w.block;
            }
            // As many tokens at once as have room in the registers with their sums.
            constexpr std::size_t step = Mode == precision::fast && S::registers >= 32 ? 2 : 1;
            std::size_t t = 0;
            for (; t + step <= tokens; t += step) add_panel<S, Mode, Rows, Vectors, step>(view, token + t, done);
            for (; t < tokens; ++t) add_panel<S, Mode, Rows, Vectors, 1>(view, token + t, done);
        }
    }
    for (std::size_t t = 0; t < tokens; ++t) {
        reduce_rows<S>(
            [&](std::size_t r) {
                return row_sums<S, Mode>{token[t].high[r], token[t].low[r], token[t].rest[r]}.total(w.weights.step);
            },
            out[t]);
    }
}

/// The same in float, one row; each operation is one of `exact_group`.
template <class S>
HLWQ_INLINE void exact_tokens(const product_matrix& w, const row_group<1>& rows, const rotated_tokens& x,
                              std::size_t first_token, std::size_t tokens, float (*out)[1]) noexcept {
    typename S::f32 sum[gemv_tokens];
    for (std::size_t t = 0; t < tokens; ++t) sum[t] = S::set(0.0f);
    alignas(64) float weights[max_block];
    for (std::size_t b = 0; b < w.blocks; ++b) {
        w.decode_exact(w, rows.codes[0], b * w.block_bytes, 1, weights);
        const auto norm = S::set(static_cast<float>(rows.norms[0][b]));
        for (std::size_t t = 0; t < tokens; ++t) {
            const float* values = x.token(first_token + t).values + b * w.block;
            const auto product =
                float_dot<S>([&](std::size_t i) noexcept { return S::load(weights + i); }, values, w.block);
            sum[t] = S::fma(product, norm, sum[t]);
        }
    }
    for (std::size_t t = 0; t < tokens; ++t) {
        float all[gemv_rows];
        reduce_rows<S>([&](std::size_t) { return sum[t]; }, all);
        out[t][0] = all[0];
    }
}

/// Any layout and block that has a decoder.
template <class S, precision Mode, std::size_t Vectors>
void token_rows(const product_matrix& w, std::size_t begin, std::size_t end, const rotated_tokens& x,
                matrix_view<float> y) noexcept {
    constexpr std::size_t group = Mode == precision::exact ? 1 : gemv_rows;
    for (std::size_t row = begin; row < end; row += group) {
        const row_group<group> rows(w, row, end);
        for (std::size_t first = 0; first < y.rows; first += gemv_tokens) {
            const std::size_t tokens = std::min(gemv_tokens, y.rows - first);
            float out[gemv_tokens][group];
            if constexpr (Mode == precision::exact) {
                exact_tokens<S>(w, rows, x, first, tokens, out);
            } else {
                integer_tokens<S, Mode, Vectors, group>(w, rows, x, first, tokens, out);
            }
            for (std::size_t t = 0; t < tokens; ++t) {
                std::copy(out[t], out[t] + rows.count, y.row(first + t).data() + row);
            }
        }
    }
}

/// The row loops for a format: `rows` everywhere; `inner`, where it is set, for rows behind which the codes go on for
/// `overread` bytes. Shares of workers begin at multiples of `grain` rows.
struct gemv_plan {
    rows_function rows = nullptr;
    rows_function inner = nullptr;
    std::size_t overread = 0;
    std::size_t grain = gemv_rows;
};

template <class S, class Layout, precision Mode>
gemv_plan plan_gemv(const product_matrix& w, std::size_t tokens) noexcept {
    constexpr int bits = Layout::bits;
    if constexpr (has_vectors<S>) {
        if (tokens != 1) {
            if (Mode == precision::exact && w.decode_exact != nullptr) return {token_rows<S, Mode, 0>};
            if (Mode != precision::exact && w.decode != nullptr) {
                if (w.block == 128) return {token_rows<S, Mode, 128 / S::bytes>};
                return {token_rows<S, Mode, 0>};
            }
            return {plain_rows<Mode>};
        }
        if constexpr (Layout::id == layout_id::wire) {
            if constexpr (Mode != precision::exact) {
                if (w.block == 128) {
                    return {wire_rows<S, bits, Mode>, wire_rows_128<S, bits, Mode>, wire_reader<S, bits>::overread};
                }
            }
            if (w.block >= S::bytes) return {wire_rows<S, bits, Mode>};
        }
        if constexpr (Layout::id == layout_id::planes && Mode != precision::exact) {
            gemv_plan plan;
            with_fold<bits>(w.fold, [&]<table_fold Fold>() {
                plan.rows = w.block == 128 ? plane_rows<S, bits, Mode, Fold, 128> : plane_rows<S, bits, Mode, Fold, 0>;
            });
            return plan;
        }
        if (w.block >= (Mode == precision::exact ? S::lanes : S::bytes)) return {unpacked_rows<S, bits, Mode>};
    }
    return {plain_rows<Mode>};
}

/// A product that was checked and has its kernel: what remains is to compute its rows, in any division.
struct planned_product {
    product_matrix w;
    gemv_plan plan;
    std::size_t rows = 0;
    std::size_t inner_end = 0;  // from the rows behind it a whole vector could reach beyond the codes
    rotated_tokens x;
    matrix_view<float> y;

    planned_product() = default;
    planned_product(const product_matrix& m, const gemv_plan& chosen, std::size_t row_count, const rotated_tokens& in,
                    matrix_view<float> out) noexcept
        : w(m), plan(chosen), rows(out.rows != 0 ? row_count : 0), x(in), y(out) {
        if (plan.inner != nullptr && w.row_bytes != 0) {
            const std::size_t last = (plan.overread + w.row_bytes - 1) / w.row_bytes;
            inner_end = rows > last ? (rows - last) / gemv_rows * gemv_rows : 0;
        }
    }

    /// promises: begin a multiple of plan.grain
    void compute(std::size_t begin, std::size_t end) const noexcept {
        const std::size_t middle = std::clamp(inner_end, begin, end);
        if (begin < middle) plan.inner(w, begin, middle, x, y);
        if (middle < end) plan.rows(w, middle, end, x, y);
    }
};

/// The product row by row; `what` names it in messages.
template <class S>
planned_product plan_rows(const packed_matrix_view& w, const rotated_tokens& x, matrix_view<float> y, precision mode,
                          const char* what) {
    gemv_plan plan;
    const auto choose = [&]<class Layout>(const product_matrix& m) {
        plan = mode == precision::exact  ? plan_gemv<S, Layout, precision::exact>(m, y.rows)
               : mode == precision::fast ? plan_gemv<S, Layout, precision::fast>(m, y.rows)
                                         : plan_gemv<S, Layout, precision::precise>(m, y.rows);
    };
    const product_matrix m = make_product_matrix<S>(w, x, y, mode, what, choose);
    return {m, plan, w.rows, x, y};
}

/// Codes whose product takes as long as a region costs.
inline constexpr std::size_t region_bytes = 16384;

/// The product, its rows divided among the workers of `ex`.
template <class E>
void compute(const planned_product& p, E&& ex) {
    const std::size_t group = p.plan.grain * p.w.row_bytes;
    const std::size_t grain = p.plan.grain * (region_bytes / (group + 1) + 1);
    ex.parallel_for(p.rows, grain,
                    [&](std::size_t begin, std::size_t end, unsigned) noexcept { p.compute(begin, end); });
}

}  // namespace detail

/// y[token][row] = product of row `row` of w with that token of x, in a precision that x has. y has a row for each
/// token of x and a column for each row of w.
template <simd::backend S = simd::native, executor E = serial_executor>
void gemv(const packed_matrix_view& w, const rotated_tokens& x, matrix_view<float> y, precision mode, E&& ex = {}) {
    detail::compute(detail::plan_rows<S>(w, x, y, mode, "gemv"), ex);
}

/// The same in the precision of x.
template <simd::backend S = simd::native, executor E = serial_executor>
void gemv(const packed_matrix_view& w, const rotated_tokens& x, matrix_view<float> y, E&& ex = {}) {
    gemv<S>(w, x, y, x.mode(), ex);
}

/// The same for a single token: y[row], one for each row of w.
template <simd::backend S = simd::native, executor E = serial_executor>
void gemv(const packed_matrix_view& w, const rotated_tokens& x, std::span<float> y, E&& ex = {}) {
    HLWQ_EXPECTS(y.size() == w.rows, shape_error, "gemv output", w.rows, y.size());
    gemv<S>(w, x, matrix_view<float>(y.data(), 1, y.size()), x.mode(), ex);
}

}  // namespace hlwq::inline HLWQ_CODE_NAMESPACE
