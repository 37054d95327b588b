#include "hlwq/codebook.hpp"
#include "hlwq/lloyd_max.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>
#include <string>
#include <vector>

namespace {

using hlwq::codebook_id;
using hlwq::codebook_table;
using hlwq::codebook_view;

constexpr codebook_id built_in[] = {codebook_id::legacy_a, codebook_id::legacy_b, codebook_id::converged};

// The published bit patterns, positive halves of 2 to 6 bits, and the printed digits of the converged table, 4 to 6.
// clang-format off
constexpr std::uint32_t spec_a[] = {
    0x3EE7D2C9, 0x3FC1555D,
    0x3E7AFA12, 0x3F4189A2, 0x3FAC0544, 0x4009B980,
    0x3E06EB83, 0x3ECBB92B, 0x3F2C21E4, 0x3F766FA4, 0x3FA3CE83, 0x3FD24F2F, 0x4005FCEE, 0x40304759,
    0x3DB4353A, 0x3E8733ED, 0x3EE1804B, 0x3F1E08C9, 0x3F4B8874, 0x3F795BBB, 0x3F93D5C7, 0x3FAB59D9,
    0x3FC36665, 0x3FDC3E52, 0x3FF6491E, 0x40091665, 0x40188195, 0x402A6C81, 0x40411533, 0x40634D90,
    0x3D64003E, 0x3E2B0038, 0x3E8E803F, 0x3EC7807E, 0x3F004075, 0x3F1CC0CD, 0x3F39415C, 0x3F55C23E,
    0x3F7243A6, 0x3F8762F0, 0x3F95A4B3, 0x3FA3E77C, 0x3FB22BE0, 0x3FC072C1, 0x3FCEBD75, 0x3FDD0DF8,
    0x3FEB6732, 0x3FF9CD5B, 0x4004233E, 0x400B6D8F, 0x4012CBA5, 0x401A45E7, 0x4021E80E, 0x4029C282,
    0x4031EC69, 0x403A8706, 0x4043C37B, 0x404DEDB5, 0x4059831F, 0x40676999, 0x40799539, 0x408AFCFA,
};
constexpr std::uint32_t spec_b[] = {
    0x3EE7B1FB, 0x3FC1332D,
    0x3E7AABD6, 0x3F4149D1, 0x3FABC42D, 0x40097167,
    0x3E067CCF, 0x3ECB1011, 0x3F2B8F71, 0x3F759523, 0x3FA33385, 0x3FD17288, 0x4005553C, 0x402F098D,
    0x3DB3C4B8, 0x3E86DC8E, 0x3EE0E47E, 0x3F1D90AD, 0x3F4ADA2E, 0x3F786698, 0x3F932C7D, 0x3FAA72CD,
    0x3FC22D9D, 0x3FDA9908, 0x3FF41275, 0x400797B7, 0x40167599, 0x402787AE, 0x403CAD89, 0x405B14CC,
    0x3D640020, 0x3E2B001E, 0x3E8E8023, 0x3EC78047, 0x3F004042, 0x3F1CC070, 0x3F3940B4, 0x3F55C114,
    0x3F724199, 0x3F876129, 0x3F95A1AC, 0x3FA3E267, 0x3FB2237B, 0x3FC0651B, 0x3FCEA796, 0x3FDCEB6F,
    0x3FEB3175, 0x3FF97AEB, 0x4003E4E4, 0x400B1086, 0x401242A4, 0x40197EAB, 0x4020C9BA, 0x40282B69,
    0x402FAEF3, 0x403764F4, 0x403F6623, 0x4047D7CE, 0x4050F3C0, 0x405B1791, 0x4066E650, 0x4075A126,
};
constexpr double spec_c[] = {
    0.128395, 0.388048, 0.656759, 0.942340, 1.256231, 1.618046, 2.069017, 2.732590,
    0.06588966, 0.19805183, 0.33137831, 0.46669952, 0.60493362, 0.74713570, 0.89456512, 1.04878332,
    1.21180438, 1.38634034, 1.57622808, 1.78723322, 2.02872840, 2.31773940, 2.69111958, 3.26073249,
    0.03340951, 0.10027829, 0.16729690, 0.23456699, 0.30219285, 0.37028265, 0.43894967, 0.50831378,
    0.57850303, 0.64965558, 0.72192194, 0.79546766, 0.87047659, 0.94715495, 1.02573635, 1.10648824,
    1.18972014, 1.27579449, 1.36514102, 1.45827637, 1.55583122, 1.65858890, 1.76754188, 1.88397724,
    2.00961104, 2.14681022, 2.29898121, 2.47130480, 2.67227384, 2.91740679, 3.24043706, 3.74410127,
};
// clang-format on

// Positive half of a table.
codebook_view upper_half(codebook_id id, int bits) {
    const codebook_view all = codebook_table(id, bits);
    return all.last(all.size() / 2);
}

// The original's procedure in double: 100 iterations from even boundaries on [-4, 4], ends at +-`outer`. On the
// positive half, where tails do not cancel.
template <class Round>
std::vector<double> legacy_iteration(int bits, double outer, const Round& stored) {
    const hlwq::gaussian normal;
    const std::size_t count = std::size_t{1} << (bits - 1);
    std::vector<double> edges;
    for (std::size_t k = 0; k < count; ++k) edges.push_back(4.0 * static_cast<double>(k) / static_cast<double>(count));
    edges.push_back(outer);
    std::vector<double> centroids(count);
    for (int iteration = 0; iteration < 100; ++iteration) {
        for (std::size_t k = 0; k < count; ++k)
            centroids[k] = stored((normal.pdf(edges[k]) - normal.pdf(edges[k + 1])) /
                                  (normal.sf(edges[k]) - normal.sf(edges[k + 1])));
        for (std::size_t k = 1; k < count; ++k) edges[k] = stored(0.5 * (centroids[k - 1] + centroids[k]));
    }
    return centroids;
}

// Index of the nearest centroid, ties low. The upper neighbour of c is nearer than c where 2 z > c + neighbour; here
// both sides are exact in long double, which |z - c| would not be for the smallest z.
std::size_t nearest(codebook_view codebook, float z) {
    std::size_t best = 0;
    while (best + 1 < codebook.size() &&
           2.0L * static_cast<long double>(z) >
               static_cast<long double>(codebook[best]) + static_cast<long double>(codebook[best + 1]))
        ++best;
    return best;
}

std::size_t count_below(const std::vector<float>& thresholds, float z) {
    return static_cast<std::size_t>(std::lower_bound(thresholds.begin(), thresholds.end(), z) - thresholds.begin());
}

// Codes of rotated, normalised Gaussian blocks, whose coordinates have mean square 1.
class simulated_blocks {
  public:
    simulated_blocks(codebook_id writer, int bits) : codebook_(codebook_table(writer, bits)) {
        thresholds_.resize(codebook_.size() - 1);
        hlwq::codebook_boundaries(codebook_, thresholds_);
    }
    void add_to(hlwq::codebook_fingerprint& fingerprint, std::size_t blocks, double stretch = 1.0) {
        for (std::size_t block = 0; block < blocks; ++block) {
            double z[128];
            double sum = 0.0;
            for (auto& x : z) {
                x = hlwq::inverse_normal_cdf((static_cast<double>(next() >> 12) + 0.5) * 0x1p-52);
                sum += x * x;
            }
            std::uint8_t codes[128];
            for (std::size_t k = 0; k < 128; ++k)
                codes[k] = static_cast<std::uint8_t>(
                    count_below(thresholds_, static_cast<float>(z[k] * stretch * std::sqrt(128.0 / sum))));
            fingerprint.add(codes);
        }
    }

  private:
    std::uint64_t next() {  // splitmix64
        std::uint64_t word = state_ += 0x9e3779b97f4a7c15u;
        word = (word ^ (word >> 30)) * 0xbf58476d1ce4e5b9u;
        word = (word ^ (word >> 27)) * 0x94d049bb133111ebu;
        return word ^ (word >> 31);
    }

    codebook_view codebook_;
    std::vector<float> thresholds_;
    std::uint64_t state_ = 1;
};

}  // namespace

TEST_CASE("codebook: tables A and B are the published bit patterns") {
    std::size_t at = 0;
    for (int bits = 2; bits <= 6; ++bits) {
        for (std::size_t k = 0; k < std::size_t{1} << (bits - 1); ++k, ++at) {
            CAPTURE(bits);
            CAPTURE(k);
            CHECK(std::bit_cast<std::uint32_t>(upper_half(codebook_id::legacy_a, bits)[k]) == spec_a[at]);
            CHECK(std::bit_cast<std::uint32_t>(upper_half(codebook_id::legacy_b, bits)[k]) == spec_b[at]);
        }
    }
    CHECK(at == std::size(spec_a));
    CHECK(at == std::size(spec_b));
    CHECK(upper_half(codebook_id::legacy_a, 1)[0] == 0.797884583f);
    CHECK(upper_half(codebook_id::legacy_b, 1)[0] == 0.797667444f);
}

TEST_CASE("codebook: tables A and B are what 100 iterations of the original give, at every width") {
    const auto in_double = [](double x) { return x; };
    const auto in_float = [](double x) { return static_cast<double>(static_cast<float>(x)); };
    for (int bits = 1; bits <= 8; ++bits) {
        const auto a = legacy_iteration(bits, std::numeric_limits<double>::infinity(), in_double);
        const auto b = legacy_iteration(bits, 4.0, in_float);
        for (std::size_t k = 0; k < a.size(); ++k) {
            CAPTURE(bits);
            CAPTURE(k);
            CHECK(static_cast<float>(a[k]) == upper_half(codebook_id::legacy_a, bits)[k]);
            CHECK(static_cast<float>(b[k]) == upper_half(codebook_id::legacy_b, bits)[k]);
        }
    }
}

TEST_CASE("codebook: the converged table is the fixed point, rounded once") {
    std::size_t at = 0;
    for (int bits = 4; bits <= 6; ++bits)
        for (const float centroid : upper_half(codebook_id::converged, bits)) {
            // 4 bits are printed to six decimals, the others to eight, the last of which is 1 off in places; a float
            // adds half an ulp, 1.2e-7 below 4.
            const double printed = bits == 4 ? 5e-7 : 1e-8;
            CHECK(std::fabs(static_cast<double>(centroid) - spec_c[at++]) <= printed + 1.2e-7);
        }
    CHECK(at == std::size(spec_c));
    for (int bits = 1; bits <= 8; ++bits) {
        const auto best = hlwq::lloyd_max(hlwq::gaussian{}, {.levels = std::size_t{1} << bits});
        const codebook_view table = codebook_table(codebook_id::converged, bits);
        REQUIRE(best.converged);
        for (std::size_t k = 0; k < table.size(); ++k) {
            CAPTURE(bits);
            CAPTURE(k);
            CHECK(static_cast<float>(best.centroids[k]) == table[k]);
        }
    }
}

TEST_CASE("codebook: every table is checked, symmetric and of its width") {
    for (const auto id : built_in)
        for (int bits = 1; bits <= 8; ++bits) {
            const codebook_view table = codebook_table(id, bits);
            CHECK(table.size() == std::size_t{1} << bits);
            CHECK(hlwq::codebook_bits(table) == bits);
            CHECK(hlwq::is_symmetric(table));
            CHECK_NOTHROW(hlwq::check_codebook(table));
        }
    static_assert(codebook_table(codebook_id::legacy_b, 3)[7] == 2.14754653f);
    CHECK_THROWS_AS(codebook_table(codebook_id::legacy_a, 0), hlwq::shape_error);
    CHECK_THROWS_AS(codebook_table(codebook_id::legacy_a, 9), hlwq::shape_error);
    CHECK_THROWS_AS(codebook_table(codebook_id::custom, 5), hlwq::shape_error);
    const float skewed[] = {-1.0f, 0.5f, 1.0f, 2.0f};
    CHECK_FALSE(hlwq::is_symmetric(skewed));
}

TEST_CASE("codebook: names go both ways") {
    for (const auto id : {codebook_id::legacy_a, codebook_id::legacy_b, codebook_id::converged, codebook_id::custom})
        CHECK(hlwq::parse_codebook(hlwq::to_string(id)) == id);
    CHECK(std::string(hlwq::to_string(codebook_id::legacy_b)) == "legacy-b");
    CHECK_FALSE(hlwq::parse_codebook("legacy_b").has_value());
    CHECK_FALSE(hlwq::parse_codebook("").has_value());
}

TEST_CASE("codebook: an unusable table is refused with its name") {
    constexpr float nan = std::numeric_limits<float>::quiet_NaN();
    const float three[] = {-1.0f, 0.0f, 1.0f};
    const float one[] = {0.0f};
    const float equal[] = {-1.0f, 0.0f, 0.0f, 1.0f};
    const float falling[] = {-1.0f, 1.0f, 0.0f, 2.0f};
    const float broken[] = {-1.0f, nan, 0.0f, 1.0f};
    const float endless[] = {-1.0f, 0.0f, 1.0f, std::numeric_limits<float>::infinity()};
    CHECK_THROWS_AS(hlwq::check_codebook({}), hlwq::format_error);
    CHECK_THROWS_AS(hlwq::check_codebook(one), hlwq::format_error);
    CHECK_THROWS_AS(hlwq::check_codebook(three), hlwq::format_error);
    CHECK_THROWS_AS(hlwq::check_codebook(std::vector<float>(512)), hlwq::format_error);
    CHECK_THROWS_AS(hlwq::check_codebook(equal), hlwq::format_error);
    CHECK_THROWS_AS(hlwq::check_codebook(falling), hlwq::format_error);
    CHECK_THROWS_AS(hlwq::check_codebook(broken), hlwq::value_error);
    CHECK_THROWS_AS(hlwq::check_codebook(endless), hlwq::value_error);
    CHECK_THROWS_WITH(hlwq::check_codebook(three, "ct of layer 3"),
                      "ct of layer 3 size: expected a power of two from 2 to 256, found 3");
}

TEST_CASE("codebook: the number of boundaries below z is the nearest code, to the last float") {
    std::vector<std::vector<float>> codebooks;
    for (const auto id : built_in)
        for (const int bits : {1, 2, 3, 5, 8}) {
            const codebook_view table = codebook_table(id, bits);
            codebooks.emplace_back(table.begin(), table.end());
        }
    // Midpoints that are floats, that need one bit more, that vanish, and of neighbouring floats.
    codebooks.push_back({-2.0f, -1.0f, 0.0f, 3.0f});
    codebooks.push_back({-1.0f, std::nextafter(-1.0f, 0.0f), 1.0f, std::nextafter(1.0f, 2.0f)});
    codebooks.push_back(
        {-std::numeric_limits<float>::denorm_min(), 0.0f, std::numeric_limits<float>::denorm_min(), 1.0f});
    for (const auto& codebook : codebooks) {
        std::vector<float> thresholds(codebook.size() - 1);
        hlwq::codebook_boundaries(codebook, thresholds);
        std::vector<float> probes = {0.0f, -0.0f, -100.0f, 100.0f};
        for (const float threshold : thresholds) {
            float z = threshold;
            for (int step = 0; step < 4; ++step) z = std::nextafter(z, -200.0f);
            for (int step = 0; step < 8; ++step, z = std::nextafter(z, 200.0f)) probes.push_back(z);
        }
        probes.insert(probes.end(), codebook.begin(), codebook.end());
        for (const float z : probes) {
            CAPTURE(z);
            CHECK(count_below(thresholds, z) == nearest(codebook, z));
        }
    }
    float few[30];
    CHECK_THROWS_AS(hlwq::codebook_boundaries(codebook_table(codebook_id::legacy_a, 5), few), hlwq::shape_error);
}

TEST_CASE("codebook: a midpoint that needs more than 53 bits is rounded down") {
    // 1 + 2^-60 lies above 2 * 0.5: its half rounds down to 0.5. With -2^-60 the float below 0.5 is the largest one not
    // above the midpoint, though the double sum is 1 in both cases.
    float threshold[1];
    const float above[] = {0x1p-60f, 1.0f};
    hlwq::codebook_boundaries(above, threshold);
    CHECK(threshold[0] == 0.5f);
    const float below[] = {-0x1p-60f, 1.0f};
    hlwq::codebook_boundaries(below, threshold);
    CHECK(threshold[0] == std::nextafter(0.5f, 0.0f));
}

TEST_CASE("codebook: the fingerprint recognises the table from codes") {
    // Blocks of 128; more of them the wider the codes, since A and B come closer.
    struct run {
        int bits;
        std::size_t blocks;
    };
    for (const auto& with : {run{5, 100}, run{6, 200}, run{7, 1500}, run{8, 6000}})
        for (const auto id : built_in) {
            const int bits = with.bits;
            const std::size_t blocks = with.blocks;
            hlwq::codebook_fingerprint fingerprint(bits);
            simulated_blocks(id, bits).add_to(fingerprint, blocks);
            const auto match = fingerprint.result();
            CAPTURE(bits);
            CAPTURE(hlwq::to_string(id));
            CHECK(fingerprint.count() == blocks * 128);
            CHECK(match.id == id);
            CHECK(match.confident);
        }
}

TEST_CASE("codebook: energies of right and wrong tables are as the format describes them") {
    double energy[3][3];
    for (const auto id : built_in) {
        hlwq::codebook_fingerprint fingerprint(5);
        simulated_blocks(id, 5).add_to(fingerprint, 1000);
        const auto match = fingerprint.result();
        for (std::size_t t = 0; t < 3; ++t) energy[static_cast<std::size_t>(id)][t] = match.energy[t];
    }
    // The noise of 128,000 codes is 4e-4 where the table is right or nearly so. A and B give 1.0009 and 1.0006, the
    // converged table 1 minus its mean square error.
    CHECK(energy[0][0] == doctest::Approx(1.0009).epsilon(0.002));
    CHECK(energy[1][1] == doctest::Approx(1.0006).epsilon(0.002));
    CHECK(energy[2][2] == doctest::Approx(0.9975).epsilon(0.002));
    CHECK(energy[0][1] == doctest::Approx(0.985).epsilon(0.002));
    CHECK(energy[1][0] == doctest::Approx(1.017).epsilon(0.002));
    CHECK(energy[2][0] == doctest::Approx(1.49).epsilon(0.01));
    CHECK(energy[2][1] == doctest::Approx(1.46).epsilon(0.01));
    CHECK(energy[0][2] == doctest::Approx(0.65).epsilon(0.01));
    CHECK(energy[1][2] == doctest::Approx(0.66).epsilon(0.01));
}

TEST_CASE("codebook: right energies are those of the rotated coordinates of a block of 128") {
    const hlwq::sphere_marginal coordinate(128);
    for (int bits = 5; bits <= 8; ++bits)
        for (const auto id : built_in) {
            const codebook_view half = upper_half(id, bits);
            double energy = 0.0;
            double tail = 0.5;
            for (std::size_t k = 0; k < half.size(); ++k) {
                const auto centroid = static_cast<double>(half[k]);
                const double rest =
                    k + 1 < half.size() ? coordinate.sf(0.5 * (centroid + static_cast<double>(half[k + 1]))) : 0.0;
                energy += 2.0 * (tail - rest) * centroid * centroid;
                tail = rest;
            }
            CHECK(std::fabs(energy - hlwq::detail::right_energy[bits - 5][static_cast<std::size_t>(id)]) < 6e-6);
        }
}

TEST_CASE("codebook: a fingerprint without evidence says so") {
    hlwq::codebook_fingerprint nothing(5);
    CHECK(nothing.result().id == codebook_id::legacy_b);
    CHECK_FALSE(nothing.result().confident);

    // Below 5 bits the answer does not depend on the codes.
    for (const auto id : built_in) {
        hlwq::codebook_fingerprint narrow(4);
        simulated_blocks(id, 4).add_to(narrow, 200);
        CHECK(narrow.result().id == codebook_id::legacy_b);
        CHECK_FALSE(narrow.result().confident);
    }

    hlwq::codebook_fingerprint few(5);
    simulated_blocks(codebook_id::legacy_a, 5).add_to(few, 2);
    CHECK_FALSE(few.result().confident);

    // A searched scale of 1.22 gives codes of table A the energy of the converged table.
    hlwq::codebook_fingerprint stretched(5);
    simulated_blocks(codebook_id::legacy_a, 5).add_to(stretched, 1000, 1.22);
    CHECK(stretched.result().energy[2] == doctest::Approx(1.0037).epsilon(0.003));
    CHECK_FALSE(stretched.result().confident);

    // Codes without the distribution of a rotated block: mean square 1.92 with table A.
    hlwq::codebook_fingerprint even(5);
    std::uint8_t every[32];
    for (std::size_t k = 0; k < 32; ++k) every[k] = static_cast<std::uint8_t>(k);
    for (int repeat = 0; repeat < 1000; ++repeat) even.add(every);
    CHECK_FALSE(even.result().confident);
    CHECK_THROWS_AS(hlwq::codebook_fingerprint(9), hlwq::shape_error);
}

TEST_CASE("codebook: fingerprints of parts add up to that of the whole") {
    simulated_blocks blocks(codebook_id::legacy_b, 5);
    hlwq::codebook_fingerprint first(5);
    hlwq::codebook_fingerprint second(5);
    blocks.add_to(first, 30);
    blocks.add_to(second, 70);
    hlwq::codebook_fingerprint whole(5);
    simulated_blocks(codebook_id::legacy_b, 5).add_to(whole, 100);
    first.add(second);
    CHECK(first.count() == whole.count());
    for (std::size_t t = 0; t < 3; ++t) CHECK(first.result().energy[t] == whole.result().energy[t]);
    CHECK_THROWS_AS(first.add(hlwq::codebook_fingerprint(4)), hlwq::shape_error);
}
