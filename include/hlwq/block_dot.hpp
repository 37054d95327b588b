// hlwq/block_dot.hpp — the atom of every product: one packed block times one block of rotated input
//
//   exact    sum_i centroids[code_i] * values_i             float, every layout, every width, every block size
//   fast     sum_i w_i * bytes_i                            int32, exactly the same number in every backend
//   precise  the same, and a second number that counts 254ths of it:
//            sum_i w_i * low_bytes_i + low_i * bytes_i      int32, exactly the same number in every backend
//
// In the integer forms centroids lie on a grid: centroid ~ step * (w + offset + low / 254), w and low from -127 to 127,
// offset 0 or 1/2, `byte_centroids`; fast leaves low out. The sum of the input bytes, which rotated_input keeps, times
// the offset completes the product. What precise leaves out is low_i * low_bytes_i, 1 / 254^2 of it.
// A backend whose dot product takes unsigned weights stores w + 128 and takes 128 times the same sum off again.
//
// Codes come from memory a vector at a time where a reader for the layout exists (`wire_reader`), else through
// `unpack_block`. The plain loops serve the scalar backend, where arrays that play vector are some 17 times slower,
// and blocks that are shorter than a vector of codes.
//
//   reads    a reader loads whole vectors and so touches up to `overread` bytes behind a block, which must be readable;
//            everything else reads the block's bytes and no other
//   error    of the grid, relative to N(0,1): at most 0.0036 at 2 to 4 bits, 0.0083 at 5 and 6, 0.012 at 7 and 8, where
//            it is no longer small against the error of the codebook (0.013 and 0.006) and `fast` is too coarse; with
//            low bytes at most 0.00003
#pragma once

#include "hlwq/codebook.hpp"
#include "hlwq/config.hpp"
#include "hlwq/layout.hpp"
#include "hlwq/packing.hpp"
#include "hlwq/rotated_input.hpp"
#include "hlwq/simd/backend.hpp"

#include <algorithm>
#include <bit>
#include <cmath>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <type_traits>

namespace hlwq {

/// Centroids as integers: centroid[k] ~ step * (weight[k] + offset + low[k] / 254).
struct byte_centroids {
    std::int8_t weight[256] = {};
    std::int8_t low[256] = {};
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
        const double whole = std::clamp(grid.offset == 0.0 ? std::nearbyint(place) : std::floor(place), -127.0, 127.0);
        const double rest = std::nearbyint((place - whole - grid.offset) * detail::low_steps);
        result.weight[k] = static_cast<std::int8_t>(whole);
        result.low[k] = static_cast<std::int8_t>(std::clamp(rest, -127.0, 127.0));
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

/// The planes of `byte_centroids`, plus the bias of the dot product, repeated until 256 entries are full.
struct biased_planes {
    alignas(64) std::uint8_t high[256], low[256];

    biased_planes() = default;
    biased_planes(const byte_centroids& centroids, int bits, int bias) noexcept {
        const std::size_t levels = std::size_t{1} << bits;
        for (std::size_t k = 0; k < 256; ++k) {
            high[k] = static_cast<std::uint8_t>(centroids.weight[k % levels] + bias);
            low[k] = static_cast<std::uint8_t>(centroids.low[k % levels] + bias);
        }
    }
};

}  // namespace detail

/// Codes to bytes: a table of 2^Bits bytes, repeated until 256 are full, in registers. Bits of a code above the lowest
/// `Bits` are ignored where `any_high_bits` says so, else they must be zero.
template <class S, int Bits>
class byte_codebook {
    static constexpr bool permutes = S::has_byte_permute;
    static constexpr std::size_t per_piece = permutes ? 64 : 16;
    static constexpr std::size_t levels = std::size_t{1} << Bits;
    static constexpr std::size_t pieces = levels <= per_piece ? 1 : levels / per_piece;

  public:
    static constexpr bool any_high_bits = permutes;

    HLWQ_INLINE explicit byte_codebook(const std::uint8_t (&table)[256]) noexcept {
        for (std::size_t k = 0; k < pieces; ++k) {
            const std::uint8_t* piece = table + k * per_piece;
            piece_[k] = permutes ? S::load_u8(piece) : S::load_dup16(piece);
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

/// The integer sums of a block, still in lanes.
template <class S, precision Mode>
struct block_sums {
    typename S::i32 high = S::set_i32(0);
};
template <class S>
struct block_sums<S, precision::precise> {
    typename S::i32 high = S::set_i32(0);
    typename S::i32 low = S::set_i32(0);
};

/// The planes that a precision needs, in registers.
template <class S, int Bits, precision Mode>
struct plane_codebooks {
    struct nothing {
        HLWQ_INLINE explicit nothing(const std::uint8_t (&)[256]) noexcept {}
    };
    byte_codebook<S, Bits> high;
    std::conditional_t<Mode == precision::precise, byte_codebook<S, Bits>, nothing> low;

    HLWQ_INLINE explicit plane_codebooks(const biased_planes& planes) noexcept : high(planes.high), low(planes.low) {}

    HLWQ_INLINE void add(typename S::u8 codes, const std::int8_t* bytes, const std::int8_t* low_bytes,
                         block_sums<S, Mode>& sums) const noexcept {
        const auto x = S::load_i8(bytes);
        const auto weights = high(codes);
        S::dot4(sums.high, weights, x);
        if constexpr (Mode == precision::precise) {
            S::dot4(sums.low, weights, S::load_i8(low_bytes));
            S::dot4(sums.low, low(codes), x);
        }
    }
};

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

/// The sums of a block out of its lanes, without the bias that the weights carried; `sum` is that of the bytes.
template <class S>
HLWQ_INLINE std::int32_t unbiased_sum(typename S::i32 lanes, std::int32_t sum) noexcept {
    std::int32_t lane[S::lanes];
    S::store_i32(lane, lanes);
    std::int32_t total = -S::weight_bias * sum;
    for (const std::int32_t part : lane) total += part;
    return total;
}

// ---- codes in memory, one a byte

/// The sum of weight(i) * values[i .. i + lanes] in two chains, which every exact product shares.
/// promises: block a multiple of S::lanes
template <class S, class Weight>
HLWQ_INLINE typename S::f32 float_dot(Weight weight, const float* values, std::size_t block) noexcept {
    constexpr std::size_t lanes = S::lanes;
    auto sum = S::set(0.0f), other = S::set(0.0f);
    std::size_t i = 0;
    for (; i + 2 * lanes <= block; i += 2 * lanes) {
        sum = S::fma(weight(i), S::load(values + i), sum);
        other = S::fma(weight(i + lanes), S::load(values + i + lanes), other);
    }
    if (i < block) sum = S::fma(weight(i), S::load(values + i), sum);
    return S::add(sum, other);
}

/// promises: block a multiple of S::lanes
template <class S, int Bits>
HLWQ_INLINE typename S::f32 codes_dot(const std::uint8_t* codes, const float* centroids, const float* values,
                                      std::size_t block) noexcept {
    constexpr std::size_t levels = std::size_t{1} << Bits;
    return float_dot<S>(
        [&](std::size_t i) noexcept { return S::template lookup_f32<levels>(centroids, S::widen_u8(codes + i)); },
        values, block);
}

/// promises: block a multiple of S::bytes
template <class S, int Bits, precision Mode>
HLWQ_INLINE block_sums<S, Mode> codes_dot(const std::uint8_t* codes, const plane_codebooks<S, Bits, Mode>& look_up,
                                          const std::int8_t* bytes, const std::int8_t* low_bytes,
                                          std::size_t block) noexcept {
    block_sums<S, Mode> sums;
    for (std::size_t i = 0; i < block; i += S::bytes)
        look_up.add(S::load_u8(codes + i), bytes + i, low_bytes + i, sums);
    return sums;
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
template <class S, int Bits, precision Mode>
HLWQ_INLINE block_sums<S, Mode> wire_dot(const std::uint8_t* packed, const plane_codebooks<S, Bits, Mode>& look_up,
                                         const std::int8_t* bytes, const std::int8_t* low_bytes,
                                         std::size_t block) noexcept {
    using reader = wire_reader<S, Bits>;
    constexpr bool loose = byte_codebook<S, Bits>::any_high_bits;
    block_sums<S, Mode> sums;
    for (std::size_t i = 0; i < block; i += S::bytes, packed += reader::step) {
        look_up.add(loose ? reader::read_loose(packed) : reader::read(packed), bytes + i, low_bytes + i, sums);
    }
    return sums;
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

/// The two sums of a precise product: high + low / 254, in steps of the centroids times steps of the input.
struct precise_sum {
    std::int32_t high = 0;
    std::int32_t low = 0;
    friend constexpr bool operator==(const precise_sum&, const precise_sum&) = default;
};

namespace detail {

template <class S, class Layout, precision Mode>
precise_sum integer_block_dot(const std::uint8_t* packed, const byte_centroids& centroids, const std::int8_t* bytes,
                              const std::int8_t* low_bytes, precise_sum sums, std::size_t block) noexcept {
    constexpr int bits = Layout::bits;
    std::uint8_t codes[max_block];
    if constexpr (has_vectors<S>) {
        if (block >= S::bytes) {
            const biased_planes planes(centroids, bits, S::weight_bias);
            const plane_codebooks<S, bits, Mode> look_up(planes);
            block_sums<S, Mode> lanes;
            if constexpr (Layout::id == layout_id::wire) {
                lanes = wire_dot<S, bits, Mode>(packed, look_up, bytes, low_bytes, block);
            } else {
                unpack_block<Layout>(packed, codes, block);
                lanes = codes_dot<S, bits, Mode>(codes, look_up, bytes, low_bytes, block);
            }
            precise_sum found{unbiased_sum<S>(lanes.high, sums.high), 0};
            if constexpr (Mode == precision::precise) found.low = unbiased_sum<S>(lanes.low, sums.high + sums.low);
            return found;
        }
    }
    unpack_block<Layout>(packed, codes, block);
    precise_sum found{plain_dot(codes, centroids.weight, bytes, block), 0};
    if (Mode == precision::precise) {
        found.low =
            plain_dot(codes, centroids.weight, low_bytes, block) + plain_dot(codes, centroids.low, bytes, block);
    }
    return found;
}

}  // namespace detail

/// One packed block times one block of input bytes: sum of weight[code] * bytes, the same in every backend. `sum` is
/// that of the bytes. In the wire layout, blocks that hold a whole vector of codes are read by `wire_reader`, which may
/// touch `overread` bytes behind the block.
/// promises: block a power of two from 8 to 4096 that Layout allows; packed readable as said
template <class S, class Layout>
std::int32_t block_dot(const std::uint8_t* packed, const byte_centroids& centroids, const std::int8_t* bytes,
                       std::int32_t sum, std::size_t block) noexcept {
    return detail::integer_block_dot<S, Layout, precision::fast>(packed, centroids, bytes, bytes, {sum, 0}, block).high;
}

/// The same with low planes: beside that sum the one of weight[code] * low_bytes + low[code] * bytes. `sums` are those
/// of bytes and low_bytes.
/// promises: as above
template <class S, class Layout>
precise_sum block_dot(const std::uint8_t* packed, const byte_centroids& centroids, const std::int8_t* bytes,
                      const std::int8_t* low_bytes, precise_sum sums, std::size_t block) noexcept {
    return detail::integer_block_dot<S, Layout, precision::precise>(packed, centroids, bytes, low_bytes, sums, block);
}

}  // namespace HLWQ_CODE_NAMESPACE
}  // namespace hlwq
