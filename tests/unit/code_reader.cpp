#include "hlwq/code_reader.hpp"

#include "backends.hpp"
#include "guard_page.hpp"
#include "reference.hpp"
#include "tally.hpp"

#include <doctest/doctest.h>

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>
#include <utility>
#include <vector>

namespace {

/// Calls f.operator()<Bits>() for 1 to 8.
template <class F>
void each_width(F f) {
    [&]<int... Less>(std::integer_sequence<int, Less...>) { (f.template operator()<Less + 1>(), ...); }
    (std::make_integer_sequence<int, 8>{});
}

std::vector<std::uint8_t> random_codes(std::size_t count, int bits, reference::random& source) {
    std::vector<std::uint8_t> codes(count);
    for (auto& c : codes) c = static_cast<std::uint8_t>(source.below(std::size_t{1} << bits));
    return codes;
}

/// The stored codes of vector V and those behind it, put together from their pieces.
template <class S, int Bits, std::size_t V = 0>
void check_split(const std::uint8_t* unit, const std::vector<std::uint8_t>& codes, tally& t) {
    using reader = hlwq::plane_reader<S, Bits>;
    const auto split = reader::template read<V>(unit);
    std::uint8_t index[S::bytes], mask[S::bytes], expected[S::bytes];
    S::store_u8(index, split.index);
    for (std::size_t i = 0; i < S::bytes; ++i) expected[i] = hlwq::planes<Bits>::stored(codes[V * S::bytes + i]) & 15;
    t.same(index, expected, S::bytes, std::to_string(Bits) + " bits, index");
    for (std::size_t k = 0; k < split.masks; ++k) {
        S::store_u8(mask, split.mask[k]);
        for (std::size_t i = 0; i < S::bytes; ++i) {
            expected[i] = ((hlwq::planes<Bits>::stored(codes[V * S::bytes + i]) >> (4 + k)) & 1) != 0 ? 0xff : 0;
        }
        t.same(mask, expected, S::bytes, std::to_string(Bits) + " bits, mask");
    }
    if constexpr (V + 1 < reader::vectors) check_split<S, Bits, V + 1>(unit, codes, t);
}

}  // namespace

TEST_CASE_TEMPLATE("the wire reader finds every code, up to the last readable byte", S, HLWQ_TEST_BACKENDS) {
    reference::random source(3);
    tally codes_read;
    each_width([&]<int Bits>() {
        using reader = hlwq::wire_reader<S, Bits>;
        guard_page page;
        std::uint8_t* const packed = page.end() - reader::step - reader::overread;
        for (int round = 0; round < 50; ++round) {
            const auto codes = random_codes(S::bytes, Bits, source);
            std::memset(packed, round % 2 == 0 ? 0xff : 0, reader::step + reader::overread);
            hlwq::pack_block<hlwq::wire<Bits>>(codes.data(), packed, S::bytes);
            std::uint8_t found[S::bytes];
            S::store_u8(found, reader::read(packed));
            codes_read.same(found, codes.data(), S::bytes, std::to_string(Bits) + " bits");
            S::store_u8(found, reader::read_loose(packed));
            for (auto& c : found) c = static_cast<std::uint8_t>(c & ((1u << Bits) - 1u));
            codes_read.same(found, codes.data(), S::bytes, std::to_string(Bits) + " bits, loose");
        }
    });
    codes_read.finish(8 * 50 * 2 * S::bytes);
}

TEST_CASE_TEMPLATE("the plane reader finds every code and piece, and reads its unit only", S, HLWQ_TEST_BACKENDS) {
    reference::random source(4);
    tally codes_read;
    each_width([&]<int Bits>() {
        using layout = hlwq::planes<Bits>;
        guard_page page;
        std::uint8_t* const unit = page.end() - layout::unit_bytes;
        for (int round = 0; round < 50; ++round) {
            const auto codes = random_codes(layout::unit, Bits, source);
            hlwq::pack_block<layout>(codes.data(), unit, layout::unit);
            std::uint8_t found[layout::unit];
            hlwq::plane_reader<S, Bits>::store_codes(unit, found);
            codes_read.same(found, codes.data(), layout::unit, std::to_string(Bits) + " bits");
            check_split<S, Bits>(unit, codes, codes_read);
        }
    });
    codes_read.finish(8 * 50 * 2 * 128);
}
