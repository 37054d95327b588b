// hlwq/packing.hpp — codes to packed bytes and back, in every layout
//
//   pack_block<Layout>, unpack_block<Layout>   one block: the kernels' form, no checks
//   pack, unpack, repack                       whole sequences of blocks, sizes checked
//
// Bit streams move eight codes at a time in one 64-bit word: neighbours are joined in three steps of shift and mask,
// which any processor does in about two operations a code. The other layouts move by bytes. A layout without a fast
// path of its own is packed bit by bit from its descriptor, so that a new one works at once.
//
//   throws   shape_error if sizes disagree or a block cannot be laid out so; codes at or above 2^bits are the caller's
//            mistake and change neighbouring codes
#pragma once

#include "hlwq/config.hpp"
#include "hlwq/error.hpp"
#include "hlwq/layout.hpp"

#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>

namespace hlwq::inline HLWQ_CODE_NAMESPACE {
namespace detail {

static_assert(std::endian::native == std::endian::little, "packed words are read and written as little-endian");

constexpr std::uint64_t repeat16(std::uint64_t word) noexcept { return word * 0x0001000100010001ull; }
constexpr std::uint64_t repeat32(std::uint64_t word) noexcept { return word * 0x0000000100000001ull; }

/// Eight codes, one a byte, joined to an integer of 8 * Bits bits, the first code in its lowest bits.
template <int Bits>
HLWQ_INLINE constexpr std::uint64_t join_low_first(std::uint64_t codes) noexcept {
    std::uint64_t x = (codes & repeat16(0xff)) | (((codes >> 8) & repeat16(0xff)) << Bits);
    x = (x & repeat32(0xffff)) | (((x >> 16) & repeat32(0xffff)) << (2 * Bits));
    return (x & 0xffffffffu) | ((x >> 32) << (4 * Bits));
}

template <int Bits>
HLWQ_INLINE constexpr std::uint64_t split_low_first(std::uint64_t word) noexcept {
    constexpr std::uint64_t one = (1ull << Bits) - 1, two = (1ull << (2 * Bits)) - 1, four = (1ull << (4 * Bits)) - 1;
    std::uint64_t x = (word & four) | (((word >> (4 * Bits)) & four) << 32);
    x = (x & repeat32(two)) | (((x >> (2 * Bits)) & repeat32(two)) << 16);
    return (x & repeat16(one)) | (((x >> Bits) & repeat16(one)) << 8);
}

/// As above with the first code in the highest of the 8 * Bits bits.
template <int Bits>
HLWQ_INLINE constexpr std::uint64_t join_high_first(std::uint64_t codes) noexcept {
    std::uint64_t x = ((codes & repeat16(0xff)) << Bits) | ((codes >> 8) & repeat16(0xff));
    x = ((x & repeat32(0xffff)) << (2 * Bits)) | ((x >> 16) & repeat32(0xffff));
    return ((x & 0xffffffffu) << (4 * Bits)) | (x >> 32);
}

template <int Bits>
HLWQ_INLINE constexpr std::uint64_t split_high_first(std::uint64_t word) noexcept {
    constexpr std::uint64_t one = (1ull << Bits) - 1, two = (1ull << (2 * Bits)) - 1, four = (1ull << (4 * Bits)) - 1;
    std::uint64_t x = ((word >> (4 * Bits)) & four) | ((word & four) << 32);
    x = ((x >> (2 * Bits)) & repeat32(two)) | ((x & repeat32(two)) << 16);
    return ((x >> Bits) & repeat16(one)) | ((x & repeat16(one)) << 8);
}

template <class Layout>
inline constexpr bool is_stream = Layout::id == layout_id::wire || Layout::id == layout_id::lsb;

/// Any layout, one bit at a time.
template <class Layout>
constexpr void pack_bits(const std::uint8_t* codes, std::uint8_t* packed, std::size_t block) noexcept {
    for (std::size_t byte = 0; byte < Layout::block_bytes(block); ++byte) packed[byte] = 0;
    for (std::size_t i = 0; i < block; ++i) {
        const unsigned value = Layout::stored(codes[i]);
        for (int k = 0; k < Layout::bits; ++k) {
            const bit_position at = Layout::position(block, i, k);
            packed[at.byte] = static_cast<std::uint8_t>(packed[at.byte] | (((value >> k) & 1u) << at.bit));
        }
    }
}

template <class Layout>
constexpr void unpack_bits(const std::uint8_t* packed, std::uint8_t* codes, std::size_t block) noexcept {
    for (std::size_t i = 0; i < block; ++i) {
        unsigned value = 0;
        for (int k = 0; k < Layout::bits; ++k) {
            const bit_position at = Layout::position(block, i, k);
            value |= ((static_cast<unsigned>(packed[at.byte]) >> at.bit) & 1u) << k;
        }
        codes[i] = Layout::code(static_cast<std::uint8_t>(value));
    }
}

template <class Layout>
HLWQ_INLINE void pack_stream(const std::uint8_t* codes, std::uint8_t* packed, std::size_t block) noexcept {
    constexpr int bits = Layout::bits;
    for (std::size_t i = 0; i < block; i += 8, packed += bits) {
        std::uint64_t word;
        std::memcpy(&word, codes + i, 8);
        if constexpr (Layout::id == layout_id::wire) {
            word = __builtin_bswap64(join_high_first<bits>(word) << (64 - 8 * bits));
        } else {
            word = join_low_first<bits>(word);
        }
        std::memcpy(packed, &word, bits);
    }
}

template <class Layout>
HLWQ_INLINE void unpack_stream(const std::uint8_t* packed, std::uint8_t* codes, std::size_t block) noexcept {
    constexpr int bits = Layout::bits;
    for (std::size_t i = 0; i < block; i += 8, packed += bits) {
        std::uint64_t word = 0;
        std::memcpy(&word, packed, bits);
        if constexpr (Layout::id == layout_id::wire) {
            word = split_high_first<bits>(__builtin_bswap64(word) >> (64 - 8 * bits));
        } else {
            word = split_low_first<bits>(word);
        }
        std::memcpy(codes + i, &word, 8);
    }
}

// The planes layout adds plane after plane to codes spelled as sign and magnitude.
template <class Layout, int Width>
HLWQ_INLINE void pack_plane(const std::uint8_t* stored, std::uint8_t* plane) noexcept {
    constexpr int first = Layout::plane_first_bit(Width);
    const auto field = [&](std::size_t i) {
        return (static_cast<unsigned>(stored[i]) >> first) & ((1u << Width) - 1u);
    };
    if constexpr (Width == 8) {
        std::memcpy(plane, stored, 128);
    } else if constexpr (Width == 4) {
        for (std::size_t h = 0; h < 2; ++h) {
            for (std::size_t i = 0; i < 32; ++i) {
                plane[32 * h + i] = static_cast<std::uint8_t>(field(64 * h + i) | field(64 * h + 32 + i) << 4);
            }
        }
    } else if constexpr (Width == 2) {
        for (std::size_t i = 0; i < 32; ++i) {
            plane[i] =
                static_cast<std::uint8_t>(field(i) | field(32 + i) << 2 | field(64 + i) << 4 | field(96 + i) << 6);
        }
    } else {
        for (std::size_t i = 0; i < 16; ++i) {
            unsigned value = 0;
            for (std::size_t c = 0; c < 8; ++c) value |= field(16 * c + i) << c;
            plane[i] = static_cast<std::uint8_t>(value);
        }
    }
}

template <class Layout, int Width>
HLWQ_INLINE void unpack_plane(const std::uint8_t* plane, std::uint8_t* stored) noexcept {
    constexpr int first = Layout::plane_first_bit(Width);
    constexpr std::size_t per_byte = 8 / Width;
    for (std::size_t i = 0; i < 128; ++i) {
        std::size_t byte = i;
        unsigned field = 0;
        if constexpr (Width == 4) {
            byte = i / 64 * 32 + i % 32;
            field = static_cast<unsigned>(i / 32 % 2);
        } else if constexpr (Width < 4) {
            byte = i % (128 / per_byte);
            field = static_cast<unsigned>(i / (128 / per_byte));
        }
        const unsigned value = (static_cast<unsigned>(plane[byte]) >> (field * Width)) & ((1u << Width) - 1u);
        stored[i] = static_cast<std::uint8_t>((first == 0 ? 0u : stored[i]) | value << first);
    }
}

template <class Layout>
void pack_planes(const std::uint8_t* codes, std::uint8_t* packed, std::size_t block) noexcept {
    for (std::size_t i = 0; i < block; i += Layout::unit, packed += Layout::unit_bytes) {
        std::uint8_t stored[Layout::unit];
        for (std::size_t j = 0; j < Layout::unit; ++j) stored[j] = Layout::stored(codes[i + j]);
        if constexpr ((Layout::bits & 8) != 0) pack_plane<Layout, 8>(stored, packed + Layout::plane_offset(8));
        if constexpr ((Layout::bits & 4) != 0) pack_plane<Layout, 4>(stored, packed + Layout::plane_offset(4));
        if constexpr ((Layout::bits & 2) != 0) pack_plane<Layout, 2>(stored, packed + Layout::plane_offset(2));
        if constexpr ((Layout::bits & 1) != 0) pack_plane<Layout, 1>(stored, packed + Layout::plane_offset(1));
    }
}

template <class Layout>
void unpack_planes(const std::uint8_t* packed, std::uint8_t* codes, std::size_t block) noexcept {
    for (std::size_t i = 0; i < block; i += Layout::unit, packed += Layout::unit_bytes) {
        std::uint8_t stored[Layout::unit] = {};
        if constexpr ((Layout::bits & 8) != 0) unpack_plane<Layout, 8>(packed + Layout::plane_offset(8), stored);
        if constexpr ((Layout::bits & 4) != 0) unpack_plane<Layout, 4>(packed + Layout::plane_offset(4), stored);
        if constexpr ((Layout::bits & 2) != 0) unpack_plane<Layout, 2>(packed + Layout::plane_offset(2), stored);
        if constexpr ((Layout::bits & 1) != 0) unpack_plane<Layout, 1>(packed + Layout::plane_offset(1), stored);
        for (std::size_t j = 0; j < Layout::unit; ++j) codes[i + j] = Layout::code(stored[j]);
    }
}

}  // namespace detail

/// Packs one block of `block` codes into Layout::block_bytes(block) bytes.
/// promises: Layout::allows(block); every code is below 2^bits
template <class Layout>
HLWQ_INLINE void pack_block(const std::uint8_t* codes, std::uint8_t* packed, std::size_t block) noexcept {
    if constexpr (Layout::id == layout_id::bytes || (detail::is_stream<Layout> && Layout::bits == 8)) {
        std::memcpy(packed, codes, block);
    } else if constexpr (detail::is_stream<Layout>) {
        detail::pack_stream<Layout>(codes, packed, block);
    } else if constexpr (Layout::id == layout_id::half_block) {
        for (std::size_t i = 0; i < block / 2; ++i) {
            packed[i] = static_cast<std::uint8_t>(codes[i] | codes[i + block / 2] << 4);
        }
    } else if constexpr (Layout::id == layout_id::planes) {
        detail::pack_planes<Layout>(codes, packed, block);
    } else {
        detail::pack_bits<Layout>(codes, packed, block);
    }
}

/// Restores the codes of one block. Bytes that a nibble or byte layout leaves unused are masked away.
/// promises: Layout::allows(block)
template <class Layout>
HLWQ_INLINE void unpack_block(const std::uint8_t* packed, std::uint8_t* codes, std::size_t block) noexcept {
    constexpr auto mask = static_cast<std::uint8_t>((1u << Layout::bits) - 1u);
    if constexpr (detail::is_stream<Layout> && Layout::bits == 8) {
        std::memcpy(codes, packed, block);
    } else if constexpr (Layout::id == layout_id::bytes) {
        for (std::size_t i = 0; i < block; ++i) codes[i] = packed[i] & mask;
    } else if constexpr (detail::is_stream<Layout>) {
        detail::unpack_stream<Layout>(packed, codes, block);
    } else if constexpr (Layout::id == layout_id::half_block) {
        for (std::size_t i = 0; i < block / 2; ++i) {
            codes[i] = packed[i] & mask;
            codes[i + block / 2] = static_cast<std::uint8_t>(packed[i] >> 4) & mask;
        }
    } else if constexpr (Layout::id == layout_id::planes) {
        detail::unpack_planes<Layout>(packed, codes, block);
    } else {
        detail::unpack_bits<Layout>(packed, codes, block);
    }
}

namespace detail {

template <class Layout>
void check_packed_sizes(std::string_view what, std::size_t codes, std::size_t packed, std::size_t block) {
    HLWQ_EXPECTS(block != 0 && Layout::allows(block), shape_error, std::string(what) + ": block size",
                 "one that the " + std::string(Layout::name) + " layout allows", block);
    HLWQ_EXPECTS(codes % block == 0, shape_error, std::string(what) + ": codes", "a multiple of " + to_text(block),
                 codes);
    HLWQ_EXPECTS(packed == codes / block * Layout::block_bytes(block), shape_error,
                 std::string(what) + ": packed bytes", codes / block * Layout::block_bytes(block), packed);
}

}  // namespace detail

/// Packs `codes`, a whole number of blocks, into `packed`.
template <class Layout>
void pack(std::span<const std::uint8_t> codes, std::span<std::byte> packed, std::size_t block) {
    detail::check_packed_sizes<Layout>("pack", codes.size(), packed.size(), block);
    auto* out = reinterpret_cast<std::uint8_t*>(packed.data());
    for (std::size_t i = 0; i < codes.size(); i += block, out += Layout::block_bytes(block)) {
        pack_block<Layout>(codes.data() + i, out, block);
    }
}

/// Unpacks a whole number of blocks.
template <class Layout>
void unpack(std::span<const std::byte> packed, std::span<std::uint8_t> codes, std::size_t block) {
    detail::check_packed_sizes<Layout>("unpack", codes.size(), packed.size(), block);
    const auto* in = reinterpret_cast<const std::uint8_t*>(packed.data());
    for (std::size_t i = 0; i < codes.size(); i += block, in += Layout::block_bytes(block)) {
        unpack_block<Layout>(in, codes.data() + i, block);
    }
}

/// Rewrites blocks from one layout in another. `from` and `to` may be the same memory when both layouts take the same
/// number of bytes.
template <class From, class To>
requires(From::bits == To::bits) void repack(std::span<const std::byte> from, std::span<std::byte> to,
                                             std::size_t block) {
    HLWQ_EXPECTS(block >= min_block && block <= max_block, shape_error, "repack: block size", "8 to 4096", block);
    const std::size_t blocks = from.size() / From::block_bytes(block);
    detail::check_packed_sizes<From>("repack source", blocks * block, from.size(), block);
    detail::check_packed_sizes<To>("repack target", blocks * block, to.size(), block);
    const auto* in = reinterpret_cast<const std::uint8_t*>(from.data());
    auto* out = reinterpret_cast<std::uint8_t*>(to.data());
    std::uint8_t codes[max_block];
    for (std::size_t i = 0; i < blocks; ++i, in += From::block_bytes(block), out += To::block_bytes(block)) {
        unpack_block<From>(in, codes, block);
        pack_block<To>(codes, out, block);
    }
}

}  // namespace hlwq::inline HLWQ_CODE_NAMESPACE
