#include "hlwq/lloyd_max.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <numbers>
#include <vector>

namespace {

struct published {
    std::size_t levels;
    std::vector<double> positive;  // centroids above 0, as printed
    double mse;
    double digit;      // what the printed centroids may be off by
    double mse_digit;  // and the printed error
};

template <class Distribution>
void check_published(const Distribution& d, const published& row) {
    const auto found = hlwq::lloyd_max(d, {.levels = row.levels});
    CAPTURE(row.levels);
    REQUIRE(found.converged);
    REQUIRE(found.centroids.size() == row.levels);
    CHECK(std::fabs(found.mse - row.mse) <= row.mse_digit);
    // Rows that quote only the outermost centroids line up from the end.
    for (std::size_t k = 0; k < row.positive.size(); ++k) {
        const double centroid = found.centroids[row.levels - row.positive.size() + k];
        CAPTURE(centroid);
        CHECK(std::fabs(centroid - row.positive[k]) <= row.digit);
    }
}

// Every inner boundary midway, every centroid the mean of its cell by closed forms.
template <class Distribution>
void check_fixed_point(const Distribution& d, const hlwq::lloyd_max_result& found, double tolerance) {
    const auto& c = found.centroids;
    REQUIRE(found.boundaries.size() + 1 == c.size());
    double error = 0.0;
    for (std::size_t k = 0; k < c.size(); ++k) {
        const double a = k == 0 ? d.lower : found.boundaries[k - 1];
        const double b = k + 1 == c.size() ? d.upper : found.boundaries[k];
        if (k > 0) CHECK(a == 0.5 * (c[k - 1] + c[k]));
        const double mass = a >= 0.0 ? d.sf(a) - d.sf(b) : d.cdf(b) - d.cdf(a);
        const double mean = (d.partial_expectation(a) - d.partial_expectation(b)) / mass;
        CHECK(std::fabs(mean - c[k]) < tolerance);
        error += mass * c[k] * c[k];
    }
    // With centroids at the means the error is the variance, here 1, less that of the centroids.
    CHECK(std::fabs(found.mse - (1.0 - error)) < 1e-12);
}

double normal_sample(std::uint64_t& state) {  // splitmix64
    std::uint64_t word = state += 0x9e3779b97f4a7c15u;
    word = (word ^ (word >> 30)) * 0xbf58476d1ce4e5b9u;
    word = (word ^ (word >> 27)) * 0x94d049bb133111ebu;
    return hlwq::inverse_normal_cdf((static_cast<double>((word ^ (word >> 31)) >> 12) + 0.5) * 0x1p-52);
}

}  // namespace

TEST_CASE("lloyd_max: Max 1960, Gaussian") {
    // Four printed digits; the last one is off by 1 in places, and his errors for 16 and 32 levels lie below the
    // optimum (0.0095010 and 0.0025047) by what his iteration left.
    check_published(hlwq::gaussian{}, {1, {}, 1.0, 0.0, 1e-12});
    check_published(hlwq::gaussian{}, {2, {0.7980}, 0.3634, 1.5e-4, 5e-5});
    check_published(hlwq::gaussian{}, {3, {1.224}, 0.1902, 5e-4, 5e-5});
    check_published(hlwq::gaussian{}, {4, {0.4528, 1.510}, 0.1175, 5e-4, 5e-5});
    check_published(hlwq::gaussian{}, {5, {0.7646, 1.724}, 0.07994, 5e-4, 5e-6});
    check_published(hlwq::gaussian{}, {8, {0.2451, 0.7560, 1.344, 2.152}, 0.03454, 5e-4, 1e-5});
    check_published(hlwq::gaussian{},
                    {16, {0.1284, 0.3881, 0.6568, 0.9424, 1.256, 1.618, 2.069, 2.733}, 0.009497, 5e-4, 5e-6});
    check_published(hlwq::gaussian{}, {32, {3.263}, 0.002499, 2.5e-3, 6e-6});
}

TEST_CASE("lloyd_max: Paez and Glisson 1972, Laplace") {
    check_published(hlwq::laplace{}, {2, {0.707}, 0.5, 5e-4, 5e-5});
    check_published(hlwq::laplace{}, {4, {0.420, 1.834}, 0.1762, 5e-4, 5e-5});
    check_published(hlwq::laplace{}, {8, {0.233, 0.833, 1.673, 3.087}, 0.0545, 1e-3, 5e-5});
}

TEST_CASE("lloyd_max: the result is a fixed point, symmetric and ascending, at every number of levels") {
    const auto check = [](const auto& d, double tolerance) {
        for (const std::size_t levels : {2u, 3u, 4u, 5u, 7u, 16u, 31u, 32u, 64u, 128u, 256u}) {
            const auto found = hlwq::lloyd_max(d, {.levels = levels});
            CAPTURE(levels);
            CHECK(found.converged);
            CHECK(found.last_move <= 1e-13);
            CHECK(found.iterations <= 12);
            for (std::size_t k = 0; k < levels; ++k) CHECK(found.centroids[k] == -found.centroids[levels - 1 - k]);
            CHECK(std::is_sorted(found.centroids.begin(), found.centroids.end()));
            check_fixed_point(d, found, tolerance);
        }
    };
    // The closed forms of the check cancel in narrow cells and at the far end: about 1e-16 / mass of a cell.
    check(hlwq::gaussian{}, 1e-11);
    check(hlwq::laplace{}, 1e-11);
    check(hlwq::sphere_marginal(128), 1e-9);
    check(hlwq::sphere_marginal(6), 1e-9);
}

TEST_CASE("lloyd_max: the plain and the relaxed iteration end where Newton's method does") {
    const auto newton = hlwq::lloyd_max(hlwq::gaussian{}, {.levels = 16});
    const auto plain = hlwq::lloyd_max(hlwq::gaussian{}, {.levels = 16, .newton = false});
    const auto relaxed = hlwq::lloyd_max(hlwq::gaussian{}, {.levels = 16, .relaxation = 1.8, .newton = false});
    CHECK(plain.converged);
    CHECK(relaxed.converged);
    CHECK(relaxed.iterations < plain.iterations);
    CHECK(newton.iterations < relaxed.iterations);
    for (std::size_t k = 0; k < 16; ++k) {
        CHECK(std::fabs(plain.centroids[k] - newton.centroids[k]) < 1e-10);
        CHECK(std::fabs(relaxed.centroids[k] - newton.centroids[k]) < 1e-10);
    }
    // Stopped early it says so, and names what the next step would move.
    const auto stopped = hlwq::lloyd_max(hlwq::gaussian{}, {.levels = 16, .max_iterations = 5, .newton = false});
    CHECK_FALSE(stopped.converged);
    CHECK(stopped.iterations == 5);
    CHECK(stopped.last_move > 1e-13);
    CHECK(stopped.mse > newton.mse);
}

TEST_CASE("lloyd_max: the sphere marginal gives even levels for n = 3 and the normal ones for large n") {
    for (const std::size_t levels : {2u, 5u, 8u, 32u}) {
        const auto even = hlwq::lloyd_max(hlwq::sphere_marginal(3), {.levels = levels});
        const double step = 2.0 * std::numbers::sqrt3 / static_cast<double>(levels);
        for (std::size_t k = 0; k < levels; ++k)
            CHECK(std::fabs(even.centroids[k] - (-std::numbers::sqrt3 + step * (static_cast<double>(k) + 0.5))) <
                  1e-13);
        CHECK(even.mse == doctest::Approx(step * step / 12.0).epsilon(1e-12));
    }
    // The distance to the normal levels falls like 1/n.
    const auto normal = hlwq::lloyd_max(hlwq::gaussian{}, {.levels = 32});
    const auto distance = [&](std::size_t n) {
        const auto found = hlwq::lloyd_max(hlwq::sphere_marginal(n), {.levels = 32});
        double largest = 0.0;
        for (std::size_t k = 0; k < 32; ++k)
            largest = std::max(largest, std::fabs(found.centroids[k] - normal.centroids[k]));
        return largest;
    };
    const double at_1000 = distance(1000);
    CHECK(at_1000 < 0.02);
    CHECK(distance(4000) == doctest::Approx(at_1000 / 4.0).epsilon(0.02));
    CHECK(distance(1000000) < at_1000 / 900.0);
}

TEST_CASE("lloyd_max: a density from callables, without closed forms, on a half line and on an interval") {
    // The cells of an exponential but the last repeat from the end: the last centroid lies 1 above its boundary.
    const auto exponential = hlwq::lloyd_max(
        hlwq::density{[](double x) { return std::exp(-x); }, [](double x) { return 1.0 - std::exp(-x); }, 0.0},
        {.levels = 8});
    CHECK(exponential.converged);
    CHECK(exponential.centroids.back() - exponential.boundaries.back() == doctest::Approx(1.0).epsilon(1e-12));
    // It is the positive half of Laplace's distribution with 16 levels, whose scale is 1 / sqrt(2).
    const auto two_sided = hlwq::lloyd_max(hlwq::laplace{}, {.levels = 16});
    for (std::size_t k = 0; k < 8; ++k)
        CHECK(std::fabs(exponential.centroids[k] / std::numbers::sqrt2 - two_sided.centroids[8 + k]) < 1e-12);
    CHECK(exponential.mse / 2.0 == doctest::Approx(two_sided.mse).epsilon(1e-12));

    // The whole line without knowing the symmetry.
    const hlwq::gaussian normal;
    const auto line = hlwq::lloyd_max(
        hlwq::density{[&](double x) { return normal.pdf(x - 3.0); }, [&](double x) { return normal.cdf(x - 3.0); }},
        {.levels = 8});
    const auto centred = hlwq::lloyd_max(normal, {.levels = 8});
    for (std::size_t k = 0; k < 8; ++k) CHECK(std::fabs(line.centroids[k] - 3.0 - centred.centroids[k]) < 1e-11);

    // A triangle on [0, 1] with one level: its mean 2/3 and variance 1/18.
    const auto triangle = hlwq::lloyd_max(
        hlwq::density{[](double x) { return 2.0 * x; }, [](double x) { return x * x; }, 0.0, 1.0}, {.levels = 1});
    CHECK(triangle.centroids[0] == doctest::Approx(2.0 / 3.0).epsilon(1e-14));
    CHECK(triangle.mse == doctest::Approx(1.0 / 18.0).epsilon(1e-13));
    CHECK(triangle.boundaries.empty());
}

TEST_CASE("lloyd_max: two hills far apart") {
    // No log-concave density: Newton's step may point uphill there, and is then not taken.
    const hlwq::gaussian normal;
    const auto found =
        hlwq::lloyd_max(hlwq::density{[&](double x) { return 0.5 * (normal.pdf(x - 5.0) + normal.pdf(x + 5.0)); },
                                      [&](double x) { return 0.5 * (normal.cdf(x - 5.0) + normal.cdf(x + 5.0)); }},
                        {.levels = 4});
    CHECK(found.converged);
    const double side = std::sqrt(2.0 / std::numbers::pi);
    const double expected[] = {-5.0 - side, -5.0 + side, 5.0 - side, 5.0 + side};
    for (std::size_t k = 0; k < 4; ++k) CHECK(std::fabs(found.centroids[k] - expected[k]) < 1e-4);
    CHECK(found.mse == doctest::Approx(1.0 - 2.0 / std::numbers::pi).epsilon(1e-3));
}

TEST_CASE("lloyd_max: samples come near the density they are drawn from") {
    std::uint64_t state = 1;
    std::vector<double> values(40000);
    for (auto& value : values) value = normal_sample(state);
    for (const std::size_t levels : {4u, 8u, 32u}) {
        const auto exact = hlwq::lloyd_max(hlwq::gaussian{}, {.levels = levels});
        const hlwq::samples data(values);
        const auto found = hlwq::lloyd_max(data, {.levels = levels, .relaxation = 1.8});
        CAPTURE(levels);
        CHECK(found.converged);
        CHECK(std::is_sorted(found.centroids.begin(), found.centroids.end()));
        // The reported error is that of coding every sample, and not above that of the exact levels on these samples.
        const auto coded = [&](const std::vector<double>& centroids) {
            double sum = 0.0;
            for (const double x : values) {
                double best = 1e300;
                for (const double centroid : centroids) best = std::min(best, (x - centroid) * (x - centroid));
                sum += best;
            }
            return sum / static_cast<double>(values.size());
        };
        CHECK(found.mse == doctest::Approx(coded(found.centroids)).epsilon(1e-10));
        CHECK(found.mse <= coded(exact.centroids));
        // Noise of a centroid: spread of its cell, at most 0.6, over the square root of its at least 60 samples.
        for (std::size_t k = 0; k < levels; ++k) CHECK(std::fabs(found.centroids[k] - exact.centroids[k]) < 0.25);

        const auto mirrored = hlwq::lloyd_max(hlwq::samples(values, {}, true), {.levels = levels});
        for (std::size_t k = 0; k < levels; ++k) CHECK(mirrored.centroids[k] == -mirrored.centroids[levels - 1 - k]);
        CHECK(mirrored.mse == doctest::Approx(exact.mse).epsilon(0.05));
    }
}

TEST_CASE("lloyd_max: as many levels as distinct samples leave no error") {
    const std::vector<double> values = {5.0, 1.0, 1.0, 1.0, -2.0, 5.0, 9.0};
    const auto exact = hlwq::lloyd_max(hlwq::samples(values), {.levels = 4});
    CHECK(exact.converged);
    CHECK(exact.centroids == std::vector<double>{-2.0, 1.0, 5.0, 9.0});
    CHECK(exact.mse < 1e-15);
    CHECK_THROWS_AS(hlwq::lloyd_max(hlwq::samples(values), {.levels = 5}), hlwq::value_error);

    // Magnitudes 1, 2, 5, 9 with both signs.
    CHECK(hlwq::lloyd_max(hlwq::samples(values, {}, true), {.levels = 8}).mse < 1e-15);
    CHECK_THROWS_AS(hlwq::lloyd_max(hlwq::samples(values, {}, true), {.levels = 10}), hlwq::value_error);

    // Zeros belong to no half; the levels stay distinct.
    const std::vector<double> with_zeros = {0.0, 0.0, 0.0, 0.0, 3.0};
    const auto even = hlwq::lloyd_max(hlwq::samples(with_zeros, {}, true), {.levels = 2});
    CHECK(even.centroids[0] < even.centroids[1]);
    const auto odd = hlwq::lloyd_max(hlwq::samples(with_zeros, {}, true), {.levels = 3});
    CHECK(odd.centroids == std::vector<double>{-3.0, 0.0, 3.0});
}

TEST_CASE("lloyd_max: many levels for data in heaps stay distinct") {
    std::vector<double> heaps;
    for (int k = 0; k < 20; ++k)
        for (int copies = 0; copies < (k % 5 == 0 ? 500 : 1); ++copies) heaps.push_back(k * k);
    for (const std::size_t levels : {2u, 7u, 16u, 20u}) {
        const auto found = hlwq::lloyd_max(hlwq::samples(heaps), {.levels = levels});
        CAPTURE(levels);
        CHECK(found.converged);
        CHECK(std::adjacent_find(found.centroids.begin(), found.centroids.end(),
                                 [](double a, double b) { return !(a < b); }) == found.centroids.end());
    }
}

TEST_CASE("lloyd_max: a fine histogram of a density gives its levels") {
    const hlwq::gaussian normal;
    std::vector<double> counts(4000);
    for (std::size_t k = 0; k < counts.size(); ++k) {
        const double a = -8.0 + 0.004 * static_cast<double>(k);
        counts[k] = 1e6 * (normal.cdf(a + 0.004) - normal.cdf(a));
    }
    const auto found = hlwq::lloyd_max(hlwq::histogram(-8.0, 8.0, counts), {.levels = 32});
    const auto exact = hlwq::lloyd_max(normal, {.levels = 32});
    CHECK(found.converged);
    // Evenness within a bin of width h changes moments by h^2.
    for (std::size_t k = 0; k < 32; ++k) CHECK(std::fabs(found.centroids[k] - exact.centroids[k]) < 1e-4);
    CHECK(found.mse == doctest::Approx(exact.mse).epsilon(1e-4));
}

TEST_CASE("lloyd_max: options out of range are refused") {
    const hlwq::gaussian normal;
    CHECK_THROWS_AS(hlwq::lloyd_max(normal, {.levels = 0}), hlwq::shape_error);
    CHECK_THROWS_AS(hlwq::lloyd_max(normal, {.levels = 70000}), hlwq::shape_error);
    CHECK_THROWS_AS(hlwq::lloyd_max(normal, {.tolerance = -1.0}), hlwq::shape_error);
    CHECK_THROWS_AS(hlwq::lloyd_max(normal, {.relaxation = 2.0}), hlwq::shape_error);
    CHECK_THROWS_AS(hlwq::lloyd_max(normal, {.relaxation = 0.0}), hlwq::shape_error);
    const auto flat = [](double) { return 1.0; };
    CHECK_THROWS_AS(hlwq::lloyd_max(hlwq::density{flat, flat, 1.0, 1.0}), hlwq::shape_error);
}
