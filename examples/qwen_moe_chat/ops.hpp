// qwen_moe_chat/ops.hpp — linear layers, and with vector_ops.hpp what every block is made of
//
// Activations are f32 matrices with a row for each token. A weight matrix is a view of the mapped file, in BF16, F16,
// F32 or packed codes, and is never converted as a whole. The result for a token does not depend on the number of
// threads; nor on the tokens computed beside it, up to rounding where more than eight meet packed codes as bytes.
#pragma once

#include "qwen_moe_chat/compute.hpp"
#include "qwen_moe_chat/config.hpp"
#include "qwen_moe_chat/vector_ops.hpp"

#include "hlwq/executor.hpp"
#include "hlwq/float16.hpp"
#include "hlwq/matrix_view.hpp"
#include "hlwq/packed_matrix.hpp"
#include "hlwq/products.hpp"
#include "hlwq/rotated_input.hpp"

#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <span>
#include <variant>
#include <vector>

namespace qwen {

/// A weight matrix [out, in] in memory of the checkpoint.
using matrix = std::variant<matrix_view<const hlwq::bfloat16>, matrix_view<const hlwq::half>, matrix_view<const float>,
                            hlwq::packed_matrix_view>;

/// Rows [begin, end) as a matrix of their own.
matrix rows_between(const matrix& w, std::size_t begin, std::size_t end);
/// out = row `index` of w, as floats.
void read_row(const matrix& w, std::size_t index, std::span<float> out);

/// The input of linear layers: rows of activations, and their rotated forms, each made when the first matrix asks for
/// it and shared by all others that agree in block size and signs.
class linear_input {
  public:
    /// Takes rows that stay where they are until the next call.
    void assign(matrix_view<const float> x);
    /// Takes copies of some rows of another input; rotated forms are copied, not computed again.
    void gather(linear_input& from, std::span<const std::uint32_t> tokens);

    matrix_view<const float> rows() const noexcept { return x_; }
    const hlwq::rotated_input& rotated(const hlwq::block_format& format, const compute& how);

  private:
    struct form {
        hlwq::rotated_input values;
        bool current = false;
    };
    matrix_view<const float> x_;
    activations copies_;
    std::deque<form> forms_;  // products of one list refer to several
    linear_input* source_ = nullptr;
    std::vector<std::uint32_t> source_tokens_;
};

/// One of several products: y = x Wᵀ, y [tokens, out], for the rows of x from `first` on.
struct linear_product {
    const matrix* w = nullptr;
    linear_input* x = nullptr;
    matrix_view<float> y;
    std::size_t first = 0;
};
/// All products of the list, those with packed codes in one parallel region. `finish`, if there is one, runs over the
/// rows of the results, which are then of equal height.
void linear(std::span<const linear_product> list, const compute& how, const hlwq::rows_ref* finish = nullptr);
/// y = x Wᵀ. y [tokens, out].
void linear(const matrix& w, linear_input& x, matrix_view<float> y, const compute& how);

}  // namespace qwen
