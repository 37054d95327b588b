// hlwq/repack.hpp — packed codes from one layout to another of the same size, where they lie
//
// The kernels of an instruction set have a layout that they read fastest (`preferred_layout`, block_dot.hpp). Codes
// that come in another one are rewritten block by block in their own memory: a matrix never exists twice, and its
// norms, centroids and sizes stay as they are.
//
//   cost     from wire to planes 2 to 10 GB/s of codes and core at 2 to 8 bits with AVX2, back 1 to 3
//   memory   nothing is allocated
//   threads  blocks are divided
//   throws   unsupported_error if a layout does not exist for the bits, or takes another number of bytes; shape_error
//   if
//            the codes are no whole number of blocks
//
// Example
//   w.format = hlwq::repack_in_place(codes, w.format, hlwq::layout_id::planes, pool);
#pragma once

#include "hlwq/code_reader.hpp"
#include "hlwq/config.hpp"
#include "hlwq/error.hpp"
#include "hlwq/executor.hpp"
#include "hlwq/layout.hpp"
#include "hlwq/packed_matrix.hpp"
#include "hlwq/packing.hpp"
#include "hlwq/simd/backend.hpp"

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>

namespace hlwq::inline HLWQ_CODE_NAMESPACE {
namespace detail {

/// The codes of a block. `readable` bytes can be read from `packed` on.
using read_block_function = void (*)(const std::uint8_t* packed, std::size_t readable, std::uint8_t* codes,
                                     std::size_t block) noexcept;
/// A block of codes, packed.
using write_block_function = void (*)(const std::uint8_t* codes, std::uint8_t* packed, std::size_t block) noexcept;

template <class S, class Layout>
void read_block(const std::uint8_t* packed, std::size_t readable, std::uint8_t* codes, std::size_t block) noexcept {
    if constexpr (has_vectors<S> && Layout::id == layout_id::wire) {
        using reader = wire_reader<S, Layout::bits>;
        if (block >= S::bytes && readable >= Layout::block_bytes(block) + reader::overread) {
            for (std::size_t i = 0; i < block; i += S::bytes, packed += reader::step) {
                S::store_u8(codes + i, reader::read(packed));
            }
            return;
        }
    }
    unpack_any<S, Layout>(packed, codes, block);
}

/// One plane of 128 codes that are spelled as sign and magnitude.
/// promises: stored readable for 128 + 64 bytes
template <class S, class Layout, int Width>
HLWQ_INLINE void write_plane(const std::uint8_t* stored, std::uint8_t* plane) noexcept {
    // Field f of byte i is that of code period * f + i, of nibbles in each half (layout.hpp).
    constexpr std::size_t period = Width == 1 ? 16 : 32, fields = 8 / Width;
    alignas(64) static constexpr byte_table factor = [] {
        byte_table t{};
        for (std::size_t i = 0; i < 64; i += 2) t.at[i] = 1u << Width;
        return t;
    }();
    const auto mask = S::set_u8((1u << Width) - 1u);
    const auto up = S::load_u8(factor.at);
    for (std::size_t first = 0; first < Layout::unit; first += fields * period, plane += period) {
        for (std::size_t i = 0; i < period; i += S::bytes) {
            auto bytes = S::set_u8(0);
            HLWQ_UNROLL for (std::size_t f = 1; f <= fields; ++f) {
                const auto codes = S::load_u8(stored + first + (fields - f) * period + i);
                const auto field = S::and_(S::template shr16<Layout::plane_first_bit(Width)>(codes), mask);
                // A product of 16-bit lanes moves both of their bytes: what has been gathered leaves room for a field.
                bytes = S::or_(S::mullo16(bytes, up), field);
            }
            if constexpr (S::bytes <= period) {
                S::store_u8(plane + i, bytes);
            } else {
                std::uint8_t whole[S::bytes];
                S::store_u8(whole, bytes);
                std::memcpy(plane, whole, period);
            }
        }
    }
}

template <class S, class Layout>
void write_block(const std::uint8_t* codes, std::uint8_t* packed, std::size_t block) noexcept {
    if constexpr (has_vectors<S> && Layout::id == layout_id::planes && Layout::bits != 8) {
        constexpr unsigned top = 1u << (Layout::bits - 1);
        for (std::size_t i = 0; i < block; i += Layout::unit, packed += Layout::unit_bytes) {
            alignas(64) std::uint8_t stored[Layout::unit + 64];
            for (std::size_t j = 0; j < Layout::unit; j += S::bytes) {
                // Of the negative half, whose top bit is 0 in the code and 1 in store, all other bits are turned over.
                const auto turned = S::xor_(S::load_u8(codes + i + j), S::set_u8(top));
                const auto negative = S::bit_mask(turned, S::set_u8(top));
                S::store_u8(stored + j, S::xor_(turned, S::and_(negative, S::set_u8(top - 1))));
            }
            std::memset(stored + Layout::unit, 0, 64);
            if constexpr ((Layout::bits & 4) != 0) write_plane<S, Layout, 4>(stored, packed + Layout::plane_offset(4));
            if constexpr ((Layout::bits & 2) != 0) write_plane<S, Layout, 2>(stored, packed + Layout::plane_offset(2));
            if constexpr ((Layout::bits & 1) != 0) write_plane<S, Layout, 1>(stored, packed + Layout::plane_offset(1));
        }
    } else {
        pack_block<Layout>(codes, packed, block);
    }
}

/// Throws unless the codes can be rewritten in that layout; returns the format that they have then.
inline block_format check_repack(std::span<std::byte> codes, const block_format& format, layout_id to) {
    block_format target = format;
    target.layout = to;
    check(format, "repack source");
    check(target, "repack target");
    const std::size_t size = format.block_bytes();
    HLWQ_EXPECTS(target.block_bytes() == size, unsupported_error,
                 "repack in place to " + std::string(layout_name(to)) + ": bytes of a block", size,
                 target.block_bytes());
    HLWQ_EXPECTS(codes.size() % size == 0, shape_error, "repack: packed bytes", "a multiple of " + to_text(size),
                 codes.size());
    return target;
}

/// promises: check_repack does not throw, and gave `target`
template <class S, class E>
void repack_promised(std::span<std::byte> codes, const block_format& format, const block_format& target, E&& ex) {
    if (target.layout == format.layout) return;
    const std::size_t size = format.block_bytes(), block = format.block;
    read_block_function read = nullptr;
    write_block_function write = nullptr;
    with_format(format, [&]<class Layout>() { read = read_block<S, Layout>; });
    with_format(target, [&]<class Layout>() { write = write_block<S, Layout>; });
    auto* const packed = reinterpret_cast<std::uint8_t*>(codes.data());
    const std::size_t blocks = codes.size() / size;
    // A region costs as much as some tens of KiB.
    ex.parallel_for(blocks, 65536 / size + 1, [&](std::size_t begin, std::size_t end, unsigned) noexcept {
        std::uint8_t buffer[max_block];
        for (std::size_t i = begin; i < end; ++i) {
            // Another worker may be writing what lies behind the share: nothing of it is read.
            read(packed + i * size, (end - i) * size, buffer, block);
            write(buffer, packed + i * size, block);
        }
    });
}

}  // namespace detail

/// Rewrites packed blocks of a format in another layout, in their own memory, and returns the format that they have
/// then. Throws unsupported_error if one of the layouts does not exist for that format or they differ in size,
/// shape_error if `codes` is no whole number of blocks.
template <simd::backend S = simd::native, executor E = serial_executor>
block_format repack_in_place(std::span<std::byte> codes, const block_format& format, layout_id to, E&& ex = {}) {
    const block_format target = detail::check_repack(codes, format, to);
    detail::repack_promised<S>(codes, format, target, ex);
    return target;
}

}  // namespace hlwq::inline HLWQ_CODE_NAMESPACE
