// hlwq/simd/highway.hpp — the backend over Google Highway 1.0.3 or newer, by static dispatch
//
// Vectors are Highway's own. What Highway lacks in some version is done on the register (simd/x86.hpp, simd/arm.hpp).
// Highway's target is the one of the compiler's flags: no HWY_ATTR, no HWY_BEFORE_NAMESPACE, no libhwy at link time.
//
// In a file that uses Highway's foreach_target.h, include hlwq inside `#if HWY_ONCE`. Where Highway was included before
// this header, define in front of it what the first lines below define.
#pragma once

#include "hlwq/config.hpp"
#include "hlwq/float16.hpp"

#if !defined(HLWQ_ISA_GENERIC)

#if !defined(HIGHWAY_HWY_DETECT_TARGETS_H_)
// Highway asks for AES and PCLMUL beside every x86 level from SSE4 on, which -march=x86-64-v3 and even haswell do not
// promise, and falls back to 16 bytes without a word.
#if defined(__SSE4_2__) && !(defined(__AES__) && defined(__PCLMUL__)) && !defined(HWY_DISABLE_PCLMUL_AES)
#define HWY_DISABLE_PCLMUL_AES
#endif
// Highway 1.0.3 stops with an error when the flags promise more than its dynamic targets contain.
#if defined(HLWQ_ISA_AVX512VBMI) && defined(__AVXVNNI__) && !defined(HWY_WANT_AVX3_DL)
#define HWY_WANT_AVX3_DL
#endif
// Vectors of SVE have no size at compile time and cannot be members or array elements.
#if defined(__ARM_FEATURE_SVE) && !defined(HWY_DISABLED_TARGETS)
#define HWY_DISABLED_TARGETS (HWY_SVE | HWY_SVE2 | HWY_SVE_256 | HWY_SVE2_128)
#endif
// Highway up to 1.0.3 compiles its NEON functions for +crypto under GCC, and they cannot be inlined into code without
// it; this switches that off. 1.0.4, the first version with the header asked for, knows NEON without AES.
#if defined(__aarch64__) && defined(__GNUC__) && !defined(__clang__) && !defined(__ARM_FEATURE_AES) && \
    !__has_include(<hwy/ops/ppc_vsx-inl.h>) && !defined(TOOLCHAIN_MISS_SYS_AUXV_H)
#define TOOLCHAIN_MISS_SYS_AUXV_H
#endif
#endif

#include <hwy/highway.h>

#if HWY_TARGET != HWY_STATIC_TARGET
#error "hlwq uses Highway's static target only: include it inside `#if HWY_ONCE` in files with foreach_target.h"
#endif

#include "hlwq/simd/arm.hpp"
#include "hlwq/simd/x86.hpp"

#include <bit>
#include <cstddef>
#include <cstdint>

namespace hlwq::inline HLWQ_CODE_NAMESPACE {
namespace simd {

static_assert(HWY_MAX_BYTES == HLWQ_ISA_BYTES,
              "Highway chose another vector size than the compiler's flags offer: include hlwq before <hwy/highway.h>, "
              "or add -maes -mpclmul on x86, or define HWY_DISABLE_PCLMUL_AES for the whole file");

namespace hn = ::hwy::HWY_NAMESPACE;

struct highway_backend {
    static constexpr std::size_t bytes = HWY_MAX_BYTES;
    static constexpr std::size_t lanes = bytes / 4;
    static constexpr int registers = raw::registers;
    static constexpr int weight_bias = raw::weight_bias;
    static constexpr bool has_byte_permute = raw::has_byte_permute;

    using f32 = hn::Vec<hn::ScalableTag<float>>;
    using i32 = hn::Vec<hn::ScalableTag<std::int32_t>>;
    using u8 = hn::Vec<hn::ScalableTag<std::uint8_t>>;
    using i8 = hn::Vec<hn::ScalableTag<std::int8_t>>;

    // ---- memory

    static HLWQ_INLINE f32 load(const float* p) noexcept { return hn::LoadU(df, p); }
    static HLWQ_INLINE void store(float* p, f32 v) noexcept { hn::StoreU(v, df, p); }
    static HLWQ_INLINE i32 load_i32(const std::int32_t* p) noexcept { return hn::LoadU(di32, p); }
    static HLWQ_INLINE void store_i32(std::int32_t* p, i32 v) noexcept { hn::StoreU(v, di32, p); }
    static HLWQ_INLINE u8 load_u8(const std::uint8_t* p) noexcept { return hn::LoadU(du8, p); }
    static HLWQ_INLINE void store_u8(std::uint8_t* p, u8 v) noexcept { hn::StoreU(v, du8, p); }
    static HLWQ_INLINE i8 load_i8(const std::int8_t* p) noexcept { return hn::LoadU(di8, p); }
    static HLWQ_INLINE void store_i8(std::int8_t* p, i8 v) noexcept { hn::StoreU(v, di8, p); }

    static HLWQ_INLINE u8 load_dup16(const std::uint8_t* p) noexcept { return u8{raw::load_dup16(p)}; }
    static HLWQ_INLINE i8 load_dup4(const std::int8_t* p) noexcept { return i8{raw::load_dup4(p)}; }
    template <std::size_t Stride>
    static HLWQ_INLINE u8 load_blocks(const std::uint8_t* p) noexcept {
        return u8{raw::load_blocks<Stride>(p)};
    }
    static HLWQ_INLINE f32 load_half(const half* p) noexcept { return f32{raw::load_half(p)}; }
    static HLWQ_INLINE f32 load_half_part(const half* p, std::size_t count) noexcept {
        return f32{raw::load_half_part(p, count)};
    }
    static HLWQ_INLINE f32 load_bfloat16(const bfloat16* p) noexcept { return f32{raw::load_bfloat16(p)}; }
    static HLWQ_INLINE void load_bfloat16_pairs(const bfloat16* p, f32& even, f32& odd) noexcept {
        raw::load_bfloat16_pairs(p, even.raw, odd.raw);
    }
    static HLWQ_INLINE void store_half(half* p, f32 v) noexcept { raw::store_half(p, v.raw); }
    static HLWQ_INLINE void store_bfloat16(bfloat16* p, f32 v) noexcept { raw::store_bfloat16(p, v.raw); }
    static HLWQ_INLINE i32 widen_u8(const std::uint8_t* p) noexcept { return i32{raw::widen_u8(p)}; }
    static HLWQ_INLINE void prefetch(const void* p) noexcept { __builtin_prefetch(p); }

    // ---- float and int32 lanes

    static HLWQ_INLINE f32 set(float x) noexcept { return hn::Set(df, x); }
    static HLWQ_INLINE i32 set_i32(std::int32_t x) noexcept { return hn::Set(di32, x); }
    static HLWQ_INLINE f32 add(f32 a, f32 b) noexcept { return hn::Add(a, b); }
    static HLWQ_INLINE f32 sub(f32 a, f32 b) noexcept { return hn::Sub(a, b); }
    static HLWQ_INLINE f32 mul(f32 a, f32 b) noexcept { return hn::Mul(a, b); }
    static HLWQ_INLINE f32 div(f32 a, f32 b) noexcept { return f32{raw::div(a.raw, b.raw)}; }
    static HLWQ_INLINE f32 fma(f32 a, f32 b, f32 c) noexcept { return hn::MulAdd(a, b, c); }
    static HLWQ_INLINE f32 min(f32 a, f32 b) noexcept { return f32{raw::min(a.raw, b.raw)}; }
    static HLWQ_INLINE f32 max(f32 a, f32 b) noexcept { return f32{raw::max(a.raw, b.raw)}; }
    static HLWQ_INLINE f32 abs(f32 a) noexcept { return hn::Abs(a); }
    static HLWQ_INLINE float reduce_add(f32 a) noexcept { return hn::GetLane(hn::SumOfLanes(df, a)); }
    static HLWQ_INLINE float reduce_max(f32 a) noexcept { return hn::GetLane(hn::MaxOfLanes(df, a)); }
    static HLWQ_INLINE void reduce_add4(f32 a, f32 b, f32 c, f32 d, float* out) noexcept {
        raw::reduce_add4(a.raw, b.raw, c.raw, d.raw, out);
    }
    template <std::size_t K>
    static HLWQ_INLINE f32 swap(f32 a) noexcept {
        static_assert(std::has_single_bit(K) && K < lanes);
        if constexpr (K == 1)
            return hn::Reverse2(df, a);
        else if constexpr (K == 2)
            return hn::Shuffle1032(a);
#if HWY_MAX_BYTES >= 32
        else if constexpr (K == 4)
            return hn::SwapAdjacentBlocks(a);
#endif
#if HWY_MAX_BYTES >= 64
        else
            return hn::ConcatLowerUpper(df, a, a);
#endif
    }
    static HLWQ_INLINE i32 add_i32(i32 a, i32 b) noexcept { return hn::Add(a, b); }
    static HLWQ_INLINE f32 to_f32(i32 a) noexcept { return hn::ConvertTo(df, a); }
    static HLWQ_INLINE i32 round_to_i32(f32 a) noexcept { return i32{raw::round_to_i32(a.raw)}; }
    static HLWQ_INLINE f32 exp2i(i32 n) noexcept { return f32{raw::exp2i(n.raw)}; }
    static HLWQ_INLINE i32 append_greater(i32 n, f32 a, f32 b) noexcept {
        return i32{raw::append_greater(n.raw, a.raw, b.raw)};
    }
    template <std::size_t N>
    static HLWQ_INLINE f32 lookup_f32(const float* table, i32 index) noexcept {
        static_assert(std::has_single_bit(N) && N <= 256);
        return f32{raw::lookup_f32<N>(table, index.raw)};
    }
    static HLWQ_INLINE i8 narrow_i8(i32 a, i32 b, i32 c, i32 d) noexcept {
        return i8{raw::narrow_i8(a.raw, b.raw, c.raw, d.raw)};
    }
    static HLWQ_INLINE u8 narrow_u8(i32 a, i32 b, i32 c, i32 d) noexcept {
        return u8{raw::narrow_u8(a.raw, b.raw, c.raw, d.raw)};
    }

    // ---- bytes

    static HLWQ_INLINE u8 set_u8(std::uint8_t x) noexcept { return hn::Set(du8, x); }
    static HLWQ_INLINE u8 and_(u8 a, u8 b) noexcept { return hn::And(a, b); }
    static HLWQ_INLINE u8 or_(u8 a, u8 b) noexcept { return hn::Or(a, b); }
    static HLWQ_INLINE u8 xor_(u8 a, u8 b) noexcept { return hn::Xor(a, b); }
    static HLWQ_INLINE u8 sub_u8(u8 a, u8 b) noexcept { return hn::Sub(a, b); }
    template <int N>
    static HLWQ_INLINE u8 shr16(u8 a) noexcept {
        static_assert(N >= 0 && N < 16);
        return hn::BitCast(du8, hn::ShiftRight<N>(hn::BitCast(du16, a)));
    }
    static HLWQ_INLINE u8 mulhi16(u8 a, u8 b) noexcept {
        return hn::BitCast(du8, hn::MulHigh(hn::BitCast(du16, a), hn::BitCast(du16, b)));
    }
    static HLWQ_INLINE u8 mullo16(u8 a, u8 b) noexcept {
        return hn::BitCast(du8, hn::Mul(hn::BitCast(du16, a), hn::BitCast(du16, b)));
    }
    static HLWQ_INLINE u8 shuffle16(u8 table, u8 index) noexcept { return hn::TableLookupBytes(table, index); }
    static HLWQ_INLINE u8 lookup16(u8 table, u8 index) noexcept { return u8{raw::lookup16(table.raw, index.raw)}; }
    static HLWQ_INLINE u8 bit_mask(u8 v, u8 bit) noexcept { return u8{raw::bit_mask(v.raw, bit.raw)}; }
    static HLWQ_INLINE i8 negate_where(i8 x, u8 mask) noexcept {
        const i8 ones = hn::BitCast(di8, mask);
        return hn::Sub(hn::Xor(x, ones), ones);
    }
    static HLWQ_INLINE void transpose(u8 (&v)[lanes]) noexcept {
        decltype(u8::raw) r[lanes];
        HLWQ_UNROLL for (std::size_t i = 0; i < lanes; ++i) r[i] = v[i].raw;
        raw::transpose(r);
        HLWQ_UNROLL for (std::size_t i = 0; i < lanes; ++i) v[i] = u8{r[i]};
    }
#if defined(HLWQ_ISA_AVX512)
    static HLWQ_INLINE u8 load_dup32(const std::uint8_t* p) noexcept { return u8{raw::load_dup32(p)}; }
    template <int Low, int High>
    static HLWQ_INLINE u8 shr16_halves(u8 a) noexcept {
        return u8{raw::shr16_halves<Low, High>(a.raw)};
    }
#endif
#if defined(HLWQ_ISA_AVX512VBMI)
    static HLWQ_INLINE u8 permute_bytes(u8 table, u8 index) noexcept {
        return u8{raw::permute_bytes(table.raw, index.raw)};
    }
    static HLWQ_INLINE u8 permute_bytes2(u8 low, u8 high, u8 index) noexcept {
        return u8{raw::permute_bytes2(low.raw, high.raw, index.raw)};
    }
    static HLWQ_INLINE u8 multishift(u8 v, u8 shift) noexcept { return u8{raw::multishift(v.raw, shift.raw)}; }
#endif

    // ---- dot product

    static HLWQ_INLINE void dot4(i32& acc, u8 w, i8 x) noexcept { raw::dot4(acc.raw, w.raw, x.raw); }

  private:
    static constexpr hn::ScalableTag<float> df{};
    static constexpr hn::ScalableTag<std::int32_t> di32{};
    static constexpr hn::ScalableTag<std::uint8_t> du8{};
    static constexpr hn::ScalableTag<std::int8_t> di8{};
    static constexpr hn::ScalableTag<std::uint16_t> du16{};
};

}  // namespace simd
}  // namespace hlwq::inline HLWQ_CODE_NAMESPACE

#endif
