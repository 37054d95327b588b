#include "qwen_moe_chat/kernels.hpp"

#include "hlwq/dispatch/dispatch.hpp"

#include "hlwq_qwen_isas.hpp"  // generated: HLWQ_COMPILED_ISAS

namespace qwen {

#define QWEN_DECLARE_KERNELS(name) extern const kernel_table kernels_##name;
HLWQ_COMPILED_ISAS(QWEN_DECLARE_KERNELS)
#undef QWEN_DECLARE_KERNELS

const kernel_table& kernels() {
    static const kernel_table& chosen = []() -> const kernel_table& {
#define QWEN_KERNELS(name) &kernels_##name,
        for (const kernel_table* table : {HLWQ_COMPILED_ISAS(QWEN_KERNELS)}) {
            if (table->isa == hlwq::dispatch::isa()) return *table;
        }
#undef QWEN_KERNELS
        hlwq::throw_error<hlwq::unsupported_error>("kernels of the model: compiled for other instruction sets");
    }();
    return chosen;
}

}  // namespace qwen
