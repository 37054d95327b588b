#include "qwen_moe_chat/kernels.hpp"

#include "hlwq/config.hpp"

namespace qwen {

inline namespace HLWQ_CODE_NAMESPACE {
extern const kernel_table table;
}

const kernel_table& kernels() noexcept { return table; }

}  // namespace qwen
