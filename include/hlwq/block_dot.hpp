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
// Codes come from memory a vector at a time where a reader for the layout exists (code_reader.hpp), else through
// `unpack_block`. The plain loops serve the scalar backend, where arrays that play vector are some 17 times slower,
// and blocks that are shorter than a vector of codes.
//
//   reads    a reader loads whole vectors and so touches up to `overread` bytes behind a block, which must be readable;
//            everything else reads the block's bytes and no other
//   error    of the grid, relative to N(0,1): at most 0.0036 at 2 to 4 bits, 0.0083 at 5 and 6, 0.012 at 7 and 8, where
//            it is no longer small against the error of the codebook (0.013 and 0.006) and `fast` is too coarse; with
//            low bytes at most 0.00003
#pragma once

#include "hlwq/code_reader.hpp"
#include "hlwq/codebook.hpp"
#include "hlwq/config.hpp"
#include "hlwq/layout.hpp"
#include "hlwq/packed_matrix.hpp"
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
#include <utility>

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

/// The byte planes of `byte_centroids`, plus the bias of the dot product, repeated until 256 entries are full.
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

/// How the byte of a negative centroid follows from that of its mirror image; bias and all, modulo 256.
enum class table_fold : std::uint8_t {
    none,        // in no way that is known
    complement,  // ~w in the plane of weights, -low in that of low bytes: symmetric, on the half-integer grid
    negation,    // -w, -low: symmetric, on whole numbers
};

/// The tables of `split_codebook`: the byte of a code is the exclusive or over all sets of its upper bits that are set.
struct split_tables {
    biased_planes planes;
    table_fold fold = table_fold::none;

    split_tables() = default;
    split_tables(const biased_planes& by_code, int bits) noexcept {
        const std::size_t levels = std::size_t{1} << bits, half = levels / 2;
        const auto code = [&](std::size_t stored) { return stored < half ? half + stored : levels - 1 - stored; };
        bool complement = bits > 4, negation = bits > 4;
        for (std::size_t k = 0; k < half; ++k) {
            const std::uint8_t high = by_code.high[half + k], mirror = by_code.high[half - 1 - k];
            const bool low = ((by_code.low[half + k] + by_code.low[half - 1 - k]) & 0xff) == 0;
            complement = complement && low && (high ^ mirror) == 0xff;
            negation = negation && low && ((high + mirror) & 0xff) == 0;
        }
        fold = complement ? table_fold::complement : negation ? table_fold::negation : table_fold::none;
        const auto differences = [&](const std::uint8_t(&from)[256], std::uint8_t(&to)[256]) {
            for (std::size_t k = 0; k < 256; ++k) to[k] = from[code(k % levels)];
            for (std::size_t bit = 16; bit < levels; bit *= 2) {
                for (std::size_t k = 0; k < levels; ++k) {
                    if ((k & bit) != 0) to[k] = static_cast<std::uint8_t>(to[k] ^ to[k - bit]);
                }
            }
        };
        differences(by_code.high, planes.high);
        differences(by_code.low, planes.low);
    }
};

}  // namespace detail

/// The layout from which products of a format are fastest with the vectors of S: wire where bytes can be permuted
/// (planes gain a tenth at 2 and 4 bits there and lose a third elsewhere), and planes elsewhere, 1.3 to 2.8 times as
/// fast, for blocks that can be laid out so.
template <simd::backend S = simd::native>
constexpr layout_id preferred_layout(const block_format& format) noexcept {
    const bool planes = detail::has_vectors<S> && !S::has_byte_permute && format.block % hlwq::planes<1>::unit == 0;
    return planes ? layout_id::planes : layout_id::wire;
}

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

/// The same for split codes. Fold: how the entries of the negative half follow from the others.
template <class S, int Bits, detail::table_fold Fold>
class split_codebook {
    using split = split_codes<S, Bits>;
    static constexpr bool folds = Fold != detail::table_fold::none;
    static constexpr std::size_t choices = split::masks - (folds ? 1 : 0);  // masks that choose among tables
    static_assert(!folds || Bits > 4);

  public:
    HLWQ_INLINE explicit split_codebook(const std::uint8_t (&table)[256]) noexcept {
        for (std::size_t k = 0; k < tables; ++k) table_[k] = S::load_dup16(table + 16 * k);
    }

    HLWQ_INLINE typename S::u8 operator()(const split& codes) const noexcept {
        auto found = S::shuffle16(table_[0], codes.index);
        // The mask of a set of bits: that of the set without its lowest bit, and that bit's.
        typename S::u8 mask[tables];
        HLWQ_UNROLL for (std::size_t k = 1; k < tables; ++k) {
            const std::size_t rest = k & (k - 1);
            const auto lowest = codes.mask[std::countr_zero(k)];
            mask[k] = rest == 0 ? lowest : S::and_(mask[rest], lowest);
            found = S::xor_(found, S::and_(S::shuffle16(table_[k], codes.index), mask[k]));
        }
        if constexpr (folds) {
            const auto negative = codes.mask[split::masks - 1];
            found = S::xor_(found, negative);
            if constexpr (Fold == detail::table_fold::negation) found = S::sub_u8(found, negative);
        }
        return found;
    }

  private:
    static constexpr std::size_t tables = std::size_t{1} << choices;
    typename S::u8 table_[tables];
};

namespace detail {

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

/// The same for split codes.
template <class S, int Bits, precision Mode, table_fold Fold>
struct split_codebooks {
    struct nothing {
        HLWQ_INLINE explicit nothing(const std::uint8_t (&)[256]) noexcept {}
    };
    static constexpr table_fold low_fold = Fold == table_fold::none ? Fold : table_fold::negation;
    split_codebook<S, Bits, Fold> high;
    std::conditional_t<Mode == precision::precise, split_codebook<S, Bits, low_fold>, nothing> low;

    HLWQ_INLINE explicit split_codebooks(const biased_planes& tables) noexcept : high(tables.high), low(tables.low) {}

    HLWQ_INLINE void add(const split_codes<S, Bits>& codes, const std::int8_t* bytes, const std::int8_t* low_bytes,
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

/// Calls f.operator()<Fold>() with the fold of tables for that many bits.
template <int Bits, class F>
void with_fold(table_fold fold, F f) {
    if constexpr (Bits > 4) {
        if (fold == table_fold::complement) return f.template operator()<table_fold::complement>();
        if (fold == table_fold::negation) return f.template operator()<table_fold::negation>();
    }
    f.template operator()<table_fold::none>();
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

// ---- straight from the planes layout

template <class S, int Bits, precision Mode, table_fold Fold, std::size_t... V>
HLWQ_INLINE void add_unit(const std::uint8_t* unit, const split_codebooks<S, Bits, Mode, Fold>& look_up,
                          const std::int8_t* bytes, const std::int8_t* low_bytes, block_sums<S, Mode>& sums,
                          std::index_sequence<V...>) noexcept {
    // Not by a lambda for each vector: what that captures by reference, gcc 12 keeps in memory.
    (look_up.add(plane_reader<S, Bits>::template read<V>(unit), bytes + V * S::bytes, low_bytes + V * S::bytes, sums),
     ...);
}

template <class S, int Bits, precision Mode, table_fold Fold>
HLWQ_INLINE block_sums<S, Mode> plane_dot(const std::uint8_t* packed,
                                          const split_codebooks<S, Bits, Mode, Fold>& look_up, const std::int8_t* bytes,
                                          const std::int8_t* low_bytes, std::size_t block) noexcept {
    using layout = planes<Bits>;
    block_sums<S, Mode> sums;
    for (std::size_t i = 0; i < block; i += layout::unit) {
        add_unit<S, Bits, Mode, Fold>(packed + i / layout::unit * layout::unit_bytes, look_up, bytes + i, low_bytes + i,
                                      sums, std::make_index_sequence<plane_reader<S, Bits>::vectors>{});
    }
    return sums;
}

}  // namespace detail

/// One packed block times one block of rotated values: sum of centroids[code] * values. Reads the block's bytes only.
/// promises: block a power of two from 8 to 4096 that Layout allows; 2^bits centroids
template <class S, class Layout>
float block_dot(const std::uint8_t* packed, const float* centroids, const float* values, std::size_t block) noexcept {
    std::uint8_t codes[max_block];
    detail::unpack_any<S, Layout>(packed, codes, block);
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
            block_sums<S, Mode> lanes;
            if constexpr (Layout::id == layout_id::planes) {
                const split_tables tables(planes, bits);
                with_fold<bits>(tables.fold, [&]<table_fold Fold>() {
                    const split_codebooks<S, bits, Mode, Fold> look_up(tables.planes);
                    lanes = plane_dot<S, bits, Mode, Fold>(packed, look_up, bytes, low_bytes, block);
                });
            } else if constexpr (Layout::id == layout_id::wire) {
                const plane_codebooks<S, bits, Mode> look_up(planes);
                lanes = wire_dot<S, bits, Mode>(packed, look_up, bytes, low_bytes, block);
            } else {
                const plane_codebooks<S, bits, Mode> look_up(planes);
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
