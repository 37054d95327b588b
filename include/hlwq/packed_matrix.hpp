// hlwq/packed_matrix.hpp — a quantized matrix: packed codes, norms, centroids, and the format that says how they lie
//
//   codes      rows x blocks_per_row blocks, each in the format's layout
//   norms      rows x blocks_per_row halves: the L2 norm of each block
//   centroids  2^bits floats for N(0,1) values, ascending
//
//   w[row][col] ~ norm / sqrt(block) * (H centroids[codes])[col]        (formats 1.1), times sign[col] with signs
//
// `packed_matrix_view` is all that a kernel needs: trivially copyable, no instruction set, memory of somebody else (a
// mapped file, an expert cache, a device). `packed_matrix` owns the same. Columns are counted as the model knows
// them; a row is padded to whole blocks inside the codes.
//
//   throws   shape_error, format_error, unsupported_error from `check`
//
// Example
//   with_format(w.format, [&]<class Layout>() { kernel<Layout>(w, ...); });
#pragma once

#include "hlwq/codebook.hpp"
#include "hlwq/config.hpp"
#include "hlwq/error.hpp"
#include "hlwq/float16.hpp"
#include "hlwq/layout.hpp"

#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <memory>
#include <new>
#include <span>
#include <string>
#include <string_view>
#include <utility>

namespace hlwq {

/// Run-time description of how a matrix is packed.
struct block_format {
    int bits = 5;
    layout_id layout = layout_id::wire;
    /// Weights that share a norm and a rotation: a power of two from 8 to 4096.
    std::size_t block = 128;
    rotation_signs signs;

    constexpr std::size_t blocks_per_row(std::size_t cols) const noexcept {
        return cols / block + (cols % block != 0 ? 1 : 0);
    }
    /// Columns with the zeros that fill the last block.
    constexpr std::size_t padded_cols(std::size_t cols) const noexcept { return blocks_per_row(cols) * block; }
    /// Bytes of one packed block; throws unsupported_error if the layout is not defined for these bits.
    HLWQ_INLINE constexpr std::size_t block_bytes() const {
        std::size_t size = 0;
        with_layout(layout, bits, [&]<class Layout>() { size = Layout::block_bytes(block); });
        return size;
    }
    HLWQ_INLINE constexpr std::size_t row_bytes(std::size_t cols) const { return blocks_per_row(cols) * block_bytes(); }
    HLWQ_INLINE constexpr std::size_t code_bytes(std::size_t rows, std::size_t cols) const {
        return rows * row_bytes(cols);
    }
    constexpr std::size_t norm_count(std::size_t rows, std::size_t cols) const noexcept {
        return rows * blocks_per_row(cols);
    }
    friend constexpr bool operator==(const block_format&, const block_format&) = default;
};

/// A quantized matrix in memory of somebody else.
struct packed_matrix_view {
    std::span<const std::byte> codes;
    std::span<const half> norms;
    codebook_view centroids;
    std::size_t rows = 0;
    std::size_t cols = 0;
    block_format format;
};

/// The same, to be written: what `quantize` fills.
struct packed_matrix_target {
    std::span<std::byte> codes;
    std::span<half> norms;
    codebook_view centroids;
    std::size_t rows = 0;
    std::size_t cols = 0;
    block_format format;

    constexpr operator packed_matrix_view() const noexcept { return {codes, norms, centroids, rows, cols, format}; }
};

inline namespace HLWQ_CODE_NAMESPACE {

/// Calls `f.operator()<Layout>()` with the layout descriptor of `format`.
template <class F>
constexpr void with_format(const block_format& format, F&& f) {
    with_layout(format.layout, format.bits, f);
}

/// Throws unless the format is one that exists: bits 1..8, block a power of two from 8 to 4096 that the layout allows.
inline void check(const block_format& format, std::string_view what) {
    HLWQ_EXPECTS(format.bits >= min_bits && format.bits <= max_bits, unsupported_error, std::string(what) + ": bits",
                 "1 to 8", format.bits);
    HLWQ_EXPECTS(std::has_single_bit(format.block) && format.block >= min_block && format.block <= max_block,
                 unsupported_error, std::string(what) + ": block size", "a power of two from 8 to 4096", format.block);
    with_format(format, [&]<class Layout>() {
        HLWQ_EXPECTS(Layout::allows(format.block), unsupported_error,
                     std::string(what) + ": block size in the " + std::string(Layout::name) + " layout",
                     "one that the layout allows", format.block);
    });
}

/// Throws unless codes, norms and centroids have the sizes that rows, columns and format ask for. `what` names the
/// matrix in the message.
inline void check(const packed_matrix_view& w, std::string_view what) {
    check(w.format, what);
    constexpr std::size_t limit = std::numeric_limits<std::size_t>::max() / (2 * max_block);
    HLWQ_EXPECTS(w.cols == 0 || w.rows <= limit / w.cols, shape_error, std::string(what) + ": rows x columns",
                 "a product below 2^51", w.rows);
    const std::size_t code_bytes = w.format.code_bytes(w.rows, w.cols);
    HLWQ_EXPECTS(w.codes.size() == code_bytes, shape_error, std::string(what) + ": packed bytes", code_bytes,
                 w.codes.size());
    const std::size_t norms = w.format.norm_count(w.rows, w.cols);
    HLWQ_EXPECTS(w.norms.size() == norms, shape_error, std::string(what) + ": norms", norms, w.norms.size());
    const std::size_t levels = std::size_t{1} << w.format.bits;
    HLWQ_EXPECTS(w.centroids.size() == levels, shape_error, std::string(what) + ": centroids", levels,
                 w.centroids.size());
}

}  // namespace HLWQ_CODE_NAMESPACE

/// Frees memory of `aligned_zeros`.
struct aligned_delete {
    HLWQ_INLINE void operator()(void* p) const noexcept { ::operator delete (p, std::align_val_t{64}); }
};

/// `size` bytes of zeros, aligned to 64.
HLWQ_INLINE std::unique_ptr<void, aligned_delete> aligned_zeros(std::size_t size) {
    void* p = ::operator new (size == 0 ? 1 : size, std::align_val_t{64});
    std::memset(p, 0, size);
    return std::unique_ptr<void, aligned_delete>(p);
}

/// A quantized matrix that owns its memory: 64-byte aligned, codes readable 64 bytes past their end. Data without an
/// instruction set: it may cross from one translation unit to another whatever flags each was compiled with, which is
/// why its members are always inlined.
class packed_matrix {
  public:
    HLWQ_INLINE packed_matrix() noexcept {}

    /// Room for a matrix of that shape, all codes and norms zero. The centroids are copied.
    HLWQ_INLINE packed_matrix(std::size_t rows, std::size_t cols, const block_format& format, codebook_view centroids)
        : rows_(rows), cols_(cols), format_(format) {
        check(format, "packed_matrix");
        const std::size_t levels = std::size_t{1} << format.bits;
        HLWQ_EXPECTS(centroids.size() == levels, shape_error, "packed_matrix: centroids", levels, centroids.size());
        HLWQ_EXPECTS(cols == 0 || rows <= std::numeric_limits<std::size_t>::max() / (2 * max_block) / cols, shape_error,
                     "packed_matrix: rows x columns", "a product below 2^51", rows);
        const std::size_t norms = format.norm_count(rows, cols);
        memory_ = aligned_zeros(norms_offset() + norms * sizeof(half));
        std::memcpy(centroid_data(), centroids.data(), levels * sizeof(float));
    }

    HLWQ_INLINE packed_matrix(const packed_matrix& other)
        : packed_matrix(other.rows_, other.cols_, other.format_, other.view().centroids) {
        const packed_matrix_view source = other.view();
        const packed_matrix_target copy = target();
        std::memcpy(copy.codes.data(), source.codes.data(), source.codes.size());
        std::memcpy(copy.norms.data(), source.norms.data(), source.norms.size_bytes());
    }
    HLWQ_INLINE packed_matrix(packed_matrix&& other) noexcept
        : memory_(std::move(other.memory_)), rows_(other.rows_), cols_(other.cols_), format_(other.format_) {}
    HLWQ_INLINE packed_matrix& operator=(packed_matrix other) noexcept {
        memory_ = std::move(other.memory_);
        rows_ = other.rows_;
        cols_ = other.cols_;
        format_ = other.format_;
        return *this;
    }
    HLWQ_INLINE ~packed_matrix() {}

    HLWQ_INLINE std::size_t rows() const noexcept { return rows_; }
    HLWQ_INLINE std::size_t cols() const noexcept { return cols_; }
    HLWQ_INLINE const block_format& format() const noexcept { return format_; }

    HLWQ_INLINE packed_matrix_view view() const noexcept { return const_cast<packed_matrix*>(this)->target(); }
    HLWQ_INLINE packed_matrix_target target() noexcept {
        if (!memory_) return {};
        return {{static_cast<std::byte*>(memory_.get()), format_.code_bytes(rows_, cols_)},
                {norm_data(), format_.norm_count(rows_, cols_)},
                {centroid_data(), std::size_t{1} << format_.bits},
                rows_,
                cols_,
                format_};
    }

  private:
    // Codes first, 64 readable bytes behind them, then centroids, then norms.
    HLWQ_INLINE std::size_t norms_offset() const { return centroids_offset() + (sizeof(float) << format_.bits); }
    HLWQ_INLINE std::size_t centroids_offset() const { return (format_.code_bytes(rows_, cols_) + 127) / 64 * 64; }
    HLWQ_INLINE half* norm_data() {
        return reinterpret_cast<half*>(static_cast<std::byte*>(memory_.get()) + norms_offset());
    }
    HLWQ_INLINE float* centroid_data() {
        return reinterpret_cast<float*>(static_cast<std::byte*>(memory_.get()) + centroids_offset());
    }

    std::unique_ptr<void, aligned_delete> memory_;
    std::size_t rows_ = 0;
    std::size_t cols_ = 0;
    block_format format_;
};

}  // namespace hlwq
