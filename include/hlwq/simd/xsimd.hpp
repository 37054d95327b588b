// hlwq/simd/xsimd.hpp — the backend over xsimd 8.1 or newer
//
// Vectors are xsimd's batches for the architecture of the compiler's flags. What xsimd lacks in some version, or spells
// differently between 8 and 14, is done on the register (simd/x86.hpp, simd/arm.hpp), so no version is asked for here.
#pragma once

#include "hlwq/config.hpp"
#include "hlwq/float16.hpp"

#if !defined(HLWQ_ISA_GENERIC)

#include "hlwq/simd/arm.hpp"
#include "hlwq/simd/x86.hpp"

#include <xsimd/xsimd.hpp>

#include <bit>
#include <cstddef>
#include <cstdint>

// GCC 12 takes the deliberately undefined registers inside its own intrinsics for our mistake.
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wuninitialized"
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#endif

namespace hlwq::inline HLWQ_CODE_NAMESPACE {
namespace simd {

struct xsimd_backend {
#if defined(HLWQ_ISA_NEON)
    // Not the default one, which is SVE where the flags give its size.
    using arch = ::xsimd::neon64;
#else
    using arch = ::xsimd::default_arch;
#endif
    using f32 = ::xsimd::batch<float, arch>;
    using i32 = ::xsimd::batch<std::int32_t, arch>;
    using u8 = ::xsimd::batch<std::uint8_t, arch>;
    using i8 = ::xsimd::batch<std::int8_t, arch>;

    static constexpr std::size_t bytes = u8::size;
    static constexpr std::size_t lanes = f32::size;
    static constexpr int registers = raw::registers;
    static constexpr int weight_bias = raw::weight_bias;
    static constexpr bool has_byte_permute = raw::has_byte_permute;
    static_assert(bytes == HLWQ_ISA_BYTES && lanes == bytes / 4,
                  "xsimd's default architecture is narrower than the compiler's flags allow");

    // ---- memory

    static HLWQ_INLINE f32 load(const float* p) noexcept { return f32::load_unaligned(p); }
    static HLWQ_INLINE void store(float* p, f32 v) noexcept { v.store_unaligned(p); }
    static HLWQ_INLINE i32 load_i32(const std::int32_t* p) noexcept { return i32::load_unaligned(p); }
    static HLWQ_INLINE void store_i32(std::int32_t* p, i32 v) noexcept { v.store_unaligned(p); }
    static HLWQ_INLINE u8 load_u8(const std::uint8_t* p) noexcept { return u8::load_unaligned(p); }
    static HLWQ_INLINE void store_u8(std::uint8_t* p, u8 v) noexcept { v.store_unaligned(p); }
    static HLWQ_INLINE i8 load_i8(const std::int8_t* p) noexcept { return i8::load_unaligned(p); }
    static HLWQ_INLINE void store_i8(std::int8_t* p, i8 v) noexcept { v.store_unaligned(p); }

    static HLWQ_INLINE u8 load_dup16(const std::uint8_t* p) noexcept { return u8(raw::load_dup16(p)); }
    static HLWQ_INLINE i8 load_dup4(const std::int8_t* p) noexcept { return i8(raw::load_dup4(p)); }
    template <std::size_t Stride>
    static HLWQ_INLINE u8 load_blocks(const std::uint8_t* p) noexcept {
        return u8(raw::load_blocks<Stride>(p));
    }
    static HLWQ_INLINE f32 load_half(const half* p) noexcept { return f32(raw::load_half(p)); }
    static HLWQ_INLINE f32 load_half_part(const half* p, std::size_t count) noexcept {
        return f32(raw::load_half_part(p, count));
    }
    static HLWQ_INLINE f32 load_bfloat16(const bfloat16* p) noexcept { return f32(raw::load_bfloat16(p)); }
    static HLWQ_INLINE void load_bfloat16_pairs(const bfloat16* p, f32& even, f32& odd) noexcept {
        raw::load_bfloat16_pairs(p, even.data, odd.data);
    }
    static HLWQ_INLINE void store_half(half* p, f32 v) noexcept { raw::store_half(p, v.data); }
    static HLWQ_INLINE void store_bfloat16(bfloat16* p, f32 v) noexcept { raw::store_bfloat16(p, v.data); }
    static HLWQ_INLINE i32 widen_u8(const std::uint8_t* p) noexcept { return i32(raw::widen_u8(p)); }
    static HLWQ_INLINE void prefetch(const void* p) noexcept { __builtin_prefetch(p); }

    // ---- float and int32 lanes

    static HLWQ_INLINE f32 set(float x) noexcept { return f32(x); }
    static HLWQ_INLINE i32 set_i32(std::int32_t x) noexcept { return i32(x); }
    static HLWQ_INLINE f32 add(f32 a, f32 b) noexcept { return a + b; }
    static HLWQ_INLINE f32 sub(f32 a, f32 b) noexcept { return a - b; }
    static HLWQ_INLINE f32 mul(f32 a, f32 b) noexcept { return a * b; }
    static HLWQ_INLINE f32 div(f32 a, f32 b) noexcept { return f32(raw::div(a.data, b.data)); }
    static HLWQ_INLINE f32 fma(f32 a, f32 b, f32 c) noexcept { return f32(raw::fma(a.data, b.data, c.data)); }
    static HLWQ_INLINE f32 min(f32 a, f32 b) noexcept { return f32(raw::min(a.data, b.data)); }
    static HLWQ_INLINE f32 max(f32 a, f32 b) noexcept { return f32(raw::max(a.data, b.data)); }
    static HLWQ_INLINE f32 abs(f32 a) noexcept { return ::xsimd::abs(a); }
    static HLWQ_INLINE float reduce_add(f32 a) noexcept {
        if constexpr (lanes == 16) a = a + swap<8>(a);
        if constexpr (lanes >= 8) a = a + swap<4>(a);
        a = a + swap<2>(a);
        return (a + swap<1>(a)).get(0);
    }
    static HLWQ_INLINE float reduce_max(f32 a) noexcept {
        if constexpr (lanes == 16) a = max(a, swap<8>(a));
        if constexpr (lanes >= 8) a = max(a, swap<4>(a));
        a = max(a, swap<2>(a));
        return max(a, swap<1>(a)).get(0);
    }
    static HLWQ_INLINE void reduce_add4(f32 a, f32 b, f32 c, f32 d, float* out) noexcept {
        raw::reduce_add4(a.data, b.data, c.data, d.data, out);
    }
    template <std::size_t K>
    static HLWQ_INLINE f32 swap(f32 a) noexcept {
        static_assert(std::has_single_bit(K) && K < lanes);
        return f32(raw::swap<K>(a.data));
    }
    static HLWQ_INLINE i32 add_i32(i32 a, i32 b) noexcept { return a + b; }
    static HLWQ_INLINE f32 to_f32(i32 a) noexcept { return ::xsimd::to_float(a); }
    static HLWQ_INLINE i32 round_to_i32(f32 a) noexcept { return i32(raw::round_to_i32(a.data)); }
    static HLWQ_INLINE f32 exp2i(i32 n) noexcept { return f32(raw::exp2i(n.data)); }
    static HLWQ_INLINE i32 append_greater(i32 n, f32 a, f32 b) noexcept {
        return i32(raw::append_greater(n.data, a.data, b.data));
    }
    template <std::size_t N>
    static HLWQ_INLINE f32 lookup_f32(const float* table, i32 index) noexcept {
        static_assert(std::has_single_bit(N) && N <= 256);
        return f32(raw::lookup_f32<N>(table, index.data));
    }
    static HLWQ_INLINE i8 narrow_i8(i32 a, i32 b, i32 c, i32 d) noexcept {
        return i8(raw::narrow_i8(a.data, b.data, c.data, d.data));
    }
    static HLWQ_INLINE u8 narrow_u8(i32 a, i32 b, i32 c, i32 d) noexcept {
        return u8(raw::narrow_u8(a.data, b.data, c.data, d.data));
    }

    // ---- bytes

    static HLWQ_INLINE u8 set_u8(std::uint8_t x) noexcept { return u8(x); }
    static HLWQ_INLINE u8 and_(u8 a, u8 b) noexcept { return a & b; }
    static HLWQ_INLINE u8 or_(u8 a, u8 b) noexcept { return a | b; }
    static HLWQ_INLINE u8 xor_(u8 a, u8 b) noexcept { return a ^ b; }
    static HLWQ_INLINE u8 sub_u8(u8 a, u8 b) noexcept { return a - b; }
    template <int N>
    static HLWQ_INLINE u8 shr16(u8 a) noexcept {
        static_assert(N >= 0 && N < 16);
        return u8(raw::shr16<N>(a.data));
    }
    static HLWQ_INLINE u8 mulhi16(u8 a, u8 b) noexcept { return u8(raw::mulhi16(a.data, b.data)); }
    static HLWQ_INLINE u8 mullo16(u8 a, u8 b) noexcept { return u8(raw::mullo16(a.data, b.data)); }
    static HLWQ_INLINE u8 shuffle16(u8 table, u8 index) noexcept { return u8(raw::shuffle16(table.data, index.data)); }
    static HLWQ_INLINE u8 lookup16(u8 table, u8 index) noexcept { return u8(raw::lookup16(table.data, index.data)); }
    static HLWQ_INLINE u8 bit_mask(u8 v, u8 bit) noexcept { return u8(raw::bit_mask(v.data, bit.data)); }
    static HLWQ_INLINE i8 negate_where(i8 x, u8 mask) noexcept { return i8(raw::negate_where(x.data, mask.data)); }
    static HLWQ_INLINE void transpose(u8 (&v)[lanes]) noexcept {
        decltype(u8::data) r[lanes];
        HLWQ_UNROLL for (std::size_t i = 0; i < lanes; ++i) r[i] = v[i].data;
        raw::transpose(r);
        HLWQ_UNROLL for (std::size_t i = 0; i < lanes; ++i) v[i] = u8(r[i]);
    }
#if defined(HLWQ_ISA_AVX512)
    static HLWQ_INLINE u8 load_dup32(const std::uint8_t* p) noexcept { return u8(raw::load_dup32(p)); }
    template <int Low, int High>
    static HLWQ_INLINE u8 shr16_halves(u8 a) noexcept {
        return u8(raw::shr16_halves<Low, High>(a.data));
    }
#endif
#if defined(HLWQ_ISA_AVX512VBMI)
    static HLWQ_INLINE u8 permute_bytes(u8 table, u8 index) noexcept {
        return u8(raw::permute_bytes(table.data, index.data));
    }
    static HLWQ_INLINE u8 permute_bytes2(u8 low, u8 high, u8 index) noexcept {
        return u8(raw::permute_bytes2(low.data, high.data, index.data));
    }
    static HLWQ_INLINE u8 multishift(u8 v, u8 shift) noexcept { return u8(raw::multishift(v.data, shift.data)); }
#endif

    // ---- dot product

    static HLWQ_INLINE void dot4(i32& acc, u8 w, i8 x) noexcept { raw::dot4(acc.data, w.data, x.data); }
};

}  // namespace simd
}  // namespace hlwq::inline HLWQ_CODE_NAMESPACE

#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic pop
#endif

#endif
