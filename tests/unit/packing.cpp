#include "hlwq/packing.hpp"

#include "reference.hpp"

#include <doctest/doctest.h>

#include <cstring>
#include <string>
#include <vector>

namespace {

std::vector<std::uint8_t> random_codes(std::size_t count, int bits, std::uint64_t seed) {
    reference::random source(seed);
    std::vector<std::uint8_t> codes(count);
    for (auto& c : codes) c = static_cast<std::uint8_t>(source.below(std::size_t{1} << bits));
    return codes;
}

/// Packs one bit after the other, as the descriptor says.
template <class Layout>
std::vector<std::uint8_t> packed_by_descriptor(const std::vector<std::uint8_t>& codes, std::size_t block) {
    const std::size_t size = Layout::block_bytes(block);
    std::vector<std::uint8_t> out(codes.size() / block * size, 0);
    for (std::size_t i = 0; i < codes.size(); ++i) {
        for (int k = 0; k < Layout::bits; ++k) {
            const auto at = Layout::position(block, i % block, k);
            const unsigned bit = (static_cast<unsigned>(Layout::stored(codes[i])) >> k) & 1u;
            auto& byte = out[i / block * size + at.byte];
            byte = static_cast<std::uint8_t>(byte | (bit << at.bit));
        }
    }
    return out;
}

/// Calls f.operator()<Layout>() for every layout of every width.
template <class F, class... Layout>
void each_of(hlwq::layout_list<Layout...>, F& f) {
    const auto call = [&]<class L>() {
        if constexpr (L::exists) f.template operator()<L>();
    };
    (call.template operator()<Layout>(), ...);
}
template <class F>
void for_each_layout(F f) {
    each_of(hlwq::layouts_of<1>{}, f);
    each_of(hlwq::layouts_of<2>{}, f);
    each_of(hlwq::layouts_of<3>{}, f);
    each_of(hlwq::layouts_of<4>{}, f);
    each_of(hlwq::layouts_of<5>{}, f);
    each_of(hlwq::layouts_of<6>{}, f);
    each_of(hlwq::layouts_of<7>{}, f);
    each_of(hlwq::layouts_of<8>{}, f);
}

template <class Layout>
std::vector<std::uint8_t> packed(std::initializer_list<std::uint8_t> codes) {
    std::vector<std::uint8_t> out(Layout::block_bytes(codes.size()));
    const std::vector<std::uint8_t> in(codes);
    hlwq::pack<Layout>(in, std::as_writable_bytes(std::span(out)), in.size());
    return out;
}

using bytes = std::vector<std::uint8_t>;

}  // namespace

TEST_CASE("published test vectors") {
    CHECK(packed<hlwq::lsb<5>>({1, 2, 3, 4, 5, 6, 7, 8}) == bytes{0x41, 0x0c, 0x52, 0xcc, 0x41});
    CHECK(packed<hlwq::lsb<5>>({31, 0, 21, 10, 17, 4, 30, 15}) == bytes{0x1f, 0x54, 0x15, 0x89, 0x7f});
    CHECK(packed<hlwq::wire<5>>({1, 2, 3, 4, 5, 6, 7, 8}) == bytes{0x08, 0x86, 0x42, 0x98, 0xe8});
    CHECK(packed<hlwq::wire<5>>({31, 0, 21, 10, 17, 4, 30, 15}) == bytes{0xf8, 0x2a, 0xa8, 0x93, 0xcf});
    CHECK(packed<hlwq::wire<3>>({1, 2, 3, 4, 5, 6, 7, 0}) == bytes{0x29, 0xcb, 0xb8});
    CHECK(packed<hlwq::wire<2>>({0, 1, 2, 3, 0, 0, 0, 0}) == bytes{0x1b, 0x00});
    CHECK(packed<hlwq::wire<4>>({1, 15, 0, 0, 0, 0, 0, 0}) == bytes{0x1f, 0, 0, 0});
    CHECK(packed<hlwq::wire<6>>({1, 2, 3, 4, 0, 0, 0, 0}) == bytes{0x04, 0x20, 0xc4, 0, 0, 0});
    CHECK(packed<hlwq::wire<8>>({1, 2, 3, 4, 5, 6, 7, 255}) == bytes{1, 2, 3, 4, 5, 6, 7, 255});
}

TEST_CASE("CompressedTensors words are the lsb order of offset codes") {
    // Values -8 -7 -1 0 1 2 6 7, stored with 8 added, fill the int32 0xFEA98710.
    CHECK(packed<hlwq::lsb<4>>({0, 1, 7, 8, 9, 10, 14, 15}) == bytes{0x10, 0x87, 0xa9, 0xfe});
}

TEST_CASE("half block: first half low, second half high") {
    std::vector<std::uint8_t> codes(128, 3);
    for (std::size_t i = 64; i < 128; ++i) codes[i] = 12;
    std::vector<std::byte> out(64);
    hlwq::pack<hlwq::half_block<4>>(codes, out, 128);
    for (const auto b : out) CHECK(b == std::byte{0xc3});
}

TEST_CASE("planes of 5 bits lie where the kernels expect them") {
    // One positive code of magnitude 9 at position 70: nibble plane byte 32 + 6, low half; no sign bit.
    std::vector<std::uint8_t> codes(128, 16);
    codes[70] = 25;
    codes[3] = 15 - 2;  // negative, magnitude 2
    std::vector<std::uint8_t> out(80);
    hlwq::pack<hlwq::planes<5>>(codes, std::as_writable_bytes(std::span(out)), 128);
    CHECK(out[38] == 0x09);
    CHECK(out[3] == 0x02);
    CHECK(out[64 + 3] == 0x01);
    CHECK(out[64 + 6] == 0x00);
}

TEST_CASE("every layout agrees with its descriptor at every position") {
    for_each_layout([]<class Layout>() {
        for (const std::size_t block : {std::size_t{8}, std::size_t{32}, std::size_t{128}, std::size_t{256}}) {
            if (!Layout::allows(block)) continue;
            CAPTURE(Layout::name);
            CAPTURE(Layout::bits);
            CAPTURE(block);
            const auto codes = random_codes(3 * block, Layout::bits, block + static_cast<std::size_t>(Layout::bits));
            std::vector<std::uint8_t> out(3 * Layout::block_bytes(block), 0xee);
            hlwq::pack<Layout>(codes, std::as_writable_bytes(std::span(out)), block);
            CHECK(out == packed_by_descriptor<Layout>(codes, block));
            std::vector<std::uint8_t> back(codes.size(), 0xee);
            hlwq::unpack<Layout>(std::as_bytes(std::span(out)), back, block);
            CHECK(back == codes);

            std::vector<std::uint8_t> slow(Layout::block_bytes(block)), slow_back(block);
            hlwq::detail::pack_bits<Layout>(codes.data(), slow.data(), block);
            CHECK(std::memcmp(slow.data(), out.data(), slow.size()) == 0);
            hlwq::detail::unpack_bits<Layout>(slow.data(), slow_back.data(), block);
            CHECK(std::memcmp(slow_back.data(), codes.data(), block) == 0);
        }
    });
}

TEST_CASE("positions of a layout are distinct and inside the block") {
    for_each_layout([]<class Layout>() {
        const std::size_t block = 128;
        std::vector<bool> taken(Layout::block_bytes(block) * 8, false);
        for (std::size_t i = 0; i < block; ++i) {
            for (int k = 0; k < Layout::bits; ++k) {
                const auto at = Layout::position(block, i, k);
                REQUIRE(at.byte < Layout::block_bytes(block));
                REQUIRE(at.bit >= 0);
                REQUIRE(at.bit < 8);
                const std::size_t slot = at.byte * 8 + static_cast<std::size_t>(at.bit);
                CHECK_FALSE(taken[slot]);
                taken[slot] = true;
            }
        }
        for (int code = 0; code < (1 << Layout::bits); ++code) {
            const auto c = static_cast<std::uint8_t>(code);
            CHECK(Layout::code(Layout::stored(c)) == c);
            CHECK(Layout::stored(c) < (1 << Layout::bits));
        }
    });
}

TEST_CASE("all byte values survive at 8 bits, all pairs of neighbours at 5") {
    std::vector<std::uint8_t> all(256);
    for (std::size_t i = 0; i < 256; ++i) all[i] = static_cast<std::uint8_t>(i);
    std::vector<std::byte> out(256);
    std::vector<std::uint8_t> back(256);
    hlwq::pack<hlwq::planes<8>>(all, out, 128);
    hlwq::unpack<hlwq::planes<8>>(out, back, 128);
    CHECK(back == all);
    for (std::size_t a = 0; a < 32; ++a) {
        for (std::size_t b = 0; b < 32; ++b) {
            for (std::size_t at = 0; at < 7; ++at) {
                std::vector<std::uint8_t> codes(8, 0), restored(8);
                codes[at] = static_cast<std::uint8_t>(a);
                codes[at + 1] = static_cast<std::uint8_t>(b);
                std::vector<std::byte> five(5);
                hlwq::pack<hlwq::wire<5>>(codes, five, 8);
                hlwq::unpack<hlwq::wire<5>>(five, restored, 8);
                REQUIRE(restored == codes);
            }
        }
    }
}

TEST_CASE("repacking in place goes to planes and back") {
    const auto codes = random_codes(1024, 5, 7);
    std::vector<std::byte> wire(640);
    hlwq::pack<hlwq::wire<5>>(codes, wire, 128);
    auto memory = wire;
    hlwq::repack<hlwq::wire<5>, hlwq::planes<5>>(memory, memory, 128);
    std::vector<std::uint8_t> restored(1024);
    hlwq::unpack<hlwq::planes<5>>(memory, restored, 128);
    CHECK(restored == codes);
    hlwq::repack<hlwq::planes<5>, hlwq::wire<5>>(memory, memory, 128);
    CHECK(memory == wire);
}

TEST_CASE("wrong sizes are refused with expected and found") {
    std::vector<std::uint8_t> codes(128);
    std::vector<std::byte> out(79);
    CHECK_THROWS_WITH_AS(hlwq::pack<hlwq::wire<5>>(codes, out, 128), "pack: packed bytes: expected 80, found 79",
                         hlwq::shape_error);
    std::vector<std::byte> right(80);
    CHECK_THROWS_AS(hlwq::pack<hlwq::planes<5>>(codes, right, 64), hlwq::shape_error);
    CHECK_THROWS_AS(hlwq::pack<hlwq::wire<5>>(codes, right, 0), hlwq::shape_error);
    CHECK_THROWS_AS(hlwq::unpack<hlwq::wire<5>>(right, std::span(codes).first(127), 128), hlwq::shape_error);
}

TEST_CASE("the run-time door reaches every layout and no other") {
    int visited = 0;
    for (int bits = 1; bits <= 8; ++bits) {
        for (int id = 0; id < 5; ++id) {
            const auto layout = static_cast<hlwq::layout_id>(id);
            if (layout == hlwq::layout_id::half_block && bits > 4) {
                CHECK_THROWS_AS(hlwq::with_layout(layout, bits, []<class L>() {}), hlwq::unsupported_error);
                continue;
            }
            hlwq::with_layout(layout, bits, [&]<class L>() {
                CHECK(L::id == layout);
                CHECK(L::bits == bits);
                ++visited;
            });
        }
    }
    CHECK(visited == 36);
    CHECK_THROWS_AS(hlwq::with_layout(static_cast<hlwq::layout_id>(77), 5, []<class L>() {}), hlwq::unsupported_error);
    CHECK_THROWS_AS(hlwq::with_layout(hlwq::layout_id::wire, 9, []<class L>() {}), hlwq::unsupported_error);
    CHECK(hlwq::layout_name(hlwq::layout_id::half_block) == "half_block");
}
