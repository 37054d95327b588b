// Three builds of one source in one program: each must run its own code, and all must agree.
#include "unit.hpp"

#include <cmath>
#include <cstdio>
#include <cstring>
#include <initializer_list>

int main() {
    unit_result v2{}, v3{}, native{};
    unit_v2(v2);
    const bool runs_v3 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
    if (runs_v3) unit_v3(v3);
    unit_native(native);

    if (std::strcmp(v2.isa, "ssse3") != 0 || (runs_v3 && std::strcmp(v3.isa, "avx2") != 0)) return 1;
    for (const unit_result& result : {v2, v3, native}) {
        if (result.isa == nullptr) continue;
        std::printf("%-12s %08x error %.6f product %.6f\n", result.isa, result.code_sum, result.error, result.product);
        // Sums in another order may choose a neighbouring code here and there.
        if (std::fabs(result.error / v2.error - 1) > 0.2 || std::fabs(result.product / v2.product - 1) > 0.01) return 1;
    }
    return 0;
}
