// hlwq/block_dot.hpp — the atom of every product: one packed block times one block of rotated input
//
//   exact    sum_i centroids[code_i] * values_i             float, every layout, every width, every block size
//   fast     sum_i w_i * bytes_i                            int32, exactly the same number in every backend
//
// In the fast form centroids are integers from -127 to 127 on a grid: centroid = step * (w + offset), offset 0 or 1/2,
// `byte_centroids`. The sum of the input bytes, which rotated_input keeps, times the offset completes the product.
// A backend whose dot product takes unsigned weights stores w + 128 and takes 128 times the same sum off again.
//
// Codes come from memory a vector at a time where a reader for the layout exists (`wire_reader`), else through
// `unpack_block`. The plain loops serve the scalar backend, where arrays that play vector are some 17 times slower,
// and blocks that are shorter than a vector of codes.
//
//   reads    a reader loads whole vectors and so touches up to `overread` bytes behind a block, which must be readable;
//            everything else reads the block's bytes and no other
//   error    of the grid, relative to N(0,1): at most 0.0036 at 2 to 4 bits, 0.0083 at 5 and 6, 0.012 at 7 and 8, where
//            it is no longer small against the error of the codebook (0.013 and 0.006) and `exact` is the better choice
#pragma once

#include "hlwq/codebook.hpp"
#include "hlwq/config.hpp"
#include "hlwq/layout.hpp"
#include "hlwq/packing.hpp"
#include "hlwq/simd/backend.hpp"

#include <algorithm>
#include <bit>
#include <cmath>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <cstring>

namespace hlwq {

/// Centroids as integers: centroid[k] ~ step * (weight[k] + offset).
struct byte_centroids {
    std::int8_t weight[256] = {};
    float step = 0.0f;
    float offset = 0.0f;
};

inline namespace HLWQ_CODE_NAMESPACE {
namespace detail {

/// A grid for a codebook: the step is stretch * c / (127 + offset), c the largest magnitude.
struct byte_grid {
    double stretch;
    double offset;
};

// The grids with the least rms error under N(0,1), by search over the stretch in steps of 0.0005. A symmetric codebook
// has no zero, so the half-integer grid costs nothing; its stretch stays above 127.5 / 127, so that no weight is -128.
inline constexpr byte_grid byte_grids[3][8] = {
    {{1.0, 0.0}, {1.076, 0.5}, {1.1635, 0.5}, {1.1295, 0.5}, {1.056, 0.0}, {1.0905, 0.5}, {1.065, 0.0}, {1.007, 0.5}},
    {{1.0, 0.0}, {1.1545, 0.0}, {1.164, 0.5}, {1.1325, 0.5}, {1.0905, 0.0}, {1.0525, 0.0}, {1.004, 0.5}, {1.004, 0.5}},
    {{1.0, 0.0}, {1.076, 0.5}, {1.1635, 0.5}, {1.115, 0.5}, {1.037, 0.5}, {1.15, 0.0}, {1.0435, 0.5}, {1.0135, 0.5}},
};

/// The grid of a built-in table, whole numbers up to 127 for any other.
inline byte_grid grid_of(codebook_view centroids) noexcept {
    const int bits = codebook_bits(centroids);
    for (const auto id : {codebook_id::legacy_a, codebook_id::legacy_b, codebook_id::converged}) {
        const codebook_view table = codebook_table(id, bits);
        if (std::equal(table.begin(), table.end(), centroids.begin())) {
            return byte_grids[static_cast<std::size_t>(id)][bits - 1];
        }
    }
    return {1.0, 0.0};
}

}  // namespace detail

/// The integers of a codebook of 2, 4, ... 256 centroids.
inline byte_centroids make_byte_centroids(codebook_view centroids) noexcept {
    const detail::byte_grid grid = detail::grid_of(centroids);
    double most = 0.0;
    for (const float c : centroids) most = std::max(most, std::fabs(static_cast<double>(c)));
    const double step = grid.stretch * most / (127.0 + grid.offset);
    byte_centroids result;
    result.step = static_cast<float>(step);
    result.offset = static_cast<float>(grid.offset);
    for (std::size_t k = 0; k < centroids.size(); ++k) {
        const double place = step > 0.0 ? static_cast<double>(centroids[k]) / step : 0.0;
        const double whole = grid.offset == 0.0 ? std::nearbyint(place) : std::floor(place);
        result.weight[k] = whole >= -127.0 ? static_cast<std::int8_t>(std::min(whole, 127.0)) : std::int8_t{-127};
    }
    return result;
}

namespace detail {

/// Whether vectors are worth their name; the arrays of the scalar backend are not.
template <class S>
inline constexpr bool has_vectors = !std::same_as<S, simd::scalar_backend>;

struct byte_table {
    std::uint8_t at[64];
};

}  // namespace detail

/// Codes to byte centroids, plus the bias of the dot product: the table of `byte_centroids` in registers. Bits of a
/// code above the lowest `Bits` are ignored where `any_high_bits` says so, else they must be zero.
template <class S, int Bits>
class byte_codebook {
    static constexpr bool permutes = S::has_byte_permute;
    static constexpr std::size_t per_piece = permutes ? 64 : 16;
    static constexpr std::size_t levels = std::size_t{1} << Bits;
    static constexpr std::size_t pieces = levels <= per_piece ? 1 : levels / per_piece;

  public:
    static constexpr bool any_high_bits = permutes;

    HLWQ_INLINE explicit byte_codebook(const byte_centroids& centroids) noexcept {
        for (std::size_t k = 0; k < pieces; ++k) {
            std::uint8_t bytes[64];
            for (std::size_t i = 0; i < 64; ++i) {
                const std::size_t code = (k * per_piece + i % per_piece) % levels;
                bytes[i] = static_cast<std::uint8_t>(centroids.weight[code] + S::weight_bias);
            }
            piece_[k] = S::load_u8(bytes);
        }
    }

    HLWQ_INLINE typename S::u8 operator()(typename S::u8 code) const noexcept {
        if constexpr (permutes && Bits <= 6) {
            return S::permute_bytes(piece_[0], code);
        } else if constexpr (permutes && Bits == 7) {
            return S::permute_bytes2(piece_[0], piece_[1], code);
        } else if constexpr (permutes) {
            const auto low = S::permute_bytes2(piece_[0], piece_[1], code);
            const auto high = S::permute_bytes2(piece_[2], piece_[3], code);
            const auto top = S::bit_mask(code, S::set_u8(0x80));
            return S::xor_(low, S::and_(S::xor_(low, high), top));
        } else if constexpr (pieces == 1) {
            return S::shuffle16(piece_[0], code);
        } else {
            // A code finds its entry in one piece and zeros in the others.
            auto found = S::lookup16(piece_[0], code);
            HLWQ_UNROLL for (std::size_t k = 1; k < pieces; ++k) {
                const auto first = S::set_u8(static_cast<std::uint8_t>(16 * k));
                found = S::or_(found, S::lookup16(piece_[k], S::sub_u8(code, first)));
            }
            return found;
        }
    }

  private:
    typename S::u8 piece_[pieces];
};

/// Reads S::bytes codes at a time from the wire layout.
template <class S, int Bits>
struct wire_reader {
    /// Packed bytes of one vector of codes, and how far behind them a load reaches.
    static constexpr std::size_t step = S::bytes * Bits / 8;
    static constexpr std::size_t overread = Bits == 8 ? 0 : S::has_byte_permute ? S::bytes - step : 16 - 2 * Bits;

    /// The codes at `packed`, with anything in their bits above the lowest `Bits`.
    /// promises: packed readable for step + overread bytes
    static HLWQ_INLINE typename S::u8 read_loose(const std::uint8_t* packed) noexcept {
        if constexpr (Bits != 8 && S::has_byte_permute) {
            // Eight codes to a 64-bit word, first byte highest; the shifts bring each code down to its byte.
            alignas(64) static constexpr detail::byte_table gather = [] {
                detail::byte_table t{};
                for (std::size_t i = 0; i < 64; ++i) {
                    const std::size_t byte = i % 8;
                    t.at[i] = static_cast<std::uint8_t>(byte < Bits ? i / 8 * Bits + (Bits - 1 - byte) : 0);
                }
                return t;
            }();
            alignas(64) static constexpr detail::byte_table shift = [] {
                detail::byte_table t{};
                for (std::size_t i = 0; i < 64; ++i) t.at[i] = static_cast<std::uint8_t>(Bits * (7 - i % 8));
                return t;
            }();
            const auto words = S::permute_bytes(S::load_u8(packed), S::load_u8(gather.at));
            return S::multishift(words, S::load_u8(shift.at));
        } else {
            return read(packed);
        }
    }

    /// The codes at `packed`.
    /// promises: packed readable for step + overread bytes
    static HLWQ_INLINE typename S::u8 read(const std::uint8_t* packed) noexcept {
        constexpr std::size_t mask = (1u << Bits) - 1u;
        if constexpr (Bits == 8) {
            return S::load_u8(packed);
        } else if constexpr (S::has_byte_permute) {
            return S::and_(read_loose(packed), S::set_u8(static_cast<std::uint8_t>(mask)));
        } else {
            // 16 codes from 16 bytes, of which 2 * Bits count. Every code lies in the two bytes from its first bit on;
            // these become a 16-bit lane, and a product with a power of two shifts each lane by its own count.
            struct windows {
                detail::byte_table even, odd, even_shift, odd_shift, even_mask, odd_mask;
            };
            alignas(64) static constexpr windows t = [] {
                windows r{};
                const auto put = [](detail::byte_table& table, std::size_t lane, std::size_t word) {
                    table.at[2 * lane] = static_cast<std::uint8_t>(word & 0xff);
                    table.at[2 * lane + 1] = static_cast<std::uint8_t>(word >> 8);
                };
                for (std::size_t lane = 0; lane < 32; ++lane) {
                    for (const bool odd : {false, true}) {
                        const std::size_t bit = Bits * (lane % 8 * 2 + (odd ? 1 : 0)), byte = bit / 8, inner = bit % 8;
                        put(odd ? r.odd : r.even, lane, byte << 8 | (byte + 1));
                        put(odd ? r.odd_shift : r.even_shift, lane, std::size_t{1} << (odd ? inner : inner + Bits));
                    }
                    put(r.even_mask, lane, mask);
                    put(r.odd_mask, lane, mask << 8);
                }
                return r;
            }();
            const auto v = S::template load_blocks<2 * Bits>(packed);
            const auto even = S::mulhi16(S::shuffle16(v, S::load_u8(t.even.at)), S::load_u8(t.even_shift.at));
            const auto odd = S::template shr16<8 - Bits>(
                S::mullo16(S::shuffle16(v, S::load_u8(t.odd.at)), S::load_u8(t.odd_shift.at)));
            return S::or_(S::and_(even, S::load_u8(t.even_mask.at)), S::and_(odd, S::load_u8(t.odd_mask.at)));
        }
    }
};

namespace detail {

/// Restores the codes of one block, whatever its layout.
using unpack_function = void (*)(const std::uint8_t* packed, std::uint8_t* codes, std::size_t block) noexcept;

template <class Layout>
void unpack_any(const std::uint8_t* packed, std::uint8_t* codes, std::size_t block) noexcept {
    unpack_block<Layout>(packed, codes, block);
}

// ---- plain loops

HLWQ_INLINE float plain_dot(const std::uint8_t* codes, const float* centroids, const float* values,
                            std::size_t block) noexcept {
    float sum[4] = {};  // four chains, and less rounding than one
    for (std::size_t i = 0; i < block; i += 4) {
        for (std::size_t k = 0; k < 4; ++k) sum[k] += centroids[codes[i + k]] * values[i + k];
    }
    return (sum[0] + sum[2]) + (sum[1] + sum[3]);
}

HLWQ_INLINE std::int32_t plain_dot(const std::uint8_t* codes, const std::int8_t* weights, const std::int8_t* bytes,
                                   std::size_t block) noexcept {
    std::int32_t sum = 0;
    for (std::size_t i = 0; i < block; ++i) sum += weights[codes[i]] * bytes[i];
    return sum;
}

// ---- codes in memory, one a byte

/// promises: block a multiple of S::lanes
template <class S, int Bits>
HLWQ_INLINE typename S::f32 codes_dot(const std::uint8_t* codes, const float* centroids, const float* values,
                                      std::size_t block) noexcept {
    constexpr std::size_t lanes = S::lanes, levels = std::size_t{1} << Bits;
    auto sum = S::set(0.0f);
    for (std::size_t i = 0; i < block; i += lanes) {
        sum = S::fma(S::template lookup_f32<levels>(centroids, S::widen_u8(codes + i)), S::load(values + i), sum);
    }
    return sum;
}

/// promises: block a multiple of S::bytes
template <class S, int Bits>
HLWQ_INLINE typename S::i32 codes_dot(const std::uint8_t* codes, const byte_codebook<S, Bits>& look_up,
                                      const std::int8_t* bytes, std::size_t block) noexcept {
    auto sum = S::set_i32(0);
    for (std::size_t i = 0; i < block; i += S::bytes) {
        S::dot4(sum, look_up(S::load_u8(codes + i)), S::load_i8(bytes + i));
    }
    return sum;
}

// ---- straight from the wire layout

/// promises: block a multiple of S::bytes; packed readable wire_reader::overread bytes behind the block
template <class S, int Bits>
HLWQ_INLINE typename S::f32 wire_dot(const std::uint8_t* packed, const float* centroids, const float* values,
                                     std::size_t block) noexcept {
    using reader = wire_reader<S, Bits>;
    constexpr std::size_t lanes = S::lanes, levels = std::size_t{1} << Bits;
    auto sum = S::set(0.0f), other = S::set(0.0f);
    for (std::size_t i = 0; i < block; i += S::bytes, packed += reader::step) {
        alignas(64) std::uint8_t codes[S::bytes];
        S::store_u8(codes, reader::read(packed));
        HLWQ_UNROLL for (std::size_t k = 0; k < S::bytes; k += 2 * lanes) {
            const auto a = S::template lookup_f32<levels>(centroids, S::widen_u8(codes + k));
            const auto b = S::template lookup_f32<levels>(centroids, S::widen_u8(codes + k + lanes));
            sum = S::fma(a, S::load(values + i + k), sum);
            other = S::fma(b, S::load(values + i + k + lanes), other);
        }
    }
    return S::add(sum, other);
}

/// promises: as above
template <class S, int Bits>
HLWQ_INLINE typename S::i32 wire_dot(const std::uint8_t* packed, const byte_codebook<S, Bits>& look_up,
                                     const std::int8_t* bytes, std::size_t block) noexcept {
    using reader = wire_reader<S, Bits>;
    constexpr bool loose = byte_codebook<S, Bits>::any_high_bits;
    auto sum = S::set_i32(0);
    for (std::size_t i = 0; i < block; i += S::bytes, packed += reader::step) {
        const auto codes = loose ? reader::read_loose(packed) : reader::read(packed);
        S::dot4(sum, look_up(codes), S::load_i8(bytes + i));
    }
    return sum;
}

}  // namespace detail

/// One packed block times one block of rotated values: sum of centroids[code] * values. Reads the block's bytes only.
/// promises: block a power of two from 8 to 4096 that Layout allows; 2^bits centroids
template <class S, class Layout>
float block_dot(const std::uint8_t* packed, const float* centroids, const float* values, std::size_t block) noexcept {
    std::uint8_t codes[max_block];
    unpack_block<Layout>(packed, codes, block);
    if constexpr (detail::has_vectors<S>) {
        if (block >= S::lanes) {
            return S::reduce_add(detail::codes_dot<S, Layout::bits>(codes, centroids, values, block));
        }
    }
    return detail::plain_dot(codes, centroids, values, block);
}

/// One packed block times one block of input bytes: sum of weight[code] * bytes, the same in every backend. `sum` is
/// that of the bytes. In the wire layout, blocks that hold a whole vector of codes are read by `wire_reader`, which may
/// touch `overread` bytes behind the block.
/// promises: block a power of two from 8 to 4096 that Layout allows; packed readable as said
template <class S, class Layout>
std::int32_t block_dot(const std::uint8_t* packed, const byte_centroids& centroids, const std::int8_t* bytes,
                       std::int32_t sum, std::size_t block) noexcept {
    constexpr int bits = Layout::bits;
    if constexpr (detail::has_vectors<S>) {
        if (block >= S::bytes) {
            const byte_codebook<S, bits> look_up(centroids);
            typename S::i32 lanes = S::set_i32(0);
            if constexpr (Layout::id == layout_id::wire) {
                lanes = detail::wire_dot<S, bits>(packed, look_up, bytes, block);
            } else {
                std::uint8_t codes[max_block];
                unpack_block<Layout>(packed, codes, block);
                lanes = detail::codes_dot<S, bits>(codes, look_up, bytes, block);
            }
            std::int32_t lane[S::lanes];
            S::store_i32(lane, lanes);
            std::int32_t total = -S::weight_bias * sum;
            for (const std::int32_t part : lane) total += part;
            return total;
        }
    }
    std::uint8_t codes[max_block];
    unpack_block<Layout>(packed, codes, block);
    return detail::plain_dot(codes, centroids.weight, bytes, block);
}

}  // namespace HLWQ_CODE_NAMESPACE
}  // namespace hlwq
