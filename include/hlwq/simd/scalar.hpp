// hlwq/simd/scalar.hpp — the readable definition of every SIMD operation, on 16-byte vectors kept as arrays
//
// This backend is the oracle of the others (tests/unit/simd.cpp) and the fallback where the compiler's flags offer no
// vector instructions. An operation is defined for every input: what it returns here, it returns everywhere. The only
// freedom is rounding: `fma` may or may not round its product, reductions add in any order, and which NaN results from
// a NaN is open.
#pragma once

#include "hlwq/config.hpp"
#include "hlwq/float16.hpp"

#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <type_traits>
#include <utility>

namespace hlwq::inline HLWQ_CODE_NAMESPACE {
namespace simd {

struct scalar_backend {
    /// Size of a vector. A vector holds `lanes` floats or int32, or `bytes` bytes.
    static constexpr std::size_t bytes = 16;
    static constexpr std::size_t lanes = bytes / 4;
    /// Vector registers of the processor.
    static constexpr int registers = 16;
    /// What `dot4` expects to be added to signed byte weights: 128 where its weights are unsigned, else 0.
    static constexpr int weight_bias = 0;
    /// Whether `permute_bytes`, `permute_bytes2` and `multishift` exist (64-byte vectors with VBMI).
    static constexpr bool has_byte_permute = false;

    struct f32 {
        float lane[lanes];
    };
    struct i32 {
        std::int32_t lane[lanes];
    };
    struct u8 {
        std::uint8_t lane[bytes];
    };
    struct i8 {
        std::int8_t lane[bytes];
    };

    // ---- memory: no alignment beyond that of one element is needed

    static HLWQ_INLINE f32 load(const float* p) noexcept { return load_as<f32>(p); }
    static HLWQ_INLINE void store(float* p, f32 v) noexcept { std::memcpy(p, v.lane, bytes); }
    static HLWQ_INLINE i32 load_i32(const std::int32_t* p) noexcept { return load_as<i32>(p); }
    static HLWQ_INLINE void store_i32(std::int32_t* p, i32 v) noexcept { std::memcpy(p, v.lane, bytes); }
    static HLWQ_INLINE u8 load_u8(const std::uint8_t* p) noexcept { return load_as<u8>(p); }
    static HLWQ_INLINE void store_u8(std::uint8_t* p, u8 v) noexcept { std::memcpy(p, v.lane, bytes); }
    static HLWQ_INLINE i8 load_i8(const std::int8_t* p) noexcept { return load_as<i8>(p); }
    static HLWQ_INLINE void store_i8(std::int8_t* p, i8 v) noexcept { std::memcpy(p, v.lane, bytes); }

    /// The same 16 bytes in every 16-byte part of the vector.
    static HLWQ_INLINE u8 load_dup16(const std::uint8_t* p) noexcept { return load_u8(p); }
    /// The same 4 bytes in every lane.
    static HLWQ_INLINE i8 load_dup4(const std::int8_t* p) noexcept {
        return each<i8>([&](std::size_t i) { return p[i % 4]; });
    }
    /// 16 bytes from each of p, p + Stride, p + 2 Stride, ...
    template <std::size_t Stride>
    static HLWQ_INLINE u8 load_blocks(const std::uint8_t* p) noexcept {
        return load_u8(p);
    }
    /// `lanes` values, widened.
    static HLWQ_INLINE f32 load_half(const half* p) noexcept {
        return each<f32>([&](std::size_t i) { return static_cast<float>(p[i]); });
    }
    /// The first `count` of them, at most `lanes`, and zeros; nothing behind them is read.
    static HLWQ_INLINE f32 load_half_part(const half* p, std::size_t count) noexcept {
        return each<f32>([&](std::size_t i) { return i < count ? static_cast<float>(p[i]) : 0.0f; });
    }
    static HLWQ_INLINE f32 load_bfloat16(const bfloat16* p) noexcept {
        return each<f32>([&](std::size_t i) { return static_cast<float>(p[i]); });
    }
    /// 2 * lanes values: even positions into `even`, odd positions into `odd`. Cheaper than two loads in order, and
    /// as good where the order of elements is free (sums, Hadamard transforms).
    static HLWQ_INLINE void load_bfloat16_pairs(const bfloat16* p, f32& even, f32& odd) noexcept {
        even = each<f32>([&](std::size_t i) { return static_cast<float>(p[2 * i]); });
        odd = each<f32>([&](std::size_t i) { return static_cast<float>(p[2 * i + 1]); });
    }
    /// `lanes` values, rounded as the constructors of half and bfloat16 round.
    static HLWQ_INLINE void store_half(half* p, f32 v) noexcept {
        for (std::size_t i = 0; i < lanes; ++i) p[i] = half(v.lane[i]);
    }
    static HLWQ_INLINE void store_bfloat16(bfloat16* p, f32 v) noexcept {
        for (std::size_t i = 0; i < lanes; ++i) p[i] = bfloat16(v.lane[i]);
    }
    /// `lanes` bytes, zero-extended.
    static HLWQ_INLINE i32 widen_u8(const std::uint8_t* p) noexcept {
        return each<i32>([&](std::size_t i) { return std::int32_t{p[i]}; });
    }
    /// Asks for the cache line of `p`, into the second-level cache; any address is allowed.
    static HLWQ_INLINE void prefetch(const void* p) noexcept { __builtin_prefetch(p); }

    // ---- float and int32 lanes

    static HLWQ_INLINE f32 set(float x) noexcept {
        return each<f32>([&](std::size_t) { return x; });
    }
    static HLWQ_INLINE i32 set_i32(std::int32_t x) noexcept {
        return each<i32>([&](std::size_t) { return x; });
    }
    static HLWQ_INLINE f32 add(f32 a, f32 b) noexcept {
        return each<f32>([&](std::size_t i) { return a.lane[i] + b.lane[i]; });
    }
    static HLWQ_INLINE f32 sub(f32 a, f32 b) noexcept {
        return each<f32>([&](std::size_t i) { return a.lane[i] - b.lane[i]; });
    }
    static HLWQ_INLINE f32 mul(f32 a, f32 b) noexcept {
        return each<f32>([&](std::size_t i) { return a.lane[i] * b.lane[i]; });
    }
    static HLWQ_INLINE f32 div(f32 a, f32 b) noexcept {
        return each<f32>([&](std::size_t i) { return a.lane[i] / b.lane[i]; });
    }
    /// a * b + c
    static HLWQ_INLINE f32 fma(f32 a, f32 b, f32 c) noexcept {
        return each<f32>([&](std::size_t i) { return a.lane[i] * b.lane[i] + c.lane[i]; });
    }
    /// Lesser and greater of two numbers. A NaN as `b` comes back; with one as `a` alone it is open which comes back.
    static HLWQ_INLINE f32 min(f32 a, f32 b) noexcept {
        return each<f32>([&](std::size_t i) { return a.lane[i] < b.lane[i] ? a.lane[i] : b.lane[i]; });
    }
    static HLWQ_INLINE f32 max(f32 a, f32 b) noexcept {
        return each<f32>([&](std::size_t i) { return a.lane[i] > b.lane[i] ? a.lane[i] : b.lane[i]; });
    }
    static HLWQ_INLINE f32 abs(f32 a) noexcept {
        return each<f32>([&](std::size_t i) { return std::fabs(a.lane[i]); });
    }
    static HLWQ_INLINE float reduce_add(f32 a) noexcept { return (a.lane[0] + a.lane[2]) + (a.lane[1] + a.lane[3]); }
    /// The sums of four vectors, to out[0], ..., out[3]; in another order than that of `reduce_add`.
    static HLWQ_INLINE void reduce_add4(f32 a, f32 b, f32 c, f32 d, float* out) noexcept {
        const f32 sums[4] = {a, b, c, d};
        for (std::size_t i = 0; i < 4; ++i) out[i] = reduce_add(sums[i]);
    }
    static HLWQ_INLINE float reduce_max(f32 a) noexcept {
        const float left = a.lane[0] > a.lane[2] ? a.lane[0] : a.lane[2];
        const float right = a.lane[1] > a.lane[3] ? a.lane[1] : a.lane[3];
        return left > right ? left : right;
    }
    /// Lane i receives lane i ^ K; K is a power of two below `lanes`.
    template <std::size_t K>
    static HLWQ_INLINE f32 swap(f32 a) noexcept {
        static_assert(std::has_single_bit(K) && K < lanes);
        return each<f32>([&](std::size_t i) { return a.lane[i ^ K]; });
    }
    static HLWQ_INLINE i32 add_i32(i32 a, i32 b) noexcept {
        return each<i32>([&](std::size_t i) {
            return static_cast<std::int32_t>(static_cast<std::uint32_t>(a.lane[i]) +
                                             static_cast<std::uint32_t>(b.lane[i]));
        });
    }
    static HLWQ_INLINE f32 to_f32(i32 a) noexcept {
        return each<f32>([&](std::size_t i) { return static_cast<float>(a.lane[i]); });
    }
    /// Nearest integer, ties to even; |a| < 2^31.
    static HLWQ_INLINE i32 round_to_i32(f32 a) noexcept {
        return each<i32>([&](std::size_t i) { return static_cast<std::int32_t>(std::lrintf(a.lane[i])); });
    }
    /// 2^n for n from -126 to 127; 0 for -127, infinity for 128. The bits are (n + 127) << 23.
    static HLWQ_INLINE f32 exp2i(i32 n) noexcept {
        return each<f32>(
            [&](std::size_t i) { return std::bit_cast<float>((static_cast<std::uint32_t>(n.lane[i]) + 127u) << 23); });
    }
    /// 2 n + (a > b): one step of a binary search that appends a bit to `n`.
    static HLWQ_INLINE i32 append_greater(i32 n, f32 a, f32 b) noexcept {
        return each<i32>([&](std::size_t i) { return 2 * n.lane[i] + (a.lane[i] > b.lane[i] ? 1 : 0); });
    }
    /// table[index] per lane, for tables of N floats, N a power of two from 1 to 256; every index is below N.
    template <std::size_t N>
    static HLWQ_INLINE f32 lookup_f32(const float* table, i32 index) noexcept {
        static_assert(std::has_single_bit(N) && N <= 256);
        return each<f32>([&](std::size_t i) { return table[index.lane[i]]; });
    }
    /// Four vectors to bytes, in order, saturated to -128..127.
    static HLWQ_INLINE i8 narrow_i8(i32 a, i32 b, i32 c, i32 d) noexcept { return narrow<i8, -128, 127>(a, b, c, d); }
    /// Four vectors to bytes, in order, saturated to 0..255.
    static HLWQ_INLINE u8 narrow_u8(i32 a, i32 b, i32 c, i32 d) noexcept { return narrow<u8, 0, 255>(a, b, c, d); }

    // ---- bytes

    static HLWQ_INLINE u8 set_u8(std::uint8_t x) noexcept {
        return each<u8>([&](std::size_t) { return x; });
    }
    static HLWQ_INLINE u8 and_(u8 a, u8 b) noexcept {
        return each<u8>([&](std::size_t i) { return a.lane[i] & b.lane[i]; });
    }
    static HLWQ_INLINE u8 or_(u8 a, u8 b) noexcept {
        return each<u8>([&](std::size_t i) { return a.lane[i] | b.lane[i]; });
    }
    static HLWQ_INLINE u8 xor_(u8 a, u8 b) noexcept {
        return each<u8>([&](std::size_t i) { return a.lane[i] ^ b.lane[i]; });
    }
    /// a - b modulo 256
    static HLWQ_INLINE u8 sub_u8(u8 a, u8 b) noexcept {
        return each<u8>([&](std::size_t i) { return a.lane[i] - b.lane[i]; });
    }
    /// Shifts, and high and low halves of products, of the little-endian 16-bit lanes.
    template <int N>
    static HLWQ_INLINE u8 shr16(u8 a) noexcept {
        return each16(a, a, [](std::uint32_t x, std::uint32_t) { return x >> N; });
    }
    static HLWQ_INLINE u8 mulhi16(u8 a, u8 b) noexcept {
        return each16(a, b, [](std::uint32_t x, std::uint32_t y) { return (x * y) >> 16; });
    }
    static HLWQ_INLINE u8 mullo16(u8 a, u8 b) noexcept {
        return each16(a, b, [](std::uint32_t x, std::uint32_t y) { return x * y; });
    }
    /// table[i] within each 16-byte part; every index is below 16.
    static HLWQ_INLINE u8 shuffle16(u8 table, u8 index) noexcept {
        return each<u8>([&](std::size_t i) { return table.lane[index.lane[i] & 15]; });
    }
    /// index < 16 ? table[index] : 0 within each 16-byte part, for every index.
    static HLWQ_INLINE u8 lookup16(u8 table, u8 index) noexcept {
        return each<u8>(
            [&](std::size_t i) { return index.lane[i] < 16 ? table.lane[index.lane[i]] : std::uint8_t{0}; });
    }
    /// 0xff where the bit of `bit` is set in `v`, else 0; every byte of `bit` has one bit set.
    static HLWQ_INLINE u8 bit_mask(u8 v, u8 bit) noexcept {
        return each<u8>([&](std::size_t i) { return (v.lane[i] & bit.lane[i]) != 0 ? 0xff : 0; });
    }
    /// -x where the mask is 0xff, x where it is 0; x > -128.
    static HLWQ_INLINE i8 negate_where(i8 x, u8 mask) noexcept {
        return each<i8>([&](std::size_t i) { return mask.lane[i] != 0 ? -x.lane[i] : x.lane[i]; });
    }

    /// Four-byte lane j of vector i and lane i of vector j change places.
    static HLWQ_INLINE void transpose(u8 (&v)[lanes]) noexcept {
        for (std::size_t i = 0; i < lanes; ++i) {
            for (std::size_t j = 0; j < i; ++j) {
                for (std::size_t k = 0; k < 4; ++k) std::swap(v[i].lane[4 * j + k], v[j].lane[4 * i + k]);
            }
        }
    }

    // ---- dot product

    /// acc[i] += sum of w * x over the four bytes of lane i, exactly. `w` holds weights from -127 to 127 to which
    /// weight_bias was added; where the bias is 128 the bytes are read as unsigned, and the caller takes
    /// 128 * sum of x off again. x > -128.
    static HLWQ_INLINE void dot4(i32& acc, u8 w, i8 x) noexcept {
        for (std::size_t i = 0; i < bytes; ++i) acc.lane[i / 4] += static_cast<std::int8_t>(w.lane[i]) * x.lane[i];
    }

  private:
    template <class V, class P>
    static HLWQ_INLINE V load_as(const P* p) noexcept {
        V v;
        std::memcpy(v.lane, p, bytes);
        return v;
    }
    template <class V, class F>
    static HLWQ_INLINE V each(F f) noexcept {
        V v;
        for (std::size_t i = 0; i < sizeof(v.lane) / sizeof(v.lane[0]); ++i) {
            v.lane[i] = static_cast<std::remove_reference_t<decltype(v.lane[0])>>(f(i));
        }
        return v;
    }
    template <class F>
    static HLWQ_INLINE u8 each16(u8 a, u8 b, F f) noexcept {
        u8 v;
        for (std::size_t i = 0; i < bytes; i += 2) {
            const auto word = [&](u8 s) { return static_cast<std::uint32_t>(s.lane[i] | (s.lane[i + 1] << 8)); };
            const std::uint32_t r = f(word(a), word(b));
            v.lane[i] = static_cast<std::uint8_t>(r);
            v.lane[i + 1] = static_cast<std::uint8_t>(r >> 8);
        }
        return v;
    }
    template <class V, int Low, int High>
    static HLWQ_INLINE V narrow(i32 a, i32 b, i32 c, i32 d) noexcept {
        const i32* part[4] = {&a, &b, &c, &d};
        return each<V>([&](std::size_t i) {
            const std::int32_t x = part[i / lanes]->lane[i % lanes];
            return x < Low ? Low : x > High ? High : x;
        });
    }
};

}  // namespace simd
}  // namespace hlwq::inline HLWQ_CODE_NAMESPACE
