#include "hlwq/repack.hpp"

#include "backends.hpp"
#include "guard_page.hpp"
#include "hlwq/thread_pool.hpp"
#include "reference.hpp"

#include <doctest/doctest.h>

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <vector>

namespace {

using hlwq::layout_id;

/// Codes of some blocks in a layout, by the packers of single blocks.
std::vector<std::uint8_t> packed(const std::vector<std::uint8_t>& codes, const hlwq::block_format& format) {
    std::vector<std::uint8_t> out(codes.size() / format.block * format.block_bytes());
    hlwq::with_format(format, [&]<class Layout>() {
        hlwq::pack<Layout>(codes, std::as_writable_bytes(std::span(out)), format.block);
    });
    return out;
}

}  // namespace

TEST_CASE_TEMPLATE("repacked codes are those that were packed so, and come back; nothing beyond is touched", S,
                   HLWQ_TEST_BACKENDS) {
    reference::random source(5);
    hlwq::thread_pool pool(3);
    const layout_id same_size[] = {layout_id::wire, layout_id::lsb, layout_id::planes};
    for (int bits = 1; bits <= 8; ++bits) {
        for (const std::size_t block : {std::size_t{128}, std::size_t{256}, std::size_t{1024}}) {
            for (const std::size_t blocks : {std::size_t{1}, std::size_t{2}, 400000 / block / std::size_t(bits)}) {
                std::vector<std::uint8_t> codes(blocks * block);
                for (auto& c : codes) c = static_cast<std::uint8_t>(source.below(std::size_t{1} << bits));
                for (const layout_id from : same_size) {
                    for (const layout_id to : same_size) {
                        CAPTURE(bits);
                        CAPTURE(block);
                        CAPTURE(hlwq::layout_name(from));
                        CAPTURE(hlwq::layout_name(to));
                        const hlwq::block_format format{bits, from, block, {}};
                        const auto before = packed(codes, format);
                        guard_page page(before.size());
                        std::uint8_t* const data = page.end() - before.size();
                        std::memcpy(data, before.data(), before.size());
                        const auto bytes = std::as_writable_bytes(std::span(data, before.size()));

                        const auto target = hlwq::repack_in_place<S>(bytes, format, to, pool);
                        REQUIRE((target == hlwq::block_format{bits, to, block, {}}));
                        const auto expected = packed(codes, target);
                        REQUIRE(std::memcmp(data, expected.data(), expected.size()) == 0);
                        REQUIRE((hlwq::repack_in_place<S>(bytes, target, from) == format));
                        REQUIRE(std::memcmp(data, before.data(), before.size()) == 0);
                    }
                }
            }
        }
    }
}

TEST_CASE("repacking keeps the rest of the format and refuses what cannot be") {
    const hlwq::rotation_signs signs{true, 9};
    std::vector<std::byte> codes(80 * 3);
    const hlwq::block_format format{5, layout_id::wire, 128, signs};
    CHECK(hlwq::repack_in_place(codes, format, layout_id::planes).signs == signs);
    CHECK_THROWS_WITH_AS(hlwq::repack_in_place(std::span(codes).first(79), format, layout_id::planes),
                         "repack: packed bytes: expected a multiple of 80, found 79", hlwq::shape_error);
    CHECK_THROWS_WITH_AS(hlwq::repack_in_place(codes, format, layout_id::bytes),
                         "repack in place to bytes: bytes of a block: expected 80, found 128", hlwq::unsupported_error);
    CHECK_THROWS_WITH_AS(
        hlwq::repack_in_place(codes, hlwq::block_format{5, layout_id::wire, 64, {}}, layout_id::planes),
        "repack target: block size in the planes layout: expected one that the layout allows, found 64",
        hlwq::unsupported_error);
}
