// hlwq/simd/arm.hpp — operations on NEON registers that Highway and xsimd lack, or lack in some version
//
// The same names as in simd/x86.hpp, on the 16-byte registers of AArch64; simd/scalar.hpp says what each one means.
#pragma once

#include "hlwq/config.hpp"
#include "hlwq/float16.hpp"

#if defined(HLWQ_ISA_NEON)

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <arm_neon.h>

namespace hlwq::inline HLWQ_CODE_NAMESPACE {
namespace simd::raw {

inline constexpr int registers = 32;
inline constexpr int weight_bias = 0;
inline constexpr bool has_byte_permute = false;

HLWQ_INLINE uint16x4_t load_words(const void* p) noexcept { return vld1_u16(static_cast<const std::uint16_t*>(p)); }
HLWQ_INLINE uint8x16_t load_dup16(const std::uint8_t* p) noexcept { return vld1q_u8(p); }
HLWQ_INLINE int8x16_t load_dup4(const std::int8_t* p) noexcept {
    std::int32_t word;
    std::memcpy(&word, p, sizeof(word));
    return vreinterpretq_s8_s32(vdupq_n_s32(word));
}
template <std::size_t Stride>
HLWQ_INLINE uint8x16_t load_blocks(const std::uint8_t* p) noexcept {
    return vld1q_u8(p);
}
HLWQ_INLINE float32x4_t load_half(const half* p) noexcept { return vcvt_f32_f16(vreinterpret_f16_u16(load_words(p))); }
HLWQ_INLINE float32x4_t load_half_part(const half* p, std::size_t count) noexcept {
    half all[4] = {};
    for (std::size_t i = 0; i < count; ++i) all[i] = p[i];
    return load_half(all);
}
HLWQ_INLINE float32x4_t load_bfloat16(const bfloat16* p) noexcept {
    return vreinterpretq_f32_u32(vshll_n_u16(load_words(p), 16));
}
HLWQ_INLINE void load_bfloat16_pairs(const bfloat16* p, float32x4_t& even, float32x4_t& odd) noexcept {
    const uint32x4_t both = vreinterpretq_u32_u8(vld1q_u8(reinterpret_cast<const std::uint8_t*>(p)));
    even = vreinterpretq_f32_u32(vshlq_n_u32(both, 16));
    odd = vreinterpretq_f32_u32(vandq_u32(both, vdupq_n_u32(0xffff0000u)));
}
HLWQ_INLINE void store_half(half* p, float32x4_t v) noexcept {
    vst1_u16(reinterpret_cast<std::uint16_t*>(p), vreinterpret_u16_f16(vcvt_f16_f32(v)));
}
HLWQ_INLINE void store_bfloat16(bfloat16* p, float32x4_t v) noexcept {
    const uint32x4_t word = vreinterpretq_u32_f32(v), high = vshrq_n_u32(word, 16);
    const uint32x4_t odd = vandq_u32(high, vdupq_n_u32(1));
    const uint32x4_t rounded = vshrq_n_u32(vaddq_u32(word, vaddq_u32(odd, vdupq_n_u32(0x7fff))), 16);
    const uint32x4_t quiet = vorrq_u32(high, vdupq_n_u32(0x40));
    vst1_u16(reinterpret_cast<std::uint16_t*>(p), vmovn_u32(vbslq_u32(vceqq_f32(v, v), rounded, quiet)));
}
HLWQ_INLINE int32x4_t widen_u8(const std::uint8_t* p) noexcept {
    std::uint32_t word;
    std::memcpy(&word, p, sizeof(word));
    return vreinterpretq_s32_u32(vmovl_u16(vget_low_u16(vmovl_u8(vcreate_u8(word)))));
}

/// Lane i receives lane i ^ K.
template <std::size_t K>
HLWQ_INLINE float32x4_t swap(float32x4_t a) noexcept {
    if constexpr (K == 1)
        return vrev64q_f32(a);
    else
        return vextq_f32(a, a, 2);
}
/// The sums of four vectors.
HLWQ_INLINE void reduce_add4(float32x4_t a, float32x4_t b, float32x4_t c, float32x4_t d, float* out) noexcept {
    vst1q_f32(out, vpaddq_f32(vpaddq_f32(a, b), vpaddq_f32(c, d)));
}
HLWQ_INLINE float32x4_t div(float32x4_t a, float32x4_t b) noexcept { return vdivq_f32(a, b); }
HLWQ_INLINE float32x4_t min(float32x4_t a, float32x4_t b) noexcept { return vminq_f32(a, b); }
HLWQ_INLINE float32x4_t max(float32x4_t a, float32x4_t b) noexcept { return vmaxq_f32(a, b); }
HLWQ_INLINE float32x4_t fma(float32x4_t a, float32x4_t b, float32x4_t c) noexcept { return vfmaq_f32(c, a, b); }
HLWQ_INLINE int32x4_t round_to_i32(float32x4_t a) noexcept { return vcvtnq_s32_f32(a); }
HLWQ_INLINE float32x4_t exp2i(int32x4_t n) noexcept {
    return vreinterpretq_f32_s32(vshlq_n_s32(vaddq_s32(n, vdupq_n_s32(127)), 23));
}
HLWQ_INLINE int32x4_t append_greater(int32x4_t n, float32x4_t a, float32x4_t b) noexcept {
    return vsubq_s32(vaddq_s32(n, n), vreinterpretq_s32_u32(vcgtq_f32(a, b)));
}
template <std::size_t N>
HLWQ_INLINE float32x4_t lookup_f32(const float* table, int32x4_t index) noexcept {
    if constexpr (N >= 4 && N <= 64) {
        // Byte k of float i is byte 4 i + k of the table; 64 floats are just what a byte can number.
        const uint32x4_t first = vmulq_n_u32(vreinterpretq_u32_s32(index), 0x04040404u);
        const uint8x16_t at = vreinterpretq_u8_u32(vaddq_u32(first, vdupq_n_u32(0x03020100u)));
        const auto* bytes = reinterpret_cast<const std::uint8_t*>(table);
        uint8x16_t found = vdupq_n_u8(0);
        if constexpr (N == 4) {
            found = vqtbl1q_u8(vld1q_u8(bytes), at);
        } else if constexpr (N == 8) {
            found = vqtbl2q_u8({{vld1q_u8(bytes), vld1q_u8(bytes + 16)}}, at);
        } else {
            // Out of range of one table, `vqtbx4q` keeps what the table before it has found.
            for (std::size_t k = 0; k < 4 * N; k += 64) {
                const uint8x16x4_t part = {{vld1q_u8(bytes + k), vld1q_u8(bytes + k + 16),  //
                                            vld1q_u8(bytes + k + 32), vld1q_u8(bytes + k + 48)}};
                found = vqtbx4q_u8(found, part, vsubq_u8(at, vdupq_n_u8(static_cast<std::uint8_t>(k))));
            }
        }
        return vreinterpretq_f32_u8(found);
    } else {
        const float found[4] = {table[vgetq_lane_s32(index, 0)], table[vgetq_lane_s32(index, 1)],
                                table[vgetq_lane_s32(index, 2)], table[vgetq_lane_s32(index, 3)]};
        return vld1q_f32(found);
    }
}
HLWQ_INLINE int8x16_t narrow_i8(int32x4_t a, int32x4_t b, int32x4_t c, int32x4_t d) noexcept {
    return vcombine_s8(vqmovn_s16(vcombine_s16(vqmovn_s32(a), vqmovn_s32(b))),
                       vqmovn_s16(vcombine_s16(vqmovn_s32(c), vqmovn_s32(d))));
}
HLWQ_INLINE uint8x16_t narrow_u8(int32x4_t a, int32x4_t b, int32x4_t c, int32x4_t d) noexcept {
    return vcombine_u8(vqmovun_s16(vcombine_s16(vqmovn_s32(a), vqmovn_s32(b))),
                       vqmovun_s16(vcombine_s16(vqmovn_s32(c), vqmovn_s32(d))));
}

/// Dword j of vector i and dword i of vector j change places.
HLWQ_INLINE void transpose(uint8x16_t (&v)[4]) noexcept {
    const auto words = [](uint8x16_t x) { return vreinterpretq_u32_u8(x); };
    const auto pairs = [](uint32x4_t x) { return vreinterpretq_u64_u32(x); };
    const uint64x2_t a = pairs(vzip1q_u32(words(v[0]), words(v[1]))), b = pairs(vzip2q_u32(words(v[0]), words(v[1])));
    const uint64x2_t c = pairs(vzip1q_u32(words(v[2]), words(v[3]))), d = pairs(vzip2q_u32(words(v[2]), words(v[3])));
    v[0] = vreinterpretq_u8_u64(vzip1q_u64(a, c));
    v[1] = vreinterpretq_u8_u64(vzip2q_u64(a, c));
    v[2] = vreinterpretq_u8_u64(vzip1q_u64(b, d));
    v[3] = vreinterpretq_u8_u64(vzip2q_u64(b, d));
}

template <int N>
HLWQ_INLINE uint8x16_t shr16(uint8x16_t a) noexcept {
    if constexpr (N == 0)
        return a;
    else
        return vreinterpretq_u8_u16(vshrq_n_u16(vreinterpretq_u16_u8(a), N));
}
HLWQ_INLINE uint8x16_t mulhi16(uint8x16_t a, uint8x16_t b) noexcept {
    const uint16x8_t x = vreinterpretq_u16_u8(a), y = vreinterpretq_u16_u8(b);
    const uint32x4_t low = vmull_u16(vget_low_u16(x), vget_low_u16(y));
    const uint32x4_t high = vmull_high_u16(x, y);
    return vreinterpretq_u8_u16(vuzp2q_u16(vreinterpretq_u16_u32(low), vreinterpretq_u16_u32(high)));
}
HLWQ_INLINE uint8x16_t mullo16(uint8x16_t a, uint8x16_t b) noexcept {
    return vreinterpretq_u8_u16(vmulq_u16(vreinterpretq_u16_u8(a), vreinterpretq_u16_u8(b)));
}
HLWQ_INLINE uint8x16_t shuffle16(uint8x16_t table, uint8x16_t index) noexcept { return vqtbl1q_u8(table, index); }
HLWQ_INLINE uint8x16_t lookup16(uint8x16_t table, uint8x16_t index) noexcept { return vqtbl1q_u8(table, index); }
HLWQ_INLINE uint8x16_t bit_mask(uint8x16_t v, uint8x16_t bit) noexcept { return vtstq_u8(v, bit); }
HLWQ_INLINE int8x16_t negate_where(int8x16_t x, uint8x16_t mask) noexcept {
    const int8x16_t ones = vreinterpretq_s8_u8(mask);
    return vsubq_s8(veorq_s8(x, ones), ones);
}

HLWQ_INLINE void dot4(int32x4_t& acc, uint8x16_t w, int8x16_t x) noexcept {
    const int8x16_t weights = vreinterpretq_s8_u8(w);
#if defined(HLWQ_ISA_NEON_DOTPROD)
    acc = vdotq_s32(acc, weights, x);
#else
    // Both are at least -127, so a sum of two products stays below 2^15.
    const int16x8_t low = vmull_s8(vget_low_s8(weights), vget_low_s8(x));
    const int16x8_t high = vmull_high_s8(weights, x);
    acc = vpadalq_s16(acc, vpaddq_s16(low, high));
#endif
}

}  // namespace simd::raw
}  // namespace hlwq::inline HLWQ_CODE_NAMESPACE

#endif
