// qwen_moe_chat/kernels/plain_rows.hpp — products with weights that are numbers: BF16, F16, F32
#pragma once

#include "qwen_moe_chat/kernels.hpp"

#include "hlwq/config.hpp"
#include "hlwq/float16.hpp"
#include "hlwq/simd/backend.hpp"

#include <algorithm>
#include <cstddef>

namespace qwen::inline HLWQ_CODE_NAMESPACE {
namespace kernel {

HLWQ_INLINE S::f32 load_weights(const float* p) noexcept { return S::load(p); }
HLWQ_INLINE S::f32 load_weights(const hlwq::half* p) noexcept { return S::load_half(p); }
HLWQ_INLINE S::f32 load_weights(const hlwq::bfloat16* p) noexcept { return S::load_bfloat16(p); }

/// out[t] = w · x[t] for `Tokens` tokens. The order of additions does not depend on `Tokens`.
template <std::size_t Tokens, class T>
HLWQ_INLINE void dots(const T* w, const float* const* x, std::size_t count, float* out) noexcept {
    constexpr std::size_t sums = 4, lanes = S::lanes;
    S::f32 sum[Tokens][sums];
    for (auto& token : sum) {
        for (auto& part : token) part = S::set(0.0f);
    }
    std::size_t i = 0;
    for (; i + sums * lanes <= count; i += sums * lanes) {
        for (std::size_t k = 0; k < sums; ++k) {
            const auto weights = load_weights(w + i + k * lanes);
            for (std::size_t t = 0; t < Tokens; ++t) {
                sum[t][k] = S::fma(weights, S::load(x[t] + i + k * lanes), sum[t][k]);
            }
        }
    }
    for (; i + lanes <= count; i += lanes) {
        const auto weights = load_weights(w + i);
        for (std::size_t t = 0; t < Tokens; ++t) sum[t][0] = S::fma(weights, S::load(x[t] + i), sum[t][0]);
    }
    for (std::size_t t = 0; t < Tokens; ++t) {
        out[t] = S::reduce_add(S::add(S::add(sum[t][0], sum[t][1]), S::add(sum[t][2], sum[t][3])));
        for (std::size_t j = i; j < count; ++j) out[t] += static_cast<float>(w[j]) * x[t][j];
    }
}

/// Rows [begin, end) of y = x Wᵀ.
template <class T>
void plain_rows(const plain_matrix& w, std::size_t begin, std::size_t end, matrix_view<const float> x,
                matrix_view<float> y) noexcept {
    constexpr std::size_t group = 4;         // tokens that share the loads of a row
    constexpr std::size_t tokens_once = 64;  // whose activations stay in the second-level cache
    const auto* first_row = static_cast<const T*>(w.data);
    for (std::size_t first = 0; first < x.rows; first += tokens_once) {
        const std::size_t last = std::min(x.rows, first + tokens_once);
        for (std::size_t row = begin; row < end; ++row) {
            const T* weights = first_row + row * w.stride;
            std::size_t t = first;
            for (; t + group <= last; t += group) {
                const float* tokens[group];
                for (std::size_t k = 0; k < group; ++k) tokens[k] = x.data + (t + k) * x.stride;
                float out[group];
                dots<group>(weights, tokens, w.cols, out);
                for (std::size_t k = 0; k < group; ++k) y.data[(t + k) * y.stride + row] = out[k];
            }
            for (; t < last; ++t) {
                const float* token = x.data + t * x.stride;
                dots<1>(weights, &token, w.cols, y.data + t * y.stride + row);
            }
        }
    }
}

}  // namespace kernel
}  // namespace qwen::inline HLWQ_CODE_NAMESPACE
