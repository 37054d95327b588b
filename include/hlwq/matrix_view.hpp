// hlwq/matrix_view.hpp — a matrix that somebody else owns: pointer, rows, columns, row stride
//
// Rows are contiguous; `stride` counts elements from one row to the next. A fused 3-D expert tensor is a
// `tensor3_view`, whose slices are matrices.
//
// Example
//   std::vector<float> w(rows * cols);
//   hlwq::matrix_view<const float> view(w.data(), rows, cols);
#pragma once

#include "hlwq/config.hpp"

#include <cstddef>
#include <span>
#include <type_traits>

namespace hlwq {

template <class T>
struct matrix_view {
    using element_type = T;

    T* data = nullptr;
    std::size_t rows = 0;
    std::size_t cols = 0;
    std::size_t stride = 0;

    constexpr matrix_view() noexcept = default;
    constexpr matrix_view(T* first, std::size_t row_count, std::size_t col_count) noexcept
        : matrix_view(first, row_count, col_count, col_count) {}
    constexpr matrix_view(T* first, std::size_t row_count, std::size_t col_count, std::size_t row_stride) noexcept
        : data(first), rows(row_count), cols(col_count), stride(row_stride) {}

    /// A view of mutable elements serves where one of constant elements is asked for.
    template <class U>
    requires(std::is_same_v<const U, T>) constexpr matrix_view(matrix_view<U> other) noexcept
        : matrix_view(other.data, other.rows, other.cols, other.stride) {}

    constexpr std::span<T> row(std::size_t index) const noexcept { return {data + index * stride, cols}; }
    /// Rows [begin, end) as a matrix of their own.
    constexpr matrix_view rows_between(std::size_t begin, std::size_t end) const noexcept {
        return {data + begin * stride, end - begin, cols, stride};
    }
};

/// `slices` matrices of the same shape, one behind the other: the fused experts of a mixture-of-experts layer.
template <class T>
struct tensor3_view {
    T* data = nullptr;
    std::size_t slices = 0;
    std::size_t rows = 0;
    std::size_t cols = 0;

    constexpr matrix_view<T> slice(std::size_t index) const noexcept {
        return {data + index * rows * cols, rows, cols};
    }
};

}  // namespace hlwq
