#include "hlwq/packed_matrix.hpp"

#include <doctest/doctest.h>

#include <limits>
#include <vector>

namespace {

hlwq::packed_matrix_view valid() {
    static std::vector<std::byte> codes(2 * 80);
    static std::vector<hlwq::half> norms(2);
    return {codes, norms, hlwq::codebook_table(hlwq::codebook_id::legacy_a, 5), 2, 100, {}};
}

}  // namespace

TEST_CASE("a format knows its bytes") {
    const hlwq::block_format five;
    CHECK(five.block_bytes() == 80);
    CHECK(five.blocks_per_row(128) == 1);
    CHECK(five.blocks_per_row(129) == 2);
    CHECK(five.padded_cols(704) == 768);
    CHECK(five.row_bytes(704) == 480);
    CHECK(five.code_bytes(2816, 704) == 2816u * 480u);
    CHECK(five.norm_count(2816, 704) == 2816u * 6u);
    hlwq::block_format three;
    three.bits = 3;
    three.block = 1024;
    CHECK(three.block_bytes() == 384);
    three.layout = hlwq::layout_id::half_block;
    CHECK(three.block_bytes() == 512);
    three.layout = hlwq::layout_id::bytes;
    CHECK(three.block_bytes() == 1024);
}

TEST_CASE("check accepts what fits and names what does not") {
    CHECK_NOTHROW(hlwq::check(valid(), "w"));
    auto w = valid();
    w.codes = w.codes.first(159);
    CHECK_THROWS_WITH_AS(hlwq::check(w, "w"), "w: packed bytes: expected 160, found 159", hlwq::shape_error);
    w = valid();
    w.norms = w.norms.first(1);
    CHECK_THROWS_WITH_AS(hlwq::check(w, "w"), "w: norms: expected 2, found 1", hlwq::shape_error);
    w = valid();
    w.centroids = w.centroids.first(16);
    CHECK_THROWS_WITH_AS(hlwq::check(w, "w"), "w: centroids: expected 32, found 16", hlwq::shape_error);
    w = valid();
    w.format.bits = 9;
    CHECK_THROWS_AS(hlwq::check(w, "w"), hlwq::unsupported_error);
    w = valid();
    w.format.block = 8192;
    CHECK_THROWS_AS(hlwq::check(w, "w"), hlwq::unsupported_error);
    w.format.block = 0;
    CHECK_THROWS_AS(hlwq::check(w, "w"), hlwq::unsupported_error);
    w = valid();
    w.format.layout = hlwq::layout_id::planes;
    w.format.block = 64;
    CHECK_THROWS_AS(hlwq::check(w, "w"), hlwq::unsupported_error);
}

TEST_CASE("sizes that would overflow are refused, not wrapped") {
    auto w = valid();
    w.rows = std::numeric_limits<std::size_t>::max() / 64;
    CHECK_THROWS_AS(hlwq::check(w, "w"), hlwq::shape_error);
    w.rows = 2;
    w.cols = std::numeric_limits<std::size_t>::max() - 5;
    CHECK_THROWS_AS(hlwq::check(w, "w"), hlwq::shape_error);
    CHECK_THROWS_AS(hlwq::packed_matrix(std::size_t{1} << 40, std::size_t{1} << 40, {},
                                        hlwq::codebook_table(hlwq::codebook_id::legacy_a, 5)),
                    hlwq::shape_error);
}
