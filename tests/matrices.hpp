// tests/matrices.hpp — random packed matrices with their codes beside them, and products for the tests of kernels
#pragma once

#include "hlwq/gemv.hpp"

#include "reference.hpp"

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <vector>

/// Random codes and norms, unpacked beside the packed matrix.
struct matrix {
    hlwq::packed_matrix packed;
    std::vector<std::uint8_t> codes;

    matrix(std::size_t rows, std::size_t cols, const hlwq::block_format& format, std::uint64_t seed = 1)
        : packed(rows, cols, format, hlwq::codebook_table(hlwq::codebook_id::converged, format.bits)),
          codes(rows * format.padded_cols(cols)) {
        reference::random source(seed);
        for (auto& c : codes) c = static_cast<std::uint8_t>(source.below(std::size_t{1} << format.bits));
        const auto target = packed.target();
        for (auto& n : target.norms) n = hlwq::half(static_cast<float>(0.5 + source.uniform()));
        hlwq::with_format(format, [&]<class Layout>() { hlwq::pack<Layout>(codes, target.codes, format.block); });
    }
    hlwq::packed_matrix_view view() const { return packed.view(); }
};

inline hlwq::block_format format_of(int bits, hlwq::layout_id layout, std::size_t block,
                                    hlwq::rotation_signs signs = {}) {
    return {bits, layout, block, signs};
}

inline bool same_bits(std::span<const float> a, std::span<const float> b) {
    return a.size() == b.size() && (a.empty() || std::memcmp(a.data(), b.data(), a.size_bytes()) == 0);
}
