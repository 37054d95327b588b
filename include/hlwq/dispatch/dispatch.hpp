// hlwq/dispatch/dispatch.hpp — one program for every processor: the functions of hlwq, their instruction set chosen
// when the program runs
//
// The names, arguments, results and errors are those of hlwq, with an `executor_ref` for the executor; matrices and
// inputs are the same types, so both kinds of call go together. The kernels come from CMake, a table for each
// instruction set (cmake/hlwq_add_dispatch.cmake):
//
//   find_package(hlwq REQUIRED COMPONENTS highway dispatch)
//   target_link_libraries(app PRIVATE hlwq::dispatch)     or hlwq_add_dispatch(app ISAS generic avx2 avx512vbmi)
//
// The best set that was compiled and that the processor runs is taken. The environment variable HLWQ_ISA names another
// one. A name that is unknown, or that this processor cannot run, is an error and never replaced by something else.
//
//   sets     x86-64: generic, avx2, avx2vnni, avx512vnni, avx512vbmi (and VNNI), on request avx512; aarch64: neon,
//            neon_dotprod; any other processor: generic, which is written in plain loops
//   cost     an indirect call for each product
//   results  integer block sums are equal on every set; sums in float differ in their last digits
//   throws   what the functions of hlwq throw; unsupported_error, from every function here, for a HLWQ_ISA that
//            cannot be had
//
// Example
//   std::cerr << "hlwq: " << hlwq::dispatch::isa() << '\n';
//   hlwq::rotated_input in(w.cols, hlwq::precision::precise, w.format);
//   hlwq::dispatch::rotate_input(x, in, pool);
//   hlwq::dispatch::gemv(w, in, y, pool);
#pragma once

#include "hlwq/codebook.hpp"
#include "hlwq/config.hpp"
#include "hlwq/executor.hpp"
#include "hlwq/float16.hpp"
#include "hlwq/layout.hpp"
#include "hlwq/matrix_view.hpp"
#include "hlwq/packed_matrix.hpp"
#include "hlwq/products.hpp"
#include "hlwq/quantize.hpp"
#include "hlwq/rotated_input.hpp"

#include <cstddef>
#include <span>
#include <string_view>

namespace hlwq::dispatch {

/// The instruction set in use: the last word of HLWQ_ISA or the choice by the processor, made at the first call.
std::string_view isa();
/// The SIMD backend of its kernels: "highway", "xsimd" or "scalar".
std::string_view backend();
/// The instruction sets that were compiled and that this processor runs, the best one first. Never throws: HLWQ_ISA
/// does not matter here.
std::span<const std::string_view> runnable() noexcept;

/// The calling thread, the default of every function here.
executor_ref calling_thread() noexcept;

/// block_dot.hpp: the layout from which the products in use are fastest.
layout_id preferred_layout(const block_format& format);
/// repack.hpp.
block_format repack_in_place(std::span<std::byte> codes, const block_format& format, layout_id to,
                             executor_ref ex = calling_thread());

/// rotation.hpp: every row, or every block of one vector.
void rotate(matrix_view<float> x, std::size_t block, rotation_signs signs = {}, executor_ref ex = calling_thread());
void rotate(std::span<float> x, std::size_t block, rotation_signs signs = {});

/// rotated_input.hpp: a token for each row of x, or a single one.
void rotate_input(matrix_view<const float> x, rotated_input& in, executor_ref ex = calling_thread());
void rotate_input(std::span<const float> x, rotated_input& in, executor_ref ex = calling_thread());

/// gemv.hpp: y has a row for each token of x and a column for each row of w; without a precision in that of x.
void gemv(const packed_matrix_view& w, const rotated_tokens& x, matrix_view<float> y, precision mode,
          executor_ref ex = calling_thread());
void gemv(const packed_matrix_view& w, const rotated_tokens& x, matrix_view<float> y,
          executor_ref ex = calling_thread());
void gemv(const packed_matrix_view& w, const rotated_tokens& x, std::span<float> y, executor_ref ex = calling_thread());

/// gemm.hpp.
void gemm(const packed_matrix_view& w, const rotated_tokens& x, matrix_view<float> y, precision mode,
          executor_ref ex = calling_thread());
void matmul(const packed_matrix_view& w, const rotated_tokens& x, matrix_view<float> y, precision mode,
            executor_ref ex = calling_thread());
void matmul(const packed_matrix_view& w, const rotated_tokens& x, matrix_view<float> y,
            executor_ref ex = calling_thread());
void matmul(std::span<const product> products, executor_ref ex = calling_thread());
void matmul(std::span<const product> products, executor_ref ex, rows_ref finish);

/// quantize.hpp: weights of float, half and bfloat16.
void quantize(matrix_view<const float> w, const packed_matrix_target& out, encoder_id encoder = encoder_id::searched,
              executor_ref ex = calling_thread(), std::string_view name = "matrix");
void quantize(matrix_view<const half> w, const packed_matrix_target& out, encoder_id encoder = encoder_id::searched,
              executor_ref ex = calling_thread(), std::string_view name = "matrix");
void quantize(matrix_view<const bfloat16> w, const packed_matrix_target& out, encoder_id encoder = encoder_id::searched,
              executor_ref ex = calling_thread(), std::string_view name = "matrix");
packed_matrix quantize(matrix_view<const float> w, codebook_view centroids, const block_format& format = {},
                       encoder_id encoder = encoder_id::searched, executor_ref ex = calling_thread(),
                       std::string_view name = "matrix");
packed_matrix quantize(matrix_view<const half> w, codebook_view centroids, const block_format& format = {},
                       encoder_id encoder = encoder_id::searched, executor_ref ex = calling_thread(),
                       std::string_view name = "matrix");
packed_matrix quantize(matrix_view<const bfloat16> w, codebook_view centroids, const block_format& format = {},
                       encoder_id encoder = encoder_id::searched, executor_ref ex = calling_thread(),
                       std::string_view name = "matrix");
void dequantize(const packed_matrix_view& w, matrix_view<float> out, executor_ref ex = calling_thread(),
                std::string_view name = "matrix");
void dequantize(const packed_matrix_view& w, matrix_view<half> out, executor_ref ex = calling_thread(),
                std::string_view name = "matrix");
void dequantize(const packed_matrix_view& w, matrix_view<bfloat16> out, executor_ref ex = calling_thread(),
                std::string_view name = "matrix");

}  // namespace hlwq::dispatch
