// hlwq/products.hpp — several products in one parallel region
//
// The projections of one layer, or the chosen experts of one token, are many matrices with little work each. As a list
// they cost one region instead of one each, and no worker waits between them.
//
//   matmul(list, ex)           any heights: the bytes of all codes together are divided among the workers
//   matmul(list, ex, finish)   equal heights: every worker computes the same rows of all products, then
//                              finish(begin, end) for these rows, which so finds them in its caches
//
//   results  those of each product alone (matmul in gemm.hpp), bit for bit
//   memory   nothing is allocated; some 40 KiB of stack. Longer lists than `products_once` take several regions, and
//            those with `finish` must not be longer
//   throws   as matmul; shape_error if heights differ that should be equal
//
// Example: the experts of a token, up to the input of the second matrix
//   std::vector<hlwq::product> list;
//   for (const expert& e : chosen) list.insert(list.end(), {{e.gate, x, e.g}, {e.up, x, e.u}});
//   const auto activate = [&](std::size_t begin, std::size_t end) noexcept { /* g <- silu(g) * u */ };
//   hlwq::matmul(list, pool, activate);
#pragma once

#include "hlwq/config.hpp"
#include "hlwq/error.hpp"
#include "hlwq/executor.hpp"
#include "hlwq/gemm.hpp"
#include "hlwq/gemv.hpp"
#include "hlwq/matrix_view.hpp"
#include "hlwq/packed_matrix.hpp"
#include "hlwq/rotated_input.hpp"
#include "hlwq/simd/backend.hpp"

#include <algorithm>
#include <array>
#include <concepts>
#include <cstddef>
#include <memory>
#include <span>
#include <type_traits>

namespace hlwq {

/// y[token][row] = product of row `row` of w with that token of x, in a precision that x has.
struct product {
    packed_matrix_view w;
    rotated_tokens x;
    matrix_view<float> y;
    precision mode = precision::precise;
};

/// Products that share a region.
inline constexpr std::size_t products_once = 32;

/// A reference to what is done with rows [begin, end) when all products have them; it must outlive the reference.
class rows_ref {
  public:
    template <class F>
    requires(!std::same_as<std::remove_cvref_t<F>, rows_ref>) rows_ref(F& f)
    noexcept
        : self_(const_cast<void*>(static_cast<const void*>(std::addressof(f)))),
          call_([](void* self, std::size_t begin, std::size_t end) noexcept { (*static_cast<F*>(self))(begin, end); }) {
    }
    void operator()(std::size_t begin, std::size_t end) const noexcept { call_(self_, begin, end); }

  private:
    void* self_;
    void (*call_)(void*, std::size_t, std::size_t) noexcept;
};

namespace detail {

/// Throws unless the products can be computed side by side.
inline void check_side_by_side(std::span<const product> products) {
    HLWQ_EXPECTS(products.size() <= products_once, shape_error, "matmul: products side by side",
                 "at most " + to_text(products_once), products.size());
    for (const product& p : products) {
        HLWQ_EXPECTS(p.w.rows == products[0].w.rows, shape_error, "matmul: rows of products side by side",
                     products[0].w.rows, p.w.rows);
    }
}

}  // namespace detail

inline namespace HLWQ_CODE_NAMESPACE {

namespace detail {

/// What a product costs, in bytes read from memory: decoding for several tokens costs about as much as reading.
inline std::size_t product_cost(const planned_product& p) noexcept {
    return p.rows * p.w.row_bytes * (3 + p.y.rows) / 4;
}

/// Row edge number `part` of `parts`, at a multiple of the grain.
inline std::size_t row_edge(const planned_product& p, std::size_t part, std::size_t parts) noexcept {
    if (part == parts) return p.rows;
    const std::size_t grains = (p.rows + p.plan.grain - 1) / p.plan.grain;
    return std::min(p.rows, grains * part / parts * p.plan.grain);
}

/// At most products_once products.
template <class E>
void compute_list(std::span<const planned_product> list, E&& ex) {
    std::array<std::size_t, products_once + 1> first{};  // the first part of each product
    for (std::size_t i = 0; i < list.size(); ++i) {
        first[i + 1] = first[i] + (list[i].rows == 0 ? 0 : 1 + product_cost(list[i]) / region_bytes);
    }
    ex.parallel_for(first[list.size()], 1, [&](std::size_t begin, std::size_t end, unsigned) noexcept {
        for (std::size_t i = 0; i < list.size(); ++i) {
            const std::size_t from = std::max(begin, first[i]), to = std::min(end, first[i + 1]);
            if (from >= to) continue;
            const std::size_t parts = first[i + 1] - first[i];
            const std::size_t row = row_edge(list[i], from - first[i], parts);
            const std::size_t last = row_edge(list[i], to - first[i], parts);
            if (row < last) list[i].compute(row, last);
        }
    });
}

}  // namespace detail

/// Every product of the list, each with a kernel for its number of tokens.
template <simd::backend S = simd::native, executor E = serial_executor>
void matmul(std::span<const product> products, E&& ex = {}) {
    std::array<detail::planned_product, products_once> planned;
    for (std::size_t done = 0; done < products.size();) {
        const std::size_t count = std::min(products_once, products.size() - done);
        for (std::size_t i = 0; i < count; ++i) {
            const product& p = products[done + i];
            planned[i] = detail::plan_product<S>(p.w, p.x, p.y, p.mode, "matmul");
        }
        detail::compute_list({planned.data(), count}, ex);
        done += count;
    }
}

/// The same for at most `products_once` products of equal height, and finish(begin, end) noexcept for the rows of each
/// worker when all products have them.
template <simd::backend S = simd::native, executor E>
void matmul(std::span<const product> products, E&& ex, rows_ref finish) {
    detail::check_side_by_side(products);
    if (products.empty()) return;
    std::array<detail::planned_product, products_once> planned;
    const std::size_t rows = products[0].w.rows;
    std::size_t grain = 1, bytes = 0;
    for (std::size_t i = 0; i < products.size(); ++i) {
        const product& p = products[i];
        planned[i] = detail::plan_product<S>(p.w, p.x, p.y, p.mode, "matmul");
        grain = std::max(grain, planned[i].plan.grain);  // powers of two
        bytes += planned[i].w.row_bytes;
    }
    grain *= detail::region_bytes / (grain * bytes + 1) + 1;
    ex.parallel_for(rows, grain, [&](std::size_t begin, std::size_t end, unsigned) noexcept {
        for (std::size_t i = 0; i < products.size(); ++i) {
            if (planned[i].rows != 0) planned[i].compute(begin, end);
        }
        finish(begin, end);
    });
}

}  // namespace HLWQ_CODE_NAMESPACE
}  // namespace hlwq
