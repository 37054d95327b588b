// hlwq/lloyd_max.hpp — the scalar quantizer of least mean square error (Lloyd 1957, Max 1960)
//
// Optimal levels are a fixed point: every centroid is the mean of its cell, every boundary lies midway between two
// centroids. Lloyd's iteration walks there in steps whose error shrinks by a factor near 1 - (pi/levels)^2; Newton's
// method on the same equations, which are tridiagonal, needs about five steps for any number of levels.
//
// The distribution is any object that distributions.hpp describes, one of those there or your own. Inner cells are
// integrated numerically even where there is a closed form: in a narrow cell the differences of closed forms cancel.
//
//   cost        256 levels of gaussian to 1e-13: about a millisecond; memory for a few doubles per level
//   throws      shape_error for unusable options; value_error for fewer distinct samples than levels
//
// If the density is not log-concave there can be several fixed points; the result is a local minimum.
//
// Example
//   const auto best = hlwq::lloyd_max(hlwq::gaussian{}, {.levels = 32});   // best.centroids, best.mse
#pragma once

#include "hlwq/config.hpp"
#include "hlwq/error.hpp"
#include "hlwq/distributions.hpp"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <initializer_list>
#include <limits>
#include <utility>
#include <vector>

namespace hlwq {

struct lloyd_max_options {
    std::size_t levels = 32;
    double tolerance = 1e-13;     // stop when Lloyd's next step moves no centroid by more, relative to the largest one
    int max_iterations = 10'000;  // where that is not reached, the result says so
    double relaxation = 1.0;      // length of a step of Lloyd, in (0, 2); 1.8 saves most of the steps
    bool newton = true;           // Newton's steps where there is a density; false is the textbook's iteration
};

struct lloyd_max_result {
    std::vector<double> centroids;   // ascending
    std::vector<double> boundaries;  // levels - 1 midpoints
    int iterations = 0;
    double last_move = 0.0;  // of Lloyd's step at `centroids`, in units of the largest centroid
    bool converged = false;  // last_move <= tolerance
    double mse = 0.0;        // mean square error
};

inline namespace HLWQ_CODE_NAMESPACE {

namespace detail {

/// Mass and first two moments about a reference point.
struct raw_moments {
    double value[3] = {};
};

/// Ten-point Gauss-Legendre on [a, b] of pdf(x) (x - about)^k, k = 0, 1, 2; `map(t)` gives {x, dx/dt}.
template <class Distribution, class Map>
raw_moments gauss_legendre(const Distribution& d, const Map& map, double a, double b, double about) noexcept {
    constexpr double node[5] = {0.1488743389816312, 0.4333953941292472, 0.6794095682990244, 0.8650633666889845,
                                0.9739065285171717};
    constexpr double weight[5] = {0.2955242247147529, 0.2692667193099963, 0.2190863625159820, 0.1494513491505806,
                                  0.0666713443086881};
    const double middle = 0.5 * (a + b);
    const double half = 0.5 * (b - a);
    raw_moments sum;
    for (std::size_t k = 0; k < 5; ++k) {
        for (const double side : {-half, half}) {
            const auto [x, slope] = map(middle + side * node[k]);
            double term = d.pdf(x) * slope * half * weight[k];
            for (auto& moment : sum.value) {
                moment += term;
                term *= x - about;
            }
        }
    }
    return sum;
}

/// Halves [a, b] until both halves together agree with the whole. `scale` is the size that the moments are to be
/// accurate to; it grows with what is found, so that a first estimate that missed a peak cannot demand too much.
template <class Distribution, class Map>
raw_moments integrate(const Distribution& d, const Map& map, double a, double b, double about, const raw_moments& whole,
                      raw_moments& scale, int depth) noexcept {
    constexpr double relative = 4e-15;
    constexpr int deepest = 40;
    const double middle = 0.5 * (a + b);
    const raw_moments left = gauss_legendre(d, map, a, middle, about);
    const raw_moments right = gauss_legendre(d, map, middle, b, about);
    raw_moments both;
    bool agreed = true;
    for (std::size_t k = 0; k < 3; ++k) {
        both.value[k] = left.value[k] + right.value[k];
        const double size = std::fabs(left.value[k]) + std::fabs(right.value[k]);
        scale.value[k] = std::max(scale.value[k], size);
        if (!(std::fabs(both.value[k] - whole.value[k]) <= relative * scale.value[k])) agreed = false;
    }
    if (agreed || depth == deepest) return both;
    const raw_moments lower = integrate(d, map, a, middle, about, left, scale, depth + 1);
    const raw_moments upper = integrate(d, map, middle, b, about, right, scale, depth + 1);
    for (std::size_t k = 0; k < 3; ++k) both.value[k] = lower.value[k] + upper.value[k];
    return both;
}

template <class Distribution>
cell_moments quadrature(const Distribution& d, double a, double b) noexcept {
    struct point {
        double x, slope;
    };
    raw_moments sum;
    double about = 0.0;
    const auto add = [&](const auto& map, double from, double to) {
        raw_moments scale;
        const raw_moments whole = gauss_legendre(d, map, from, to, about);
        const raw_moments part = integrate(d, map, from, to, about, whole, scale, 0);
        for (std::size_t k = 0; k < 3; ++k) sum.value[k] += part.value[k];
    };
    // A half line becomes [0, 1) by x = end +- t / (1 - t).
    const auto add_half_line = [&](double end, double direction) {
        add(
            [=](double t) {
                const double rest = 1.0 - t;
                return point{end + direction * t / rest, 1.0 / (rest * rest)};
            },
            0.0, 1.0);
    };
    if (std::isinf(a) && std::isinf(b)) {
        add_half_line(0.0, -1.0);
        add_half_line(0.0, 1.0);
    } else if (std::isinf(b)) {
        about = a;
        add_half_line(a, 1.0);
    } else if (std::isinf(a)) {
        about = b;
        add_half_line(b, -1.0);
    } else {
        about = 0.5 * (a + b);
        add([](double t) { return point{t, 1.0}; }, a, b);
    }
    const double mass = sum.value[0];
    if (!(mass > 0.0)) return {};
    const double offset = sum.value[1] / mass;
    return {mass, about + offset, std::max(0.0, sum.value[2] - offset * sum.value[1])};
}

template <class Distribution>
inline constexpr bool has_pdf = requires(const Distribution& d, double x) {
    d.pdf(x);
};

/// Mass and mean of (a, b]: in closed form for an outer cell where there is one. The deviation only `with_deviation`.
template <class Distribution>
cell_moments moments_of_cell(const Distribution& d, double a, double b, bool with_deviation) noexcept {
    if constexpr (requires { d.moments(a, b); }) {
        return d.moments(a, b);
    } else {
        if constexpr (requires { d.partial_expectation(a); }) {
            const bool last = b >= d.upper;
            if (!with_deviation && (last || a <= d.lower)) {
                double mass = 0.0;
                if constexpr (requires { d.sf(a); })
                    mass = last ? d.sf(a) : d.cdf(b);
                else
                    mass = last ? 1.0 - d.cdf(a) : d.cdf(b);
                if (!(mass > 0.0)) return {};
                return {mass, (d.partial_expectation(a) - d.partial_expectation(b)) / mass, 0.0};
            }
        }
        return quadrature(d, a, b);
    }
}

template <class Distribution>
double quantile_of(const Distribution& d, double p) noexcept {
    if constexpr (requires { d.quantile(p); }) {
        return d.quantile(p);
    } else {
        double a = d.lower;
        double b = d.upper;
        if (std::isinf(a))
            for (a = std::isinf(b) ? -1.0 : b - 1.0; d.cdf(a) > p && std::isfinite(a);) a -= 1.0 + std::fabs(a);
        if (std::isinf(b))
            for (b = a + 1.0; d.cdf(b) < p && std::isfinite(b);) b += 1.0 + std::fabs(b);
        for (;;) {
            const double middle = 0.5 * (a + b);
            if (!(a < middle && middle < b)) return middle;
            (d.cdf(middle) < p ? a : b) = middle;
        }
    }
}

/// One problem: the centroids of the whole line, or of its upper half for a symmetric distribution.
template <class Distribution>
class lloyd_max_solver {
  public:
    lloyd_max_solver(const Distribution& distribution, const lloyd_max_options& options)
        : d_(distribution),
          options_(options),
          half_(distribution.symmetric),
          zero_centroid_(half_ && options.levels % 2 == 1),
          count_(half_ ? options.levels / 2 : options.levels),
          first_edge_(half_ ? 0.0 : distribution.lower) {}

    lloyd_max_result solve() {
        lloyd_max_result result;
        std::vector<double> centroids = start();
        state now = evaluate(centroids);
        std::vector<double> trial;
        // Samples have finitely many partitions: only the plain step is sure to come to rest at one.
        const int relaxed = has_pdf<Distribution> ? options_.max_iterations : options_.max_iterations / 2;
        for (;; ++result.iterations) {
            result.last_move = now.move;
            result.converged = now.move <= options_.tolerance;
            if (result.converged || result.iterations == options_.max_iterations) break;
            bool stepped = false;
            if constexpr (has_pdf<Distribution>) {
                if (options_.newton && newton_step(centroids, now, trial)) {
                    for (double length = 1.0; !stepped && length > 0.1; length *= 0.5) {
                        std::vector<double> next(count_);
                        for (std::size_t k = 0; k < count_; ++k) next[k] = centroids[k] - length * trial[k];
                        if (!ascending(next)) continue;
                        state there = evaluate(next);
                        if (there.squares < now.squares) {
                            centroids.swap(next);
                            now = std::move(there);
                            stepped = true;
                        }
                    }
                }
            }
            if (!stepped) {
                trial.resize(count_);
                const double length = result.iterations < relaxed ? options_.relaxation : 1.0;
                for (std::size_t k = 0; k < count_; ++k)
                    trial[k] = centroids[k] + length * (now.mean[k] - centroids[k]);
                centroids = ascending(trial) ? trial : now.mean;
                now = evaluate(centroids);
            }
        }
        finish(centroids, result);
        return result;
    }

  private:
    struct state {
        std::vector<double> edge;  // count + 1
        std::vector<double> mass;
        std::vector<double> mean;
        double squares = 0.0;  // of what a step of Lloyd moves
        double move = 0.0;     // the largest of these, in units of the largest centroid
    };

    bool ascending(const std::vector<double>& centroids) const noexcept {
        double before = half_ ? 0.0 : d_.lower;
        for (const double centroid : centroids) {
            if (!(centroid > before)) return false;
            before = centroid;
        }
        return before < d_.upper;
    }

    /// Quantiles of the density that is proportional to the cube root of the pdf (Panter and Dite), which is where
    /// the centroids of many levels lie. Between two quantiles of mass p and distance w its mass is (p w^2)^(1/3).
    std::vector<double> start() const {
        const std::size_t cells = 16 * options_.levels + 64;
        // Probabilities evenly spaced in log(p / (1 - p)); the ends leave 1e-3 / levels^3 outside.
        const double extent = std::log(1e3) + 3.0 * std::log(static_cast<double>(options_.levels) + 1.0);
        const double from = half_ ? 0.0 : -extent;
        std::vector<double> at(cells + 1);
        std::vector<double> sum(cells + 1, 0.0);
        double mass_before = 0.0;
        for (std::size_t k = 0; k <= cells; ++k) {
            const double t = from + (extent - from) * static_cast<double>(k) / static_cast<double>(cells);
            const double p = 1.0 / (1.0 + std::exp(-t));
            at[k] = quantile_of(d_, p);
            if (k > 0) {
                // Samples stay at one value for a while: the mass of a step counts from the step before.
                const double width = at[k] - at[k - 1];
                sum[k] = sum[k - 1];
                if (!(width > 0.0)) continue;
                sum[k] += std::cbrt((p - mass_before) * width * width);
            }
            mass_before = p;
        }
        std::vector<double> centroids(count_);
        const double levels = static_cast<double>(options_.levels) * (half_ ? 0.5 : 1.0);
        for (std::size_t k = 0; k < count_; ++k) {
            const double share = (static_cast<double>(k) + (zero_centroid_ ? 1.0 : 0.5)) / levels * sum[cells];
            const auto right = static_cast<std::size_t>(std::clamp<std::ptrdiff_t>(
                std::upper_bound(sum.begin(), sum.end(), share) - sum.begin(), 1, static_cast<std::ptrdiff_t>(cells)));
            const double step = sum[right] - sum[right - 1];
            const double part = step > 0.0 ? (share - sum[right - 1]) / step : 0.5;
            centroids[k] = at[right - 1] + part * (at[right] - at[right - 1]);
        }
        if constexpr (requires { d_.settle(centroids); }) d_.settle(centroids);
        return centroids;
    }

    state evaluate(const std::vector<double>& centroids) const {
        state now;
        now.edge.resize(count_ + 1);
        now.mass.resize(count_);
        now.mean.resize(count_);
        edges(centroids, now.edge);
        double largest = 0.0;
        for (std::size_t k = 0; k < count_; ++k) {
            const cell_moments cell = moments_of_cell(d_, now.edge[k], now.edge[k + 1], false);
            now.mass[k] = cell.mass;
            // An empty cell keeps its centroid, and so does one that holds only samples at a centre of symmetry.
            const bool usable = cell.mass > 0.0 && (!half_ || cell.mean > 0.0);
            now.mean[k] = usable ? cell.mean : centroids[k];
            const double move = std::fabs(now.mean[k] - centroids[k]);
            now.squares += move * move;
            now.move = std::max(now.move, move);
            largest = std::max(largest, std::fabs(centroids[k]));
        }
        if (largest > 0.0) now.move /= largest;
        return now;
    }

    void edges(const std::vector<double>& centroids, std::vector<double>& edge) const noexcept {
        edge[0] = zero_centroid_ && count_ > 0 ? 0.5 * centroids[0] : first_edge_;
        for (std::size_t k = 1; k < count_; ++k) edge[k] = 0.5 * (centroids[k - 1] + centroids[k]);
        edge[count_] = d_.upper;
    }

    /// Solves J step = centroid - mean. Row k of J times the mass of cell k is a row of half the Hessian of the error,
    /// so a pivot that is not positive means that the point is no neighbourhood of a minimum: no step then.
    bool newton_step(const std::vector<double>& centroids, const state& now, std::vector<double>& step) const {
        std::vector<double> pivot(count_);
        std::vector<double> above(count_);
        step.resize(count_);
        for (std::size_t k = 0; k < count_; ++k) {
            if (!(now.mass[k] > 0.0)) return false;
            const bool left = k > 0 || zero_centroid_;
            const bool right = k + 1 < count_;
            const double a = left ? 0.5 * d_.pdf(now.edge[k]) * (now.mean[k] - now.edge[k]) / now.mass[k] : 0.0;
            const double b =
                right ? 0.5 * d_.pdf(now.edge[k + 1]) * (now.edge[k + 1] - now.mean[k]) / now.mass[k] : 0.0;
            above[k] = -b;
            pivot[k] = 1.0 - a - b;
            step[k] = centroids[k] - now.mean[k];
            if (k > 0) {
                const double factor = -a / pivot[k - 1];
                pivot[k] -= factor * above[k - 1];
                step[k] -= factor * step[k - 1];
            }
            if (!(pivot[k] > 0.0)) return false;
        }
        for (std::size_t k = count_; k-- > 0;) {
            if (k + 1 < count_) step[k] -= above[k] * step[k + 1];
            step[k] /= pivot[k];
        }
        return true;
    }

    void finish(const std::vector<double>& centroids, lloyd_max_result& result) const {
        auto& all = result.centroids;
        all = centroids;
        if (half_) {
            all.clear();
            for (std::size_t k = count_; k-- > 0;) all.push_back(-centroids[k]);
            if (zero_centroid_) all.push_back(0.0);
            all.insert(all.end(), centroids.begin(), centroids.end());
        }
        for (std::size_t k = 1; k < all.size(); ++k) result.boundaries.push_back(0.5 * (all[k - 1] + all[k]));
        std::vector<double> edge(count_ + 1);
        edges(centroids, edge);
        const auto error = [&](double a, double b, double centroid) {
            const cell_moments cell = moments_of_cell(d_, a, b, true);
            return cell.deviation + cell.mass * (cell.mean - centroid) * (cell.mean - centroid);
        };
        double sum = 0.0;
        for (std::size_t k = 0; k < count_; ++k) sum += error(edge[k], edge[k + 1], centroids[k]);
        if (zero_centroid_) sum += error(0.0, edge[0], 0.0);
        result.mse = half_ ? 2.0 * sum : sum;
    }

    const Distribution& d_;
    const lloyd_max_options& options_;
    bool half_;
    bool zero_centroid_;  // an odd number of levels, symmetric: the middle one is 0
    std::size_t count_;
    double first_edge_;
};

}  // namespace detail

/// The centroids and boundaries of least mean square error for `distribution`; see the top of this file for what a
/// distribution is. A symmetric one gets an exactly symmetric result. Throws shape_error for options out of range,
/// value_error for samples with fewer distinct values than levels.
template <class Distribution>
lloyd_max_result lloyd_max(const Distribution& distribution, const lloyd_max_options& options = {}) {
    constexpr std::size_t most_levels = 65536;
    HLWQ_EXPECTS(options.levels >= 1 && options.levels <= most_levels, shape_error, "levels", "1 to 65536",
                 options.levels);
    HLWQ_EXPECTS(options.tolerance >= 0.0, shape_error, "tolerance", "0 or more", options.tolerance);
    HLWQ_EXPECTS(options.relaxation > 0.0 && options.relaxation < 2.0, shape_error, "relaxation", "above 0, below 2",
                 options.relaxation);
    HLWQ_EXPECTS(distribution.lower < distribution.upper, shape_error, "support of a distribution", "lower < upper",
                 distribution.upper);
    return detail::lloyd_max_solver<Distribution>(distribution, options).solve();
}

}  // namespace HLWQ_CODE_NAMESPACE
}  // namespace hlwq
