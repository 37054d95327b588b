// hlwq/row_panel.hpp — weights of some rows and columns, decoded once for several tokens; what gemv and gemm share
//
// A kernel sees a matrix as `product_matrix`: pointers, counts, and what its codes mean in the precision of the
// product. Products of one token read the codes themselves, block by block. Products of several tokens decode a panel
// first, some rows times 512 columns, into bytes (biased as the backend's dot product wants them) or floats, and then
// work on that, whatever the bits and the layout were; only `decode` knows them.
//
//   reads    the bytes of the view and no other: codes may end where a page ends
#pragma once

#include "hlwq/block_dot.hpp"
#include "hlwq/config.hpp"
#include "hlwq/error.hpp"
#include "hlwq/float16.hpp"
#include "hlwq/layout.hpp"
#include "hlwq/matrix_view.hpp"
#include "hlwq/packed_matrix.hpp"
#include "hlwq/rotated_input.hpp"
#include "hlwq/simd/backend.hpp"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>
#include <utility>

namespace hlwq::inline HLWQ_CODE_NAMESPACE {
namespace detail {

/// How far ahead packed bytes are asked for, beyond the rows that are being read: past what the memory needs to answer,
/// short of what the first-level cache would drop.
inline constexpr std::size_t code_prefetch = 4 * 1024;
/// Columns of a row that are decoded at once; longer blocks are decoded whole.
inline constexpr std::size_t panel_columns = 512;

struct product_matrix;
/// Weights of `blocks` blocks of `count` rows, from `offset` bytes behind each pointer on: those of row r begin at
/// high + r * stride, and in precision precise at low + r * stride as well.
using decode_function = void (*)(const product_matrix& w, const std::uint8_t* const* rows, std::size_t count,
                                 std::size_t offset, std::size_t blocks, std::size_t stride, std::uint8_t* high,
                                 std::uint8_t* low) noexcept;
/// The same in float, of one row.
using decode_exact_function = void (*)(const product_matrix& w, const std::uint8_t* row, std::size_t offset,
                                       std::size_t blocks, float* weights) noexcept;

/// What kernels need of a matrix.
struct product_matrix {
    const std::uint8_t* codes = nullptr;
    const std::uint8_t* codes_end = nullptr;
    const half* norms = nullptr;
    const float* centroids = nullptr;
    unpack_function unpack = nullptr;
    decode_function decode = nullptr;              // null where blocks are shorter than a vector of codes
    decode_exact_function decode_exact = nullptr;  // null where blocks are shorter than a vector of floats
    std::size_t blocks = 0, block = 0, block_bytes = 0, row_bytes = 0;
    byte_centroids weights;              // precisions fast and precise
    biased_planes planes;                // by code; of the planes layout the tables of split codes
    table_fold fold = table_fold::none;  // of the planes layout
};

/// Blocks that a panel holds.
HLWQ_INLINE std::size_t panel_blocks(std::size_t block) noexcept {
    return std::max<std::size_t>(1, panel_columns / block);
}

/// Codes and norms of some rows; the last group repeats its last row.
template <std::size_t Rows>
struct row_group {
    const std::uint8_t* codes[Rows];
    const half* norms[Rows];
    std::size_t count;

    HLWQ_INLINE row_group(const product_matrix& w, std::size_t row, std::size_t end) noexcept
        : count(std::min(Rows, end - row)) {
        for (std::size_t r = 0; r < Rows; ++r) {
            const std::size_t at = row + std::min(r, count - 1);
            codes[r] = w.codes + at * w.row_bytes;
            norms[r] = w.norms + at * w.blocks;
        }
    }
};

/// The first S::lanes of `count` norms, zeros behind the last.
template <class S>
HLWQ_INLINE typename S::f32 load_norms(const half* norms, std::size_t count) noexcept {
    return count >= S::lanes ? S::load_half(norms) : S::load_half_part(norms, count);
}

/// out[i] = norms[i] for i < count, 0 up to the next multiple of S::lanes.
/// promises: out has room for that
template <class S>
HLWQ_INLINE void load_norms(const half* norms, std::size_t count, float* out) noexcept {
    std::size_t i = 0;
    for (; i + S::lanes <= count; i += S::lanes) S::store(out + i, S::load_half(norms + i));
    if (i < count) S::store(out + i, S::load_half_part(norms + i, count - i));
}

/// Asks for packed bytes some way ahead of a kernel that takes rows in groups: as many bytes at each step as the kernel
/// reads, in the order of the memory, so that every line of rows [begin, end) is asked for once.
class prefetcher {
  public:
    /// Asks for the first `rows` rows and `distance` bytes at once.
    HLWQ_INLINE prefetcher(const product_matrix& w, std::size_t begin, std::size_t end, std::size_t rows,
                           std::size_t distance) noexcept
        : at_(w.codes + begin * w.row_bytes), end_(w.codes + end * w.row_bytes) {
        next(std::max(rows * w.row_bytes + distance, least));
    }

    HLWQ_INLINE void next(std::size_t bytes) noexcept {
        if (at_ >= end_) return;
        for (std::size_t i = 0; i < bytes; i += 64) __builtin_prefetch(at_ + i);
        at_ += bytes;
    }

  private:
    static constexpr std::size_t least = 7 * 1024;  // for short rows: what the memory delivers until it answers
    const std::uint8_t *at_, *end_;
};

/// The norms of some rows that follow soon: too little data for the processor to find out by itself in time.
HLWQ_INLINE void prefetch_norms(const product_matrix& w, std::size_t row, std::size_t count) noexcept {
    const auto* at = reinterpret_cast<const char*>(w.norms + row * w.blocks);
    for (std::size_t i = 0; i < count * w.blocks * sizeof(half); i += 64) __builtin_prefetch(at + i);
}

/// Every weight of a block is off by the same amount: the offset of the grid, less the bias of the dot product. What
/// that adds to a block's product is `of_sum` times the sum of its bytes plus `of_low_sum` times that of its low bytes.
template <class S>
struct weight_shift {
    typename S::f32 of_sum, of_low_sum;

    HLWQ_INLINE weight_shift(const byte_centroids& weights, precision mode) noexcept {
        constexpr auto bias = static_cast<float>(S::weight_bias), steps = static_cast<float>(low_steps);
        const float shift = weights.offset - bias;
        of_sum = S::set(mode == precision::precise ? shift - bias / steps : shift);
        of_low_sum = S::set(shift / steps);
    }
    /// For the blocks from `first` on, times their scales.
    template <precision Mode>
    HLWQ_INLINE typename S::f32 of(const rotated_token& x, std::size_t first) const noexcept {
        auto sum = S::mul(S::load(x.sums + first), of_sum);
        if constexpr (Mode == precision::precise) sum = S::fma(S::load(x.low_sums + first), of_low_sum, sum);
        return sum;
    }
};

/// The planes of a token that its precision has; where there are no low bytes, the bytes stand in for them unread.
template <precision Mode>
HLWQ_INLINE const std::int8_t* low_bytes_of(const rotated_token& x) noexcept {
    return Mode == precision::precise ? x.low_bytes : x.bytes;
}

/// Calls `use` with `size` packed bytes from which `Overread` bytes beyond their end can be read: the bytes themselves,
/// or a copy where the codes end before.
/// promises: size at most max_block
template <std::size_t Overread, class Use>
HLWQ_INLINE auto with_margin(const product_matrix& w, const std::uint8_t* packed, std::size_t size, Use use) noexcept {
    if constexpr (Overread != 0) {
        if (static_cast<std::size_t>(w.codes_end - packed) < size + Overread) {
            std::uint8_t copy[max_block + Overread] = {};
            std::memcpy(copy, packed, size);
            return use(copy);
        }
    }
    return use(packed);
}

// ---- decoding

template <class S, int Bits, precision Mode>
HLWQ_INLINE void store_weights(typename S::u8 codes, const plane_codebooks<S, Bits, Mode>& look_up, std::uint8_t* high,
                               std::uint8_t* low) noexcept {
    S::store_u8(high, look_up.high(codes));
    if constexpr (Mode == precision::precise) S::store_u8(low, look_up.low(codes));
}

/// Straight from the wire layout, blocks of whole vectors of codes.
template <class S, int Bits, precision Mode>
void decode_wire(const product_matrix& w, const std::uint8_t* const* rows, std::size_t count, std::size_t offset,
                 std::size_t blocks, std::size_t stride, std::uint8_t* high, std::uint8_t* low) noexcept {
    using reader = wire_reader<S, Bits>;
    constexpr bool loose = byte_codebook<S, Bits>::any_high_bits;
    const plane_codebooks<S, Bits, Mode> look_up(w.planes);
    const std::size_t columns = blocks * w.block;
    for (std::size_t r = 0; r < count; ++r) {
        const auto decode = [=](const std::uint8_t* packed) noexcept {
            for (std::size_t i = 0; i < columns; i += S::bytes, packed += reader::step) {
                S::prefetch(packed + 2 * code_prefetch);
                const auto codes = loose ? reader::read_loose(packed) : reader::read(packed);
                store_weights<S, Bits, Mode>(codes, look_up, high + r * stride + i, low + r * stride + i);
            }
        };
        with_margin<reader::overread>(w, rows[r] + offset, blocks * w.block_bytes, decode);
    }
}

template <class S, int Bits, precision Mode, table_fold Fold, std::size_t... V>
HLWQ_INLINE void store_unit(const std::uint8_t* unit, const split_codebooks<S, Bits, Mode, Fold>& look_up,
                            std::uint8_t* high, std::uint8_t* low, std::index_sequence<V...>) noexcept {
    const auto store = [&](const split_codes<S, Bits>& codes, std::size_t at) noexcept {
        S::store_u8(high + at, look_up.high(codes));
        if constexpr (Mode == precision::precise) S::store_u8(low + at, look_up.low(codes));
    };
    (store(plane_reader<S, Bits>::template read<V>(unit), V * S::bytes), ...);
}

/// Straight from the planes layout.
template <class S, int Bits, precision Mode, table_fold Fold>
void decode_planes(const product_matrix& w, const std::uint8_t* const* rows, std::size_t count, std::size_t offset,
                   std::size_t blocks, std::size_t stride, std::uint8_t* high, std::uint8_t* low) noexcept {
    using layout = planes<Bits>;
    const split_codebooks<S, Bits, Mode, Fold> look_up(w.planes);
    const std::size_t columns = blocks * w.block;
    for (std::size_t r = 0; r < count; ++r) {
        const std::uint8_t* unit = rows[r] + offset;
        for (std::size_t i = 0; i < columns; i += layout::unit, unit += layout::unit_bytes) {
            for (std::size_t line = 0; line < layout::unit_bytes; line += 64)
                S::prefetch(unit + 2 * code_prefetch + line);
            store_unit<S, Bits, Mode, Fold>(unit, look_up, high + r * stride + i, low + r * stride + i,
                                            std::make_index_sequence<plane_reader<S, Bits>::vectors>{});
        }
    }
}

/// Any layout, unpacked first; blocks of whole vectors of codes.
template <class S, int Bits, precision Mode>
void decode_unpacked(const product_matrix& w, const std::uint8_t* const* rows, std::size_t count, std::size_t offset,
                     std::size_t blocks, std::size_t stride, std::uint8_t* high, std::uint8_t* low) noexcept {
    const plane_codebooks<S, Bits, Mode> look_up(w.planes);
    for (std::size_t r = 0; r < count; ++r) {
        for (std::size_t b = 0; b < blocks; ++b) {
            std::uint8_t codes[max_block];
            w.unpack(rows[r] + offset + b * w.block_bytes, codes, w.block);
            for (std::size_t i = 0; i < w.block; i += S::bytes) {
                const std::size_t at = r * stride + b * w.block + i;
                store_weights<S, Bits, Mode>(S::load_u8(codes + i), look_up, high + at, low + at);
            }
        }
    }
}

/// Any layout; blocks of whole vectors of floats.
template <class S, int Bits>
void decode_floats(const product_matrix& w, const std::uint8_t* row, std::size_t offset, std::size_t blocks,
                   float* weights) noexcept {
    constexpr std::size_t levels = std::size_t{1} << Bits;
    for (std::size_t b = 0; b < blocks; ++b, weights += w.block) {
        std::uint8_t codes[max_block];
        w.unpack(row + offset + b * w.block_bytes, codes, w.block);
        for (std::size_t i = 0; i < w.block; i += S::lanes) {
            S::store(weights + i, S::template lookup_f32<levels>(w.centroids, S::widen_u8(codes + i)));
        }
    }
}

template <class S, class Layout>
void choose_decoders(product_matrix& m, precision mode) noexcept {
    constexpr int bits = Layout::bits;
    if constexpr (has_vectors<S>) {
        if (mode == precision::exact && m.block >= S::lanes) m.decode_exact = decode_floats<S, bits>;
        if (mode == precision::exact || m.block < S::bytes) return;
        const bool fast = mode == precision::fast;
        if constexpr (Layout::id == layout_id::wire) {
            m.decode = fast ? decode_wire<S, bits, precision::fast> : decode_wire<S, bits, precision::precise>;
        } else if constexpr (Layout::id == layout_id::planes) {
            with_fold<bits>(m.fold, [&]<table_fold Fold>() {
                m.decode = fast ? decode_planes<S, bits, precision::fast, Fold>
                                : decode_planes<S, bits, precision::precise, Fold>;
            });
        } else {
            m.decode = fast ? decode_unpacked<S, bits, precision::fast> : decode_unpacked<S, bits, precision::precise>;
        }
    }
}

/// What codes mean in a precision. A thread remembers the last codebook of each width in its byte form, because
/// products are many and codebooks few.
template <class S>
void set_codebook(product_matrix& m, const packed_matrix_view& w, precision mode) noexcept {
    m.centroids = w.centroids.data();
    if (mode == precision::exact) return;
    struct memory {
        float centroids[256];
        byte_centroids weights;
        biased_planes planes;
        split_tables split;
    };
    static thread_local memory known[max_bits + 1];
    memory& last = known[w.format.bits];
    if (last.weights.step == 0.0f || !std::equal(w.centroids.begin(), w.centroids.end(), last.centroids)) {
        std::copy(w.centroids.begin(), w.centroids.end(), last.centroids);
        last.weights = make_byte_centroids(w.centroids);
        last.planes = biased_planes(last.weights, w.format.bits, S::weight_bias);
        last.split = split_tables(last.planes, w.format.bits);
    }
    const bool split = w.format.layout == layout_id::planes;
    m.weights = last.weights;
    m.planes = split ? last.split.planes : last.planes;
    m.fold = last.split.fold;
}

/// Throws if w, x, y and the precision do not go together; `what` names the product in the message.
inline void check_product(const packed_matrix_view& w, const rotated_tokens& x, const matrix_view<float>& y,
                          precision mode, const char* what) {
    if constexpr (checks) check(w, std::string(what) + " weights");
    HLWQ_EXPECTS(x.cols() == w.cols, shape_error, std::string(what) + " input: columns", w.cols, x.cols());
    HLWQ_EXPECTS(x.block() == w.format.block, shape_error, std::string(what) + " input: block size", w.format.block,
                 x.block());
    HLWQ_EXPECTS(x.signs() == w.format.signs, shape_error, std::string(what) + " input: column signs",
                 "those of the weights",
                 x.signs().enabled ? "signs of seed " + to_text(x.signs().seed) : std::string("none"));
    HLWQ_EXPECTS(mode <= x.mode(), shape_error, std::string(what) + " input: precision", to_string(mode),
                 to_string(x.mode()));
    HLWQ_EXPECTS(y.cols == w.rows, shape_error, std::string(what) + " output: columns", w.rows, y.cols);
    HLWQ_EXPECTS(y.rows == x.tokens(), shape_error, std::string(what) + " output: tokens", x.tokens(), y.rows);
}

/// The matrix as a product in some precision sees it. visit.operator()<Layout>(m) may add to it what depends on the
/// layout. Throws as `check_product`.
template <class S, class Visit>
product_matrix make_product_matrix(const packed_matrix_view& w, const rotated_tokens& x, const matrix_view<float>& y,
                                   precision mode, const char* what, Visit visit) {
    check_product(w, x, y, mode, what);
    product_matrix m;
    m.codes = reinterpret_cast<const std::uint8_t*>(w.codes.data());
    m.codes_end = m.codes + w.codes.size();
    m.norms = w.norms.data();
    m.block = w.format.block;
    m.blocks = w.format.blocks_per_row(w.cols);
    set_codebook<S>(m, w, mode);
    with_format(w.format, [&]<class Layout>() {
        m.unpack = unpack_any<S, Layout>;
        m.block_bytes = Layout::block_bytes(w.format.block);
        choose_decoders<S, Layout>(m, mode);
        visit.template operator()<Layout>(m);
    });
    m.row_bytes = m.blocks * m.block_bytes;
    return m;
}

}  // namespace detail
}  // namespace hlwq::inline HLWQ_CODE_NAMESPACE
