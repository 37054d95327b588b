// hlwq/dispatch/kernels.hpp — the kernels of one instruction set as a table of function pointers
//
// A file that hlwq_add_dispatch generates (cmake/dispatch_isa.cpp.in) includes this header once for each instruction
// set, with the flags of that set, and exports one `kernel_table`. Nothing else of such an object may be seen by the
// linker: of two copies of a function it keeps one, and a processor may not know the other's instructions. So those
// files are compiled with HLWQ_PROMISED: arguments were checked, and messages are written, by the file that chooses
// the table (cmake/dispatch.cpp), which is compiled for every processor. tests/dispatch/check_objects.py looks at the
// objects.
//
// Everything here is for that pair of files; programs include hlwq/dispatch/dispatch.hpp.
#pragma once

#include "hlwq/config.hpp"
#include "hlwq/executor.hpp"
#include "hlwq/float16.hpp"
#include "hlwq/gemm.hpp"
#include "hlwq/gemv.hpp"
#include "hlwq/matrix_view.hpp"
#include "hlwq/packed_matrix.hpp"
#include "hlwq/products.hpp"
#include "hlwq/quantize.hpp"
#include "hlwq/repack.hpp"
#include "hlwq/rotated_input.hpp"
#include "hlwq/rotation.hpp"

#include <concepts>
#include <cstddef>
#include <span>

namespace hlwq::dispatch {

/// Weights of type T to codes and back. `quantize` returns the lowest block, counted through all rows, that cannot be
/// encoded, or detail::first_failure::none.
template <class T>
struct weight_kernels {
    std::size_t (*quantize)(matrix_view<const T> w, const packed_matrix_target& out, encoder_id encoder,
                            executor_ref ex);
    void (*dequantize)(const packed_matrix_view& w, matrix_view<T> out, executor_ref ex);
};

using product_kernel = void (*)(const packed_matrix_view& w, const rotated_tokens& x, matrix_view<float> y,
                                precision mode, executor_ref ex);

/// The functions of an instruction set, each with the meaning of its namesake in hlwq and with arguments that fit.
struct kernel_table {
    const char* isa;
    const char* backend;
    layout_id (*preferred_layout)(const block_format& format);
    void (*repack)(std::span<std::byte> codes, const block_format& format, const block_format& target, executor_ref ex);
    void (*rotate)(matrix_view<float> x, std::size_t block, rotation_signs signs, executor_ref ex);
    void (*rotate_input)(matrix_view<const float> x, rotated_input& in, executor_ref ex);
    product_kernel gemv;
    product_kernel gemm;
    product_kernel matmul;
    void (*products)(std::span<const product> list, executor_ref ex);
    void (*products_side_by_side)(std::span<const product> list, executor_ref ex, rows_ref finish);
    weight_kernels<float> float_weights;
    weight_kernels<half> half_weights;
    weight_kernels<bfloat16> bfloat16_weights;

    template <class T>
    HLWQ_INLINE constexpr const weight_kernels<T>& weights() const noexcept {
        if constexpr (std::same_as<T, float>) {
            return float_weights;
        } else if constexpr (std::same_as<T, half>) {
            return half_weights;
        } else {
            static_assert(std::same_as<T, bfloat16>, "weights are float, half or bfloat16");
            return bfloat16_weights;
        }
    }
};

inline namespace HLWQ_CODE_NAMESPACE {

template <class T>
constexpr weight_kernels<T> make_weight_kernels() noexcept {
    return {[](matrix_view<const T> w, const packed_matrix_target& out, encoder_id encoder, executor_ref ex) {
                return detail::quantize_promised<simd::native>(w, out, encoder, ex);
            },
            [](const packed_matrix_view& w, matrix_view<T> out, executor_ref ex) { hlwq::dequantize(w, out, ex); }};
}

/// The table of the instruction set that this translation unit was compiled for.
constexpr kernel_table make_kernel_table() noexcept {
    kernel_table table{};
    table.isa = isa_name();
    table.backend = backend_name();
    table.preferred_layout = [](const block_format& format) { return hlwq::preferred_layout(format); };
    table.repack = [](std::span<std::byte> codes, const block_format& format, const block_format& target,
                      executor_ref ex) { detail::repack_promised<simd::native>(codes, format, target, ex); };
    table.rotate = [](matrix_view<float> x, std::size_t block, rotation_signs signs, executor_ref ex) {
        hlwq::rotate(x, block, signs, ex);
    };
    table.rotate_input = [](matrix_view<const float> x, rotated_input& in, executor_ref ex) {
        hlwq::rotate_input(x, in, ex);
    };
    table.gemv = [](const packed_matrix_view& w, const rotated_tokens& x, matrix_view<float> y, precision mode,
                    executor_ref ex) { hlwq::gemv(w, x, y, mode, ex); };
    table.gemm = [](const packed_matrix_view& w, const rotated_tokens& x, matrix_view<float> y, precision mode,
                    executor_ref ex) { hlwq::gemm(w, x, y, mode, ex); };
    table.matmul = [](const packed_matrix_view& w, const rotated_tokens& x, matrix_view<float> y, precision mode,
                      executor_ref ex) { hlwq::matmul(w, x, y, mode, ex); };
    table.products = [](std::span<const product> list, executor_ref ex) { hlwq::matmul(list, ex); };
    table.products_side_by_side = [](std::span<const product> list, executor_ref ex, rows_ref finish) {
        hlwq::matmul(list, ex, finish);
    };
    table.float_weights = make_weight_kernels<float>();
    table.half_weights = make_weight_kernels<half>();
    table.bfloat16_weights = make_weight_kernels<bfloat16>();
    return table;
}

}  // namespace HLWQ_CODE_NAMESPACE
}  // namespace hlwq::dispatch
