#include "qwen_moe_chat/sequence_state.hpp"

#include "hlwq/error.hpp"

namespace qwen {

sequence_state::sequence_state(const model_config& config) {
    layers_.reserve(config.mixers.size() + 1);
    for (const mixer_kind kind : config.mixers) {
        if (kind == mixer_kind::attention) {
            layers_.emplace_back(kv_cache(config.attention.kv_width()));
        } else {
            layers_.emplace_back(gated_delta_net_state(config.gdn));
        }
    }
    layers_.emplace_back(kv_cache(config.attention.kv_width()));
}

sequence_snapshot sequence_state::snapshot() const { return sequence_snapshot(fork()); }

void sequence_state::restore(const sequence_snapshot& snapshot) {
    HLWQ_EXPECTS(snapshot.state_.layers() == layers(), hlwq::shape_error, "snapshot: layers", layers(),
                 snapshot.state_.layers());
    *this = snapshot.state_;
}

}  // namespace qwen
