#include "hlwq/block_dot.hpp"

#include "backends.hpp"
#include "guard_page.hpp"
#include "reference.hpp"
#include "tally.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
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
        const auto centroids =
            hlwq::make_byte_centroids(hlwq::codebook_table(hlwq::codebook_id::converged, Layout::bits));
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
    CHECK(compared > 900);
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
