// hlwq/distributions.hpp — what a codebook can be fitted to: densities, samples, histograms
//
// A distribution is any object `d` with
//   d.lower, d.upper, d.symmetric     ends of the support, possibly infinite; whether it is symmetric about 0
//   d.pdf(x), d.cdf(x)
// and, if it has them,
//   d.sf(x)                   1 - cdf(x) without cancellation
//   d.partial_expectation(x)  integral of t pdf(t) from x to the upper end; gives the outer cells in closed form
//   d.quantile(p)             inverse of cdf; otherwise by bisection
//   d.moments(a, b)           mass, mean and deviation of (a, b]; otherwise by quadrature
// or, instead of pdf and cdf, moments and quantile, as samples have.
//
//   gaussian, laplace   mean 0, variance 1
//   sphere_marginal     a coordinate of a randomly rotated vector of n weights
//   density             from two callables
//   samples, histogram  from data; throw value_error for data without a distribution
//
// Example
//   hlwq::density exponential{[](double x) { return std::exp(-x); }, [](double x) { return 1 - std::exp(-x); }, 0.0};
#pragma once

#include "hlwq/config.hpp"
#include "hlwq/error.hpp"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <initializer_list>
#include <limits>
#include <numbers>
#include <span>
#include <string>
#include <utility>
#include <vector>

namespace hlwq {

/// Mass, mean and integral of (x - mean)^2 over a cell.
struct cell_moments {
    double mass = 0.0;
    double mean = 0.0;
    double deviation = 0.0;
};

inline namespace HLWQ_CODE_NAMESPACE {

/// x with P(N(0,1) <= x) = p for 0 < p < 1, to 1e-15 relative: Wichura, algorithm AS 241 (PPND16).
inline double inverse_normal_cdf(double p) noexcept {
    struct rational {
        double top[8], bottom[8];
        double operator()(double r) const noexcept {
            double a = top[7];
            double b = bottom[7];
            for (std::size_t k = 7; k-- > 0;) {
                a = a * r + top[k];
                b = b * r + bottom[k];
            }
            return a / b;
        }
    };
    // clang-format off
    constexpr rational middle = {
        {3.3871328727963666080e0, 1.3314166789178437745e2, 1.9715909503065514427e3, 1.3731693765509461125e4,
         4.5921953931549871457e4, 6.7265770927008700853e4, 3.3430575583588128105e4, 2.5090809287301226727e3},
        {1.0, 4.2313330701600911252e1, 6.8718700749205790830e2, 5.3941960214247511077e3,
         2.1213794301586595867e4, 3.9307895800092710610e4, 2.8729085735721942674e4, 5.2264952788528545610e3}};
    constexpr rational tail = {
        {1.42343711074968357734e0, 4.63033784615654529590e0, 5.76949722146069140550e0, 3.64784832476320460504e0,
         1.27045825245236838258e0, 2.41780725177450611770e-1, 2.27238449892691845833e-2, 7.74545014278341407640e-4},
        {1.0, 2.05319162663775882187e0, 1.67638483018380384940e0, 6.89767334985100004550e-1,
         1.48103976427480074590e-1, 1.51986665636164571966e-2, 5.47593808499534494600e-4, 1.05075007164441684324e-9}};
    constexpr rational far_tail = {
        {6.65790464350110377720e0, 5.46378491116411436990e0, 1.78482653991729133580e0, 2.96560571828504891230e-1,
         2.65321895265761230930e-2, 1.24266094738807843860e-3, 2.71155556874348757815e-5, 2.01033439929228813265e-7},
        {1.0, 5.99832206555887937690e-1, 1.36929880922735805310e-1, 1.48753612908506148525e-2,
         7.86869131145613259100e-4, 1.84631831751005468180e-5, 1.42151175831644588870e-7, 2.04426310338993978564e-15}};
    // clang-format on
    const double q = p - 0.5;
    if (std::fabs(q) <= 0.425) return q * middle(0.180625 - q * q);
    const double r = std::sqrt(-std::log(q < 0.0 ? p : 1.0 - p));
    const double x = r <= 5.0 ? tail(r - 1.6) : far_tail(r - 5.0);
    return q < 0.0 ? -x : x;
}

/// N(0,1).
struct gaussian {
    static constexpr double lower = -std::numeric_limits<double>::infinity();
    static constexpr double upper = std::numeric_limits<double>::infinity();
    static constexpr bool symmetric = true;

    double pdf(double x) const noexcept {
        return std::exp(-0.5 * x * x) * (std::numbers::inv_sqrtpi / std::numbers::sqrt2);
    }
    double cdf(double x) const noexcept { return 0.5 * std::erfc(-x / std::numbers::sqrt2); }
    double sf(double x) const noexcept { return 0.5 * std::erfc(x / std::numbers::sqrt2); }
    double partial_expectation(double x) const noexcept { return pdf(x); }
    double quantile(double p) const noexcept { return inverse_normal_cdf(p); }
};

/// Laplace's distribution with mean 0 and variance 1: pdf exp(-sqrt(2) |x|) / sqrt(2).
struct laplace {
    static constexpr double lower = -std::numeric_limits<double>::infinity();
    static constexpr double upper = std::numeric_limits<double>::infinity();
    static constexpr bool symmetric = true;

    double pdf(double x) const noexcept { return std::exp(-std::numbers::sqrt2 * std::fabs(x)) / std::numbers::sqrt2; }
    double cdf(double x) const noexcept { return sf(-x); }
    double sf(double x) const noexcept {
        const double tail = 0.5 * std::exp(-std::numbers::sqrt2 * std::fabs(x));
        return x < 0.0 ? 1.0 - tail : tail;
    }
    double partial_expectation(double x) const noexcept {
        if (std::isinf(x)) return 0.0;
        const double distance = std::fabs(x);
        return 0.5 * std::exp(-std::numbers::sqrt2 * distance) * (distance + 1.0 / std::numbers::sqrt2);
    }
    double quantile(double p) const noexcept {
        return p < 0.5 ? std::log(2.0 * p) / std::numbers::sqrt2 : -std::log(2.0 * (1.0 - p)) / std::numbers::sqrt2;
    }
};

/// sqrt(n) times one coordinate of a point that is uniform on the unit sphere of R^n, n >= 3: what a coordinate of a
/// randomly rotated, normalised block of n weights is. pdf proportional to (1 - x^2/n)^((n-3)/2) for |x| < sqrt(n);
/// uniform for n = 3, N(0,1) in the limit, variance 1 always.
class sphere_marginal {
  public:
    double lower, upper;
    static constexpr bool symmetric = true;

    explicit sphere_marginal(std::size_t n) : lower(0.0), upper(0.0), n_(static_cast<double>(n)), peak_(0.0) {
        HLWQ_EXPECTS(n >= 3, shape_error, "dimension of a sphere marginal", "3 or more", n);
        upper = std::sqrt(n_);
        lower = -upper;
        // pdf(0) = Gamma(z + 1/2) / Gamma(z) / sqrt(pi n) with z = (n-1)/2. The ratio by its series in 1/z, whose first
        // omitted term is below 1e-16 from 128 on, and by recurrence below; lgamma would lose three digits at n = 4096.
        double z = 0.5 * (n_ - 1.0);
        double factor = 1.0;
        for (; z < 128.0; z += 1.0) factor *= z / (z + 0.5);
        const double u = 1.0 / z;
        const double series =
            1.0 + u * (-1.0 / 8 + u * (1.0 / 128 + u * (5.0 / 1024 + u * (-21.0 / 32768 + u * (-399.0 / 262144)))));
        peak_ = factor * std::sqrt(z) * series / std::sqrt(std::numbers::pi * n_);
    }

    double pdf(double x) const noexcept { return std::fabs(x) < upper ? peak_ * power(x, 0.5 * (n_ - 3.0)) : 0.0; }
    double cdf(double x) const noexcept { return sf(-x); }
    /// Half of the regularised incomplete beta function I_y((n-1)/2, 1/2) with y = 1 - x^2/n.
    double sf(double x) const noexcept {
        if (std::fabs(x) >= upper) return x < 0.0 ? 1.0 : 0.0;
        const double square = x * x / n_;
        const double a = 0.5 * (n_ - 1.0);
        // x pdf(x) / 2 is the factor before either continued fraction, up to its first parameter.
        const double front = std::fabs(x) * peak_ * power(x, a);
        const bool far = 1.0 - square < (a + 1.0) / (a + 2.5);  // the side on which the fraction converges fast
        const double tail =
            far ? 0.5 * front / a * fraction(1.0 - square, a, 0.5) : 0.5 - front * fraction(square, 0.5, a);
        return x < 0.0 ? 1.0 - tail : tail;
    }
    double partial_expectation(double x) const noexcept {
        return std::fabs(x) < upper ? peak_ * n_ / (n_ - 1.0) * power(x, 0.5 * (n_ - 1.0)) : 0.0;
    }

  private:
    /// (1 - x^2/n)^exponent
    double power(double x, double exponent) const noexcept { return std::exp(exponent * std::log1p(-x * x / n_)); }

    /// The continued fraction of I_y(a, b), by Lentz's method.
    static double fraction(double y, double a, double b) noexcept {
        constexpr double tiny = 1e-300;
        double c = 1.0;
        double d = 1.0 - (a + b) * y / (a + 1.0);
        d = 1.0 / (std::fabs(d) < tiny ? tiny : d);
        double h = d;
        for (int k = 1; k < 10'000; ++k) {
            const double even = k * (b - k) * y / ((a + 2 * k - 1.0) * (a + 2 * k));
            const double odd = -(a + k) * (a + b + k) * y / ((a + 2 * k) * (a + 2 * k + 1.0));
            double step = 1.0;
            for (const double term : {even, odd}) {
                d = 1.0 + term * d;
                c = 1.0 + term / c;
                d = 1.0 / (std::fabs(d) < tiny ? tiny : d);
                if (std::fabs(c) < tiny) c = tiny;
                step = c * d;
                h *= step;
            }
            if (std::fabs(step - 1.0) < 1e-16) break;
        }
        return h;
    }

    double n_, peak_;
};

/// A distribution from two callables: density{pdf, cdf} or density{pdf, cdf, lower, upper, symmetric}.
template <class Pdf, class Cdf>
struct density {
    Pdf pdf;
    Cdf cdf;
    double lower = -std::numeric_limits<double>::infinity();
    double upper = std::numeric_limits<double>::infinity();
    bool symmetric = false;
};
template <class Pdf, class Cdf, class... Rest>
density(Pdf, Cdf, Rest...) -> density<Pdf, Cdf>;

/// Samples as a distribution, optionally weighted. A cell is a half-open interval (a, b].
class samples {
  public:
    static constexpr double lower = -std::numeric_limits<double>::infinity();
    static constexpr double upper = std::numeric_limits<double>::infinity();
    bool symmetric;

    /// Copies and sorts `values`. `weights` is empty (all 1) or as long as `values`; a weight is finite and not
    /// negative. `symmetric` takes every sample with both signs. Throws shape_error or value_error.
    explicit samples(std::span<const double> values, std::span<const double> weights = {}, bool symmetric_ = false)
        : symmetric(symmetric_) {
        HLWQ_EXPECTS(weights.empty() || weights.size() == values.size(), shape_error, "weights of samples",
                     values.size(), weights.size());
        std::vector<std::pair<double, double>> sorted;
        for (std::size_t k = 0; k < values.size(); ++k) {
            const double weight = weights.empty() ? 1.0 : weights[k];
            HLWQ_EXPECTS(std::isfinite(values[k]), value_error, "sample " + std::to_string(k), "a finite number",
                         values[k]);
            HLWQ_EXPECTS(weight >= 0.0 && std::isfinite(weight), value_error, "weight of sample " + std::to_string(k),
                         "a finite number that is not negative", weight);
            if (weight > 0.0) sorted.emplace_back(symmetric ? std::fabs(values[k]) : values[k], weight);
        }
        HLWQ_EXPECTS(!sorted.empty(), value_error, "samples", "at least one of positive weight", sorted.size());
        std::sort(sorted.begin(), sorted.end());
        // Cells are differences of running sums, so these are kept to a few more digits.
        long double total = 0.0L;
        for (const auto& [value, weight] : sorted) total += static_cast<long double>(weight);
        if (symmetric) total *= 2.0L;
        long double mass = 0.0L;
        long double first = 0.0L;
        long double second = 0.0L;
        sums_.push_back({});
        for (const auto& [value, weight] : sorted) {
            const long double share = static_cast<long double>(weight) / total;
            const auto x = static_cast<long double>(value);
            values_.push_back(value);
            sums_.push_back({mass += share, first += share * x, second += share * x * x});
        }
    }

    explicit samples(std::span<const float> values, std::span<const double> weights = {}, bool symmetric_ = false)
        : samples(std::vector<double>(values.begin(), values.end()), weights, symmetric_) {}

    cell_moments moments(double a, double b) const noexcept {
        const auto& below_a = sums_[rank(a)];
        const auto& below_b = sums_[rank(b)];
        const long double mass = below_b.mass - below_a.mass;
        if (!(mass > 0.0L)) return {};
        const long double mean = (below_b.first - below_a.first) / mass;
        const long double deviation = below_b.second - below_a.second - mean * mean * mass;
        return {static_cast<double>(mass), static_cast<double>(mean), std::max(0.0, static_cast<double>(deviation))};
    }
    double quantile(double p) const noexcept {
        const long double mass = static_cast<long double>(symmetric ? std::fabs(p - 0.5) : p);
        const auto at = std::lower_bound(sums_.begin() + 1, sums_.end(), mass,
                                         [](const running& sum, long double m) { return sum.mass < m; });
        const auto index = std::min(static_cast<std::size_t>(at - sums_.begin()), values_.size());
        return symmetric && p < 0.5 ? -values_[index - 1] : values_[index - 1];
    }

    /// Moves ascending points to distinct samples nearby (positive ones if symmetric), so that no cell is empty.
    /// Throws value_error if there are too few.
    void settle(std::span<double> points) const {
        std::vector<double> distinct(values_);
        distinct.erase(std::unique(distinct.begin(), distinct.end()), distinct.end());
        if (symmetric && distinct.front() == 0.0) distinct.erase(distinct.begin());
        HLWQ_EXPECTS(points.size() <= distinct.size(), value_error,
                     symmetric ? "distinct magnitudes of samples" : "distinct samples",
                     std::to_string(points.size()) + " or more", distinct.size());
        std::size_t next = 0;
        for (std::size_t k = 0; k < points.size(); ++k) {
            const auto near = std::lower_bound(distinct.begin(), distinct.end(), points[k]) - distinct.begin();
            const std::size_t last = distinct.size() - (points.size() - k);  // leaves one for each later point
            next = std::min(std::max(static_cast<std::size_t>(near), next), last);
            points[k] = distinct[next++];
        }
    }

  private:
    struct running {
        long double mass = 0.0L;
        long double first = 0.0L;
        long double second = 0.0L;
    };

    std::size_t rank(double x) const noexcept {
        return static_cast<std::size_t>(std::upper_bound(values_.begin(), values_.end(), x) - values_.begin());
    }

    std::vector<double> values_;
    std::vector<running> sums_;
};

/// Counts over equal bins of [lower, upper], even within a bin.
class histogram {
  public:
    double lower, upper;
    static constexpr bool symmetric = false;

    /// Throws shape_error unless lower < upper, both finite; value_error unless the counts are finite, none negative
    /// and not all zero.
    histogram(double lower_, double upper_, std::span<const double> counts) : lower(lower_), upper(upper_) {
        HLWQ_EXPECTS(std::isfinite(lower) && std::isfinite(upper) && lower < upper, shape_error, "range of a histogram",
                     "lower < upper", std::to_string(lower) + " and " + std::to_string(upper));
        long double total = 0.0L;
        for (std::size_t k = 0; k < counts.size(); ++k) {
            HLWQ_EXPECTS(counts[k] >= 0.0 && std::isfinite(counts[k]), value_error, "count of bin " + std::to_string(k),
                         "a finite number that is not negative", counts[k]);
            total += static_cast<long double>(counts[k]);
        }
        HLWQ_EXPECTS(total > 0.0L, value_error, "histogram", "at least one count", 0);
        width_ = (upper - lower) / static_cast<double>(counts.size());
        running sum;
        for (std::size_t k = 0;; ++k) {
            sums_.push_back(sum);
            if (k == counts.size()) break;
            const long double share = static_cast<long double>(counts[k]) / total;
            sum = advance(sum, share, edge(k), edge(k + 1));
        }
    }

    double pdf(double x) const noexcept {
        if (!(x >= lower && x <= upper)) return 0.0;
        const std::size_t bin = bin_of(x);
        return static_cast<double>(sums_[bin + 1].mass - sums_[bin].mass) / width_;
    }
    cell_moments moments(double a, double b) const noexcept {
        const running below_a = up_to(a);
        const running below_b = up_to(b);
        const long double mass = below_b.mass - below_a.mass;
        if (!(mass > 0.0L)) return {};
        const long double mean = (below_b.first - below_a.first) / mass;
        const long double deviation = below_b.second - below_a.second - mean * mean * mass;
        return {static_cast<double>(mass), static_cast<double>(mean), std::max(0.0, static_cast<double>(deviation))};
    }
    double quantile(double p) const noexcept {
        const auto mass = static_cast<long double>(p);
        const auto at = std::lower_bound(sums_.begin() + 1, sums_.end() - 1, mass,
                                         [](const running& sum, long double m) { return sum.mass < m; });
        const auto bin = static_cast<std::size_t>(at - sums_.begin()) - 1;
        const long double inside = sums_[bin + 1].mass - sums_[bin].mass;
        const double part = inside > 0.0L ? static_cast<double>((mass - sums_[bin].mass) / inside) : 0.0;
        return std::min(upper, edge(bin) + width_ * std::min(1.0, part));
    }

  private:
    struct running {
        long double mass = 0.0L;
        long double first = 0.0L;
        long double second = 0.0L;
    };

    double edge(std::size_t k) const noexcept { return lower + width_ * static_cast<double>(k); }

    std::size_t bin_of(double x) const noexcept {
        return std::min(static_cast<std::size_t>((x - lower) / width_), sums_.size() - 2);
    }

    static running advance(const running& sum, long double mass, double from, double to) noexcept {
        const auto a = static_cast<long double>(from);
        const auto b = static_cast<long double>(to);
        return {sum.mass + mass, sum.first + mass * (a + b) / 2.0L, sum.second + mass * (a * a + a * b + b * b) / 3.0L};
    }

    running up_to(double x) const noexcept {
        if (!(x > lower)) return {};
        if (x >= upper) return sums_.back();
        const std::size_t bin = bin_of(x);
        const auto part = static_cast<long double>((x - edge(bin)) / width_);
        return advance(sums_[bin], (sums_[bin + 1].mass - sums_[bin].mass) * part, edge(bin), x);
    }

    double width_ = 0.0;
    std::vector<running> sums_;
};

}  // namespace HLWQ_CODE_NAMESPACE
}  // namespace hlwq
