// hlwq/layout.hpp — where the bits of a code lie: every packed order as a constexpr descriptor
//
// A layout says, for one block of codes, which bit of which byte holds bit k of code i, and how a code is spelled
// before its bits are placed. Packing, unpacking, repacking and kernels derive from the descriptors or are tested
// against them (tests/unit/packing.cpp enumerates every position of every layout).
//
//   wire        big-endian bit stream: the first code in the top bits of the first byte. The published order.
//                 5 bits, 8 codes in 5 bytes:  00000111 11222223 33334444 45555566 66677777
//   lsb         little-endian bit stream: code i in bits b*i .. b*i + b-1, counted from bit 0 of byte 0.
//                 5 bits:                      11100000 32222211 44443333 65555544 77777666
//               CompressedTensors' int32 words (4 and 8 bits) and offset-binary streams are this order, with
//               code = value + 2^(b-1).
//   half_block  b <= 4, one nibble a code: byte i = code[i] | code[i + block/2] << 4
//   bytes       one byte a code
//   planes      the code split into planes of 4, 2 and 1 bits (5 = 4 + 1), for vector units without byte permutes.
//               Spelled as sign and magnitude: top bit = 1 for the negative half of a symmetric codebook, the rest
//               counts outwards from zero. Per 128 codes:
//                 8-bit plane, 128 bytes: byte i = code[i]
//                 4-bit plane, 64 bytes:  byte 32h + i = code[64h + i] | code[64h + 32 + i] << 4
//                 2-bit plane, 32 bytes:  byte i, field f = code[32f + i]
//                 1-bit plane, 16 bytes:  byte i, bit 2c + u = code[32c + 16u + i]
//
// wire, lsb and planes take exactly b/8 bytes a code, so that one can replace another in place, block by block.
//
// To add a layout: a descriptor, its entry in `layout_id` and in `layouts_of`, all in this file.
#pragma once

#include "hlwq/config.hpp"
#include "hlwq/error.hpp"

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>

namespace hlwq {

/// Run-time name of a layout.
enum class layout_id : std::uint8_t { wire, lsb, half_block, bytes, planes };

/// Smallest and largest code width, and the block sizes that formats allow (powers of two).
inline constexpr int min_bits = 1;
inline constexpr int max_bits = 8;
inline constexpr std::size_t min_block = 8;
inline constexpr std::size_t max_block = 4096;

/// Fixed random column signs before the rotation; see rotation.hpp for their definition.
struct rotation_signs {
    bool enabled = false;
    std::uint64_t seed = 0;
    friend constexpr bool operator==(rotation_signs, rotation_signs) = default;
};

/// Bit k (0 = least significant) of a stored code lies in bit `bit` of byte `byte` of its block.
struct bit_position {
    std::size_t byte;
    int bit;
    friend constexpr bool operator==(bit_position, bit_position) = default;
};

// Each descriptor has
//   id, name, bits     what it is
//   exists             whether the layout is defined for this width
//   allows(block)      whether a block of that many codes can be laid out
//   block_bytes(block) its size
//   position(block, i, k) where bit k of the stored form of code i lies
//   stored(code), code(stored) the spelling; identity for most

template <int Bits>
struct wire {
    static constexpr layout_id id = layout_id::wire;
    static constexpr std::string_view name = "wire";
    static constexpr int bits = Bits;
    static constexpr bool exists = true;
    static constexpr bool allows(std::size_t block) noexcept { return block % 8 == 0; }
    static constexpr std::size_t block_bytes(std::size_t block) noexcept { return block * Bits / 8; }
    static constexpr bit_position position(std::size_t, std::size_t i, int k) noexcept {
        const std::size_t from_top = i * Bits + static_cast<std::size_t>(Bits - 1 - k);
        return {from_top / 8, 7 - static_cast<int>(from_top % 8)};
    }
    static constexpr std::uint8_t stored(std::uint8_t code) noexcept { return code; }
    static constexpr std::uint8_t code(std::uint8_t stored) noexcept { return stored; }
};

template <int Bits>
struct lsb {
    static constexpr layout_id id = layout_id::lsb;
    static constexpr std::string_view name = "lsb";
    static constexpr int bits = Bits;
    static constexpr bool exists = true;
    static constexpr bool allows(std::size_t block) noexcept { return block % 8 == 0; }
    static constexpr std::size_t block_bytes(std::size_t block) noexcept { return block * Bits / 8; }
    static constexpr bit_position position(std::size_t, std::size_t i, int k) noexcept {
        const std::size_t from_bottom = i * Bits + static_cast<std::size_t>(k);
        return {from_bottom / 8, static_cast<int>(from_bottom % 8)};
    }
    static constexpr std::uint8_t stored(std::uint8_t code) noexcept { return code; }
    static constexpr std::uint8_t code(std::uint8_t stored) noexcept { return stored; }
};

template <int Bits>
struct half_block {
    static constexpr layout_id id = layout_id::half_block;
    static constexpr std::string_view name = "half_block";
    static constexpr int bits = Bits;
    static constexpr bool exists = Bits <= 4;
    static constexpr bool allows(std::size_t block) noexcept { return block % 2 == 0; }
    static constexpr std::size_t block_bytes(std::size_t block) noexcept { return block / 2; }
    static constexpr bit_position position(std::size_t block, std::size_t i, int k) noexcept {
        return i < block / 2 ? bit_position{i, k} : bit_position{i - block / 2, k + 4};
    }
    static constexpr std::uint8_t stored(std::uint8_t code) noexcept { return code; }
    static constexpr std::uint8_t code(std::uint8_t stored) noexcept { return stored; }
};

template <int Bits>
struct bytes {
    static constexpr layout_id id = layout_id::bytes;
    static constexpr std::string_view name = "bytes";
    static constexpr int bits = Bits;
    static constexpr bool exists = true;
    static constexpr bool allows(std::size_t) noexcept { return true; }
    static constexpr std::size_t block_bytes(std::size_t block) noexcept { return block; }
    static constexpr bit_position position(std::size_t, std::size_t i, int k) noexcept { return {i, k}; }
    static constexpr std::uint8_t stored(std::uint8_t code) noexcept { return code; }
    static constexpr std::uint8_t code(std::uint8_t stored) noexcept { return stored; }
};

template <int Bits>
struct planes {
    static constexpr layout_id id = layout_id::planes;
    static constexpr std::string_view name = "planes";
    static constexpr int bits = Bits;
    static constexpr bool exists = true;
    /// Codes that are split together; a block holds a whole number of units.
    static constexpr std::size_t unit = 128;
    static constexpr std::size_t unit_bytes = unit * Bits / 8;
    static constexpr bool allows(std::size_t block) noexcept { return block % unit == 0; }
    static constexpr std::size_t block_bytes(std::size_t block) noexcept { return block * Bits / 8; }

    /// Width of the plane that holds bit k of the stored code: the binary digits of Bits, widest plane first.
    static constexpr int plane_width(int k) noexcept {
        int first = 0;
        for (int width = 8; width > 1; width /= 2) {
            if ((Bits & width) == 0) continue;
            if (k < first + width) return width;
            first += width;
        }
        return 1;
    }
    /// Lowest bit of the stored code that the plane of that width holds.
    static constexpr int plane_first_bit(int width) noexcept {
        int first = 0;
        for (int wider = 8; wider > width; wider /= 2) first += Bits & wider;
        return first;
    }
    /// Offset of that plane within a unit, in bytes.
    static constexpr std::size_t plane_offset(int width) noexcept {
        return unit / 8 * static_cast<std::size_t>(plane_first_bit(width));
    }

    static constexpr bit_position position(std::size_t, std::size_t i, int k) noexcept {
        const int width = plane_width(k);
        const int inner = k - plane_first_bit(width);
        const std::size_t base = i / unit * unit_bytes + plane_offset(width), j = i % unit;
        switch (width) {
            case 8: return {base + j, inner};
            case 4: return {base + j / 64 * 32 + j % 32, static_cast<int>(j / 32 % 2) * 4 + inner};
            case 2: return {base + j % 32, static_cast<int>(j / 32) * 2 + inner};
            default: return {base + j % 16, static_cast<int>(j / 16)};
        }
    }
    static constexpr std::uint8_t stored(std::uint8_t code) noexcept {
        constexpr unsigned top = 1u << (Bits - 1);
        return static_cast<std::uint8_t>((code & top) != 0 ? code - top : (top - 1 - code) | top);
    }
    static constexpr std::uint8_t code(std::uint8_t stored) noexcept {
        constexpr unsigned top = 1u << (Bits - 1);
        return static_cast<std::uint8_t>((stored & top) != 0 ? top - 1 - (stored - top) : stored + top);
    }
};

/// A list of layout descriptors.
template <class... Layout>
struct layout_list {};

/// Every layout, in the order of `layout_id`.
template <int Bits>
using layouts_of = layout_list<wire<Bits>, lsb<Bits>, half_block<Bits>, bytes<Bits>, planes<Bits>>;

inline namespace HLWQ_CODE_NAMESPACE {

namespace detail {

template <class F, class... Layout>
constexpr bool visit_layout(layout_id id, F& f, layout_list<Layout...>) {
    const auto visit = [&]<class L>() {
        if constexpr (L::exists) {
            if (id != L::id) return false;
            f.template operator()<L>();
            return true;
        } else {
            return false;
        }
    };
    return (visit.template operator()<Layout>() || ...);
}

template <class F>
constexpr bool visit_layout(layout_id id, int bits, F& f) {
    switch (bits) {
        case 1: return visit_layout(id, f, layouts_of<1>{});
        case 2: return visit_layout(id, f, layouts_of<2>{});
        case 3: return visit_layout(id, f, layouts_of<3>{});
        case 4: return visit_layout(id, f, layouts_of<4>{});
        case 5: return visit_layout(id, f, layouts_of<5>{});
        case 6: return visit_layout(id, f, layouts_of<6>{});
        case 7: return visit_layout(id, f, layouts_of<7>{});
        case 8: return visit_layout(id, f, layouts_of<8>{});
        default: return false;
    }
}

}  // namespace detail

/// Calls `f.operator()<Layout>()` with the descriptor of a layout and width that are known only at run time: the one
/// door from run time to templates. Throws unsupported_error when there is no such layout.
template <class F>
constexpr void with_layout(layout_id id, int bits, F&& f) {
    const bool found = detail::visit_layout(id, bits, f);
    if constexpr (detail::checks) {
        if (!found) {
            throw_error<unsupported_error>("code layout: no layout number " + detail::to_text(static_cast<int>(id)) +
                                           " for " + detail::to_text(bits) + " bits");
        }
    }
}

/// "wire", "lsb", ...; empty for a value that is no layout.
constexpr std::string_view layout_name(layout_id id) noexcept {
    std::string_view name;
    auto take = [&]<class L>() { name = L::name; };
    detail::visit_layout(id, 1, take);
    return name;
}

}  // namespace HLWQ_CODE_NAMESPACE
}  // namespace hlwq
