// The functions of hlwq/dispatch/dispatch.hpp: check the arguments, then call the kernels of the instruction set that
// was chosen. Compiled by hlwq_add_dispatch for every processor that the program is meant for.
#include "hlwq/dispatch/dispatch.hpp"

#include "hlwq/dispatch/kernels.hpp"
#include "hlwq/dispatch/processor.hpp"

#include <cstdlib>
#include <initializer_list>
#include <vector>

#include "hlwq_dispatch_isas.hpp"  // generated: HLWQ_COMPILED_ISAS

namespace hlwq::dispatch {

#define HLWQ_DECLARE_KERNELS(isa) extern const kernel_table kernels_##isa;
HLWQ_COMPILED_ISAS(HLWQ_DECLARE_KERNELS)
#undef HLWQ_DECLARE_KERNELS

namespace {

#define HLWQ_NAME(isa) std::string_view(#isa),
#define HLWQ_KERNELS(isa) &kernels_##isa,
constexpr std::string_view compiled[] = {HLWQ_COMPILED_ISAS(HLWQ_NAME)};
const kernel_table* const tables[] = {HLWQ_COMPILED_ISAS(HLWQ_KERNELS)};
#undef HLWQ_NAME
#undef HLWQ_KERNELS

const kernel_table& kernels() {
    static const kernel_table& chosen = *tables[choose_isa(compiled, std::getenv("HLWQ_ISA"))];
    return chosen;
}

void run(product_kernel kernel, const char* what, const packed_matrix_view& w, const rotated_tokens& x,
         matrix_view<float> y, precision mode, executor_ref ex) {
    hlwq::detail::check_product(w, x, y, mode, what);
    kernel(w, x, y, mode, ex);
}

template <class T>
void quantize_any(matrix_view<const T> w, const packed_matrix_target& out, encoder_id encoder, executor_ref ex,
                  std::string_view name) {
    hlwq::detail::check_quantize(w, out, name);
    const std::size_t failure = kernels().weights<T>().quantize(w, out, encoder, ex);
    if (failure != hlwq::detail::first_failure::none) {
        hlwq::detail::throw_bad_block(w, out.format, failure, name);
    }
}

template <class T>
packed_matrix quantize_new(matrix_view<const T> w, codebook_view centroids, const block_format& format,
                           encoder_id encoder, executor_ref ex, std::string_view name) {
    packed_matrix result(w.rows, w.cols, format, centroids);
    quantize_any(w, result.target(), encoder, ex, name);
    return result;
}

template <class T>
void dequantize_any(const packed_matrix_view& w, matrix_view<T> out, executor_ref ex, std::string_view name) {
    hlwq::detail::check_dequantize(w, out, name);
    kernels().weights<T>().dequantize(w, out, ex);
}

}  // namespace

std::string_view isa() { return kernels().isa; }
std::string_view backend() { return kernels().backend; }

std::span<const std::string_view> runnable() noexcept {
    static const std::vector<std::string_view> names = [] {
        std::vector<std::string_view> list;
        for (const std::string_view name : compiled)
            if (processor_runs(name)) list.push_back(name);
        return list;
    }();
    return names;
}

executor_ref calling_thread() noexcept {
    static serial_executor self;
    return self;
}

layout_id preferred_layout(const block_format& format) { return kernels().preferred_layout(format); }

block_format repack_in_place(std::span<std::byte> codes, const block_format& format, layout_id to, executor_ref ex) {
    const block_format target = hlwq::detail::check_repack(codes, format, to);
    kernels().repack(codes, format, target, ex);
    return target;
}

void rotate(matrix_view<float> x, std::size_t block, rotation_signs signs, executor_ref ex) {
    hlwq::detail::check_rotate(x.cols, block, "rotate: columns");
    kernels().rotate(x, block, signs, ex);
}
void rotate(std::span<float> x, std::size_t block, rotation_signs signs) {
    hlwq::detail::check_rotate(x.size(), block, "rotate: length");
    kernels().rotate(matrix_view<float>(x.data(), 1, x.size()), block, signs, calling_thread());
}

void rotate_input(matrix_view<const float> x, rotated_input& in, executor_ref ex) {
    hlwq::detail::check_tokens(x, in);
    kernels().rotate_input(x, in, ex);
}
void rotate_input(std::span<const float> x, rotated_input& in, executor_ref ex) {
    rotate_input(matrix_view<const float>(x.data(), 1, x.size()), in, ex);
}

void gemv(const packed_matrix_view& w, const rotated_tokens& x, matrix_view<float> y, precision mode, executor_ref ex) {
    run(kernels().gemv, "gemv", w, x, y, mode, ex);
}
void gemv(const packed_matrix_view& w, const rotated_tokens& x, matrix_view<float> y, executor_ref ex) {
    gemv(w, x, y, x.mode(), ex);
}
void gemv(const packed_matrix_view& w, const rotated_tokens& x, std::span<float> y, executor_ref ex) {
    HLWQ_EXPECTS(y.size() == w.rows, shape_error, "gemv output", w.rows, y.size());
    gemv(w, x, matrix_view<float>(y.data(), 1, y.size()), x.mode(), ex);
}

void gemm(const packed_matrix_view& w, const rotated_tokens& x, matrix_view<float> y, precision mode, executor_ref ex) {
    run(kernels().gemm, "gemm", w, x, y, mode, ex);
}
void matmul(const packed_matrix_view& w, const rotated_tokens& x, matrix_view<float> y, precision mode,
            executor_ref ex) {
    run(kernels().matmul, "matmul", w, x, y, mode, ex);
}
void matmul(const packed_matrix_view& w, const rotated_tokens& x, matrix_view<float> y, executor_ref ex) {
    matmul(w, x, y, x.mode(), ex);
}

void matmul(std::span<const product> products, executor_ref ex) {
    for (const product& p : products) hlwq::detail::check_product(p.w, p.x, p.y, p.mode, "matmul");
    kernels().products(products, ex);
}
void matmul(std::span<const product> products, executor_ref ex, rows_ref finish) {
    hlwq::detail::check_side_by_side(products);
    for (const product& p : products) hlwq::detail::check_product(p.w, p.x, p.y, p.mode, "matmul");
    kernels().products_side_by_side(products, ex, finish);
}

void quantize(matrix_view<const float> w, const packed_matrix_target& out, encoder_id encoder, executor_ref ex,
              std::string_view name) {
    quantize_any(w, out, encoder, ex, name);
}
void quantize(matrix_view<const half> w, const packed_matrix_target& out, encoder_id encoder, executor_ref ex,
              std::string_view name) {
    quantize_any(w, out, encoder, ex, name);
}
void quantize(matrix_view<const bfloat16> w, const packed_matrix_target& out, encoder_id encoder, executor_ref ex,
              std::string_view name) {
    quantize_any(w, out, encoder, ex, name);
}
packed_matrix quantize(matrix_view<const float> w, codebook_view centroids, const block_format& format,
                       encoder_id encoder, executor_ref ex, std::string_view name) {
    return quantize_new(w, centroids, format, encoder, ex, name);
}
packed_matrix quantize(matrix_view<const half> w, codebook_view centroids, const block_format& format,
                       encoder_id encoder, executor_ref ex, std::string_view name) {
    return quantize_new(w, centroids, format, encoder, ex, name);
}
packed_matrix quantize(matrix_view<const bfloat16> w, codebook_view centroids, const block_format& format,
                       encoder_id encoder, executor_ref ex, std::string_view name) {
    return quantize_new(w, centroids, format, encoder, ex, name);
}
void dequantize(const packed_matrix_view& w, matrix_view<float> out, executor_ref ex, std::string_view name) {
    dequantize_any(w, out, ex, name);
}
void dequantize(const packed_matrix_view& w, matrix_view<half> out, executor_ref ex, std::string_view name) {
    dequantize_any(w, out, ex, name);
}
void dequantize(const packed_matrix_view& w, matrix_view<bfloat16> out, executor_ref ex, std::string_view name) {
    dequantize_any(w, out, ex, name);
}

}  // namespace hlwq::dispatch
