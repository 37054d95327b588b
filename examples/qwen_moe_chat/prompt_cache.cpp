#include "qwen_moe_chat/prompt_cache.hpp"

#include "hlwq/error.hpp"

#include <algorithm>

namespace qwen {

std::size_t prompt_cache::restore(std::span<const token_id> ids, sequence_state& state) {
    auto best = entries_.end();
    for (auto at = entries_.begin(); at != entries_.end(); ++at) {
        if (at->ids.size() >= ids.size() || (best != entries_.end() && at->ids.size() <= best->ids.size())) continue;
        if (std::ranges::equal(at->ids, ids.first(at->ids.size()))) best = at;
    }
    if (best == entries_.end()) return 0;
    entries_.splice(entries_.begin(), entries_, best);
    state.restore(best->point);
    return best->ids.size();
}

void prompt_cache::store(std::span<const token_id> ids, const sequence_state& state) {
    HLWQ_EXPECTS(ids.size() == state.tokens(), hlwq::shape_error, "tokens of a snapshot", state.tokens(), ids.size());
    if (most_ == 0 || ids.empty()) return;
    std::erase_if(entries_, [&](const entry& e) { return std::ranges::equal(e.ids, ids); });
    if (entries_.size() == most_) entries_.pop_back();
    entries_.push_front({{ids.begin(), ids.end()}, state.snapshot()});
}

}  // namespace qwen
