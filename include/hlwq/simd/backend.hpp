// hlwq/simd/backend.hpp — what a SIMD backend offers, and the one that this translation unit was compiled for
//
// A backend is a struct of static operations on its own vector types; kernels are templates over it and include only
// this header. The concept below is the reference card; simd/scalar.hpp defines every operation in plain loops.
// Optional operations are asked for by name, `if constexpr (S::has_byte_permute)`, never by a processor's macro.
//
// To add a backend: one file beside this one, one line in the selection below, one line in tests/backends.hpp.
#pragma once

#include "hlwq/config.hpp"
#include "hlwq/float16.hpp"
#include "hlwq/simd/scalar.hpp"

#if defined(HLWQ_BACKEND_HIGHWAY)
#include "hlwq/simd/highway.hpp"
#elif defined(HLWQ_BACKEND_XSIMD)
#include "hlwq/simd/xsimd.hpp"
#endif

#include <concepts>
#include <cstddef>
#include <cstdint>

namespace hlwq::inline HLWQ_CODE_NAMESPACE {
namespace simd {

// clang-format off
template <class S>
concept backend = requires(typename S::f32 f, typename S::i32 i, typename S::i32& acc, typename S::u8 u, typename S::i8 s,
                           float* pf, const float* cpf, std::int32_t* pi, const std::int32_t* cpi, std::uint8_t* pu,
                           const std::uint8_t* cpu, std::int8_t* ps, const std::int8_t* cps, const half* ph,
                           const bfloat16* pb, half* wh, bfloat16* wb, typename S::f32& even, typename S::f32& odd, typename S::u8 (&square)[S::lanes]) {
    requires S::bytes == 16 || S::bytes == 32 || S::bytes == 64;
    requires S::lanes == S::bytes / 4;
    requires S::registers >= 8;
    requires S::weight_bias == 0 || S::weight_bias == 128;
    { S::has_byte_permute } -> std::convertible_to<bool>;

    { S::load(cpf) } -> std::same_as<typename S::f32>;             S::store(pf, f);
    { S::load_i32(cpi) } -> std::same_as<typename S::i32>;         S::store_i32(pi, i);
    { S::load_u8(cpu) } -> std::same_as<typename S::u8>;           S::store_u8(pu, u);
    { S::load_i8(cps) } -> std::same_as<typename S::i8>;           S::store_i8(ps, s);
    { S::load_dup16(cpu) } -> std::same_as<typename S::u8>;        { S::load_dup4(cps) } -> std::same_as<typename S::i8>;
    { S::template load_blocks<10>(cpu) } -> std::same_as<typename S::u8>;
    { S::load_half(ph) } -> std::same_as<typename S::f32>;
    { S::load_half_part(ph, std::size_t{1}) } -> std::same_as<typename S::f32>;
    { S::load_bfloat16(pb) } -> std::same_as<typename S::f32>;
    S::load_bfloat16_pairs(pb, even, odd);
    S::store_half(wh, f);                                          S::store_bfloat16(wb, f);
    { S::widen_u8(cpu) } -> std::same_as<typename S::i32>;
    S::prefetch(cpu);

    { S::set(1.0f) } -> std::same_as<typename S::f32>;             { S::set_i32(1) } -> std::same_as<typename S::i32>;
    { S::add(f, f) } -> std::same_as<typename S::f32>;             { S::sub(f, f) } -> std::same_as<typename S::f32>;
    { S::mul(f, f) } -> std::same_as<typename S::f32>;             { S::fma(f, f, f) } -> std::same_as<typename S::f32>;
    { S::div(f, f) } -> std::same_as<typename S::f32>;             { S::exp2i(i) } -> std::same_as<typename S::f32>;
    { S::min(f, f) } -> std::same_as<typename S::f32>;             { S::max(f, f) } -> std::same_as<typename S::f32>;
    { S::abs(f) } -> std::same_as<typename S::f32>;
    { S::reduce_add(f) } -> std::same_as<float>;                   { S::reduce_max(f) } -> std::same_as<float>;
    S::reduce_add4(f, f, f, f, pf);
    { S::template swap<1>(f) } -> std::same_as<typename S::f32>;   { S::template swap<2>(f) } -> std::same_as<typename S::f32>;
    { S::add_i32(i, i) } -> std::same_as<typename S::i32>;
    { S::to_f32(i) } -> std::same_as<typename S::f32>;             { S::round_to_i32(f) } -> std::same_as<typename S::i32>;
    { S::append_greater(i, f, f) } -> std::same_as<typename S::i32>;
    { S::template lookup_f32<16>(cpf, i) } -> std::same_as<typename S::f32>;
    { S::template lookup_f32<256>(cpf, i) } -> std::same_as<typename S::f32>;
    { S::narrow_i8(i, i, i, i) } -> std::same_as<typename S::i8>;  { S::narrow_u8(i, i, i, i) } -> std::same_as<typename S::u8>;

    { S::set_u8(std::uint8_t{1}) } -> std::same_as<typename S::u8>;
    { S::and_(u, u) } -> std::same_as<typename S::u8>;             { S::or_(u, u) } -> std::same_as<typename S::u8>;
    { S::xor_(u, u) } -> std::same_as<typename S::u8>;             { S::sub_u8(u, u) } -> std::same_as<typename S::u8>;
    { S::template shr16<4>(u) } -> std::same_as<typename S::u8>;
    { S::mulhi16(u, u) } -> std::same_as<typename S::u8>;          { S::mullo16(u, u) } -> std::same_as<typename S::u8>;
    { S::shuffle16(u, u) } -> std::same_as<typename S::u8>;        { S::lookup16(u, u) } -> std::same_as<typename S::u8>;
    { S::bit_mask(u, u) } -> std::same_as<typename S::u8>;         { S::negate_where(s, u) } -> std::same_as<typename S::i8>;
    S::transpose(square);
    S::dot4(acc, u, s);
} && (S::bytes != 64 || requires(typename S::u8 u, const std::uint8_t* cpu) {
    // load_dup32(p): 32 bytes, twice; shr16_halves<m, n>(v): 16-bit lanes of the first 32 bytes shifted right by m, those
    // of the others by n.
    { S::load_dup32(cpu) } -> std::same_as<typename S::u8>;
    { S::template shr16_halves<0, 4>(u) } -> std::same_as<typename S::u8>;
}) && (!S::has_byte_permute || requires(typename S::u8 u) {
    // permute_bytes(table, i): table[i & 63]; permute_bytes2(low, high, i): the 128 entries low|high at i & 127;
    // multishift(v, s): byte j of each 64-bit lane = bits s_j .. s_j + 7 (mod 64) of that lane, s_j = byte j of s mod 64.
    { S::permute_bytes(u, u) } -> std::same_as<typename S::u8>;
    { S::permute_bytes2(u, u, u) } -> std::same_as<typename S::u8>;
    { S::multishift(u, u) } -> std::same_as<typename S::u8>;
});
// clang-format on

#if defined(HLWQ_BACKEND_HIGHWAY)
using native = highway_backend;
#elif defined(HLWQ_BACKEND_XSIMD)
using native = xsimd_backend;
#else
using native = scalar_backend;
#endif

static_assert(backend<scalar_backend>);
static_assert(backend<native>);
static_assert(std::same_as<native, scalar_backend> || native::bytes == HLWQ_ISA_BYTES,
              "the SIMD library chose narrower vectors than the compiler flags allow (Highway below 1.1 needs -maes "
              "-mpclmul beside -mavx2)");

}  // namespace simd
}  // namespace hlwq::inline HLWQ_CODE_NAMESPACE
