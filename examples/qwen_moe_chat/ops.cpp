#include "qwen_moe_chat/ops.hpp"

#include "qwen_moe_chat/kernels.hpp"

#include "hlwq/error.hpp"
#include "hlwq/dispatch/dispatch.hpp"

#include <algorithm>
#include <cstring>
#include <type_traits>

namespace qwen {

namespace {

/// Element types of weights that are numbers, in the order of `kernel_table::plain_rows`.
template <class T>
constexpr std::size_t plain_index = std::is_same_v<T, hlwq::bfloat16> ? 0
                                    : std::is_same_v<T, hlwq::half>   ? 1
                                                                      : 2;

/// y = x Wᵀ for weights that are numbers.
template <class T>
void plain_product(matrix_view<const T> w, matrix_view<const float> x, matrix_view<float> y, const compute& how) {
    HLWQ_EXPECTS(w.cols == x.cols && w.rows == y.cols && x.rows == y.rows, hlwq::shape_error,
                 "linear: columns of the input", w.cols, x.cols);
    const std::size_t grain = 1 + 16384 / (w.cols * x.rows + 1);
    const plain_matrix weights{w.data, w.stride, w.cols};
    how.threads.parallel_for(w.rows, grain, [&](std::size_t begin, std::size_t end, unsigned) noexcept {
        kernels().plain_rows[plain_index<T>](weights, begin, end, x, y);
    });
}

template <class T>
constexpr bool is_packed_view = std::is_same_v<std::remove_cvref_t<T>, hlwq::packed_matrix_view>;
bool is_packed(const matrix& w) { return std::holds_alternative<hlwq::packed_matrix_view>(w); }

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
            if constexpr (is_packed_view<decltype(view)>) {
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
            if constexpr (is_packed_view<decltype(view)>) {
                hlwq::dispatch::dequantize(packed_rows(view, index, index + 1),
                                           matrix_view<float>(out.data(), 1, out.size()));
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
        hlwq::dispatch::rotate_input(x_, at->values, how.threads);
    } else {
        const hlwq::rotated_input& all = source_->rotated(format, how);
        for (std::size_t i = 0; i < x_.rows; ++i) hlwq::copy_token(all, source_tokens_[i], at->values, i);
    }
    at->current = true;
    return at->values;
}

namespace {

/// Codes of more bits have centroids that a byte cannot tell apart, whatever the mode of the program.
constexpr int fast_bits = 6;

/// A product with packed codes, ready to run.
hlwq::product packed_product(const hlwq::packed_matrix_view& w, const linear_product& p, const compute& how) {
    compute own = how;
    if (own.mode == hlwq::precision::fast && w.format.bits > fast_bits) own.mode = hlwq::precision::precise;
    const bool fast = own.mode == hlwq::precision::precise && how.fast_prefill && p.y.rows > hlwq::gemv_tokens &&
                      w.format.bits <= fast_bits;
    return {w, {p.x->rotated(w.format, own), p.first, p.y.rows}, p.y, fast ? hlwq::precision::fast : own.mode};
}

}  // namespace

void linear(std::span<const linear_product> list, const compute& how, const hlwq::rows_ref* finish) {
    std::array<hlwq::product, hlwq::products_once> packed;
    std::size_t count = 0;
    const bool side_by_side = finish != nullptr && list.size() <= packed.size() &&
                              std::ranges::all_of(list, [](const linear_product& p) { return is_packed(*p.w); });
    for (const linear_product& p : list) {
        std::visit(
            [&](const auto& view) {
                if constexpr (is_packed_view<decltype(view)>) {
                    packed[count++] = packed_product(view, p, how);
                } else {
                    plain_product(view, p.x->rows().rows_between(p.first, p.first + p.y.rows), p.y, how);
                }
            },
            *p.w);
        if (count == packed.size() && !side_by_side) {
            hlwq::dispatch::matmul({packed.data(), count}, how.threads);
            count = 0;
        }
    }
    if (side_by_side) return hlwq::dispatch::matmul({packed.data(), count}, how.threads, *finish);
    if (count != 0) hlwq::dispatch::matmul({packed.data(), count}, how.threads);
    if (finish == nullptr || list.empty()) return;
    how.threads.parallel_for(list[0].y.cols, 64,
                             [&](std::size_t begin, std::size_t end, unsigned) noexcept { (*finish)(begin, end); });
}

void linear(const matrix& w, linear_input& x, matrix_view<float> y, const compute& how) {
    const linear_product one{&w, &x, y};
    linear({&one, 1}, how);
}

}  // namespace qwen
