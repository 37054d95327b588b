// The kernels of the instruction set that this file is compiled for, and nothing else.
#include "qwen_moe_chat/kernels.hpp"

#include "qwen_moe_chat/kernels/attention.hpp"
#include "qwen_moe_chat/kernels/gated_delta_head.hpp"
#include "qwen_moe_chat/kernels/plain_rows.hpp"
#include "qwen_moe_chat/kernels/rows.hpp"
#include "qwen_moe_chat/kernels/sampling.hpp"

namespace qwen {

extern const kernel_table HLWQ_FOR_ISA(kernels_);
constinit const kernel_table HLWQ_FOR_ISA(kernels_) = {
    .isa = hlwq::isa_name(),
    .plain_rows = {kernel::plain_rows<hlwq::bfloat16>, kernel::plain_rows<hlwq::half>, kernel::plain_rows<float>},
    .dot = kernel::dot,
    .add_scaled = kernel::add_scaled,
    .zero_centred_norm = kernel::zero_centred_norm,
    .gated_norm = kernel::gated_norm,
    .l2_norm = kernel::l2_norm,
    .silu_product = kernel::silu_product,
    .rotate = kernel::rotate,
    .norm_and_rotate = kernel::norm_and_rotate,
    .next_above = kernel::next_above,
    .exponentials = kernel::exponentials,
    .delta_rule_scratch = kernel::delta_rule_scratch,
    .delta_rule_recurrent = kernel::delta_rule_recurrent,
    .delta_rule_chunked = kernel::delta_rule_chunked,
    .causal_convolution = kernel::causal_convolution,
    .advance_tail = kernel::advance_tail,
    .run_gated_delta_head = kernel::run_gated_delta_head,
    .append_kv = {kernel::append_kv<float>, kernel::append_kv<hlwq::half>, kernel::append_kv<hlwq::bfloat16>},
    .attention_begin = kernel::attention_begin,
    .attention_page = {kernel::attention_page<float>, kernel::attention_page<hlwq::half>,
                       kernel::attention_page<hlwq::bfloat16>},
    .attention_end = kernel::attention_end,
};

}  // namespace qwen
