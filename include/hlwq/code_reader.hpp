// hlwq/code_reader.hpp — vectors of codes straight from packed bytes
//
//   wire_reader<S, Bits>    the wire layout: every code is moved to its byte by shuffles and shifts
//   plane_reader<S, Bits>   the planes layout: plane after plane is shifted and masked, nothing moves between bytes
//
// A plane reader offers codes in two forms: as they are numbered in the codebook, and split, for look-ups in tables of
// 16 entries:
//
//   index    the lowest four bits of the stored code
//   mask[k]  0xff where bit 4 + k of it is set
//
//   cost     operations on a vector of 64 bytes, 2 to 8 bits, without those of the dot product: split codes of planes
//            2 to 9; the wire 3 where bytes can be permuted, else 12
//   reads    a wire reader touches up to `overread` bytes behind the codes of a vector, a plane reader the bytes of its
//            unit of 128 codes and no other
#pragma once

#include "hlwq/config.hpp"
#include "hlwq/layout.hpp"
#include "hlwq/packing.hpp"
#include "hlwq/simd/backend.hpp"

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <utility>

namespace hlwq::inline HLWQ_CODE_NAMESPACE {
namespace detail {

/// Whether vectors are worth their name; the arrays of the scalar backend are not.
template <class S>
inline constexpr bool has_vectors = !std::same_as<S, simd::scalar_backend>;

struct byte_table {
    std::uint8_t at[64];
};

}  // namespace detail

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

/// Codes of the planes layout, as they are stored: sign and magnitude, in pieces for look-ups.
template <class S, int Bits>
struct split_codes {
    static constexpr std::size_t masks = Bits > 4 ? static_cast<std::size_t>(Bits) - 4 : 0;
    typename S::u8 index;
    typename S::u8 mask[masks == 0 ? 1 : masks];
};

/// Reads S::bytes codes at a time from a unit of the planes layout, 128 codes in 16 * Bits bytes.
template <class S, int Bits>
struct plane_reader {
    using layout = planes<Bits>;
    /// Vectors of codes in a unit.
    static constexpr std::size_t vectors = layout::unit / S::bytes;

    /// The codes of vector V, split.
    /// promises: the unit is readable
    template <std::size_t V>
    static HLWQ_INLINE split_codes<S, Bits> read(const std::uint8_t* unit) noexcept {
        split_codes<S, Bits> codes;
        if constexpr (Bits == 8) {
            const auto all = S::load_u8(unit + V * S::bytes);
            codes.index = S::and_(all, S::set_u8(15));
            HLWQ_UNROLL for (std::size_t k = 0; k < codes.masks; ++k) {
                codes.mask[k] = S::bit_mask(all, S::set_u8(static_cast<std::uint8_t>(16u << k)));
            }
        } else if constexpr (Bits >= 4) {
            codes.index = S::and_(fields<4, V>(unit), S::set_u8(15));
            read_masks<V>(unit, codes, std::make_index_sequence<split_codes<S, Bits>::masks>{});
        } else if constexpr (Bits == 3) {
            codes.index = S::or_(S::and_(fields<2, V>(unit), S::set_u8(3)), S::and_(bit<V, 2>(unit), S::set_u8(4)));
        } else if constexpr (Bits == 2) {
            codes.index = S::and_(fields<2, V>(unit), S::set_u8(3));
        } else {
            codes.index = S::and_(bit<V, 0>(unit), S::set_u8(1));
        }
        return codes;
    }

    /// The codes of vector V as the codebook numbers them.
    /// promises: the unit is readable
    template <std::size_t V>
    static HLWQ_INLINE typename S::u8 read_codes(const std::uint8_t* unit) noexcept {
        // Of the negative half all bits are turned over; of the other the top bit is 0 in store and 1 in the code.
        constexpr std::uint8_t top = 1u << (Bits - 1), all = 2u * top - 1;
        const auto code = [](typename S::u8 stored, typename S::u8 negative) noexcept {
            return S::xor_(S::xor_(stored, S::set_u8(top)), S::and_(negative, S::set_u8(all & ~top)));
        };
        if constexpr (Bits == 8) {
            const auto stored = S::load_u8(unit + V * S::bytes);
            return code(stored, S::bit_mask(stored, S::set_u8(top)));
        } else {
            const auto split = read<V>(unit);
            if constexpr (Bits <= 4) {
                return code(split.index, S::bit_mask(split.index, S::set_u8(top)));
            } else {
                auto stored = split.index;
                HLWQ_UNROLL for (std::size_t k = 0; k < split.masks; ++k) {
                    stored = S::or_(stored, S::and_(split.mask[k], S::set_u8(static_cast<std::uint8_t>(16u << k))));
                }
                return code(stored, split.mask[split.masks - 1]);
            }
        }
    }

    /// All codes of a unit as the codebook numbers them.
    /// promises: the unit is readable, codes has room for 128
    static HLWQ_INLINE void store_codes(const std::uint8_t* unit, std::uint8_t* codes) noexcept {
        store_codes(unit, codes, std::make_index_sequence<vectors>{});
    }

  private:
    template <std::size_t... V>
    static HLWQ_INLINE void store_codes(const std::uint8_t* unit, std::uint8_t* codes,
                                        std::index_sequence<V...>) noexcept {
        (S::store_u8(codes + V * S::bytes, read_codes<V>(unit)), ...);
    }
    template <std::size_t V, std::size_t... K>
    static HLWQ_INLINE void read_masks([[maybe_unused]] const std::uint8_t* unit,
                                       [[maybe_unused]] split_codes<S, Bits>& codes,
                                       std::index_sequence<K...>) noexcept {
        ((codes.mask[K] = bit<V, 4 + static_cast<int>(K)>(unit)), ...);
    }

    // In a plane of fields of Width bits, field f of byte i belongs to code period * f + i; of the plane of nibbles
    // each half is such a plane.
    template <int Width>
    static constexpr std::size_t period = Width == 1 ? 16 : 32;
    template <int Width>
    static constexpr std::size_t per_half = 8 / Width* period<Width>;
    /// Which field of its byte holds code j.
    template <int Width>
    static constexpr int field_of(std::size_t j) noexcept {
        return static_cast<int>(j % per_half<Width> / period<Width>);
    }
    /// The bytes that hold vector V in a plane, over and over.
    template <int Width, std::size_t V>
    static HLWQ_INLINE typename S::u8 bytes_of(const std::uint8_t* unit) noexcept {
        constexpr std::size_t j = V * S::bytes;
        const std::uint8_t* const p =
            unit + layout::plane_offset(Width) + j / per_half<Width> * period<Width> + j % period<Width>;
        if constexpr (S::bytes <= period<Width>) {
            return S::load_u8(p);
        } else if constexpr (period<Width> == 16) {
            return S::load_dup16(p);
        } else {
            return S::load_dup32(p);
        }
    }
    /// The fields of vector V, each at the lowest bits of its byte, with anything above them.
    template <int Width, std::size_t V>
    static HLWQ_INLINE typename S::u8 fields(const std::uint8_t* unit) noexcept {
        constexpr int shift = Width * field_of<Width>(V * S::bytes);
        const auto v = bytes_of<Width, V>(unit);
        if constexpr (S::bytes <= period<Width>) {
            if constexpr (shift == 0) return v;
            return S::template shr16<shift>(v);
        } else {
            return S::template shr16_halves<shift, shift + Width>(v);
        }
    }
    /// 0xff where bit K of the stored code is set.
    template <std::size_t V, int K>
    static HLWQ_INLINE typename S::u8 bit(const std::uint8_t* unit) noexcept {
        constexpr int width = layout::plane_width(K), inner = K - layout::plane_first_bit(width);
        alignas(64) static constexpr detail::byte_table bits = [] {
            detail::byte_table t{};
            for (std::size_t i = 0; i < S::bytes; ++i) {
                t.at[i] = static_cast<std::uint8_t>(1u << (width * field_of<width>(V * S::bytes + i) + inner));
            }
            return t;
        }();
        return S::bit_mask(bytes_of<width, V>(unit), S::load_u8(bits.at));
    }
};

namespace detail {

/// Restores the codes of one block, whatever its layout.
using unpack_function = void (*)(const std::uint8_t* packed, std::uint8_t* codes, std::size_t block) noexcept;

template <class S, class Layout>
void unpack_any(const std::uint8_t* packed, std::uint8_t* codes, std::size_t block) noexcept {
    if constexpr (has_vectors<S> && Layout::id == layout_id::planes) {
        using reader = plane_reader<S, Layout::bits>;
        for (std::size_t i = 0; i < block; i += Layout::unit, packed += Layout::unit_bytes) {
            reader::store_codes(packed, codes + i);
        }
    } else {
        unpack_block<Layout>(packed, codes, block);
    }
}

}  // namespace detail

}  // namespace hlwq::inline HLWQ_CODE_NAMESPACE
