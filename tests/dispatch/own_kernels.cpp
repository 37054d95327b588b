// Compiled once for each instruction set by hlwq_add_isa_sources.
#include "own_kernels.hpp"

#include <hlwq/simd/backend.hpp>

namespace {

using S = hlwq::simd::native;

float dot(const float* a, const float* b, std::size_t count) noexcept {
    auto sum = S::set(0.0f);
    std::size_t i = 0;
    for (; i + S::lanes <= count; i += S::lanes) sum = S::fma(S::load(a + i), S::load(b + i), sum);
    float all = S::reduce_add(sum);
    for (; i < count; ++i) all += a[i] * b[i];
    return all;
}

}  // namespace

extern const own_kernels HLWQ_FOR_ISA(own_kernels_);
constinit const own_kernels HLWQ_FOR_ISA(own_kernels_) = {hlwq::isa_name(), S::bytes, dot};
