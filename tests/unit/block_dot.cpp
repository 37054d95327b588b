#include "hlwq/block_dot.hpp"

#include "backends.hpp"
#include "reference.hpp"
#include "tally.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>
#include <vector>

namespace {

template <class S>
struct of_backend {
    /// Calls f.operator()<Layout>() for every layout of every width.
    template <class F>
    static void each_layout(F f) {
        each(f, hlwq::layouts_of<1>{}), each(f, hlwq::layouts_of<2>{}), each(f, hlwq::layouts_of<3>{});
        each(f, hlwq::layouts_of<4>{}), each(f, hlwq::layouts_of<5>{}), each(f, hlwq::layouts_of<6>{});
        each(f, hlwq::layouts_of<7>{}), each(f, hlwq::layouts_of<8>{});
    }
    template <class F, class... Layout>
    static void each(F& f, hlwq::layout_list<Layout...>) {
        const auto call = [&]<class L>() {
            if constexpr (L::exists) f.template operator()<L>();
        };
        (call.template operator()<Layout>(), ...);
    }
};

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

/// The integers of the built-in tables, and of one without symmetry.
std::vector<hlwq::byte_centroids> integer_codebooks(int bits) {
    std::vector<hlwq::byte_centroids> all;
    for (const auto id : {hlwq::codebook_id::legacy_a, hlwq::codebook_id::legacy_b, hlwq::codebook_id::converged}) {
        all.push_back(hlwq::make_byte_centroids(hlwq::codebook_table(id, bits)));
    }
    std::vector<float> skew(std::size_t{1} << bits);
    for (std::size_t k = 0; k < skew.size(); ++k) {
        const float place = static_cast<float>(k) / static_cast<float>(skew.size() - 1);
        skew[k] = -1.0f + 3.0f * place * place;
    }
    all.push_back(hlwq::make_byte_centroids(skew));
    return all;
}

double standard_normal_below(double x) { return 0.5 * std::erfc(-x / std::sqrt(2.0)); }

/// Root of the mean square of (value of a centroid on its grid - centroid) under N(0,1).
double grid_error(hlwq::codebook_view centroids, const hlwq::byte_centroids& bytes) {
    double sum = 0.0;
    for (std::size_t k = 0; k < centroids.size(); ++k) {
        const auto between = [&](std::size_t i) {
            return standard_normal_below(0.5 *
                                         (static_cast<double>(centroids[i]) + static_cast<double>(centroids[i + 1])));
        };
        const double share = (k + 1 < centroids.size() ? between(k) : 1.0) - (k > 0 ? between(k - 1) : 0.0);
        const double value = static_cast<double>(bytes.step) * (bytes.weight[k] + static_cast<double>(bytes.offset));
        sum += share * (value - static_cast<double>(centroids[k])) * (value - static_cast<double>(centroids[k]));
    }
    return std::sqrt(sum);
}

}  // namespace

TEST_CASE_TEMPLATE("exact: every layout, width and block size", S, HLWQ_TEST_BACKENDS) {
    reference::random source(1);
    of_backend<S>::each_layout([&]<class Layout>() {
        const auto centroids = hlwq::codebook_table(hlwq::codebook_id::converged, Layout::bits);
        for (std::size_t block = hlwq::min_block; block <= hlwq::max_block; block *= 2) {
            if (!Layout::allows(block)) continue;
            CAPTURE(Layout::name);
            CAPTURE(Layout::bits);
            CAPTURE(block);
            const auto codes = random_codes(block, Layout::bits, source);
            // Exactly as many bytes as the block has: nothing else may be read.
            tight_buffer<std::uint8_t> packed(Layout::block_bytes(block));
            hlwq::pack_block<Layout>(codes.data(), packed.data, block);
            const auto values = reference::gaussians(block, block);
            double exact = 0.0, magnitudes = 0.0;
            for (std::size_t i = 0; i < block; ++i) {
                const double product = static_cast<double>(centroids[codes[i]]) * static_cast<double>(values[i]);
                exact += product;
                magnitudes += std::fabs(product);
            }
            const float found = hlwq::block_dot<S, Layout>(packed.data, centroids.data(), values.data(), block);
            // A product takes part in at most block/4 additions of a chain and 4 of their reduction.
            const double tolerance = (static_cast<double>(block) / 4 + 5) * 0x1p-24 * magnitudes;
            REQUIRE(std::fabs(static_cast<double>(found) - exact) <= tolerance);
        }
    });
}

TEST_CASE_TEMPLATE("fast and precise: integers are those of the definition, every layout, width and block size", S,
                   HLWQ_TEST_BACKENDS) {
    reference::random source(2);
    std::size_t compared = 0;
    of_backend<S>::each_layout([&]<class Layout>() {
        for (const hlwq::byte_centroids& centroids : integer_codebooks(Layout::bits))
            for (std::size_t block = hlwq::min_block; block <= hlwq::max_block; block *= 2) {
                if (!Layout::allows(block)) continue;
                for (int round = 0; round < 3; ++round) {
                    CAPTURE(Layout::name);
                    CAPTURE(Layout::bits);
                    CAPTURE(block);
                    auto codes = random_codes(block, Layout::bits, source);
                    std::vector<std::int8_t> bytes(block), low_bytes(block);
                    for (auto& b : bytes) b = static_cast<std::int8_t>(static_cast<int>(source.below(255)) - 127);
                    for (auto& b : low_bytes) b = static_cast<std::int8_t>(static_cast<int>(source.below(255)) - 127);
                    if (round == 1) {  // the largest sum there is
                        std::fill(codes.begin(), codes.end(), static_cast<std::uint8_t>((1 << Layout::bits) - 1));
                        std::fill(bytes.begin(), bytes.end(), std::int8_t{127});
                    }
                    if (round == 2) {  // and the smallest
                        std::fill(codes.begin(), codes.end(), std::uint8_t{0});
                        std::fill(bytes.begin(), bytes.end(), std::int8_t{127});
                    }
                    std::vector<std::uint8_t> packed(Layout::block_bytes(block) + 64, 0xff);
                    hlwq::pack_block<Layout>(codes.data(), packed.data(), block);
                    if (round != 0) low_bytes = bytes;
                    hlwq::precise_sum expected, sums;
                    for (std::size_t i = 0; i < block; ++i) {
                        expected.high += centroids.weight[codes[i]] * bytes[i];
                        expected.low += centroids.weight[codes[i]] * low_bytes[i] + centroids.low[codes[i]] * bytes[i];
                        sums.high += bytes[i];
                        sums.low += low_bytes[i];
                    }
                    REQUIRE(hlwq::block_dot<S, Layout>(packed.data(), centroids, bytes.data(), sums.high, block) ==
                            expected.high);
                    REQUIRE(hlwq::block_dot<S, Layout>(packed.data(), centroids, bytes.data(), low_bytes.data(), sums,
                                                       block) == expected);
                    ++compared;
                }
            }
    });
    CHECK(compared > 3600);
}

TEST_CASE_TEMPLATE("split codes find the same bytes, whether or not the table folds", S, HLWQ_TEST_BACKENDS) {
    using hlwq::detail::table_fold;
    tally bytes;
    each_width([&]<int Bits>() {
        constexpr std::size_t levels = std::size_t{1} << Bits;
        using layout = hlwq::planes<Bits>;
        for (const table_fold made : {table_fold::none, table_fold::complement, table_fold::negation}) {
            hlwq::byte_centroids centroids;
            for (std::size_t k = 0; k < levels; ++k) {
                const std::size_t mirror = levels - 1 - k;
                const bool negative = k < levels / 2 && made != table_fold::none;
                const auto random = [&](std::size_t factor) {
                    const int value = static_cast<int>((negative ? mirror : k) * factor % 255) - 127;
                    return negative ? -value : value;
                };
                const int weight = random(37) - (negative && made == table_fold::complement ? 1 : 0);
                centroids.weight[k] = static_cast<std::int8_t>(weight);
                centroids.low[k] = static_cast<std::int8_t>(random(73));
            }
            const hlwq::detail::biased_planes by_code(centroids, Bits, S::weight_bias);
            const hlwq::detail::split_tables tables(by_code, Bits);
            CHECK(tables.fold == (Bits > 4 ? made : table_fold::none));
            hlwq::detail::with_fold<Bits>(tables.fold, [&]<table_fold Fold>() {
                const hlwq::detail::split_codebooks<S, Bits, hlwq::precision::precise, Fold> look_up(tables.planes);
                std::uint8_t codes[128], unit[layout::unit_bytes], found[S::bytes], expected[S::bytes];
                for (std::size_t first = 0; first < 256; first += 128) {
                    for (std::size_t i = 0; i < 128; ++i) codes[i] = static_cast<std::uint8_t>((first + i) % levels);
                    hlwq::pack_block<layout>(codes, unit, 128);
                    const auto split = hlwq::plane_reader<S, Bits>::template read<0>(unit);
                    S::store_u8(found, look_up.high(split));
                    for (std::size_t i = 0; i < S::bytes; ++i) expected[i] = by_code.high[codes[i]];
                    bytes.same(found, expected, S::bytes, std::to_string(Bits) + " bits");
                    S::store_u8(found, look_up.low(split));
                    for (std::size_t i = 0; i < S::bytes; ++i) expected[i] = by_code.low[codes[i]];
                    bytes.same(found, expected, S::bytes, std::to_string(Bits) + " bits, low plane");
                }
            });
        }
    });
    bytes.finish(8 * 3 * 4 * S::bytes);
}

TEST_CASE("the built-in tables fold, so that half a table is looked up") {
    using hlwq::detail::table_fold;
    for (const auto id : {hlwq::codebook_id::legacy_a, hlwq::codebook_id::legacy_b, hlwq::codebook_id::converged}) {
        for (int bits = 5; bits <= 8; ++bits) {
            const auto centroids = hlwq::make_byte_centroids(hlwq::codebook_table(id, bits));
            for (const int bias : {0, 128}) {
                const hlwq::detail::split_tables tables(hlwq::detail::biased_planes(centroids, bits, bias), bits);
                CHECK(tables.fold == (centroids.offset == 0.5f ? table_fold::complement : table_fold::negation));
            }
        }
    }
}

TEST_CASE_TEMPLATE("the preferred layout can hold the format", S, HLWQ_TEST_BACKENDS) {
    for (std::size_t block = hlwq::min_block; block <= hlwq::max_block; block *= 2) {
        for (int bits = 1; bits <= 8; ++bits) {
            hlwq::block_format format{bits, hlwq::layout_id::wire, block, {}};
            const std::size_t size = format.block_bytes();
            format.layout = hlwq::preferred_layout<S>(format);
            CHECK_NOTHROW(hlwq::check(format, "preferred"));
            CHECK(format.block_bytes() == size);
            CHECK((format.layout == hlwq::layout_id::wire || block >= 128));
        }
    }
}

TEST_CASE_TEMPLATE("the table in registers gives every code its byte", S, HLWQ_TEST_BACKENDS) {
    tally bytes;
    each_width([&]<int Bits>() {
        hlwq::byte_centroids centroids;
        for (std::size_t k = 0; k < 256; ++k) {
            centroids.weight[k] = static_cast<std::int8_t>(k * 37 % 255 - 127);
            centroids.low[k] = static_cast<std::int8_t>(k * 73 % 255 - 127);
        }
        const hlwq::detail::biased_planes planes(centroids, Bits, S::weight_bias);
        const hlwq::byte_codebook<S, Bits> look_up(planes.high), look_up_low(planes.low);
        for (std::size_t first = 0; first < 256; first += S::bytes) {
            std::uint8_t codes[S::bytes], found[S::bytes], expected[S::bytes], low[S::bytes];
            for (std::size_t i = 0; i < S::bytes; ++i) {
                const auto any = static_cast<std::uint8_t>(first + i);
                const auto code = static_cast<std::uint8_t>(any & ((1u << Bits) - 1u));
                codes[i] = hlwq::byte_codebook<S, Bits>::any_high_bits ? any : code;
                expected[i] = static_cast<std::uint8_t>(centroids.weight[code] + S::weight_bias);
                low[i] = static_cast<std::uint8_t>(centroids.low[code] + S::weight_bias);
            }
            S::store_u8(found, look_up(S::load_u8(codes)));
            bytes.same(found, expected, S::bytes, std::to_string(Bits) + " bits");
            S::store_u8(found, look_up_low(S::load_u8(codes)));
            bytes.same(found, low, S::bytes, std::to_string(Bits) + " bits, low plane");
        }
    });
    bytes.finish(2 * 8 * 256);
}

TEST_CASE("byte centroids keep order and range, and stay within the documented error") {
    for (const auto id : {hlwq::codebook_id::legacy_a, hlwq::codebook_id::legacy_b, hlwq::codebook_id::converged}) {
        for (int bits = 1; bits <= 8; ++bits) {
            CAPTURE(hlwq::to_string(id));
            CAPTURE(bits);
            const auto table = hlwq::codebook_table(id, bits);
            const auto bytes = hlwq::make_byte_centroids(table);
            for (std::size_t k = 0; k < table.size(); ++k) {
                REQUIRE(int{bytes.weight[k]} >= -127);
                REQUIRE(int{bytes.low[k]} >= -127);
                const double steps = static_cast<double>(bytes.weight[k]) + static_cast<double>(bytes.offset) +
                                     static_cast<double>(bytes.low[k]) / 254.0;
                const auto step = static_cast<double>(bytes.step);
                REQUIRE(std::fabs(step * steps - static_cast<double>(table[k])) <= step * (0.5 / 254.0 + 1e-5));
                if (k > 0) REQUIRE(bytes.weight[k] >= bytes.weight[k - 1]);
                if (bytes.offset != 0.0f) REQUIRE(bytes.weight[k] == -1 - bytes.weight[table.size() - 1 - k]);
            }
            CHECK((bytes.offset == 0.0f || bytes.offset == 0.5f));
            CHECK(grid_error(table, bytes) <= (bits == 1 ? 1e-7 : bits <= 4 ? 0.0036 : bits <= 6 ? 0.0083 : 0.012));
        }
    }
}

TEST_CASE("no other grid of a built-in table is better by more than a hundredth") {
    for (const auto id : {hlwq::codebook_id::legacy_a, hlwq::codebook_id::legacy_b, hlwq::codebook_id::converged}) {
        for (int bits = 2; bits <= 8; ++bits) {
            CAPTURE(hlwq::to_string(id));
            CAPTURE(bits);
            const auto table = hlwq::codebook_table(id, bits);
            const double chosen = grid_error(table, hlwq::make_byte_centroids(table));
            const double most = static_cast<double>(table.back());
            double best = chosen;
            for (int half = 0; half < 2; ++half) {
                for (double stretch = half != 0 ? 1.004 : 1.0; stretch < 1.2; stretch += 0.001) {
                    const double offset = 0.5 * half, step = stretch * most / (127.0 + offset);
                    hlwq::byte_centroids grid;
                    grid.step = static_cast<float>(step);
                    grid.offset = static_cast<float>(offset);
                    for (std::size_t k = 0; k < table.size(); ++k) {
                        const double place = static_cast<double>(table[k]) / step;
                        grid.weight[k] =
                            static_cast<std::int8_t>(half != 0 ? std::floor(place) : std::nearbyint(place));
                    }
                    best = std::min(best, grid_error(table, grid));
                }
            }
            CHECK(chosen <= best * 1.01 + 1e-6);
        }
    }
}

TEST_CASE("byte centroids of other tables: whole numbers up to 127") {
    const float table[] = {-2.0f, -0.5f, 0.25f, 1.0f};
    const auto bytes = hlwq::make_byte_centroids(table);
    CHECK(bytes.step == 2.0f / 127.0f);
    CHECK(bytes.offset == 0.0f);
    CHECK(bytes.weight[0] == -127);
    CHECK(bytes.weight[1] == -32);
    CHECK(bytes.weight[2] == 16);
    CHECK(bytes.weight[3] == 64);

    const float zeros[] = {0.0f, 0.0f};
    CHECK(hlwq::make_byte_centroids(zeros).step == 0.0f);
    CHECK(hlwq::make_byte_centroids(zeros).weight[1] == 0);

    // A built-in table is recognised by its values, wherever it lies.
    const auto builtin = hlwq::codebook_table(hlwq::codebook_id::legacy_a, 5);
    const std::vector<float> copy(builtin.begin(), builtin.end());
    CHECK(hlwq::make_byte_centroids(copy).step == hlwq::make_byte_centroids(builtin).step);
    CHECK(hlwq::make_byte_centroids(copy).step > copy.back() / 127.0f);
}
