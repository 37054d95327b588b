// hlwq/rotation.hpp — the Walsh-Hadamard transform, and the blockwise rotation built from it
//
//   fwht    x <- H x, unnormalised butterflies in natural (Sylvester) order; applying it twice multiplies by n
//   rotate  every block of the vector: x <- H x / sqrt(block), orthonormal and its own inverse (formats 1.1)
//
// Rotation with signs multiplies column k by sign_k before the transform, so that a block with a mean does not collapse
// onto one coefficient. Definition, independent of language: sign_k is -1 where bit k mod 64 of
// splitmix64(seed + k div 64) is set. The seed is stored with the tensor; k counts columns from the start of the row.
// `unrotate` undoes it: transform first, then signs.
//
//   cost     2 operations a value and stage; 128 floats stay in registers
//   error    a few ulp of the largest value; exact on integers below 2^24 / n
//   throws   shape_error if the length is no power of two from 2 to 4096, or not whole blocks
//
// Example
//   std::vector<float> x(4096);
//   hlwq::rotate(x, 128);        // x is now 32 rotated blocks
//   hlwq::rotate(x, 128);        // and the original again
#pragma once

#include "hlwq/config.hpp"
#include "hlwq/error.hpp"
#include "hlwq/executor.hpp"
#include "hlwq/layout.hpp"
#include "hlwq/matrix_view.hpp"
#include "hlwq/simd/backend.hpp"

#include <bit>
#include <cmath>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <span>

namespace hlwq::inline HLWQ_CODE_NAMESPACE {

/// Smallest and largest transform.
inline constexpr std::size_t min_fwht = 2;
inline constexpr std::size_t max_fwht = 4096;

namespace detail {

/// One output of splitmix64 whose state, before the increment, is `state`.
constexpr std::uint64_t splitmix64(std::uint64_t state) noexcept {
    std::uint64_t z = state + 0x9e3779b97f4a7c15ull;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
    return z ^ (z >> 31);
}

/// Butterflies between lanes that are K apart: lane i becomes a_i + a_(i^K) where bit K of i is clear, else
/// a_(i^K) - a_i; one permutation and one fused multiply-add by +-1.
template <class S, std::size_t K>
HLWQ_INLINE typename S::f32 lane_stage(typename S::f32 v) noexcept {
    struct signs {
        float lane[16];
    };
    alignas(64) static constexpr signs sign = [] {
        signs s{};
        for (std::size_t i = 0; i < 16; ++i) s.lane[i] = (i & K) != 0 ? -1.0f : 1.0f;
        return s;
    }();
    return S::fma(v, S::load(sign.lane), S::template swap<K>(v));
}

/// Butterflies between lanes that are K apart, in each of R vectors.
template <class S, std::size_t K, std::size_t R>
HLWQ_INLINE void lane_stage_of_all(typename S::f32 (&r)[R]) noexcept {
    HLWQ_UNROLL for (std::size_t i = 0; i < R; ++i) r[i] = lane_stage<S, K>(r[i]);
}

/// All butterflies inside each of R vectors: stage by stage, so that R independent chains keep the ports busy.
template <class S, std::size_t R>
HLWQ_INLINE void lane_stages(typename S::f32 (&r)[R]) noexcept {
    lane_stage_of_all<S, 1>(r);
    lane_stage_of_all<S, 2>(r);
    if constexpr (S::lanes > 4) lane_stage_of_all<S, 4>(r);
    if constexpr (S::lanes > 8) lane_stage_of_all<S, 8>(r);
}

/// Butterflies between whole vectors that are h apart. `between` runs after each half of a butterfly.
template <class S, std::size_t h, std::size_t R, class F>
HLWQ_INLINE void register_stage(typename S::f32 (&r)[R], F&& between) noexcept {
    HLWQ_UNROLL for (std::size_t i = 0; i < R; ++i) {
        if ((i & h) == 0) {
            const auto a = r[i], b = r[i + h];
            r[i] = S::add(a, b);
            between();
            r[i + h] = S::sub(a, b);
            between();
        }
    }
}

/// All butterflies between R vectors.
template <class S, std::size_t R, std::size_t h = 1>
HLWQ_INLINE void register_stages(typename S::f32 (&r)[R]) noexcept {
    if constexpr (h < R) {
        register_stage<S, h>(r, [] {});
        register_stages<S, R, 2 * h>(r);
    }
}

/// A stage between the vectors of `next` and the same stage inside the vectors of `current`, instruction by
/// instruction: additions and multiply-adds go to different ports.
template <class S, std::size_t K, std::size_t R>
HLWQ_INLINE void mixed_stage(typename S::f32 (&next)[R], typename S::f32 (&current)[R]) noexcept {
    if constexpr (K < R) {
        std::size_t i = 0;
        register_stage<S, K>(next, [&] {
            current[i] = lane_stage<S, K>(current[i]);
            ++i;
        });
    } else {
        lane_stage_of_all<S, K>(current);
    }
}

/// Plain loops: any floating type, and lengths below a vector.
template <class T>
HLWQ_INLINE void fwht_plain(T* x, std::size_t n) noexcept {
    for (std::size_t h = 1; h < n; h *= 2) {
        for (std::size_t i = 0; i < n; i += 2 * h) {
            for (std::size_t j = i; j < i + h; ++j) {
                const T a = x[j], b = x[j + h];
                x[j] = a + b;
                x[j + h] = a - b;
            }
        }
    }
}

template <class S, std::size_t N>
void fwht_blocks(float* x, std::size_t count) noexcept;

template <class S, std::size_t R>
HLWQ_INLINE void load_vectors(typename S::f32 (&r)[R], const float* x) noexcept {
    HLWQ_UNROLL for (std::size_t i = 0; i < R; ++i) r[i] = S::load(x + i * S::lanes);
}
template <class S, std::size_t R>
HLWQ_INLINE void store_vectors(float* x, const typename S::f32 (&r)[R]) noexcept {
    HLWQ_UNROLL for (std::size_t i = 0; i < R; ++i) S::store(x + i * S::lanes, r[i]);
}

/// x <- H x for N floats, in place.
/// promises: N a power of two from 2 to 4096; no alignment
template <class S, std::size_t N>
HLWQ_INLINE void fwht_kernel(float* x) noexcept {
    constexpr std::size_t lanes = S::lanes;
    if constexpr (N < lanes) {
        fwht_plain(x, N);
    } else if constexpr (N <= 8 * lanes) {
        typename S::f32 r[N / lanes];
        load_vectors<S>(r, x);
        register_stages<S>(r);
        lane_stages<S>(r);
        store_vectors<S>(x, r);
    } else {
        // A pass of radix R over columns of vectors, then R transforms of what remains.
        constexpr std::size_t R = N >= 64 * lanes ? 8 : N / (8 * lanes), M = N / R;
        for (std::size_t j = 0; j < M; j += lanes) {
            typename S::f32 r[R];
            HLWQ_UNROLL for (std::size_t i = 0; i < R; ++i) r[i] = S::load(x + i * M + j);
            register_stages<S>(r);
            HLWQ_UNROLL for (std::size_t i = 0; i < R; ++i) S::store(x + i * M + j, r[i]);
        }
        if constexpr (S::bytes < 64 && M <= 8 * lanes) {  // inlined: a call costs a fifth of 64 floats
            for (std::size_t i = 0; i < R; ++i) fwht_kernel<S, M>(x + i * M);
        } else {
            fwht_blocks<S, M>(x, R);
        }
    }
}

/// `count` transforms side by side. Where the registers hold two blocks (32 of 64 bytes), the stages between the
/// vectors of one block run beside the stages inside the vectors of the one before it: 14 % faster than block after
/// block (bench/rotation.cpp).
template <class S, std::size_t N>
void fwht_blocks(float* x, std::size_t count) noexcept {
    if constexpr (S::bytes == 64 && N >= S::lanes && N <= 8 * S::lanes) {
        if (count == 0) return;
        typename S::f32 current[N / S::lanes], next[N / S::lanes];
        load_vectors<S>(current, x);
        register_stages<S>(current);
        for (std::size_t block = 1; block < count; ++block, x += N) {
            load_vectors<S>(next, x + N);
            mixed_stage<S, 1>(next, current);
            mixed_stage<S, 2>(next, current);
            mixed_stage<S, 4>(next, current);
            lane_stage_of_all<S, 8>(current);
            store_vectors<S>(x, current);
            HLWQ_UNROLL for (std::size_t i = 0; i < N / S::lanes; ++i) current[i] = next[i];
        }
        lane_stages<S>(current);
        store_vectors<S>(x, current);
    } else {
        for (std::size_t block = 0; block < count; ++block) fwht_kernel<S, N>(x + block * N);
    }
}

using fwht_function = void (*)(float*, std::size_t) noexcept;

/// The transform of blocks of that length, or null if n is no power of two from 2 to 4096.
template <class S>
constexpr fwht_function fwht_of_size(std::size_t n) noexcept {
    switch (n) {
        case 2: return fwht_blocks<S, 2>;
        case 4: return fwht_blocks<S, 4>;
        case 8: return fwht_blocks<S, 8>;
        case 16: return fwht_blocks<S, 16>;
        case 32: return fwht_blocks<S, 32>;
        case 64: return fwht_blocks<S, 64>;
        case 128: return fwht_blocks<S, 128>;
        case 256: return fwht_blocks<S, 256>;
        case 512: return fwht_blocks<S, 512>;
        case 1024: return fwht_blocks<S, 1024>;
        case 2048: return fwht_blocks<S, 2048>;
        case 4096: return fwht_blocks<S, 4096>;
        default: return nullptr;
    }
}

inline void check_fwht_size(std::string_view what, std::size_t n) {
    HLWQ_EXPECTS(std::has_single_bit(n) && n >= min_fwht && n <= max_fwht, shape_error, what,
                 "a power of two from 2 to 4096", n);
}

inline void check_rotate(std::size_t length, std::size_t block, const char* what) {
    check_fwht_size("rotation block", block);
    HLWQ_EXPECTS(length % block == 0, shape_error, what, "whole blocks of " + to_text(block), length);
}

/// Unnormalised transforms of blocks of n values of any floating type.
template <class S, class T>
HLWQ_INLINE void fwht_any(T* x, std::size_t n, std::size_t count) noexcept {
    if constexpr (std::same_as<T, float>) {
        fwht_of_size<S>(n)(x, count);
    } else {
        for (std::size_t block = 0; block < count; ++block) fwht_plain(x + block * n, n);
    }
}

}  // namespace detail

/// The sign, +1 or -1, of column `k`; +1 for every column when signs are off.
constexpr float sign_of(rotation_signs signs, std::size_t k) noexcept {
    if (!signs.enabled) return 1.0f;
    return ((detail::splitmix64(signs.seed + k / 64) >> (k % 64)) & 1u) != 0 ? -1.0f : 1.0f;
}

namespace detail {

template <class T>
void apply_signs(std::span<T> x, rotation_signs signs, std::size_t first) noexcept {
    if (!signs.enabled) return;
    for (std::size_t k = 0; k < x.size(); ++k) x[k] *= static_cast<T>(sign_of(signs, first + k));
}

template <class S, class T>
void rotate_checked(std::span<T> x, std::size_t block, rotation_signs signs) {
    check_rotate(x.size(), block, "rotate: length");
    apply_signs(x, signs, 0);
    const T scale = static_cast<T>(1.0 / std::sqrt(static_cast<double>(block)));
    fwht_any<S>(x.data(), block, x.size() / block);
    for (T& value : x) value *= scale;
}

}  // namespace detail

/// Multiplies x[k] by the sign of column first + k.
inline void apply_signs(std::span<float> x, rotation_signs signs, std::size_t first = 0) noexcept {
    detail::apply_signs(x, signs, first);
}
inline void apply_signs(std::span<double> x, rotation_signs signs, std::size_t first = 0) noexcept {
    detail::apply_signs(x, signs, first);
}

/// x <- H x, unnormalised, in place; x.size() is a power of two from 2 to 4096. Throws shape_error otherwise.
template <class S = simd::native>
void fwht(std::span<float> x) {
    detail::check_fwht_size("fwht length", x.size());
    detail::fwht_any<S>(x.data(), x.size(), 1);
}
template <class S = simd::native>
void fwht(std::span<double> x) {
    detail::check_fwht_size("fwht length", x.size());
    detail::fwht_any<S>(x.data(), x.size(), 1);
}

/// Rotates every block of `x` in place: signs, if any, then H / sqrt(block). Throws shape_error unless `block` is a
/// power of two from 2 to 4096 that divides the length.
template <class S = simd::native>
void rotate(std::span<float> x, std::size_t block, rotation_signs signs = {}) {
    detail::rotate_checked<S>(x, block, signs);
}
template <class S = simd::native>
void rotate(std::span<double> x, std::size_t block, rotation_signs signs = {}) {
    detail::rotate_checked<S>(x, block, signs);
}

/// Undoes `rotate`: H / sqrt(block), then signs.
template <class S = simd::native>
void unrotate(std::span<float> x, std::size_t block, rotation_signs signs = {}) {
    rotate<S>(x, block);
    apply_signs(x, signs);
}
template <class S = simd::native>
void unrotate(std::span<double> x, std::size_t block, rotation_signs signs = {}) {
    rotate<S>(x, block);
    apply_signs(x, signs);
}

/// Rotates every row of a matrix in place; rows are divided among the workers of `ex`. Throws as above.
template <class S = simd::native, std::floating_point T, executor E = serial_executor>
void rotate(matrix_view<T> x, std::size_t block, rotation_signs signs = {}, E&& ex = {}) {
    detail::check_rotate(x.cols, block, "rotate: columns");
    ex.parallel_for(x.rows, 1, [&](std::size_t begin, std::size_t end, unsigned) noexcept {
        for (std::size_t row = begin; row < end; ++row) rotate<S>(x.row(row), block, signs);
    });
}

}  // namespace hlwq::inline HLWQ_CODE_NAMESPACE
