#include "qwen_moe_chat/attention.hpp"

#include "qwen_moe_chat/kernels.hpp"

#include <algorithm>
#include <cmath>

namespace qwen {

namespace {

/// Pages that one item of a decoding step reads. Longer contexts are divided, whatever the number of threads, and the
/// parts merged in order.
constexpr std::size_t pages_once = 8;

std::size_t pages_for(std::size_t tokens) { return (tokens + kv_page_tokens - 1) / kv_page_tokens; }

/// 0, n - 1, 1, n - 2, ...: neighbours have the work of any others, where it grows with the index.
std::size_t zigzag(std::size_t i, std::size_t n) { return i % 2 == 0 ? i / 2 : n - 1 - i / 2; }

/// Tiles of every sequence and kv head, and the parts of the context that they read.
void arrange_tiles(const attention_config& dims, std::size_t layer, std::span<const sequence_rows> sequences,
                   attention_scratch& scratch) {
    const std::size_t group = dims.heads / dims.kv_heads;
    const std::size_t tile_tokens = std::max<std::size_t>(1, attention_rows / group);
    scratch.tiles.clear();
    scratch.parts.clear();
    std::size_t floats = 0;
    for (const sequence_rows& rows : sequences) {
        const std::size_t count = rows.end - rows.begin, past = rows.state->kv(layer).size() - count;
        const std::size_t tiles = (count + tile_tokens - 1) / tile_tokens;
        for (std::size_t head = 0; head < dims.kv_heads; ++head) {
            for (std::size_t i = 0; i < tiles; ++i) {
                attention_scratch::tile tile;
                tile.cache = &rows.state->kv(layer);
                tile.kv_head = head;
                const std::size_t first = zigzag(i, tiles) * tile_tokens;
                tile.row = rows.begin + first;
                tile.tokens = std::min(tile_tokens, count - first);
                tile.position = past + first;
                tile.seen = floats;
                const std::size_t pages = pages_for(tile.position + tile.tokens);
                // A prompt has tiles enough for all threads.
                const std::size_t step = tiles == 1 ? pages_once : pages;
                tile.parts = (pages + step - 1) / step;
                for (std::size_t page = 0; page < pages; page += step) {
                    scratch.parts.push_back({scratch.tiles.size(), page, std::min(pages, page + step), floats});
                    floats += attention_seen_floats(tile.tokens * group, dims.head_dim);
                }
                scratch.tiles.push_back(tile);
            }
        }
    }
    scratch.seen.shape(1, floats);
}

}  // namespace

void forward(const attention& w, const model_config& config, std::size_t layer, linear_input& n,
             const rotary_embedding& rope, std::span<const sequence_rows> sequences, matrix_view<float> out,
             attention_scratch& scratch, const compute& how) {
    const attention_config& dims = config.attention;
    const std::size_t tokens = n.rows().rows, heads = dims.heads, head_dim = dims.head_dim;
    const std::size_t group = heads / dims.kv_heads;
    const kernel_table& run = kernels();

    const auto q = scratch.q.shape(tokens, heads * 2 * head_dim);
    const auto k = scratch.k.shape(tokens, dims.kv_width());
    const auto v = scratch.v.shape(tokens, dims.kv_width());
    const linear_product inputs[] = {{&w.q, &n, q}, {&w.k, &n, k}, {&w.v, &n, v}};
    linear(inputs, how);

    for (const sequence_rows& rows : sequences) {
        kv_cache& cache = rows.state->kv(layer);
        const std::size_t past = cache.size();
        cache.extend(rows.end - rows.begin);
        how.threads.parallel_for(rows.end - rows.begin, 16, [&](std::size_t begin, std::size_t end, unsigned) noexcept {
            for (std::size_t i = begin; i < end; ++i) {
                const std::size_t t = rows.begin + i;
                run.norm_and_rotate(q.row(t).data(), heads, 2 * head_dim, head_dim, w.q_norm.data(),
                                    config.norm_epsilon, rope.cosines(t), rope.sines(t), rope.frequencies());
                run.norm_and_rotate(k.row(t).data(), dims.kv_heads, head_dim, head_dim, w.k_norm.data(),
                                    config.norm_epsilon, rope.cosines(t), rope.sines(t), rope.frequencies());
            }
            for (std::size_t i = begin; i < end;) {
                const std::size_t count = std::min(end - i, kv_page_tokens - (past + i) % kv_page_tokens);
                cache.write(past + i, count, k.row(rows.begin + i).data(), v.row(rows.begin + i).data(), k.stride);
                i += count;
            }
        });
    }

    const auto o = scratch.o.shape(tokens, heads * head_dim);
    const float scale = 1.0f / std::sqrt(static_cast<float>(head_dim));
    arrange_tiles(dims, layer, sequences, scratch);
    const auto memory = scratch.worker.shape(how.threads.concurrency(), attention_scratch_floats(head_dim));
    float* seen = scratch.seen.data();
    const auto tile_of = [&](const attention_scratch::tile& tile, std::size_t at) {
        attention_tile view;
        view.tokens = tile.tokens;
        view.group = group;
        view.head_dim = head_dim;
        view.seen = seen + at;
        return view;
    };
    const auto finish = [&](const attention_scratch::tile& tile) {
        const attention_tile view = tile_of(tile, tile.seen);
        const float* query = q.row(tile.row).data() + tile.kv_head * group * 2 * head_dim;
        run.attention_end(view, tile.parts, attention_seen_floats(view.rows(), head_dim), query + head_dim, q.stride,
                          2 * head_dim, o.row(tile.row).data() + tile.kv_head * group * head_dim, o.stride);
    };
    how.threads.parallel_for(
        scratch.parts.size(), 1, [&](std::size_t begin, std::size_t end, unsigned worker) noexcept {
            for (std::size_t i = begin; i < end; ++i) {
                const attention_scratch::part& part = scratch.parts[i];
                const attention_scratch::tile& tile = scratch.tiles[part.tile];
                attention_tile view = tile_of(tile, part.seen);
                view.scratch = memory.row(worker).data();
                run.attention_begin(view, q.row(tile.row).data() + tile.kv_head * group * 2 * head_dim, q.stride,
                                    2 * head_dim, scale);
                const auto add_page = run.attention_page[static_cast<std::size_t>(tile.cache->type())];
                for (std::size_t page = part.begin; page < part.end; ++page) {
                    const auto first = static_cast<std::ptrdiff_t>(page * kv_page_tokens);
                    add_page(view, tile.cache->page(page, tile.kv_head),
                             page + 1 < part.end ? tile.cache->page(page + 1, tile.kv_head) : nullptr,
                             tile.cache->page_tokens(page), static_cast<std::ptrdiff_t>(tile.position) + 1 - first);
                }
                if (tile.parts == 1) finish(tile);
            }
        });
    if (scratch.parts.size() != scratch.tiles.size()) {
        // A part costs about as much as half a microsecond.
        const std::size_t grain = 1 + 32 * scratch.tiles.size() / scratch.parts.size();
        how.threads.parallel_for(scratch.tiles.size(), grain,
                                 [&](std::size_t begin, std::size_t end, unsigned) noexcept {
                                     for (std::size_t i = begin; i < end; ++i) {
                                         if (scratch.tiles[i].parts != 1) finish(scratch.tiles[i]);
                                     }
                                 });
    }
    scratch.o_input.assign(o);
    linear(w.o, scratch.o_input, out, how);
}

}  // namespace qwen
