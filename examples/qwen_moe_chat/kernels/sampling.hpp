// qwen_moe_chat/kernels/sampling.hpp — searching and weighing a vocabulary of logits
#pragma once

#include "qwen_moe_chat/kernels/vector_math.hpp"

#include <cstddef>

namespace qwen::inline HLWQ_CODE_NAMESPACE {
namespace kernel {

using S = hlwq::simd::native;

/// The first index from `from` on at which x is greater than the threshold, or `count`. No NaN is greater.
inline std::size_t next_above(const float* x, std::size_t from, std::size_t count, float threshold) noexcept {
    constexpr std::size_t vectors = 8, step = vectors * S::lanes;
    const auto level = S::set(threshold);
    for (; from + step <= count; from += step) {
        auto found = S::set_i32(0);
        HLWQ_UNROLL for (std::size_t k = 0; k < vectors; ++k) {
            found = S::append_greater(found, S::load(x + from + k * S::lanes), level);
        }
        if (S::reduce_max(S::to_f32(found)) > 0.0f) break;
    }
    while (from < count && !(x[from] > threshold)) ++from;
    return from;
}

/// x ← e^x
inline void exponentials(float* x, std::size_t count) noexcept {
    map<S>(
        x, count, [](S::f32 v) { return exp<S>(v); }, x);
}

}  // namespace kernel
}  // namespace qwen::inline HLWQ_CODE_NAMESPACE
