#include "qwen_moe_chat/ops.hpp"

#include "hlwq/error.hpp"
#include "hlwq/gemm.hpp"
#include "hlwq/quantize.hpp"
#include "hlwq/simd/backend.hpp"

#include <algorithm>
#include <cstring>
#include <type_traits>

namespace qwen {

namespace {

using S = hlwq::simd::native;

HLWQ_INLINE S::f32 load(const float* p) noexcept { return S::load(p); }
HLWQ_INLINE S::f32 load(const hlwq::half* p) noexcept { return S::load_half(p); }
HLWQ_INLINE S::f32 load(const hlwq::bfloat16* p) noexcept { return S::load_bfloat16(p); }

/// out[t] = w · x[t] for `Tokens` tokens. The order of additions does not depend on `Tokens`.
template <std::size_t Tokens, class T>
HLWQ_INLINE void dots(const T* w, const float* const* x, std::size_t count, float* out) noexcept {
    constexpr std::size_t sums = 4, lanes = S::lanes;
    S::f32 sum[Tokens][sums];
    for (auto& token : sum) {
        for (auto& part : token) part = S::set(0.0f);
    }
    std::size_t i = 0;
    for (; i + sums * lanes <= count; i += sums * lanes) {
        for (std::size_t k = 0; k < sums; ++k) {
            const auto weights = load(w + i + k * lanes);
            for (std::size_t t = 0; t < Tokens; ++t) {
                sum[t][k] = S::fma(weights, S::load(x[t] + i + k * lanes), sum[t][k]);
            }
        }
    }
    for (; i + lanes <= count; i += lanes) {
        const auto weights = load(w + i);
        for (std::size_t t = 0; t < Tokens; ++t) sum[t][0] = S::fma(weights, S::load(x[t] + i), sum[t][0]);
    }
    for (std::size_t t = 0; t < Tokens; ++t) {
        out[t] = S::reduce_add(S::add(S::add(sum[t][0], sum[t][1]), S::add(sum[t][2], sum[t][3])));
        for (std::size_t j = i; j < count; ++j) out[t] += static_cast<float>(w[j]) * x[t][j];
    }
}

/// y = x Wᵀ for weights that are numbers.
template <class T>
void plain_product(matrix_view<const T> w, matrix_view<const float> x, matrix_view<float> y, const compute& how) {
    constexpr std::size_t group = 4;         // tokens that share the loads of a row
    constexpr std::size_t tokens_once = 64;  // whose activations stay in the second-level cache
    const std::size_t grain = 1 + 16384 / (w.cols * x.rows + 1);
    how.threads.parallel_for(w.rows, grain, [&](std::size_t begin, std::size_t end, unsigned) noexcept {
        for (std::size_t first = 0; first < x.rows; first += tokens_once) {
            const std::size_t last = std::min(x.rows, first + tokens_once);
            for (std::size_t row = begin; row < end; ++row) {
                const T* weights = w.row(row).data();
                std::size_t t = first;
                for (; t + group <= last; t += group) {
                    const float* tokens[group];
                    for (std::size_t k = 0; k < group; ++k) tokens[k] = x.row(t + k).data();
                    float out[group];
                    dots<group>(weights, tokens, w.cols, out);
                    for (std::size_t k = 0; k < group; ++k) y.row(t + k)[row] = out[k];
                }
                for (; t < last; ++t) {
                    const float* token = x.row(t).data();
                    dots<1>(weights, &token, w.cols, &y.row(t)[row]);
                }
            }
        }
    });
}

template <class T>
constexpr bool is_packed = std::is_same_v<std::remove_cvref_t<T>, hlwq::packed_matrix_view>;

hlwq::packed_matrix_view packed_rows(const hlwq::packed_matrix_view& w, std::size_t begin, std::size_t end) {
    hlwq::packed_matrix_view part = w;
    const std::size_t row_bytes = w.format.row_bytes(w.cols), norms = w.format.blocks_per_row(w.cols);
    part.codes = w.codes.subspan(begin * row_bytes, (end - begin) * row_bytes);
    part.norms = w.norms.subspan(begin * norms, (end - begin) * norms);
    part.rows = end - begin;
    return part;
}

}  // namespace

matrix rows_between(const matrix& w, std::size_t begin, std::size_t end) {
    return std::visit(
        [&](const auto& view) -> matrix {
            if constexpr (is_packed<decltype(view)>) {
                return packed_rows(view, begin, end);
            } else {
                return view.rows_between(begin, end);
            }
        },
        w);
}

void read_row(const matrix& w, std::size_t index, std::span<float> out) {
    std::visit(
        [&](const auto& view) {
            if constexpr (is_packed<decltype(view)>) {
                hlwq::dequantize(packed_rows(view, index, index + 1), matrix_view<float>(out.data(), 1, out.size()));
            } else {
                std::ranges::copy(view.row(index), out.begin());
            }
        },
        w);
}

void linear_input::assign(matrix_view<const float> x) {
    x_ = x;
    source_ = nullptr;
    for (form& f : forms_) f.current = false;
}

void linear_input::gather(linear_input& from, std::span<const std::uint32_t> tokens) {
    const matrix_view<float> copies = copies_.shape(tokens.size(), from.x_.cols);
    for (std::size_t i = 0; i < tokens.size(); ++i) std::ranges::copy(from.x_.row(tokens[i]), copies.row(i).begin());
    assign(copies);
    source_ = &from;
    source_tokens_.assign(tokens.begin(), tokens.end());
}

const hlwq::rotated_input& linear_input::rotated(const hlwq::block_format& format, const compute& how) {
    const auto serves = [&](const form& f) {
        return f.values.cols() == x_.cols && f.values.block() == format.block && f.values.signs() == format.signs &&
               f.values.mode() == how.mode;
    };
    auto at = std::ranges::find_if(forms_, serves);
    if (at == forms_.end()) {
        forms_.push_back({hlwq::rotated_input(x_.cols, how.mode, format, x_.rows), false});
        at = forms_.end() - 1;
    }
    if (at->current) return at->values;
    at->values.resize(x_.rows);
    if (source_ == nullptr) {
        hlwq::rotate_input(x_, at->values, how.threads);
    } else {
        const hlwq::rotated_input& all = source_->rotated(format, how);
        for (std::size_t i = 0; i < x_.rows; ++i) hlwq::copy_token(all, source_tokens_[i], at->values, i);
    }
    at->current = true;
    return at->values;
}

void linear(const matrix& w, linear_input& x, matrix_view<float> y, const compute& how) {
    std::visit(
        [&](const auto& view) {
            if constexpr (is_packed<decltype(view)>) {
                const bool fast = how.mode == hlwq::precision::precise && how.fast_prefill &&
                                  y.rows > hlwq::detail::gemv_tokens && view.format.bits <= 6;
                hlwq::matmul(view, x.rotated(view.format, how), y, fast ? hlwq::precision::fast : how.mode,
                             how.threads);
            } else {
                HLWQ_EXPECTS(view.cols == x.rows().cols && view.rows == y.cols && x.rows().rows == y.rows,
                             hlwq::shape_error, "linear: columns of the input", view.cols, x.rows().cols);
                plain_product(view, x.rows(), y, how);
            }
        },
        w);
}

float dot(std::span<const float> a, std::span<const float> b) noexcept {
    const float* x = b.data();
    float out;
    dots<1>(a.data(), &x, a.size(), &out);
    return out;
}

void add_scaled(std::span<float> y, float a, std::span<const float> x) noexcept {
    for (std::size_t i = 0; i < y.size(); ++i) y[i] += a * x[i];
}

void zero_centred_norm(std::span<const float> x, std::span<const float> w, float eps, std::span<float> out) noexcept {
    const float scale = 1.0f / std::sqrt(dot(x, x) / static_cast<float>(x.size()) + eps);
    for (std::size_t i = 0; i < x.size(); ++i) out[i] = x[i] * scale * (1.0f + w[i]);
}

void zero_centred_norm(matrix_view<const float> x, std::span<const float> w, float eps, matrix_view<float> out,
                       const compute& how) {
    how.threads.parallel_for(x.rows, 1 + 16384 / x.cols, [&](std::size_t begin, std::size_t end, unsigned) noexcept {
        for (std::size_t t = begin; t < end; ++t) zero_centred_norm(x.row(t), w, eps, out.row(t));
    });
}

void gated_norm(std::span<float> o, std::span<const float> z, std::span<const float> w, float eps) noexcept {
    const float scale = 1.0f / std::sqrt(dot(o, o) / static_cast<float>(o.size()) + eps);
    for (std::size_t i = 0; i < o.size(); ++i) o[i] = o[i] * scale * w[i] * silu(z[i]);
}

void l2_norm(std::span<float> x, float scale) noexcept {
    constexpr float eps = 1e-6f;
    const float factor = scale / std::sqrt(dot(x, x) + eps);
    for (float& value : x) value *= factor;
}

void add(matrix_view<float> x, matrix_view<const float> y) noexcept {
    for (std::size_t t = 0; t < x.rows; ++t) add_scaled(x.row(t), 1.0f, y.row(t));
}

void gate_silu(matrix_view<float> gate, matrix_view<const float> up, const compute& how) {
    const std::size_t grain = 1 + 2048 / (gate.cols + 1);
    how.threads.parallel_for(gate.rows, grain, [&](std::size_t begin, std::size_t end, unsigned) noexcept {
        for (std::size_t t = begin; t < end; ++t) {
            const auto g = gate.row(t);
            const auto u = up.row(t);
            for (std::size_t i = 0; i < g.size(); ++i) g[i] = silu(g[i]) * u[i];
        }
    });
}

rotary_embedding::rotary_embedding(const rope_config& rope)
    : frequency_(rope.rotary_dim / 2), axis_(rope.rotary_dim / 2) {
    for (std::size_t f = 0; f < frequency_.size(); ++f) {
        // w_f = theta^(-2 f / rotary_dim)
        const double exponent = -2.0 * static_cast<double>(f) / static_cast<double>(rope.rotary_dim);
        frequency_[f] = std::pow(rope.theta, exponent);
        // Interleaved: t h w t h w ..., as long as height and width have frequencies left, then t.
        const std::size_t turn = f % 3;
        axis_[f] = static_cast<std::uint8_t>(turn != 0 && f < 3 * rope.sections[turn] ? turn : 0);
    }
}

void rotary_embedding::set(std::span<const rope_position> positions) {
    const std::size_t frequencies = frequency_.size();
    cos_.resize(positions.size() * frequencies);
    sin_.resize(positions.size() * frequencies);
    for (std::size_t t = 0; t < positions.size(); ++t) {
        const std::uint32_t position[3] = {positions[t].temporal, positions[t].height, positions[t].width};
        for (std::size_t f = 0; f < frequencies; ++f) {
            // In double: positions reach 262143, where a float's angle would be off by 0.01.
            const double angle = position[axis_[f]] * frequency_[f];
            cos_[t * frequencies + f] = static_cast<float>(std::cos(angle));
            sin_[t * frequencies + f] = static_cast<float>(std::sin(angle));
        }
    }
}

void rotary_embedding::rotate(std::span<float> head, std::size_t token) const noexcept {
    const std::size_t frequencies = frequency_.size();
    const float* c = cos_.data() + token * frequencies;
    const float* s = sin_.data() + token * frequencies;
    for (std::size_t f = 0; f < frequencies; ++f) {
        const float a = head[f], b = head[f + frequencies];
        head[f] = a * c[f] - b * s[f];
        head[f + frequencies] = b * c[f] + a * s[f];
    }
}

}  // namespace qwen
