// hlwq/simd/x86.hpp — operations on x86 registers that Highway and xsimd lack, or lack in some version
//
// One vector width per translation unit, the one of HLWQ_ISA: 64 bytes (AVX-512), 32 (AVX2) or 16 (SSSE3). Both library
// backends convert to the registers and back, which costs nothing, so a fill-in is written and tested once. The
// meaning of each operation stands in simd/scalar.hpp. simd/arm.hpp offers the same names on NEON.
#pragma once

#include "hlwq/config.hpp"
#include "hlwq/float16.hpp"

#if defined(HLWQ_ISA_AVX512) || defined(HLWQ_ISA_AVX2) || defined(HLWQ_ISA_SSSE3)

#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>

// GCC 12 takes the deliberately undefined registers inside its own intrinsics for our mistake.
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wuninitialized"
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#endif
#include <immintrin.h>

// GCC before 14 copies the accumulator of the intrinsic from register to register in unrolled loops, which costs up to
// two thirds of the speed; the instruction itself, with the accumulator tied to one register, does not.
#if defined(__GNUC__) && !defined(__clang__) && __GNUC__ < 14
#define HLWQ_DETAIL_PIN_DOT 1
#else
#define HLWQ_DETAIL_PIN_DOT 0
#endif

namespace hlwq::inline HLWQ_CODE_NAMESPACE {
namespace simd::raw {

HLWQ_INLINE __m128i load_16_bytes(const void* p) noexcept { return _mm_loadu_si128(static_cast<const __m128i*>(p)); }
HLWQ_INLINE __m128i load_8_bytes(const void* p) noexcept { return _mm_loadl_epi64(static_cast<const __m128i*>(p)); }
HLWQ_INLINE __m128i load_4_bytes(const void* p) noexcept {
    int word;
    std::memcpy(&word, p, sizeof(word));
    return _mm_cvtsi32_si128(word);
}
/// Up to four halves, zeros behind them; nothing behind them is read.
HLWQ_INLINE std::uint64_t load_some_halves(const half* p, std::size_t count) noexcept {
    std::uint64_t all = 0;
    if (count == 4) {
        std::memcpy(&all, p, 8);
    } else {
        for (std::size_t i = 0; i < count; ++i) all |= static_cast<std::uint64_t>(p[i].bits) << (16 * i);
    }
    return all;
}
HLWQ_INLINE int load_word(const std::int8_t* p) noexcept {
    int word;
    std::memcpy(&word, p, sizeof(word));
    return word;
}
/// The first N floats of a register are table[0], ..., table[N - 1]; nothing behind them is read.
template <std::size_t N>
HLWQ_INLINE __m128 load_short_table(const float* table) noexcept {
    if constexpr (N == 1)
        return _mm_load_ss(table);
    else if constexpr (N == 2)
        return _mm_castsi128_ps(load_8_bytes(table));
    else
        return _mm_loadu_ps(table);
}

#if defined(HLWQ_ISA_AVX512)

using floats = __m512;
using ints = __m512i;

inline constexpr int registers = 32;
HLWQ_INLINE ints load_dup16(const std::uint8_t* p) noexcept { return _mm512_broadcast_i32x4(load_16_bytes(p)); }
HLWQ_INLINE ints load_dup32(const std::uint8_t* p) noexcept {
    return _mm512_broadcast_i64x4(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
}
HLWQ_INLINE ints load_dup4(const std::int8_t* p) noexcept { return _mm512_set1_epi32(load_word(p)); }
template <std::size_t Stride>
HLWQ_INLINE ints load_blocks(const std::uint8_t* p) noexcept {
    if constexpr (Stride == 16) {
        return _mm512_loadu_si512(p);
    } else {
        const __m256i low = _mm256_inserti128_si256(_mm256_castsi128_si256(load_16_bytes(p)),  //
                                                    load_16_bytes(p + Stride), 1);
        const __m256i high = _mm256_inserti128_si256(_mm256_castsi128_si256(load_16_bytes(p + 2 * Stride)),
                                                     load_16_bytes(p + 3 * Stride), 1);
        return _mm512_inserti64x4(_mm512_castsi256_si512(low), high, 1);
    }
}
HLWQ_INLINE floats load_half(const half* p) noexcept {
    return _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
}
HLWQ_INLINE floats load_half_part(const half* p, std::size_t count) noexcept {
    return _mm512_cvtph_ps(_mm256_maskz_loadu_epi16(static_cast<__mmask16>((1u << count) - 1u), p));
}
HLWQ_INLINE floats load_bfloat16(const bfloat16* p) noexcept {
    const ints wide = _mm512_cvtepu16_epi32(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
    return _mm512_castsi512_ps(_mm512_slli_epi32(wide, 16));
}
HLWQ_INLINE void load_bfloat16_pairs(const bfloat16* p, floats& even, floats& odd) noexcept {
    const ints both = _mm512_loadu_si512(p);
    even = _mm512_castsi512_ps(_mm512_slli_epi32(both, 16));
    odd = _mm512_castsi512_ps(_mm512_and_si512(both, _mm512_set1_epi32(static_cast<int>(0xffff0000u))));
}
HLWQ_INLINE void store_half(half* p, floats v) noexcept {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), _mm512_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT));
}
HLWQ_INLINE void store_bfloat16(bfloat16* p, floats v) noexcept {
    const ints word = _mm512_castps_si512(v), high = _mm512_srli_epi32(word, 16);
    const ints odd = _mm512_and_si512(high, _mm512_set1_epi32(1));
    const ints rounded =
        _mm512_srli_epi32(_mm512_add_epi32(word, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff))), 16);
    const ints quiet = _mm512_or_si512(high, _mm512_set1_epi32(0x40));
    const ints all = _mm512_mask_mov_epi32(rounded, _mm512_cmp_ps_mask(v, v, _CMP_UNORD_Q), quiet);
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), _mm512_cvtepi32_epi16(all));
}
HLWQ_INLINE ints widen_u8(const std::uint8_t* p) noexcept { return _mm512_cvtepu8_epi32(load_16_bytes(p)); }

/// Lane i receives lane i ^ K.
template <std::size_t K>
HLWQ_INLINE floats swap(floats a) noexcept {
    if constexpr (K == 1)
        return _mm512_permute_ps(a, 0xb1);
    else if constexpr (K == 2)
        return _mm512_permute_ps(a, 0x4e);
    else if constexpr (K == 4)
        return _mm512_shuffle_f32x4(a, a, 0xb1);
    else
        return _mm512_shuffle_f32x4(a, a, 0x4e);
}
/// The sums of four vectors; within 16-byte parts first.
HLWQ_INLINE void reduce_add4(floats a, floats b, floats c, floats d, float* out) noexcept {
    const __m512d ab = _mm512_castps_pd(_mm512_add_ps(_mm512_unpacklo_ps(a, b), _mm512_unpackhi_ps(a, b)));
    const __m512d cd = _mm512_castps_pd(_mm512_add_ps(_mm512_unpacklo_ps(c, d), _mm512_unpackhi_ps(c, d)));
    const floats all =
        _mm512_add_ps(_mm512_castpd_ps(_mm512_unpacklo_pd(ab, cd)), _mm512_castpd_ps(_mm512_unpackhi_pd(ab, cd)));
    const __m256 half = _mm256_add_ps(_mm512_castps512_ps256(all), _mm512_extractf32x8_ps(all, 1));
    _mm_storeu_ps(out, _mm_add_ps(_mm256_castps256_ps128(half), _mm256_extractf128_ps(half, 1)));
}
HLWQ_INLINE floats div(floats a, floats b) noexcept { return _mm512_div_ps(a, b); }
HLWQ_INLINE floats min(floats a, floats b) noexcept { return _mm512_min_ps(a, b); }
HLWQ_INLINE floats max(floats a, floats b) noexcept { return _mm512_max_ps(a, b); }
HLWQ_INLINE floats fma(floats a, floats b, floats c) noexcept { return _mm512_fmadd_ps(a, b, c); }
HLWQ_INLINE ints round_to_i32(floats a) noexcept { return _mm512_cvtps_epi32(a); }
HLWQ_INLINE floats exp2i(ints n) noexcept {
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_add_epi32(n, _mm512_set1_epi32(127)), 23));
}
HLWQ_INLINE ints append_greater(ints n, floats a, floats b) noexcept {
    const ints twice = _mm512_add_epi32(n, n);
    return _mm512_mask_sub_epi32(twice, _mm512_cmp_ps_mask(a, b, _CMP_GT_OQ), twice, _mm512_set1_epi32(-1));
}
template <std::size_t N>
HLWQ_INLINE floats lookup_f32(const float* table, ints index) noexcept {
    if constexpr (N <= 4) {
        return _mm512_permutexvar_ps(index, _mm512_castps128_ps512(load_short_table<N>(table)));
    } else if constexpr (N == 8) {
        return _mm512_permutexvar_ps(index, _mm512_castps256_ps512(_mm256_loadu_ps(table)));
    } else if constexpr (N == 16) {
        return _mm512_permutexvar_ps(index, _mm512_loadu_ps(table));
    } else if constexpr (N == 32) {
        return _mm512_permutex2var_ps(_mm512_loadu_ps(table), index, _mm512_loadu_ps(table + 16));
    } else {
        // Twice as fast as a gather even for 256 entries.
        return _mm512_mask_blend_ps(_mm512_test_epi32_mask(index, _mm512_set1_epi32(N / 2)),
                                    lookup_f32<N / 2>(table, index), lookup_f32<N / 2>(table + N / 2, index));
    }
}
/// Packing works within 16-byte parts; this brings the four-byte pieces of four packed vectors into order.
HLWQ_INLINE ints order_packed(ints v) noexcept {
    return _mm512_permutexvar_epi32(_mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15), v);
}
HLWQ_INLINE ints narrow_i8(ints a, ints b, ints c, ints d) noexcept {
    return order_packed(_mm512_packs_epi16(_mm512_packs_epi32(a, b), _mm512_packs_epi32(c, d)));
}
HLWQ_INLINE ints narrow_u8(ints a, ints b, ints c, ints d) noexcept {
    return order_packed(_mm512_packus_epi16(_mm512_packs_epi32(a, b), _mm512_packs_epi32(c, d)));
}

/// Dword j of vector i and dword i of vector j change places: first within 16-byte parts, then the parts.
HLWQ_INLINE void transpose(ints (&v)[16]) noexcept {
    ints t[16];
    HLWQ_UNROLL for (int i = 0; i < 16; i += 2) {
        t[i] = _mm512_unpacklo_epi32(v[i], v[i + 1]);
        t[i + 1] = _mm512_unpackhi_epi32(v[i], v[i + 1]);
    }
    HLWQ_UNROLL for (int i = 0; i < 16; i += 4) {
        v[i] = _mm512_unpacklo_epi64(t[i], t[i + 2]);
        v[i + 1] = _mm512_unpackhi_epi64(t[i], t[i + 2]);
        v[i + 2] = _mm512_unpacklo_epi64(t[i + 1], t[i + 3]);
        v[i + 3] = _mm512_unpackhi_epi64(t[i + 1], t[i + 3]);
    }
    HLWQ_UNROLL for (int i = 0; i < 4; ++i) {
        t[i] = _mm512_shuffle_i32x4(v[i], v[i + 4], 0x88);
        t[i + 4] = _mm512_shuffle_i32x4(v[i], v[i + 4], 0xdd);
        t[i + 8] = _mm512_shuffle_i32x4(v[i + 8], v[i + 12], 0x88);
        t[i + 12] = _mm512_shuffle_i32x4(v[i + 8], v[i + 12], 0xdd);
    }
    HLWQ_UNROLL for (int i = 0; i < 4; ++i) {
        v[i] = _mm512_shuffle_i32x4(t[i], t[i + 8], 0x88);
        v[i + 4] = _mm512_shuffle_i32x4(t[i + 4], t[i + 12], 0x88);
        v[i + 8] = _mm512_shuffle_i32x4(t[i], t[i + 8], 0xdd);
        v[i + 12] = _mm512_shuffle_i32x4(t[i + 4], t[i + 12], 0xdd);
    }
}

template <int N>
HLWQ_INLINE ints shr16(ints a) noexcept {
    return _mm512_srli_epi16(a, N);
}
template <int Low, int High>
HLWQ_INLINE ints shr16_halves(ints a) noexcept {
    constexpr long long low = 0x0001000100010001 * Low, high = 0x0001000100010001 * High;
    return _mm512_srlv_epi16(a, _mm512_setr_epi64(low, low, low, low, high, high, high, high));
}
HLWQ_INLINE ints mulhi16(ints a, ints b) noexcept { return _mm512_mulhi_epu16(a, b); }
HLWQ_INLINE ints mullo16(ints a, ints b) noexcept { return _mm512_mullo_epi16(a, b); }
HLWQ_INLINE ints shuffle16(ints table, ints index) noexcept { return _mm512_shuffle_epi8(table, index); }
HLWQ_INLINE ints lookup16(ints table, ints index) noexcept {
    // 0..15 become 0x70..0x7f; everything above gets its highest bit, for which the shuffle gives 0.
    return _mm512_shuffle_epi8(table, _mm512_adds_epu8(index, _mm512_set1_epi8(0x70)));
}
HLWQ_INLINE ints bit_mask(ints v, ints bit) noexcept { return _mm512_movm_epi8(_mm512_test_epi8_mask(v, bit)); }
HLWQ_INLINE ints negate_where(ints x, ints mask) noexcept { return _mm512_sub_epi8(_mm512_xor_si512(x, mask), mask); }

#if defined(HLWQ_ISA_AVX512VNNI)
inline constexpr int weight_bias = 128;
HLWQ_INLINE void dot4(ints& acc, ints w, ints x) noexcept {
#if HLWQ_DETAIL_PIN_DOT
    asm("vpdpbusd {%2, %1, %0|%0, %1, %2}" : "+v"(acc) : "v"(w), "v"(x));
#else
    acc = _mm512_dpbusd_epi32(acc, w, x);
#endif
}
#else
inline constexpr int weight_bias = 0;
HLWQ_INLINE void dot4(ints& acc, ints w, ints x) noexcept {
    // |x| and w with the sign of x: both below 128, so a sum of two products stays below 2^15. What depends on x alone
    // leaves the loop where x is used for several rows.
    const ints signed_w = _mm512_mask_sub_epi8(w, _mm512_movepi8_mask(x), _mm512_setzero_si512(), w);
    const ints pairs = _mm512_maddubs_epi16(_mm512_abs_epi8(x), signed_w);
    acc = _mm512_add_epi32(acc, _mm512_madd_epi16(pairs, _mm512_set1_epi16(1)));
}
#endif
#if defined(HLWQ_ISA_AVX512VBMI)
inline constexpr bool has_byte_permute = true;
HLWQ_INLINE ints permute_bytes(ints table, ints index) noexcept { return _mm512_permutexvar_epi8(index, table); }
HLWQ_INLINE ints permute_bytes2(ints low, ints high, ints index) noexcept {
    return _mm512_permutex2var_epi8(low, index, high);
}
HLWQ_INLINE ints multishift(ints v, ints shift) noexcept { return _mm512_multishift_epi64_epi8(shift, v); }
#else
inline constexpr bool has_byte_permute = false;
#endif

#elif defined(HLWQ_ISA_AVX2)

using floats = __m256;
using ints = __m256i;

HLWQ_INLINE ints load_32_bytes(const void* p) noexcept { return _mm256_loadu_si256(static_cast<const __m256i*>(p)); }
inline constexpr int registers = 16;
HLWQ_INLINE ints load_dup16(const std::uint8_t* p) noexcept { return _mm256_broadcastsi128_si256(load_16_bytes(p)); }
HLWQ_INLINE ints load_dup4(const std::int8_t* p) noexcept { return _mm256_set1_epi32(load_word(p)); }
template <std::size_t Stride>
HLWQ_INLINE ints load_blocks(const std::uint8_t* p) noexcept {
    if constexpr (Stride == 16) {
        return load_32_bytes(p);
    } else {
        return _mm256_inserti128_si256(_mm256_castsi128_si256(load_16_bytes(p)), load_16_bytes(p + Stride), 1);
    }
}
HLWQ_INLINE floats load_half(const half* p) noexcept { return _mm256_cvtph_ps(load_16_bytes(p)); }
HLWQ_INLINE floats load_half_part(const half* p, std::size_t count) noexcept {
    const std::size_t low = count < 4 ? count : 4;
    const auto words = [](std::uint64_t bits) { return static_cast<long long>(bits); };
    return _mm256_cvtph_ps(
        _mm_set_epi64x(words(load_some_halves(p + low, count - low)), words(load_some_halves(p, low))));
}
HLWQ_INLINE floats load_bfloat16(const bfloat16* p) noexcept {
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(load_16_bytes(p)), 16));
}
HLWQ_INLINE void load_bfloat16_pairs(const bfloat16* p, floats& even, floats& odd) noexcept {
    const ints both = load_32_bytes(p);
    even = _mm256_castsi256_ps(_mm256_slli_epi32(both, 16));
    odd = _mm256_castsi256_ps(_mm256_and_si256(both, _mm256_set1_epi32(static_cast<int>(0xffff0000u))));
}
HLWQ_INLINE void store_half(half* p, floats v) noexcept {
    _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm256_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT));
}
HLWQ_INLINE void store_bfloat16(bfloat16* p, floats v) noexcept {
    const ints word = _mm256_castps_si256(v), high = _mm256_srli_epi32(word, 16);
    const ints odd = _mm256_and_si256(high, _mm256_set1_epi32(1));
    const ints rounded =
        _mm256_srli_epi32(_mm256_add_epi32(word, _mm256_add_epi32(odd, _mm256_set1_epi32(0x7fff))), 16);
    const ints quiet = _mm256_or_si256(high, _mm256_set1_epi32(0x40));
    const ints all = _mm256_blendv_epi8(rounded, quiet, _mm256_castps_si256(_mm256_cmp_ps(v, v, _CMP_UNORD_Q)));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(p),
                     _mm_packus_epi32(_mm256_castsi256_si128(all), _mm256_extracti128_si256(all, 1)));
}
HLWQ_INLINE ints widen_u8(const std::uint8_t* p) noexcept { return _mm256_cvtepu8_epi32(load_8_bytes(p)); }

/// Lane i receives lane i ^ K.
template <std::size_t K>
HLWQ_INLINE floats swap(floats a) noexcept {
    if constexpr (K == 1)
        return _mm256_permute_ps(a, 0xb1);
    else if constexpr (K == 2)
        return _mm256_permute_ps(a, 0x4e);
    else
        return _mm256_permute2f128_ps(a, a, 0x01);
}
/// The sums of four vectors; within 16-byte parts first.
HLWQ_INLINE void reduce_add4(floats a, floats b, floats c, floats d, float* out) noexcept {
    const __m256d ab = _mm256_castps_pd(_mm256_add_ps(_mm256_unpacklo_ps(a, b), _mm256_unpackhi_ps(a, b)));
    const __m256d cd = _mm256_castps_pd(_mm256_add_ps(_mm256_unpacklo_ps(c, d), _mm256_unpackhi_ps(c, d)));
    const floats all =
        _mm256_add_ps(_mm256_castpd_ps(_mm256_unpacklo_pd(ab, cd)), _mm256_castpd_ps(_mm256_unpackhi_pd(ab, cd)));
    _mm_storeu_ps(out, _mm_add_ps(_mm256_castps256_ps128(all), _mm256_extractf128_ps(all, 1)));
}
HLWQ_INLINE floats div(floats a, floats b) noexcept { return _mm256_div_ps(a, b); }
HLWQ_INLINE floats min(floats a, floats b) noexcept { return _mm256_min_ps(a, b); }
HLWQ_INLINE floats max(floats a, floats b) noexcept { return _mm256_max_ps(a, b); }
HLWQ_INLINE floats fma(floats a, floats b, floats c) noexcept { return _mm256_fmadd_ps(a, b, c); }
HLWQ_INLINE ints round_to_i32(floats a) noexcept { return _mm256_cvtps_epi32(a); }
HLWQ_INLINE floats exp2i(ints n) noexcept {
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(n, _mm256_set1_epi32(127)), 23));
}
HLWQ_INLINE ints append_greater(ints n, floats a, floats b) noexcept {
    return _mm256_sub_epi32(_mm256_add_epi32(n, n), _mm256_castps_si256(_mm256_cmp_ps(a, b, _CMP_GT_OQ)));
}
template <std::size_t N>
HLWQ_INLINE floats lookup_f32(const float* table, ints index) noexcept {
    if constexpr (N <= 4) {
        return _mm256_permutevar8x32_ps(_mm256_castps128_ps256(load_short_table<N>(table)), index);
    } else if constexpr (N == 8) {
        return _mm256_permutevar8x32_ps(_mm256_loadu_ps(table), index);
    } else if constexpr (N <= 64) {
        // The blend asks the sign bit: the highest bit of the index is moved there.
        constexpr int shift = 32 - std::countr_zero(N);
        return _mm256_blendv_ps(lookup_f32<N / 2>(table, index), lookup_f32<N / 2>(table + N / 2, index),
                                _mm256_castsi256_ps(_mm256_slli_epi32(index, shift)));
    } else {
        // From 128 entries on a gather is faster than the tree of blends.
        const floats all = _mm256_castsi256_ps(_mm256_set1_epi32(-1));
        return _mm256_mask_i32gather_ps(_mm256_setzero_ps(), table, index, all, 4);
    }
}
/// Packing works within 16-byte parts; this brings the four-byte pieces of four packed vectors into order.
HLWQ_INLINE ints order_packed(ints v) noexcept {
    return _mm256_permutevar8x32_epi32(v, _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7));
}
HLWQ_INLINE ints narrow_i8(ints a, ints b, ints c, ints d) noexcept {
    return order_packed(_mm256_packs_epi16(_mm256_packs_epi32(a, b), _mm256_packs_epi32(c, d)));
}
HLWQ_INLINE ints narrow_u8(ints a, ints b, ints c, ints d) noexcept {
    return order_packed(_mm256_packus_epi16(_mm256_packs_epi32(a, b), _mm256_packs_epi32(c, d)));
}

/// Dword j of vector i and dword i of vector j change places: first within 16-byte parts, then the parts.
HLWQ_INLINE void transpose(ints (&v)[8]) noexcept {
    ints t[8];
    HLWQ_UNROLL for (int i = 0; i < 8; i += 2) {
        t[i] = _mm256_unpacklo_epi32(v[i], v[i + 1]);
        t[i + 1] = _mm256_unpackhi_epi32(v[i], v[i + 1]);
    }
    HLWQ_UNROLL for (int i = 0; i < 8; i += 4) {
        v[i] = _mm256_unpacklo_epi64(t[i], t[i + 2]);
        v[i + 1] = _mm256_unpackhi_epi64(t[i], t[i + 2]);
        v[i + 2] = _mm256_unpacklo_epi64(t[i + 1], t[i + 3]);
        v[i + 3] = _mm256_unpackhi_epi64(t[i + 1], t[i + 3]);
    }
    HLWQ_UNROLL for (int i = 0; i < 4; ++i) {
        const ints low = v[i], high = v[i + 4];
        v[i] = _mm256_permute2x128_si256(low, high, 0x20);
        v[i + 4] = _mm256_permute2x128_si256(low, high, 0x31);
    }
}

template <int N>
HLWQ_INLINE ints shr16(ints a) noexcept {
    return _mm256_srli_epi16(a, N);
}
HLWQ_INLINE ints mulhi16(ints a, ints b) noexcept { return _mm256_mulhi_epu16(a, b); }
HLWQ_INLINE ints mullo16(ints a, ints b) noexcept { return _mm256_mullo_epi16(a, b); }
HLWQ_INLINE ints shuffle16(ints table, ints index) noexcept { return _mm256_shuffle_epi8(table, index); }
HLWQ_INLINE ints lookup16(ints table, ints index) noexcept {
    // 0..15 become 0x70..0x7f; everything above gets its highest bit, for which the shuffle gives 0.
    return _mm256_shuffle_epi8(table, _mm256_adds_epu8(index, _mm256_set1_epi8(0x70)));
}
HLWQ_INLINE ints bit_mask(ints v, ints bit) noexcept { return _mm256_cmpeq_epi8(_mm256_and_si256(v, bit), bit); }
HLWQ_INLINE ints negate_where(ints x, ints mask) noexcept { return _mm256_sub_epi8(_mm256_xor_si256(x, mask), mask); }

inline constexpr bool has_byte_permute = false;
#if defined(HLWQ_ISA_AVX2VNNI)
inline constexpr int weight_bias = 128;
HLWQ_INLINE void dot4(ints& acc, ints w, ints x) noexcept {
#if HLWQ_DETAIL_PIN_DOT
    asm("%{vex%} vpdpbusd {%2, %1, %0|%0, %1, %2}" : "+x"(acc) : "x"(w), "x"(x));
#else
    acc = _mm256_dpbusd_avx_epi32(acc, w, x);
#endif
}
#else
inline constexpr int weight_bias = 0;
HLWQ_INLINE void dot4(ints& acc, ints w, ints x) noexcept {
    // |x| and w with the sign of x: both below 128, so a sum of two products stays below 2^15. What depends on x alone
    // leaves the loop where x is used for several rows.
    const ints pairs = _mm256_maddubs_epi16(_mm256_abs_epi8(x), _mm256_sign_epi8(w, x));
    acc = _mm256_add_epi32(acc, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
}
#endif

#else  // SSSE3

using floats = __m128;
using ints = __m128i;

HLWQ_INLINE ints select(ints mask, ints yes, ints no) noexcept {
    return _mm_or_si128(_mm_and_si128(mask, yes), _mm_andnot_si128(mask, no));
}
inline constexpr int registers = 16;
HLWQ_INLINE ints load_dup16(const std::uint8_t* p) noexcept { return load_16_bytes(p); }
HLWQ_INLINE ints load_dup4(const std::int8_t* p) noexcept { return _mm_set1_epi32(load_word(p)); }
template <std::size_t Stride>
HLWQ_INLINE ints load_blocks(const std::uint8_t* p) noexcept {
    return load_16_bytes(p);
}
HLWQ_INLINE floats load_half(const half* p) noexcept {
    // In integers, so that subnormals are exact whatever the floating-point mode says about them.
    const ints raw = _mm_unpacklo_epi16(load_8_bytes(p), _mm_setzero_si128());
    const ints magnitude = _mm_and_si128(raw, _mm_set1_epi32(0x7fff));
    const ints sign = _mm_slli_epi32(_mm_andnot_si128(_mm_set1_epi32(0x7fff), raw), 16);
    const ints rebias = _mm_set1_epi32(112 << 23);
    const ints infinite = _mm_cmpgt_epi32(magnitude, _mm_set1_epi32(0x7bff));
    const ints normal =
        _mm_add_epi32(_mm_add_epi32(_mm_slli_epi32(magnitude, 13), rebias), _mm_and_si128(infinite, rebias));
    const floats subnormal = _mm_mul_ps(_mm_cvtepi32_ps(magnitude), _mm_set1_ps(0x1p-24f));
    const ints is_subnormal = _mm_cmpgt_epi32(_mm_set1_epi32(0x400), magnitude);
    return _mm_castsi128_ps(_mm_or_si128(sign, select(is_subnormal, _mm_castps_si128(subnormal), normal)));
}
HLWQ_INLINE floats load_bfloat16(const bfloat16* p) noexcept {
    return _mm_castsi128_ps(_mm_unpacklo_epi16(_mm_setzero_si128(), load_8_bytes(p)));
}
HLWQ_INLINE floats load_half_part(const half* p, std::size_t count) noexcept {
    half all[4];
    const std::uint64_t bits = load_some_halves(p, count);
    std::memcpy(static_cast<void*>(all), &bits, sizeof(bits));
    return load_half(all);
}
HLWQ_INLINE void load_bfloat16_pairs(const bfloat16* p, floats& even, floats& odd) noexcept {
    const ints both = load_16_bytes(p);
    even = _mm_castsi128_ps(_mm_slli_epi32(both, 16));
    odd = _mm_castsi128_ps(_mm_and_si128(both, _mm_set1_epi32(static_cast<int>(0xffff0000u))));
}
/// No instruction converts here, and stores to two-byte types are rare: lane by lane.
template <class T>
HLWQ_INLINE void store_rounded(T* p, floats v) noexcept {
    float lane[4];
    _mm_storeu_ps(lane, v);
    for (int i = 0; i < 4; ++i) p[i] = T(lane[i]);
}
HLWQ_INLINE void store_half(half* p, floats v) noexcept { store_rounded(p, v); }
HLWQ_INLINE void store_bfloat16(bfloat16* p, floats v) noexcept { store_rounded(p, v); }
HLWQ_INLINE ints widen_u8(const std::uint8_t* p) noexcept {
    const ints zero = _mm_setzero_si128();
    return _mm_unpacklo_epi16(_mm_unpacklo_epi8(load_4_bytes(p), zero), zero);
}

/// Lane i receives lane i ^ K.
template <std::size_t K>
HLWQ_INLINE floats swap(floats a) noexcept {
    if constexpr (K == 1)
        return _mm_shuffle_ps(a, a, 0xb1);
    else
        return _mm_shuffle_ps(a, a, 0x4e);
}
/// The sums of four vectors.
HLWQ_INLINE void reduce_add4(floats a, floats b, floats c, floats d, float* out) noexcept {
    const floats ab = _mm_add_ps(_mm_unpacklo_ps(a, b), _mm_unpackhi_ps(a, b));
    const floats cd = _mm_add_ps(_mm_unpacklo_ps(c, d), _mm_unpackhi_ps(c, d));
    _mm_storeu_ps(out, _mm_add_ps(_mm_movelh_ps(ab, cd), _mm_movehl_ps(cd, ab)));
}
HLWQ_INLINE floats div(floats a, floats b) noexcept { return _mm_div_ps(a, b); }
HLWQ_INLINE floats min(floats a, floats b) noexcept { return _mm_min_ps(a, b); }
HLWQ_INLINE floats max(floats a, floats b) noexcept { return _mm_max_ps(a, b); }
HLWQ_INLINE floats fma(floats a, floats b, floats c) noexcept { return _mm_add_ps(_mm_mul_ps(a, b), c); }
HLWQ_INLINE ints round_to_i32(floats a) noexcept { return _mm_cvtps_epi32(a); }
HLWQ_INLINE floats exp2i(ints n) noexcept {
    return _mm_castsi128_ps(_mm_slli_epi32(_mm_add_epi32(n, _mm_set1_epi32(127)), 23));
}
HLWQ_INLINE ints append_greater(ints n, floats a, floats b) noexcept {
    return _mm_sub_epi32(_mm_add_epi32(n, n), _mm_castps_si128(_mm_cmpgt_ps(a, b)));
}
template <std::size_t N>
HLWQ_INLINE floats lookup_f32(const float* table, ints index) noexcept {
    // No shuffle of floats by a variable exists here.
    alignas(16) std::int32_t i[4];
    _mm_store_si128(reinterpret_cast<__m128i*>(i), index);
    return _mm_setr_ps(table[i[0]], table[i[1]], table[i[2]], table[i[3]]);
}
HLWQ_INLINE ints narrow_i8(ints a, ints b, ints c, ints d) noexcept {
    return _mm_packs_epi16(_mm_packs_epi32(a, b), _mm_packs_epi32(c, d));
}
HLWQ_INLINE ints narrow_u8(ints a, ints b, ints c, ints d) noexcept {
    return _mm_packus_epi16(_mm_packs_epi32(a, b), _mm_packs_epi32(c, d));
}

/// Dword j of vector i and dword i of vector j change places.
HLWQ_INLINE void transpose(ints (&v)[4]) noexcept {
    const ints a = _mm_unpacklo_epi32(v[0], v[1]), b = _mm_unpackhi_epi32(v[0], v[1]);
    const ints c = _mm_unpacklo_epi32(v[2], v[3]), d = _mm_unpackhi_epi32(v[2], v[3]);
    v[0] = _mm_unpacklo_epi64(a, c);
    v[1] = _mm_unpackhi_epi64(a, c);
    v[2] = _mm_unpacklo_epi64(b, d);
    v[3] = _mm_unpackhi_epi64(b, d);
}

template <int N>
HLWQ_INLINE ints shr16(ints a) noexcept {
    return _mm_srli_epi16(a, N);
}
HLWQ_INLINE ints mulhi16(ints a, ints b) noexcept { return _mm_mulhi_epu16(a, b); }
HLWQ_INLINE ints mullo16(ints a, ints b) noexcept { return _mm_mullo_epi16(a, b); }
HLWQ_INLINE ints shuffle16(ints table, ints index) noexcept { return _mm_shuffle_epi8(table, index); }
HLWQ_INLINE ints lookup16(ints table, ints index) noexcept {
    // 0..15 become 0x70..0x7f; everything above gets its highest bit, for which the shuffle gives 0.
    return _mm_shuffle_epi8(table, _mm_adds_epu8(index, _mm_set1_epi8(0x70)));
}
HLWQ_INLINE ints bit_mask(ints v, ints bit) noexcept { return _mm_cmpeq_epi8(_mm_and_si128(v, bit), bit); }
HLWQ_INLINE ints negate_where(ints x, ints mask) noexcept { return _mm_sub_epi8(_mm_xor_si128(x, mask), mask); }

inline constexpr int weight_bias = 0;
inline constexpr bool has_byte_permute = false;
HLWQ_INLINE void dot4(ints& acc, ints w, ints x) noexcept {
    // |x| and w with the sign of x: both below 128, so a sum of two products stays below 2^15.
    const ints pairs = _mm_maddubs_epi16(_mm_abs_epi8(x), _mm_sign_epi8(w, x));
    acc = _mm_add_epi32(acc, _mm_madd_epi16(pairs, _mm_set1_epi16(1)));
}

#endif

}  // namespace simd::raw
}  // namespace hlwq::inline HLWQ_CODE_NAMESPACE

#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic pop
#endif
#undef HLWQ_DETAIL_PIN_DOT

#endif
