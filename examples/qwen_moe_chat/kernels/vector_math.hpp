// qwen_moe_chat/kernels/vector_math.hpp — exponentials on vectors, and loops whose last vector is a part of one
//
// Kernels are compiled once for every instruction set: they stand in the namespace of the code, use raw pointers and
// nothing of the standard library that would leave a function behind which another instruction set may share.
#pragma once

#include "hlwq/simd/backend.hpp"

#include <cstddef>

namespace qwen::inline HLWQ_CODE_NAMESPACE {
namespace kernel {

/// e^x. Relative error below 1.5e-7 (1.3 units in the last place). 0 below 2^-126.5, which is x < -87.69; infinity from
/// 2^127.5 on, x > 88.37; e^-inf = 0, e^inf = inf, NaN stays NaN.
template <class S>
HLWQ_INLINE typename S::f32 exp(typename S::f32 x) noexcept {
    // e^x = 2^n e^r, |r| <= ln(2) / 2. At the ends 2^n is 0 or infinite and decides alone.
    x = S::min(S::set(88.8f), S::max(S::set(-88.02f), x));
    const auto n = S::round_to_i32(S::mul(x, S::set(1.44269504f)));
    const auto count = S::to_f32(n);
    // ln(2) in two parts, of which the first times n is exact.
    auto r = S::fma(count, S::set(-0.693359375f), x);
    r = S::fma(count, S::set(2.12194440e-4f), r);
    auto p = S::set(1.9875691500e-4f);
    p = S::fma(p, r, S::set(1.3981999507e-3f));
    p = S::fma(p, r, S::set(8.3334519073e-3f));
    p = S::fma(p, r, S::set(4.1665795894e-2f));
    p = S::fma(p, r, S::set(1.6666665459e-1f));
    p = S::fma(p, r, S::set(5.0000001201e-1f));
    p = S::add(S::fma(p, S::mul(r, r), r), S::set(1.0f));
    return S::mul(p, S::exp2i(n));
}

template <class S>
HLWQ_INLINE typename S::f32 sigmoid(typename S::f32 x) noexcept {
    return S::div(S::set(1.0f), S::add(S::set(1.0f), exp<S>(S::sub(S::set(0.0f), x))));
}

template <class S>
HLWQ_INLINE typename S::f32 silu(typename S::f32 x) noexcept {
    return S::div(x, S::add(S::set(1.0f), exp<S>(S::sub(S::set(0.0f), x))));
}

/// ln(1 + e^x)
template <class S>
HLWQ_INLINE typename S::f32 softplus(typename S::f32 x) noexcept {
    // max(x, 0) + ln(1 + t), t = e^-|x| <= 1; ln(1 + t) = 2 artanh(s), s = t / (2 + t) <= 1/3.
    const auto t = exp<S>(S::sub(S::set(0.0f), S::abs(x)));
    const auto s = S::div(t, S::add(S::set(2.0f), t));
    const auto square = S::mul(s, s);
    auto p = S::set(2.0f / 15);
    p = S::fma(p, square, S::set(2.0f / 13));
    p = S::fma(p, square, S::set(2.0f / 11));
    p = S::fma(p, square, S::set(2.0f / 9));
    p = S::fma(p, square, S::set(2.0f / 7));
    p = S::fma(p, square, S::set(2.0f / 5));
    p = S::fma(p, square, S::set(2.0f / 3));
    p = S::fma(p, square, S::set(2.0f));
    return S::fma(p, s, S::max(S::set(0.0f), x));
}

/// The first `count` floats, fewer than a vector, and zeros; nothing behind them is read.
template <class S>
HLWQ_INLINE typename S::f32 load_part(const float* p, std::size_t count) noexcept {
    float all[S::lanes] = {};
    for (std::size_t i = 0; i < count; ++i) all[i] = p[i];
    return S::load(all);
}
template <class S>
HLWQ_INLINE void store_part(float* p, typename S::f32 v, std::size_t count) noexcept {
    float all[S::lanes];
    S::store(all, v);
    for (std::size_t i = 0; i < count; ++i) p[i] = all[i];
}

/// out[i] = f(in[i]...) for i < count, vector by vector. `out` may be one of the inputs.
template <class S, class F, class... In>
HLWQ_INLINE void map(float* out, std::size_t count, F f, const In*... in) noexcept {
    std::size_t i = 0;
    for (; i + S::lanes <= count; i += S::lanes) S::store(out + i, f(S::load(in + i)...));
    if (i < count) store_part<S>(out + i, f(load_part<S>(in + i, count - i)...), count - i);
}

/// Sum of f(in[i]...) for i < count, where f of zeros is 0.
template <class S, class F, class... In>
HLWQ_INLINE float sum_of(std::size_t count, F f, const In*... in) noexcept {
    constexpr std::size_t chains = 4, lanes = S::lanes;
    typename S::f32 sum[chains];
    HLWQ_UNROLL for (std::size_t k = 0; k < chains; ++k) sum[k] = S::set(0.0f);
    std::size_t i = 0;
    for (; i + chains * lanes <= count; i += chains * lanes) {
        HLWQ_UNROLL for (std::size_t k = 0; k < chains; ++k) {
            sum[k] = S::add(sum[k], f(S::load(in + i + k * lanes)...));
        }
    }
    for (; i + lanes <= count; i += lanes) sum[0] = S::add(sum[0], f(S::load(in + i)...));
    if (i < count) sum[1] = S::add(sum[1], f(load_part<S>(in + i, count - i)...));
    return S::reduce_add(S::add(S::add(sum[0], sum[1]), S::add(sum[2], sum[3])));
}

HLWQ_INLINE constexpr std::size_t rounded_up(std::size_t n, std::size_t step) noexcept {
    return (n + step - 1) / step * step;
}

}  // namespace kernel
}  // namespace qwen::inline HLWQ_CODE_NAMESPACE
