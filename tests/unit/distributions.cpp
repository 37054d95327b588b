#include "hlwq/distributions.hpp"

#include <doctest/doctest.h>

#include <cmath>
#include <cstddef>
#include <limits>
#include <numbers>
#include <vector>

namespace {

// Integral of f over [a, b] by Simpson's rule; f is smooth here and the error below 1e-12.
template <class Function>
double integral(const Function& f, double a, double b) {
    constexpr int steps = 4000;
    const double h = (b - a) / steps;
    double sum = f(a) + f(b);
    for (int k = 1; k < steps; ++k) sum += (k % 2 == 1 ? 4.0 : 2.0) * f(a + h * k);
    return sum * h / 3.0;
}

template <class Distribution>
void check_consistent(const Distribution& d, double a, double b) {
    CAPTURE(a);
    CAPTURE(b);
    const auto pdf = [&](double x) { return d.pdf(x); };
    const auto first = [&](double x) { return x * d.pdf(x); };
    CHECK(std::fabs(d.cdf(b) - d.cdf(a) - integral(pdf, a, b)) < 1e-11);
    CHECK(std::fabs(d.sf(a) - d.sf(b) - integral(pdf, a, b)) < 1e-11);
    CHECK(std::fabs(d.partial_expectation(a) - d.partial_expectation(b) - integral(first, a, b)) < 1e-11);
}

}  // namespace

TEST_CASE("distributions: the inverse normal cdf inverts erfc") {
    // A relative error e of p moves x by e p / pdf(x); that and 4 ulp of x are allowed.
    const hlwq::gaussian normal;
    for (const double p :
         {1e-300, 1e-100, 1e-20, 1e-9, 1e-4, 0.01, 0.0749, 0.0751, 0.3, 0.4999, 0.5, 0.6, 0.925, 0.99}) {
        const double x = hlwq::inverse_normal_cdf(p);
        CAPTURE(p);
        const double back = normal.cdf(x);
        CHECK(std::fabs(back - p) <= 1e-15 * p + 1e-15 * (1.0 + std::fabs(x)) * normal.pdf(x));
    }
    CHECK(hlwq::inverse_normal_cdf(0.5) == 0.0);
    CHECK(hlwq::inverse_normal_cdf(0.975) == doctest::Approx(1.959963984540054).epsilon(1e-15));
    CHECK(hlwq::inverse_normal_cdf(1e-20) == doctest::Approx(-9.262340089798408).epsilon(1e-15));
    for (const double p : {0.125, 0.25, 0.375})
        CHECK(hlwq::inverse_normal_cdf(p) == -hlwq::inverse_normal_cdf(1.0 - p));
}

TEST_CASE("distributions: pdf, cdf and partial expectation belong together") {
    check_consistent(hlwq::gaussian{}, -3.0, 0.7);
    check_consistent(hlwq::gaussian{}, 4.0, 9.0);
    check_consistent(hlwq::laplace{}, 0.0, 2.5);
    check_consistent(hlwq::laplace{}, -4.0, -1.0);
    for (const std::size_t n : {5u, 8u, 33u, 128u, 1024u, 4096u}) {
        const hlwq::sphere_marginal d(n);
        CAPTURE(n);
        check_consistent(d, -1.9, 0.4);
        check_consistent(d, 0.3, 2.1);
        check_consistent(d, 1.5, 2.2);
        CHECK(d.cdf(0.0) == 0.5);
        CHECK(d.cdf(d.upper) == 1.0);
        CHECK(d.sf(d.upper) == 0.0);
        // A tail that fails by cancellation would lose its relative accuracy.
        const double tail = integral([&](double x) { return d.pdf(x); }, 2.1, std::fmin(d.upper, 12.0));
        CHECK(d.sf(2.1) == doctest::Approx(tail).epsilon(1e-9));
    }
    for (const double p : {1e-12, 0.1, 0.5, 0.8})
        CHECK(hlwq::laplace{}.cdf(hlwq::laplace{}.quantile(p)) == doctest::Approx(p));
}

TEST_CASE("distributions: unit variance") {
    const auto variance = [](const auto& d, double end) {
        return integral([&](double x) { return 2.0 * x * x * d.pdf(x); }, 0.0, end);
    };
    CHECK(variance(hlwq::gaussian{}, 12.0) == doctest::Approx(1.0).epsilon(1e-10));
    CHECK(variance(hlwq::laplace{}, 30.0) == doctest::Approx(1.0).epsilon(1e-9));
    for (const std::size_t n : {5u, 6u, 16u, 128u, 4096u})
        CHECK(variance(hlwq::sphere_marginal(n), std::fmin(std::sqrt(static_cast<double>(n)), 12.0)) ==
              doctest::Approx(1.0).epsilon(n < 7 ? 1e-6 : 1e-10));
}

TEST_CASE("distributions: the sphere marginal is uniform for n = 3 and normal for large n") {
    const hlwq::sphere_marginal flat(3);
    for (const double x : {-1.7, -0.3, 0.0, 1.0}) {
        CHECK(flat.pdf(x) == doctest::Approx(0.5 / std::numbers::sqrt3).epsilon(1e-14));
        CHECK(flat.cdf(x) == doctest::Approx(0.5 + 0.5 * x / std::numbers::sqrt3).epsilon(1e-13));
    }
    CHECK(flat.pdf(1.8) == 0.0);
    // The density differs from the normal one by a factor 1 - (x^4 - 6 x^2 + 3) / (4 n) to first order.
    for (const double x : {0.0, 0.5, 1.5, 2.5}) {
        const double normal = hlwq::gaussian{}.pdf(x);
        const double first = -(x * x * x * x - 6.0 * x * x + 3.0) / 4.0;
        for (const std::size_t n : {1000u, 1000000u})
            CHECK((hlwq::sphere_marginal(n).pdf(x) / normal - 1.0) * static_cast<double>(n) ==
                  doctest::Approx(first).epsilon(0.02));
    }
    CHECK_THROWS_AS(hlwq::sphere_marginal(2), hlwq::shape_error);
}

TEST_CASE("distributions: samples") {
    const std::vector<double> values = {3.0, -1.0, 2.0, 2.0, 7.0};
    const hlwq::samples plain(values);
    // Half-open cells: the lower end belongs to the cell below.
    const auto cell = plain.moments(-1.0, 3.0);
    CHECK(cell.mass == doctest::Approx(0.6));
    CHECK(cell.mean == doctest::Approx(7.0 / 3.0));
    CHECK(cell.deviation == doctest::Approx((2.0 / 9.0 + 4.0 / 9.0) / 5.0));
    CHECK(plain.moments(4.0, 5.0).mass == 0.0);
    CHECK(plain.quantile(0.1) == -1.0);
    CHECK(plain.quantile(0.5) == 2.0);
    CHECK(plain.quantile(1.0) == 7.0);

    const std::vector<double> once = {3.0, -1.0, 2.0, 7.0};
    const std::vector<double> weights = {1.0, 1.0, 2.0, 1.0};
    const auto weighted = hlwq::samples(once, weights).moments(-1.0, 3.0);
    CHECK(weighted.mass == doctest::Approx(cell.mass));
    CHECK(weighted.mean == doctest::Approx(cell.mean));
    CHECK(weighted.deviation == doctest::Approx(cell.deviation));

    const hlwq::samples both_signs(values, {}, true);
    CHECK(both_signs.moments(0.0, 1.5).mass == doctest::Approx(0.1));
    CHECK(both_signs.quantile(0.5 + 0.25) == 2.0);
    CHECK(both_signs.quantile(0.5 - 0.25) == -2.0);

    const std::vector<float> floats(values.begin(), values.end());
    CHECK(hlwq::samples(floats).moments(-1.0, 3.0).mean == cell.mean);
}

TEST_CASE("distributions: data without a distribution are refused") {
    using list = std::vector<double>;
    constexpr double nan = std::numeric_limits<double>::quiet_NaN();
    CHECK_THROWS_AS(hlwq::samples(list{}), hlwq::value_error);
    CHECK_THROWS_AS(hlwq::samples(list{1.0, nan}), hlwq::value_error);
    CHECK_THROWS_AS(hlwq::samples(list{1.0, 2.0}, list{1.0}), hlwq::shape_error);
    CHECK_THROWS_AS(hlwq::samples(list{1.0, 2.0}, list{1.0, -1.0}), hlwq::value_error);
    CHECK_THROWS_AS(hlwq::samples(list{1.0, 2.0}, list{0.0, 0.0}), hlwq::value_error);
    CHECK_THROWS_AS(hlwq::histogram(1.0, 1.0, list{1.0}), hlwq::shape_error);
    CHECK_THROWS_AS(hlwq::histogram(0.0, nan, list{1.0}), hlwq::shape_error);
    CHECK_THROWS_AS(hlwq::histogram(0.0, 1.0, list{}), hlwq::value_error);
    CHECK_THROWS_AS(hlwq::histogram(0.0, 1.0, list{0.0, 0.0}), hlwq::value_error);
    CHECK_THROWS_AS(hlwq::histogram(0.0, 1.0, list{2.0, -1.0}), hlwq::value_error);
}

TEST_CASE("distributions: a histogram is even within a bin") {
    const std::vector<double> counts = {1.0, 0.0, 3.0};
    const hlwq::histogram d(0.0, 3.0, counts);
    CHECK(d.pdf(0.5) == doctest::Approx(0.25));
    CHECK(d.pdf(1.5) == 0.0);
    CHECK(d.pdf(3.5) == 0.0);
    // Half of the first bin and a third of the last.
    const auto cell = d.moments(0.5, 2.0 + 1.0 / 3.0);
    CHECK(cell.mass == doctest::Approx(0.375));
    CHECK(cell.mean == doctest::Approx((0.125 * 0.75 + 0.25 * (2.0 + 1.0 / 6.0)) / 0.375));
    const auto even = d.moments(2.0, 3.0);
    CHECK(even.mean == doctest::Approx(2.5));
    CHECK(even.deviation == doctest::Approx(0.75 / 12.0));
    CHECK(d.quantile(0.125) == doctest::Approx(0.5));
    CHECK(d.quantile(0.625) == doctest::Approx(2.5));
    CHECK(d.quantile(1.0) == doctest::Approx(3.0));
}
