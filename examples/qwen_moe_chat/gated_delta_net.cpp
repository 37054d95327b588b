#include "qwen_moe_chat/gated_delta_net.hpp"

#include "qwen_moe_chat/kernels.hpp"

namespace qwen {

void forward(const gated_delta_net& w, const model_config& config, std::size_t layer, linear_input& n,
             std::span<const sequence_rows> sequences, matrix_view<float> out, gated_delta_net_scratch& scratch,
             const compute& how) {
    const gated_delta_net_config& dims = config.gdn;
    const std::size_t tokens = n.rows().rows, heads = dims.value_heads, dk = dims.key_dim, dv = dims.value_dim;
    const std::size_t values_a_key = heads / dims.key_heads, channels = dims.channels();

    const auto u = scratch.u.shape(tokens, channels);
    const auto z = scratch.z.shape(tokens, dims.values());
    const auto b = scratch.b.shape(tokens, heads);
    const auto a = scratch.a.shape(tokens, heads);
    const linear_product inputs[] = {{&w.in_qkv, &n, u}, {&w.in_z, &n, z}, {&w.in_b, &n, b}, {&w.in_a, &n, a}};
    linear(inputs, how);

    const auto o = scratch.o.shape(tokens, dims.values());
    const kernel_table& run = kernels();
    const auto memory = scratch.worker.shape(how.threads.concurrency(), run.delta_rule_scratch(dk, dv));
    scratch.states.clear();
    for (const sequence_rows& rows : sequences) {
        gated_delta_net_state& state = rows.state->gdn(layer);
        scratch.states.push_back({state.tail.write().data(), state.memory.write().data()});
    }
    const std::size_t items = sequences.size() * dims.key_heads;
    how.threads.parallel_for(items, 1, [&](std::size_t begin, std::size_t end, unsigned worker) noexcept {
        for (std::size_t i = begin; i < end; ++i) {
            const sequence_rows& rows = sequences[i / dims.key_heads];
            const auto& state = scratch.states[i / dims.key_heads];
            const std::size_t key_head = i % dims.key_heads, value_head = key_head * values_a_key;
            const std::size_t at_q = key_head * dk, at_k = dims.keys() + at_q, at_v = 2 * dims.keys() + value_head * dv;
            gated_delta_head head;
            head.tokens = rows.end - rows.begin;
            head.key_dim = dk;
            head.value_dim = dv;
            head.value_heads = values_a_key;
            head.kernel = dims.kernel;
            head.channels = channels;
            const float* channel = u.row(rows.begin).data();
            head.u_q = channel + at_q;
            head.u_k = channel + at_k;
            head.u_v = channel + at_v;
            head.tail_q = state.tail + at_q;
            head.tail_k = state.tail + at_k;
            head.tail_v = state.tail + at_v;
            head.conv_q = w.conv.data() + at_q;
            head.conv_k = w.conv.data() + at_k;
            head.conv_v = w.conv.data() + at_v;
            head.heads = heads;
            head.b = b.row(rows.begin).data() + value_head;
            head.a = a.row(rows.begin).data() + value_head;
            head.a_log = w.a_log.data() + value_head;
            head.dt_bias = w.dt_bias.data() + value_head;
            head.values = dims.values();
            head.z = z.row(rows.begin).data() + value_head * dv;
            head.norm = w.norm.data();
            head.norm_epsilon = config.norm_epsilon;
            head.state = state.memory + value_head * dk * dv;
            head.out = o.row(rows.begin).data() + value_head * dv;
            run.run_gated_delta_head(head, memory.row(worker).data());
        }
    });
    scratch.o_input.assign(o);
    linear(w.out, scratch.o_input, out, how);
}

}  // namespace qwen
