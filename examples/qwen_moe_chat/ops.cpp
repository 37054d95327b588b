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

}  // namespace qwen
